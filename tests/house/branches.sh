#!/bin/sh
# branches.sh BUILD FILE... - after the tests of a build with CRNN_COVERAGE: branches taken in each of these source files (paths from the
# root) but in their sections named `writing`, and the lines whose branches were not all taken. Needs lcov.
set -eu
build=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/../.."
branches() { lcov --quiet --rc lcov_branch_coverage=1 --rc branch_coverage=1 "$@" 2>/dev/null; }
branches --capture --directory "$build" --output-file "$build/each.info"
branches --add-tracefile "$build/each.info" --output-file "$build/branches.info" # a file in two programs counts once
for file do
    awk -v file="$PWD/$file" -v name="$file" '
        BEGIN {
            for (number = 1; (getline line < file) > 0; number++) {
                if (line ~ /^\/\* --- /) written = line ~ /^\/\* --- writing /
                left_out[number] = written
            }
        }
        /^SF:/ { wanted = substr($0, 4) == file; next }
        wanted && /^BRDA:/ {
            split(substr($0, 6), part, ",")
            if (left_out[part[1] + 0]) next
            all++
            if (part[4] != "-" && part[4] != "0") taken++
            else missed[part[1]]++
        }
        END {
            printf "%6.1f %%  %4d of %4d branches  %s\n", all ? 100 * taken / all : 100, taken, all, name
            for (line in missed) printf "  line %d: %d\n", line, missed[line] | "sort -k2 -n"
        }
    ' "$build/branches.info"
done
