#!/bin/sh
# Mistakes planted into the persistent kernels are found, each by its sentence. test_plants.sh ROOT CC CXX LIBRARY...
# Each one is a change of one place in a copy of the sources, compiled for the simulator's checker; LIBRARYs: the sound kernels, the
# simulator, cmocka.
set -eu
root=$1 cc=$2 cxx=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
include="-I$work -I$root/tests/cusim/include -I$root/src -I$root/include"
# shellcheck disable=SC2086 # lists of options
"$cc" -std=gnu17 -D_GNU_SOURCE $include -I"$root/tests" -c "$root/tests/persist/test_gru_persist.c" -o "$work/test.o"
mkdir -p "$work/kernels/cuda"

try() { # NAME FILE: compiles the copies, runs the bf16 tests; what was said is in $work/said
    # No other precision is run, so none need be compiled.
    sed -i -e 's/_precision<Fp16/_precision<Bf16/g' -e 's/kernel<Split/kernel<Bf16/g' \
        "$work/kernels/cuda/$2"
    # shellcheck disable=SC2086
    "$cxx" -std=gnu++17 -DCUSIM=1 -D_GNU_SOURCE -g -O1 -ffp-contract=off -fsanitize=thread --param=tsan-distinguish-volatile=1 -w \
        $include -x c++ -c "$work/kernels/cuda/$2" -o "$work/mutant.o" || { echo "$1: does not compile"; exit 1; }
    "$cxx" -o "$work/mutant" "$work/test.o" "$work/mutant.o" $libraries || { echo "$1: does not link"; exit 1; }
    status=0
    CUSIM_SMS=20 "$work/mutant" '*bf16*' >"$work/said" 2>&1 || status=$?
}
libraries=$*
plant() { # NAME FILE OF-WHICH-KERNEL PLACE CHANGE WORDS
    cp "$root"/src/kernels/cuda/gru_persist* "$work/kernels/cuda/"
    [ "$(grep -cF -- "$4" "$work/kernels/cuda/$2")" = 1 ] || { echo "$1: \"$4\" is not in one line of $2"; exit 1; }
    awk -v place="$4" -v change="$5" '{ i = index($0, place)
        print i ? substr($0, 1, i - 1) change substr($0, i + length(place)) : $0 }' "$root/src/kernels/cuda/$2" >"$work/kernels/cuda/$2"
    try "$1" "$3"
    if [ "$status" = 0 ] || ! grep -q -- "$6" "$work/said"; then
        cat "$work/said"
        echo "$1: \"$6\" expected, status $status"
        exit 1
    fi
    echo "$1: $(grep -m1 -- "$6" "$work/said" | cut -c1-110)"
}
forward=gru_persist_forward.cu backward=gru_persist_backward.cu shared=gru_persist.cuh

cp "$root"/src/kernels/cuda/gru_persist* "$work/kernels/cuda/"
try nothing "$forward"
[ "$status" = 0 ] || { cat "$work/said"; echo "without a mistake: status $status"; exit 1; }

race='data race: '
wrong='is off by'
plant published_before_all_wrote "$forward" "$forward" '__syncthreads(); // all of it is written' '' "$race"
plant nobody_waits_for_the_slices "$forward" "$forward" 'await(x, chunk, from, min(to, x.slices)' 'await(x, chunk, 0, 0' "$race"
plant one_slice_is_not_waited_for "$backward" "$backward" 'min(to, x.slices)' 'min(to, x.slices) - 1' "$race"
plant a_lane_that_waited_tells_nobody "$shared" "$forward" '__syncwarp(); // all lanes may read' '' "$race"
plant one_slot_instead_of_two "$shared" "$backward" '(parity * x.chunks + chunk)' '(chunk)' "$race"
plant the_other_slot_is_written "$backward" "$backward" '(p.a.T - 1 - t) & 1' '(p.a.T - t) & 1' "$wrong"
plant sums_are_read_too_early "$backward" "$backward" '__syncthreads(); // all shares are there' '' "$race"
plant a_piece_is_read_before_it_came "$shared" "$forward" 'gpu::cp_async_wait<L::DEPTH>();' 'gpu::cp_async_wait<L::DEPTH + 1>();' 'bytes that nobody wrote'
plant rows_beyond_the_batch "$forward" "$forward" '&& row(o, chunk) < p.plan.B' '' 'out of bounds'
plant units_change_places "$shared" "$forward" '+ unit / 2 % 4)' '+ (unit / 2 + 1) % 4)' "$wrong"
plant the_old_state_is_read "$forward" "$forward" 'slot_of(x, t & 1, chunk, L::PARTS), sh.stage' 'slot_of(x, (t + 1) & 1, chunk, L::PARTS), sh.stage' "$race\|$wrong"
