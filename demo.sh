#!/bin/sh
# `make demo`: index real images and answer a query, offline.
# IMAGES is a folder of images or a .tar of one, WEIGHTS a folder as timm writes it.
set -eu

if [ ! -e "$IMAGES" ] || [ ! -d "$WEIGHTS" ]; then
    echo "The demo needs images and weights: make demo IMAGES=a-folder-or.tar" \
        "WEIGHTS=a-folder-with-config.json-and-model.safetensors" >&2
    exit 2
fi

here=$(pwd)
weights=$(cd "$WEIGHTS" && pwd)
mkdir -p demo
case $IMAGES in
    *.tar) [ -d demo/images ] || { mkdir demo/images.part && tar -xf "$IMAGES" -C demo/images.part && mv demo/images.part demo/images; } ;;
    *) ln -sfn "$(cd "$IMAGES" && pwd)" demo/images ;;
esac
cd demo

run() {
    printf '\n$ imgret %s\n' "$*"
    "$BIN/imgret" "$@"
}

# where the images are split, queries come from images that the gallery does not hold
gallery=$(find -L images -type d -name train | head -n 1)
queries=$(find -L images -type d -name test | head -n 1)
[ -n "$gallery" ] || gallery=images
query=$(find -L "${queries:-$gallery}" -type f -name '*.[jJp][pPn]*[gG]' | sort | sed -n 100p)
[ -n "$query" ] || query=$(find -L "${queries:-$gallery}" -type f | sort | head -n 1)

run index "$gallery" --backbone "$weights"
run query "$query" --k 5 --html matches.html
run info
printf '\nThe query and its matches as a page: %s\n' "$here/demo/matches.html"
