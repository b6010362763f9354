#!/bin/sh
# What quickstart.sh says where it cannot go on, and which of its ways installs what. test_quickstart.sh ROOT
#
# Each case runs with a PATH of its own, in which a few commands are stand-ins and the others are what they are.
set -eu
root=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "$*"; cat "$work/err"; exit 1; }
mkdir "$work/bin" "$work/tree"
cp "$root/quickstart.sh" "$work/tree"
for tool in sh cat tr dirname env ls sed nproc; do ln -s "$(command -v $tool)" "$work/bin/$tool"; done
stand_in() { # NAME, body on standard input
    rm -f "$work/bin/$1"
    { echo '#!/bin/sh'; cat; } >"$work/bin/$1"
    chmod +x "$work/bin/$1"
}
quickstart() { # STATUS ARGUMENT...
    wanted=$1
    shift
    status=0
    PATH=$work/bin "$work/tree/quickstart.sh" "$@" </dev/null >"$work/out" 2>"$work/err" || status=$?
    [ "$status" = "$wanted" ] || fail "quickstart.sh $* ended with $status, not $wanted"
}
says() { grep -q -e "$1" "$work/err" || fail "it did not say: $1"; }

# without_root_and_sudo_the_command_for_an_administrator_is_printed
echo 'echo 1000' | stand_in id
echo 'exit 0' | stand_in apt-get
quickstart 1
says 'apt-get update && apt-get install -y --no-install-recommends .*cmake .*libjansson-dev'
grep -q cmocka "$work/err" && fail "cmocka is for the tests only"
quickstart 1 test
says 'libcmocka-dev'

# a_sudo_that_refuses_is_as_good_as_none
echo 'exit 1' | stand_in sudo
quickstart 1
says 'Ask an administrator'

# as_root_it_updates_once_and_installs_what_is_missing
echo 'echo 0' | stand_in id
printf 'echo "apt-get $*" >>%s\n[ "$1" = update ]\n' "$work/calls" | stand_in apt-get
quickstart 1
[ "$(grep -c update "$work/calls")" = 1 ] || fail "apt-get update ran more than once"
grep -q 'install -y .*libutf8proc-dev' "$work/calls" || fail "it did not ask for what is missing"

# usage_is_shown_on_request_and_a_wrong_option_is_refused
PATH=$work/bin "$work/tree/quickstart.sh" --help >"$work/out"
grep -q Usage "$work/out" || fail "no usage"
quickstart 2 --wrong
says Usage
