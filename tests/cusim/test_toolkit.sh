#!/bin/sh
# What the simulator's headers say, NVIDIA's say too: each constant and each prototype. test_toolkit.sh ROOT CC [INCLUDE]
# Status 77 where there is no toolkit to compare with, or an older one than CUDA 12.
set -eu
ours=$1/tests/cusim/include cc=$2
for dir in "${3-}" "${CUDA_HOME-}/include" /usr/local/cuda/include /usr/include; do
    [ -n "$dir" ] && [ -f "$dir/cuda_runtime_api.h" ] && break
    dir=
done
[ -n "$dir" ] || { echo "no CUDA toolkit"; exit 77; }
major=$(sed -n 's/^#define CUDART_VERSION *\([0-9]*\)[0-9]\{3\}$/\1/p' "$dir/cuda_runtime_api.h")
[ "${major:-0}" -ge 12 ] || { echo "this toolkit is older than CUDA 12"; exit 77; }
file=$(mktemp --suffix=.c)
trap 'rm -f "$file"' EXIT

compare() { # HEADER CONSTANTS: at least so many are expected
    [ -f "$dir/$1" ] || { echo "$1: not in $dir"; return 0; }
    {
        echo "#include <$1>"
        # Every constant of an enum, or #define NAME NUMBER. Versions may differ.
        grep -oE '\b(cuda|CUDA|CUDNN|CUBLAS)[A-Za-z0-9_]* = [0-9]+' "$ours/$1" |
            sed 's/\(.*\) = \(.*\)/_Static_assert((int)\1 == \2, "\1");/'
        sed -n 's/^#define \(\(cuda\|CUDNN_RNN\)[A-Za-z_]*\) \([0-9]*\)u*$/_Static_assert(\1 == \3, "\1");/p' "$ours/$1"
        # A prototype that differs from the one above it is an error in C.
        sed -n '/^\/\* Calls/,/^#ifdef/p' "$ours/$1" | sed -e '/^#/d' -e 's/CUSIM_DEFAULT([^)]*)//'
    } >"$file"
    n=$(grep -c _Static_assert "$file") || true
    [ "$n" -ge "$2" ] || { echo "$1: only $n constants were found: has the header's form changed?"; exit 1; }
    "$cc" -std=c17 -Wall -Werror -Wno-deprecated-declarations -I"$dir" -fsyntax-only "$file" || exit 1
    echo "$1: $n constants and $(grep -v _Static_assert "$file" | grep -c ');$') prototypes are NVIDIA's"
}
compare cuda_runtime_api.h 60
compare library_types.h 4
compare cublasLt.h 40
compare cudnn.h 40
