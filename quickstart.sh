#!/bin/sh
# From a fresh Debian or Ubuntu to a page of text: installs what is missing, builds, trains a small model, writes with it.
set -eu

usage() {
    cat <<END
Usage: ./quickstart.sh            train on Spanish proverbs and quotations (Debian's fortunes-es), then write a page
       ./quickstart.sh FILE...    train on your own texts (UTF-8; files, folders or quoted globs), then write a page
       ./quickstart.sh test       build and run every test

Debian 12 or 13, Ubuntu 22.04 or later; as root or with sudo where something has to be installed.
Builds into build/, trains into runs/. A second run installs nothing and rebuilds nothing.
END
}

say() { printf '%s\n' "$*" >&2; }
step() { printf '\n== %s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# Each row: what proves that a package is here, and its name on Debian and Ubuntu.
# pkg-config answers for the libraries, so that one that was built by hand counts too.
missing_packages() { # train | test
    have gcc || have cc || echo gcc
    [ -e /usr/include/stdio.h ] || echo libc6-dev
    have make || echo make
    have cmake || echo cmake
    have pkg-config || echo pkg-config
    has_module jansson || echo libjansson-dev
    has_module libcrypto || echo libssl-dev
    has_module libutf8proc || echo libutf8proc-dev
    has_header oneapi/dnnl/dnnl.h || echo libdnnl-dev
    [ "$1" = test ] || return 0
    has_module cmocka || echo libcmocka-dev
    have g++ || echo g++
    have python3 || echo python3
    have strace || echo strace
}
has_module() { have pkg-config && pkg-config --exists "$1"; }
has_header() { [ -e "/usr/include/$1" ] || [ -e "/usr/local/include/$1" ] || ls /usr/include/*/"$1" >/dev/null 2>&1; }

# Runs a command as root; status 77 where there is no way to.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        sudo "$@"
    else
        return 77
    fi
}

updated=no
install_packages() { # NAME...
    have apt-get || return 77
    if [ "$updated" = no ]; then
        as_root apt-get update -q >&2 || return $?
        updated=yes
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >&2
}

require_packages() { # train | test
    missing=$(missing_packages "$1" | tr '\n' ' ')
    missing=${missing% }
    if [ -z "$missing" ]; then
        say "Nothing to install."
        return 0
    fi
    say "Missing: $missing"
    # shellcheck disable=SC2086 # a list of names
    install_packages $missing && return 0
    say ""
    say "These packages could not be installed from here. Ask an administrator to run:"
    say "  apt-get update && apt-get install -y --no-install-recommends $missing"
    exit 1
}

build() { # TARGET CMAKE_OPTION...
    target=$1
    shift
    cmake -S . -B build "$@" >&2 || {
        say "Configuring failed. If build/ comes from another machine or folder, remove it and try again."
        exit 1
    }
    cmake --build build --target "$target" -j "$(nproc 2>/dev/null || echo 2)" >&2
}

nvidia_note() {
    { have nvidia-smi || [ -e /proc/driver/nvidia ]; } || return 0
    { have nvcc || [ -x /usr/local/cuda/bin/nvcc ]; } && have g++ && return 0
    say "An NVIDIA driver is here, but no CUDA toolkit with a C++ compiler: this build will compute on the CPU. For the GPU, install"
    say "g++, NVIDIA's packages cuda-toolkit and cudnn9 (developer.nvidia.com/cuda-downloads), remove build/, and run this again."
}

# Debian's proverbs and quotations: the plain files only; the folder `off` beside them is offensive on purpose and stays out.
fortunes=/usr/share/games/fortunes/es
has_fortunes() { ls "$fortunes"/*.fortunes >/dev/null 2>&1; }
default_text() {
    if ! has_fortunes; then
        say "Missing: fortunes-es (the text to train on)"
        install_packages fortunes-es || true
    fi
    if has_fortunes; then
        text="$fortunes/*.fortunes"
    else
        text=data/cuentos.txt
        say "fortunes-es cannot be had here: training on $text instead, which is small."
    fi
}

run_tests() {
    step "1/3 Packages"
    require_packages test
    step "2/3 Build"
    build all -DCRNN_TESTS=ON
    step "3/3 Tests"
    ctest --test-dir build --output-on-failure -j "$(nproc)"
}

train_and_write() { # [FILE...]
    step "1/4 Packages"
    require_packages train
    nvidia_note
    if [ $# -eq 0 ]; then
        default_text
        set -- "$text"
    fi
    step "2/4 Build"
    if [ -e build/CMakeCache.txt ]; then build crnn-gpu; else build crnn-gpu -DCRNN_TESTS=OFF; fi
    number=1
    while [ -e "runs/quickstart-$number" ]; do number=$((number + 1)); done
    run=runs/quickstart-$number
    step "3/4 Training on $*"
    build/crnn-gpu train --preset small --out "$run" "$@"
    step "4/4 What it writes"
    build/crnn-gpu sample "$run" --length 1500 --temperature 0.7
    printf '\n'
    step "Done. Write more with: build/crnn-gpu sample $run --prime 'El '"
}

case ${1-} in
-h | --help)
    usage
    exit 0
    ;;
-*)
    usage >&2
    exit 2
    ;;
esac
# On a machine that does something else besides, a thread that waits for another had better sleep than spin: many times faster there,
# and up to half as long again elsewhere with the preset used here (docs/PERFORMANCE.md).
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"

here=$(cd "$(dirname "$0")" && pwd)
case ${1-} in
test)
    [ $# -eq 1 ] || { usage >&2; exit 2; }
    cd "$here"
    run_tests
    ;;
*)
    # Names of texts are the caller's: make them absolute before going to where the program is built.
    for text do
        shift
        case $text in /*) set -- "$@" "$text" ;; *) set -- "$@" "$PWD/$text" ;; esac
    done
    cd "$here"
    train_and_write "$@"
    ;;
esac
