#!/bin/sh
# What was measured is listed, and that of a GPU is stale once the kernels have changed. test_show.sh ROOT
# Status 77 where Git or Python is missing.
set -eu
root=$1
git --version >/dev/null 2>&1 && python3 --version >/dev/null 2>&1 || { echo "Git or Python is not here"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "$*"; cat "$work/out"; exit 1; }
commit() { # FILE: changes it, and prints the new revision
    mkdir -p "$(dirname "$1")"
    echo more >>"$1"
    git add "$1"
    git -c user.name=test -c user.email=test@example.org -c commit.gpgsign=false commit -q -m "$1"
    git rev-parse HEAD
}
result() { # NAME DEVICE REVISION
    mkdir -p "benchmarks/results/$1"
    cat >"benchmarks/results/$1/result.json" <<JSON
{"machine": "machine $1", "device": "$2", "date": "2026-01-02", "revision": "$3", "contenders": {"crnn-gpu fp32":
 {"step_seconds": {"median": 0.0125}, "sample_chars_per_second": {"median": 4321}}}}
JSON
}
show() {
    python3 benchmarks/show.py >"$work/out" 2>&1 || fail "show.py failed"
}
stale() { # NAME: whether its second line says so
    grep -A 1 "machine $1;" "$work/out" | grep -q STALE
}
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
mkdir -p "$work/repository/benchmarks"
cd "$work/repository"
git init -q .
cp "$root/benchmarks/show.py" benchmarks/
revision=$(commit src/kernels/one.cu)
result gpu cuda "$revision"
result cpu cpu "$revision"
result edited cuda "$revision-changed"
result lost cuda 0123456789012345678901234567890123456789
mkdir -p benchmarks/results/proof/deep
echo "{\"gpu\": \"machine proof\", \"date\": \"2026-01-02\", \"revision\": \"$revision\", \"benches\": {\"bench-bf16\":
 {\"step_seconds\": 0.5, \"sample_chars_per_second\": 7}}}" >benchmarks/results/proof/deep/proof.json
show
grep -q "^results/gpu/result.json: machine gpu; 2026-01-02; revision $revision" "$work/out" || fail "the file is not named"
grep -q 'crnn-gpu fp32 * 12.500 ms a step * 4321 ' "$work/out" || fail "the figures are not shown"
grep -q 'bench-bf16 * 500.000 ms' "$work/out" || fail "a proof on hardware is not shown"
for name in gpu cpu proof; do ! stale $name || fail "$name is fresh, and called stale"; done
for name in edited lost; do stale $name || fail "$name is called fresh, and nobody can tell"; done
commit src/host/other.c >/dev/null
show
! stale gpu || fail "a change outside the kernels made it stale"
commit src/kernels/two.cu >/dev/null
show
for name in gpu proof; do stale $name || fail "the kernels changed, and $name is called fresh"; done
! stale cpu || fail "the kernels of the GPU made a result of the CPU stale"
