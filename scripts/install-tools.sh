#!/bin/sh
# Sees to the programs that a make target needs: installs what is missing with apt-get when that is possible, else says what to do.
#
#   install-tools.sh PROGRAM[:PACKAGE]...
set -eu

missing=
packages=
for pair in "$@"; do
    program=${pair%%:*}
    package=${pair#*:}
    if ! command -v "$program" >/dev/null 2>&1; then
        missing="$missing $program"
        packages="$packages $package"
    fi
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing:$packages" >&2
    export DEBIAN_FRONTEND=noninteractive
    # Lists may be missing or stale on a fresh machine.
    apt-get update -qq >&2
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $packages >/dev/null
else
    echo "missing:$missing" >&2
    echo "install them first, on Debian or Ubuntu: sudo apt-get install$packages" >&2
    exit 1
fi
