#!/bin/sh
# `make demo`: render parts, index them, answer queries, evaluate; needs nothing but the repository.
# BIN is the folder of the imgret command. IMAGES, if given, is a folder of one's own images.
set -eu

here=$(pwd)
mkdir -p demo
cd demo

run() {
    printf '\n$ imgret %s\n' "$*"
    "$BIN/imgret" "$@"
}

if [ -n "${IMAGES:-}" ]; then
    images=$(cd "$here" && cd "$IMAGES" && pwd)
    query=$(find -L "$images" -type f -name '*.[jJp][pPn]*[gG]' | sort | head -n 1)
    if [ -z "$query" ]; then
        echo "There is no JPEG or PNG below $images. Name another folder with IMAGES." >&2
        exit 2
    fi
    run index "$images"
    run query "$query" --k 5 --report matches.html
else
    run sample parts
    run index parts/train
    run query parts/test/bolt/bolt_000.jpg --k 5
    run query parts/test/*/*_00[012].jpg --k 5 --format csv --report matches.html >matches.csv
    run evaluate --queries parts/test --report evaluation.html
fi
run info
printf '\nThe queries and their matches as a page: %s\n' "$here/demo/matches.html"
if [ -z "${IMAGES:-}" ]; then
    printf 'How good the matches are:                %s\n' "$here/demo/evaluation.html"
fi
