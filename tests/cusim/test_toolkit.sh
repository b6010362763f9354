#!/bin/sh
# What the simulator's runtime header says, NVIDIA's says too: each constant and each prototype. test_toolkit.sh ROOT CC [INCLUDE]
# Status 77 where there is no toolkit to compare with.
set -eu
ours=$1/tests/cusim/include/cuda_runtime_api.h cc=$2
for dir in "${3-}" "${CUDA_HOME-}/include" /usr/local/cuda/include /usr/include; do
    [ -n "$dir" ] && [ -f "$dir/cuda_runtime_api.h" ] && break
    dir=
done
[ -n "$dir" ] || { echo "no CUDA toolkit"; exit 77; }
major=$(sed -n 's/^#define CUDART_VERSION *\([0-9]*\)[0-9]\{3\}$/\1/p' "$dir/cuda_runtime_api.h")
[ "${major:-0}" -ge 12 ] || { echo "this toolkit is older than CUDA 12"; exit 77; }
file=$(mktemp --suffix=.c)
trap 'rm -f "$file"' EXIT
{
    echo '#include <cuda_runtime_api.h>'
    sed -n 's/^ *\(cuda[A-Za-z]*\) = \([0-9]*\),*$/_Static_assert((int)\1 == \2, "\1");/p' "$ours"
    sed -n 's/^#define \(cuda[A-Za-z]*\) \([0-9]*\)u$/_Static_assert(\1 == \2, "\1");/p' "$ours"
    # A prototype that differs from the one above it is an error in C.
    sed -n '/^cudaError_t cudaGetDeviceCount/,/^#ifdef/p' "$ours" | sed -e '/^#/d' -e 's/CUSIM_DEFAULT([^)]*)//'
} >"$file"
asserts=$(grep -c _Static_assert "$file")
[ "$asserts" -gt 60 ] || { echo "only $asserts constants were found: has the header's form changed?"; exit 1; }
"$cc" -std=c17 -Wall -Werror -I"$dir" -fsyntax-only "$file"
echo "$asserts constants and $(grep -c '^c.*);\|^ .*);' "$file") prototypes are NVIDIA's"
