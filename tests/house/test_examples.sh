#!/bin/sh
# The examples build against an installed tree, by find_package and by pkg-config, and do what they say.
# test_examples.sh ROOT BUILD CC CMAKE LIBDIR [FLAGS] (what the library needs of its users: a sanitizer, for example)
set -eu
root=$1 build=$2 cc=$3 cmake=$4 libdir=$5 flags=${6-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "$*"; exit 1; }

"$cmake" --install "$build" --prefix "$work/usr" >"$work/log" || { cat "$work/log"; exit 1; }
# The tree must work where it is, not where it was first put.
mv "$work/usr" "$work/prefix"
prefix=$work/prefix

"$cmake" -S "$root/docs/examples" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_COMPILER="$cc" \
    -DCMAKE_C_FLAGS="$flags -O1 -Wall -Wextra -Werror" >"$work/log" 2>&1 &&
    "$cmake" --build "$work/cmake" >>"$work/log" 2>&1 || { cat "$work/log"; fail "not built with find_package(crnn)"; }

export PKG_CONFIG_PATH="$prefix/$libdir/pkgconfig"
# shellcheck disable=SC2046,SC2086 # lists of options
"$cc" -std=c17 $flags -O1 -Wall -Wextra -Werror "$root/docs/examples/train_and_sample.c" \
    $(pkg-config --cflags --libs crnn) -o "$work/sample" || fail "not built with pkg-config"

# the_first_trains_and_samples, the same text however it was built
for program in "$work/sample" "$work/cmake/train_and_sample"; do
    "$program" "$work/run" "$root/data/cuentos.txt" >"$work/text.$(basename "$program")" 2>"$work/err" ||
        { cat "$work/err"; fail "$program failed"; }
    rm -rf "$work/run"
done
cmp "$work/text.sample" "$work/text.train_and_sample" || fail "two builds of one program wrote two texts"
[ "$(iconv -f UTF-8 -t UTF-32LE "$work/text.sample" | wc -c)" = 1200 ] || fail "it did not write 300 characters"
"$work/sample" "$work/run" "$work/absent.txt" 2>"$work/err" && fail "a missing text went unnoticed"
grep -q absent.txt "$work/err" || fail "the missing text is not named"

# the_loop_learns_and_saves_every_five_epochs
mkdir "$work/saved"
"$work/cmake/training_loop" "$work/saved" 6 "$root/data/cuentos.txt" >"$work/out" || fail "the loop failed"
[ "$(ls "$work/saved" | tr '\n' ' ')" = "epoch-0005.safetensors epoch-0006.safetensors " ] || fail "saved: $(ls "$work/saved")"
awk '$1 == "Epoch" && $3 == "loss" { n++; if (n > 1 && $4 >= last) exit 1; last = $4 + 0 } END { exit n != 6 }' "$work/out" ||
    { cat "$work/out"; fail "the loss did not fall from epoch to epoch"; }

# the_program_is_installed_and_opens_what_the_loop_saved
if [ -x "$prefix/bin/crnn-gpu" ]; then
    "$prefix/bin/crnn-gpu" sample "$work/saved/epoch-0005.safetensors" --length 50 >"$work/out" || fail "sample refused the file"
    [ -s "$work/out" ] || fail "sample wrote nothing"
fi
