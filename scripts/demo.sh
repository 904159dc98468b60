#!/bin/sh
# The demo: what `make demo` shows and the README quotes. $CALQUE is the binary.
set -eu

calque_binary=$(realpath "${CALQUE:?the calque binary}")
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/calque-demo.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# Everything stays in one folder: the store, the base image and a copy of the application that can be edited.
export CALQUE_ROOT="$work/store"
calque() { "$calque_binary" "$@"; }

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
if [ ! -t 1 ]; then say() { printf '\n# %s\n' "$*"; }; fi
show() {
    printf '$ calque'
    for word in "$@"; do
        case $word in
            *' '* | *'{'* | '') printf " '%s'" "$word" ;;
            *) printf ' %s' "$word" ;;
        esac
    done
    printf '\n'
    calque "$@" 2>&1
}

sh "$here/scripts/base-image.sh" "$work/busybox.tar"
cp -r "$here/testdata/app" "$work/app"
cd "$work"

say "A base image: Debian's busybox-static, made by scripts/base-image.sh"
show load -i busybox.tar

say "The first build: four stages, RUN, COPY, a cache mount"
show build -t app:1.0 app

say "Again, nothing changed"
show build -t app:1.0 app

say "One text changed: the cause is under the step that it breaks, and the stage without it stays cached"
echo "A text about layers, one more time." >>app/data/layers.txt
show build -t app:1.1 app
before=$(calque image ls -q app:1.1)

say "A comment changed in the program. The step that strips comments runs again and makes the same files as before:
# what depends on them stays cached, and the image is the same one"
sed -i 's/^# How many to print\./# How many words to print./' app/src/words.sh
show build -t app:1.2 app
after=$(calque image ls -q app:1.2)
if [ "$before" != "$after" ]; then
    echo "demo: app:1.1 and app:1.2 should be one image" >&2
    exit 1
fi

say "What is in the image"
show history app:1.2
show layers app:1.2

say "It runs: the trees that the build wrote, mounted under a new writable one"
show run --rm --network none app:1.2
show run --rm --network none app:1.2 3

say "What the store holds"
show system df
