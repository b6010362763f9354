#!/bin/sh
# Every public header compiles alone, as C11, C17 and C++; every header of src/ as C17. test_headers.sh ROOT CC [CXX]
# Status 77 where there is no C++ compiler.
set -eu
cd "$1"
cc=$2 cxx=${3-}
warnings='-Wall -Wextra -Wshadow -Wconversion -Wpedantic -Werror'
check() { # COMPILER OPTION... HEADER
    "$@" || { echo "does not compile alone: $*"; exit 1; }
}
# shellcheck disable=SC2086 # a list of options
for header in include/crnn/*.h; do
    check "$cc" -std=c11 $warnings -Iinclude -fsyntax-only -x c "$header"
    check "$cc" -std=c17 $warnings -Iinclude -fsyntax-only -x c "$header"
done
find src -name '*.h' -not -path 'src/kernels/cuda/*' | while read -r header; do
    check "$cc" -std=c17 -D_GNU_SOURCE -Wall -Wextra -Wno-unused-function -Werror -Iinclude -Isrc -fsyntax-only -x c "$header"
done
[ -n "$cxx" ] || { echo "no C++ compiler"; exit 77; }
# shellcheck disable=SC2086
for header in include/crnn/*.h; do
    check "$cxx" -std=c++11 $warnings -Iinclude -fsyntax-only -x c++ "$header"
    check "$cxx" -std=c++17 $warnings -Iinclude -fsyntax-only -x c++ "$header"
done
