#!/bin/sh
# Packs what a machine with a GPU needs to prove this build there: programs, tests, vectors, and the shared libraries it may lack.
set -eu
usage() {
    cat <<END
Usage: tests/gpu/pack.sh [--build DIR] [--text FILE] BUNDLE

Writes the folder BUNDLE, which must not exist, or an archive of it where the name ends with .tar.gz. DIR: a build with
the CUDA backend (build); one for that GPU alone (-DCRNN_CUDA_ARCHITECTURES=90) makes it half as large, 45 MB as an
archive. FILE: the text of the golden trajectory, tinyshakespeare.txt; without it that test is skipped. On the other
machine: BUNDLE/tests/gpu/prove.sh
END
}

cd "$(dirname "$0")/../.."
build=build text=../shared/corpora/tinyshakespeare.txt bundle=
while [ $# -gt 0 ]; do
    case $1 in
    --build) build=$2 && shift ;;
    --text) text=$2 && shift ;;
    -h | --help) usage && exit 0 ;;
    -*) usage >&2 && exit 2 ;;
    *) bundle=$1 ;;
    esac
    shift
done
[ -n "$bundle" ] || { usage >&2 && exit 2; }
[ ! -e "$bundle" ] || { echo "pack.sh: $bundle exists already; remove it or name another folder" >&2 && exit 1; }
[ -x "$build/crnn-gpu" ] || { echo "pack.sh: $build holds no crnn-gpu; build it first" >&2 && exit 1; }
case $("$build/crnn-gpu" devices) in
*"no CUDA backend"*) echo "pack.sh: $build is no build with the CUDA backend; configure one with -DCRNN_CUDA=ON" >&2 && exit 1 ;;
esac

archive=
case $bundle in
*.tar.gz)
    archive=$bundle
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    bundle=$work/$(basename "$archive" .tar.gz)
    ;;
esac
mkdir -p "$bundle/lib" "$bundle/tests/gpu" "$bundle/corpora"
cp "$build/crnn-gpu" "$bundle/"
for name in kernels-ops kernels-head kernels-pick kernels-device model-model model-sampler train-trainer golden-vectors golden-trajectory cli-gpu; do
    cp "$build/tests/test-$name" "$bundle/"
done
cp "$build/tests/bench-exchange" "$bundle/"
cp tests/gpu/*.sh tests/gpu/report.py "$bundle/tests/gpu/"
cp -R tests/golden "$bundle/golden"
cp -R benchmarks "$bundle/"
rm -rf "$bundle/benchmarks/results" "$bundle"/golden/*.c
cp data/cuentos.txt "$bundle/"
[ ! -r "$text" ] || cp "$text" "$bundle/corpora/tinyshakespeare.txt"
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain 2>/dev/null)" ] || revision=$revision-changed
echo "$revision" >"$bundle/REVISION"

# All shared libraries but those that belong to the C library and the driver, which must be the machine's own.
ldd "$bundle/crnn-gpu" "$bundle"/test-* | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u | while read -r library; do
    case ${library##*/} in
    libc.so* | libm.so* | libdl.so* | librt.so* | libpthread.so* | ld-linux* | libcuda.so*) ;;
    *) cp -L "$library" "$bundle/lib/" ;;
    esac
done
if [ -n "$archive" ]; then
    tar -czf "$archive" -C "$work" "$(basename "$bundle")"
    bundle=$archive
fi
du -sh "$bundle" | cut -f1 | sed "s|^|$bundle: |"
