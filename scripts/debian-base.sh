#!/bin/sh
# Makes a Debian base as a tar, for `FROM scratch` and `ADD base.tar /`.
#
#   debian-base.sh OUT.tar [mmdebstrap option...]
#
# Needs mmdebstrap, and root or subordinate ids. Mirrors, keys and proxies are the host's.
set -eu
out=${1:?usage: debian-base.sh OUT.tar [mmdebstrap option...]}
shift
command -v mmdebstrap >/dev/null || {
    echo "debian-base.sh: needs mmdebstrap: apt-get install mmdebstrap" >&2
    exit 1
}
exec mmdebstrap --quiet --variant=minbase "$@" bookworm "$out"
