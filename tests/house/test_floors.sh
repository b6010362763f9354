#!/bin/sh
# The floors hold here, and a tree in which they do not is seen. test_floors.sh ROOT
set -eu
root=$1
floors=$root/tests/house/floors.sh
sh "$floors" "$root"

trees=$(mktemp -d)
trap 'rm -rf "$trees"' EXIT
refused() { # FILE INCLUDE
    rm -rf "$trees/t"
    mkdir -p "$trees/t/include/crnn" "$trees/t/src" "$trees/t/$(dirname "$1")"
    printf '#include %s\n' "$2" >"$trees/t/$1"
    if sh "$floors" "$trees/t" >/dev/null; then
        echo "not seen: $1 includes $2"
        exit 1
    fi
}
refused src/host/base/a.c '"host/data/decode.h"'
refused src/host/data/a.c '"kernels/backend.h"'
refused src/kernels/a.c '"host/data/decode.h"'
refused src/host/model/a.c '"kernels/cpu/cpu.h"'
refused src/kernels/cuda/a.cu '"kernels/cpu/cpu.h"'
refused src/host/model/a.c '"host/train/history.h"'
refused src/host/cli/a.c '"host/base/memory.h"'
refused src/host/model/a.c '"model.h"'
refused src/host/model/a.c '<oneapi/dnnl/dnnl.h>'
refused src/host/model/a.c '<cuda_runtime.h>'
refused include/crnn/a.h '"host/base/memory.h"'
