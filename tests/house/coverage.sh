#!/bin/sh
# coverage.sh BUILD [PERCENT] - after the tests of a build with CRNN_COVERAGE: lines covered, file by file and of all host code; status 1
# where the host's lines are covered to less than PERCENT. Needs lcov.
set -eu
build=$(cd "$1" && pwd)
least=${2-0}
cd "$(dirname "$0")/../.."
lcov --quiet --capture --directory "$build" --output-file "$build/all.info"
lcov --quiet --extract "$build/all.info" "$PWD/src/*" --output-file "$build/src.info"
awk -v root="$PWD/" -v least="$least" '
    /^SF:/ { file = substr($0, 4 + length(root)); next }
    /^LF:/ { lines = substr($0, 4); next }
    /^LH:/ {
        hit = substr($0, 4)
        printf "%6.1f %%  %5d of %5d  %s\n", lines ? 100 * hit / lines : 100, hit, lines, file
        all += lines; covered += hit
    }
    END {
        percent = all ? 100 * covered / all : 0
        printf "%6.1f %%  %5d of %5d lines of src/\n", percent, covered, all
        if (percent < least) { printf "below the %s %% that are asked for\n", least; exit 1 }
    }
' "$build/src.info"
