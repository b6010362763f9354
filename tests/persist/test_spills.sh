#!/bin/sh
# No persistent kernel, and none of the dense layer, keeps anything in local memory, on any architecture asked for.
# test_spills.sh ROOT [NVCC [ARCHITECTURE...]]
# Weights that spill would be read from memory at each time step. Status 77 where there is no nvcc of CUDA 12.8 or newer, or it is told to be
# quick (CRNN_TEST_QUICK).
set -eu
cd "$1"
nvcc=${2:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
[ $# -ge 2 ] && shift
shift
[ -x "$nvcc" ] || { echo "no nvcc"; exit 77; }
[ -z "${CRNN_TEST_QUICK-}" ] || { echo "asked to be quick"; exit 77; }
[ $# -gt 0 ] || set -- 80 86 89 90 100 120
known=$("$nvcc" --list-gpu-code)
targets=
for arch do
    case $known in
    *"sm_$arch"*) targets="$targets -gencode arch=compute_$arch,code=sm_$arch" ;;
    *) echo "$nvcc does not know sm_$arch"; exit 77 ;;
    esac
done
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for file in src/kernels/cuda/gru_persist_*.cu src/kernels/cuda/head.cu src/kernels/cuda/write.cu src/kernels/cuda/write_many.cu; do
    # shellcheck disable=SC2086 # a list of options
    "$nvcc" -std=c++17 -O3 --threads 0 -Xptxas -v,-warn-spills,-warn-lmem-usage,-suppress-async-bulk-multicast-advisory-warning $targets -I include -I src -c "$file" -o "$out/object" \
        2>"$out/report" || { cat "$out/report"; exit 1; }
    if grep -E 'warning|[1-9][0-9]* bytes (stack frame|spill)' "$out/report"; then
        echo "$file: local memory is used"
        exit 1
    fi
    kernels=$(grep -c 'Used [0-9]* registers' "$out/report") || true
    [ "$kernels" -ge $# ] || { cat "$out/report"; echo "$file: no report of registers"; exit 1; }
    echo "$file: $kernels kernels for $*, at most $(sed -n 's/.*Used \([0-9]*\) registers.*/\1/p' "$out/report" | sort -n | tail -1) registers"
done
