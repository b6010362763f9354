#!/bin/sh
# The text of our own is what it should be, and a downloaded book loses its licence frame and nothing else. test_books.sh ROOT
set -eu
cd "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "$*"; exit 1; }
refused() { # STATUS ARGUMENT...
    wanted=$1
    shift
    status=0
    data/fetch-books.sh "$@" >"$work/out" 2>"$work/err" || status=$?
    [ "$status" = "$wanted" ] || fail "fetch-books.sh $* ended with $status, not $wanted"
    [ -s "$work/err" ] || fail "fetch-books.sh $* said nothing"
}

[ "$(wc -c <data/cuentos.txt)" -ge 20480 ] || fail "data/cuentos.txt has less than 20 KiB"
iconv -f UTF-8 -t UTF-8 data/cuentos.txt >/dev/null || fail "data/cuentos.txt is no UTF-8"
[ "$(tr -dc '\r\000' <data/cuentos.txt | wc -c)" = 0 ] || fail "data/cuentos.txt has \\r or NUL"

# a_frame_is_stripped_and_the_text_keeps_its_line_ends
printf '%s\r\n' 'The Project Gutenberg EBook of Pruebas' 'licence' '' \
    '*** START OF THE PROJECT GUTENBERG EBOOK PRUEBAS ***' '' '' '  ¡Érase una vez!' '' '*** un adorno ***' 'Fin.' '' '' \
    '*** END OF THE PROJECT GUTENBERG EBOOK PRUEBAS ***' 'licence, long' >"$work/framed.txt"
printf '%s\r\n' '  ¡Érase una vez!' '' '*** un adorno ***' 'Fin.' >"$work/wanted.txt"
data/fetch-books.sh --strip "$work/framed.txt" >"$work/got.txt"
cmp "$work/wanted.txt" "$work/got.txt" || fail "the frame was not stripped exactly"

# the_older_form_of_the_frame_is_known_too
printf '%s\n' 'x' '***START OF THIS PROJECT GUTENBERG EBOOK A***' 'á' '***END OF THIS PROJECT GUTENBERG EBOOK A***' >"$work/old.txt"
[ "$(data/fetch-books.sh --strip "$work/old.txt")" = á ] || fail "the older frame was not stripped"

# what_has_no_frame_is_no_book
printf '<html>404</html>\n' >"$work/page.html"
refused 1 --strip "$work/page.html"
sed '/END OF/d' "$work/framed.txt" >"$work/cut.txt"
refused 1 --strip "$work/cut.txt"
refused 1 --strip "$work/absent.txt"
refused 2 abc
refused 2
data/fetch-books.sh --help >"$work/out"
grep -q Usage "$work/out" || fail "no usage"

# without_a_network_it_says_so_and_leaves_nothing (a curl that never gets through stands in for it)
mkdir "$work/bin"
printf '#!/bin/sh\necho "curl: (6) Could not resolve host" >&2\nexit 6\n' >"$work/bin/curl"
chmod +x "$work/bin/curl"
status=0
PATH="$work/bin:$PATH" BOOKS="$work/books" data/fetch-books.sh 55514 2>"$work/err" || status=$?
[ "$status" = 1 ] || fail "offline it ended with $status"
grep -q 'network' "$work/err" || fail "offline it did not speak of the network"
[ -z "$(ls -A "$work/books")" ] || fail "offline it left files behind"

# a_book_that_was_downloaded_is_stripped_and_not_asked_for_again
cat >"$work/bin/curl" <<END
#!/bin/sh
while [ \$# -gt 0 ]; do [ "\$1" = -o ] && out=\$2; shift; done
cp "$work/framed.txt" "\$out"
END
PATH="$work/bin:$PATH" BOOKS="$work/books" data/fetch-books.sh 7 2>"$work/err" || fail "a book could not be had"
cmp "$work/wanted.txt" "$work/books/pg7.txt" || fail "the book is not what it should be"
printf '#!/bin/sh\nexit 6\n' >"$work/bin/curl"
PATH="$work/bin:$PATH" BOOKS="$work/books" data/fetch-books.sh 7 2>"$work/err" || fail "a book that is there was asked for"
