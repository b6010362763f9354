#!/bin/sh
# Downloads public-domain books by their Project Gutenberg number and strips the licence frame around the text.
set -eu

usage() {
    cat <<END
Usage: data/fetch-books.sh NUMBER...        download books into data/books/pgNUMBER.txt
       data/fetch-books.sh --strip FILE     print FILE without its licence frame

Example: data/fetch-books.sh 55514 61244 36805 45438 46000 30053

A book that is there already is not downloaded again. BOOKS=DIR names another folder.
END
}

say() { printf '%s\n' "$*" >&2; }
die() { say "fetch-books.sh: $*"; exit 1; }

# The text between the lines "*** START OF THE PROJECT ..." and "*** END OF THE PROJECT ...", without the blank lines at both
# ends and without the line ends' carriage returns at the markers only: inside the text every byte stays as it is.
# Status 3 where either marker is missing, so that a web page that says "not found" is never taken for a book.
strip_frame() {
    LC_ALL=C awk '
        BEGIN { inside = started = ended = held = 0 }
        inside && /^[*][*][*] ?END OF (THE|THIS) PROJECT/ { inside = 0; ended = 1; next }
        !started && /^[*][*][*] ?START OF (THE|THIS) PROJECT/ { inside = started = 1; next }
        !inside { next }
        /^[ \t\r]*$/ { if (any) blank[held++] = $0; next }
        { for (i = 0; i < held; i++) print blank[i]; held = 0; any = 1; print }
        END { exit started && ended && any ? 0 : 3 }
    ' "$1"
}

download() { # URL FILE
    if command -v curl >/dev/null 2>&1; then
        curl -fsSL --retry 2 --connect-timeout 20 -o "$2" "$1" 2>>"$errors"
    else
        wget -q --tries=3 --timeout=20 -O "$2" "$1" 2>>"$errors"
    fi
}

fetch() { # NUMBER
    number=$1
    target=$books/pg$number.txt
    if [ -s "$target" ]; then
        say "$target is there already"
        return 0
    fi
    base=https://www.gutenberg.org
    for url in "$base/cache/epub/$number/pg$number.txt" "$base/files/$number/$number-0.txt" \
        "$base/ebooks/$number.txt.utf-8"; do
        say "book $number: $url"
        if download "$url" "$part" && strip_frame "$part" >"$part.text"; then
            mv "$part.text" "$target"
            say "book $number: $(wc -c <"$target") bytes in $target"
            return 0
        fi
    done
    say "book $number could not be had: is there a network, and a plain-text book of that number?"
    [ ! -s "$errors" ] || say "$(tail -n 1 "$errors")"
    return 1
}

case ${1-} in
-h | --help)
    usage
    exit 0
    ;;
'')
    usage >&2
    exit 2
    ;;
--strip)
    [ $# -eq 2 ] || { usage >&2; exit 2; }
    [ -r "$2" ] || die "$2 cannot be read"
    strip_frame "$2" || die "$2 has no licence frame (lines that begin with *** START OF and *** END OF)"
    exit 0
    ;;
esac

for number in "$@"; do
    case $number in
    *[!0-9]* | '' | 0*) say "fetch-books.sh: '$number' is no book number"; usage >&2; exit 2 ;;
    esac
done
command -v curl >/dev/null 2>&1 || command -v wget >/dev/null 2>&1 || die "needs curl or wget: apt-get install curl ca-certificates"

books=${BOOKS:-$(dirname "$0")/books}
mkdir -p "$books"
part=$books/.part.$$
errors=$books/.errors.$$
trap 'rm -f "$part" "$part.text" "$errors"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
missing=
for number in "$@"; do
    : >"$errors"
    fetch "$number" || missing="$missing $number"
done
[ -z "$missing" ] || die "not downloaded:$missing"
