#!/bin/sh
# Prints the most frequent words of the index.
set -eu
# How many to print.
count=${1:-10}
echo "words @VERSION@, as $(id -un), $(wc -l < "$INDEX") words known" >&2
head -n "$count" "$INDEX" | while read -r times word; do
    printf '%6d  %s\n' "$times" "$word"
done
