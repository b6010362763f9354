#!/bin/sh
# Proves the CUDA backend on this machine's GPU: every test with real hardware, NVIDIA's checkers, then times.
set -eu
usage() {
    cat <<END
Usage: BUNDLE/tests/gpu/prove.sh [--out DIR]    in a bundle that tests/gpu/pack.sh made
       tests/gpu/prove.sh [--out DIR]           in a checkout: builds first

Needs an NVIDIA driver, a CUDA toolkit with cuDNN, and Python 3; PyTorch and JAX are compared with where they are installed.
Ends within nine minutes: each part of it has its time, and what finds none left is told as timed out.
Writes DIR (gpu-proof) with one log a check, proof.json and proof.txt, a table. Ends with 0 where every check passed.
END
}

out=gpu-proof
while [ $# -gt 0 ]; do
    case $1 in
    --out) out=$2 && shift ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done
mkdir -p "$out/logs"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/../.."
root=$PWD
: >"$out/results.tsv"
say() { printf '%s\n' "$*" >&2; }

# A bundle serves where it starts; otherwise, and in a checkout, build here.
bin=$root
if ! "$root/crnn-gpu" --version >/dev/null 2>&1; then
    say "building"
    [ -e CMakeLists.txt ] || { say "prove.sh: the bundle's program does not start here, and there is no source to build from" && exit 1; }
    cmake -S . -B build-gpu -DCRNN_CUDA=ON -DCRNN_CUDA_ARCHITECTURES=native -DCRNN_SIM=OFF >"$out/logs/build.txt" 2>&1 &&
        cmake --build build-gpu -j "$(nproc)" >>"$out/logs/build.txt" 2>&1 || { tail -20 "$out/logs/build.txt" >&2 && exit 1; }
    mkdir -p build-gpu/bundle
    cp build-gpu/crnn-gpu build-gpu/tests/test-* build-gpu/tests/bench-exchange build-gpu/bundle/
    bin=$root/build-gpu/bundle
fi
golden=$root/golden
[ -d "$golden" ] || golden=$root/tests/golden
shared=$root
[ -d "$root/corpora" ] || shared=$root/../shared
text=$root/cuentos.txt
[ -e "$text" ] || text=$root/data/cuentos.txt
export CRNN_PROGRAM="$bin/crnn-gpu" CRNN_GOLDEN_DIR="$golden" CRNN_SHARED_DIR="$shared" CRNN_TEST_DEVICE=cuda

"$CRNN_PROGRAM" devices | tee "$out/devices.txt" >&2
grep -q '^cuda  *usable' "$out/devices.txt" || { say "prove.sh: no usable GPU; nothing to prove" && exit 1; }

# part NAME SECONDS: what follows must end so long after the first part began.
start=$(date +%s)
part() {
    say "== $1"
    part_end=$((start + $2))
}
# check NAME SECONDS COMMAND...: one line of results.tsv; 77 is a skip.
check() {
    name=$1 limit=$2
    shift 2
    began=$(date +%s.%N)
    status=0
    left=$((part_end - $(date +%s)))
    [ "$limit" -le "$left" ] || limit=$((left > 1 ? left : 1))
    timeout -k 5 "$limit" "$@" >"$out/logs/$name.txt" 2>&1 || status=$?
    printf '%s\t%s\t%s\t%s\n' "$name" "$status" "$began" "$(date +%s.%N)" >>"$out/results.tsv"
    case $status in 0) say "passed   $name" ;; 77) say "skipped  $name" ;; *) say "FAILED   $name ($status)" ;; esac
}

part tests 200
for algo in cudnn loop persist persist-cluster persist-words; do
    (
        export CRNN_TEST_RNN_ALGO=$algo
        for test in kernels-ops golden-vectors golden-trajectory model-model model-sampler; do
            check "$test-$algo" 60 "$bin/test-$test"
        done
    ) &
    (CRNN_TEST_RNN_ALGO=$algo check "train-trainer-$algo" 100 "$bin/test-train-trainer") &
done
(check kernels-head 60 "$bin/test-kernels-head" && check kernels-pick 60 "$bin/test-kernels-pick" && check kernels-device 60 "$bin/test-kernels-device") &
check cli-gpu 100 "$bin/test-cli-gpu"
wait

part "ten equal runs of each way" 270
# ten_runs ALGO PRECISION: the same bits ten times.
cat >"$out/ten_runs.sh" <<'END'
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for run in 1 2 3 4 5 6 7 8 9 10; do
    "$CRNN_PROGRAM" train "$3" --device cuda --rnn-algo "$1" --precision "$2" --units 256 --batch 16 --length 50 --max-steps 20 \
        --val-split 0 --out "$dir/$run" >/dev/null
    sha256sum <"$dir/$run/checkpoints/ckpt-0000000020.safetensors"
done | sort | uniq -c
[ "$(for run in 1 2 3 4 5 6 7 8 9 10; do sha256sum <"$dir/$run/checkpoints/ckpt-0000000020.safetensors"; done | sort -u | wc -l)" = 1 ]
END
for algo in cudnn loop persist persist-words; do
    (check "ten-runs-$algo-fp32" 60 sh "$out/ten_runs.sh" $algo fp32 "$text") &
    (check "ten-runs-$algo-bf16" 60 sh "$out/ten_runs.sh" $algo bf16 "$text") &
done
wait

part times 340
check exchange 30 "$bin/bench-exchange" 3000
for precision in fp32 tf32 bf16; do
    for algo in auto cudnn loop persist persist-cluster persist-words; do
        check "bench-$precision-$algo" 40 "$CRNN_PROGRAM" bench --json --device cuda --precision $precision --rnn-algo $algo --texts 64
    done
done

part "beside other programs" 440
python3 -c 'import numpy' 2>/dev/null &&
    check compare 240 python3 "$root/benchmarks/compare.py" --program "$CRNN_PROGRAM" --device cuda --rounds 1 --steps 50 \
        --out "$out/compare.json"

part "which way computes the recurrent layers" 490
for shape in 1024,64 2048,64 2048,256 4096,64 4096,256; do
    for precision in fp32 tf32 bf16; do
        check "ways-$precision-H${shape%,*}-B${shape#*,}" 40 "$CRNN_PROGRAM" bench --json --device cuda --precision $precision \
            --units "${shape%,*}" --batch "${shape#*,}" --measure-again --steps 2 --sample-length 0
    done
done

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null || true)
if [ -n "$sanitizer" ]; then
    part "NVIDIA's checkers" 540
    for tool in memcheck racecheck initcheck synccheck; do
        for algo in loop persist; do
            (CRNN_TEST_RNN_ALGO=$algo CRNN_GOLDEN_DIR=$golden check "$tool-golden-$algo" 100 "$sanitizer" --tool $tool \
                --error-exitcode 9 "$bin/test-golden-vectors") &
        done
    done
    wait
else
    say "no compute-sanitizer here"
fi

python3 "$root/tests/gpu/report.py" "$out" "$root"
