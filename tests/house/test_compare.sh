#!/bin/sh
# The comparison runs without any peer, reads what `bench --json` gives it, and adds rounds to its file. test_compare.sh ROOT PROGRAM [DEVICE]
# Status 77 where no Python has numpy.
set -eu
root=$1 program=$2 device=${3:-cpu}
for python in python3 /usr/bin/python3 ''; do
    [ -n "$python" ] || { echo "numpy is not here"; exit 77; }
    "$python" -c 'import numpy' 2>/dev/null && break
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bundle"
ln -s "$program" "$work/bundle/crnn-gpu"
echo 0123456789 >"$work/bundle/REVISION"
fail() { echo "$*"; cat "$work/out" "$work/err"; exit 1; }
compare() { # STATUS ARGUMENT...
    wanted=$1
    shift
    status=0
    PYTHONDONTWRITEBYTECODE=1 "$python" "$root/benchmarks/compare.py" --program "$work/bundle/crnn-gpu" --device "$device" --peers '' --rounds 1 --steps 1 --threads 1 \
        --sample-length 8 --texts 3 --vocab 9 --embedding 4 --units 8 --layers 2 --batch 3 --out "$work/result.json" "$@" \
        >"$work/out" 2>"$work/err" || status=$?
    [ "$status" = "$wanted" ] || fail "compare.py $* ended with $status, not $wanted"
}
compare 0 --length 5
compare 0 --length 5 --add
grep -q '^2 rounds' "$work/out" || fail "the rounds of the second call were not added"
grep -q '^crnn-gpu fp32 ' "$work/out" || fail "there is no row for crnn-gpu"
"$python" - "$work/result.json" "$device" <<'END' || fail "the file does not hold what was asked for"
import json, sys
with open(sys.argv[1]) as file:
    result = json.load(file)
own = result["contenders"]["crnn-gpu fp32"]
assert len(own["rounds"]) == 2 and result["shape"]["length"] == 5 and result["threads"] == 1
assert result["revision"] == "0123456789" and result["device"] == sys.argv[2] and result["texts"] == 3
for key in ("step_seconds", "epoch_seconds", "eval_seconds", "sample_chars_per_second", "texts_chars_per_second", "peak_memory_bytes", "share_of_peak"):
    assert 0 < own[key]["least"] <= own[key]["median"] <= own[key]["most"], key
END
compare 1 --length 6 --add
grep -q 'is about another shape' "$work/err" || fail "rounds of two shapes went into one file"
rm "$work/result.json"
PYTHONDONTWRITEBYTECODE=1 "$python" "$root/benchmarks/compare.py" --program "$work/bundle/crnn-gpu" --device "$device" --peers '' --rounds 100000 --steps 1 \
    --threads 1 --sample-length 8 --texts 3 --vocab 9 --embedding 4 --units 8 --batch 3 --length 5 --out "$work/result.json" >"$work/out" 2>"$work/err" &
tries=0
until [ -e "$work/result.json" ] || [ $tries = 600 ]; do sleep 0.1 && tries=$((tries + 1)); done
kill $! 2>/dev/null || fail "a comparison of many rounds ended by itself"
wait $! || true
"$python" -c 'import json, sys; assert json.load(open(sys.argv[1]))["contenders"]["crnn-gpu fp32"]["step_seconds"]["median"] > 0' "$work/result.json" ||
    fail "a comparison that was stopped did not keep what it had measured"
echo abcdef >"$work/bundle/REVISION"
compare 1 --length 5 --add
grep -q 'is about another revision' "$work/err" || fail "rounds of two revisions went into one file"
