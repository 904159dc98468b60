#!/bin/sh
# Builds and runs the applications in testdata/stacks, and writes what it took to docs/stacks.md when all of them were asked for.
#
#   stacks.sh [STACK...]
#
# $CALQUE is the binary. Each stack is built, rebuilt with nothing changed (every step must be cached), rebuilt with one file
# changed (exactly the steps that its `stack.env` names run, and a cause names the file), and answers its smoke test each time.
# With buildah installed, it builds the same things beside calque; STACKS_BUILDAH=0 leaves that out.
# STACKS_STORE is a store to start from a copy of, such as one that has the base and the toolchains already; STACKS_BASE a tar that
# scripts/debian-base.sh made. Needs root and the host's access to Debian, PyPI and npm.
set -eu

calque_binary=$(realpath "${CALQUE:?the calque binary}")
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/calque-stacks.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
export CALQUE_ROOT="$work/store"
if [ -n "${STACKS_STORE-}" ]; then cp -a --reflink=auto "$STACKS_STORE" "$CALQUE_ROOT"; fi
stacks_dir=$here/testdata/stacks
beside=${STACKS_BUILDAH:-1}
command -v buildah >/dev/null || beside=0

fail() {
    echo "stacks.sh: $*" >&2
    exit 1
}

# How this machine reaches the registries, as the secrets and arguments that the Dockerfiles take: files at $work/registry.
registry=$work/registry
mkdir "$registry"
for ca in "${SSL_CERT_FILE-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem /dev/null; do
    if [ -n "$ca" ] && [ -e "$ca" ]; then break; fi
done
cat "$ca" >"$registry/ca"
apt-config dump 2>/dev/null |
    grep -E '^Acquire::(https?::|Check-|Retries|AllowInsecure|ForceIPv)' | grep -v ' "";$' >"$registry/apt" || :
{
    echo '[global]'
    pip config list 2>/dev/null | sed -nE "s/^[a-z]*\.(index-url|extra-index-url|trusted-host)='(.*)'$/\1 = \2/p"
    if [ -n "${PIP_INDEX_URL-}" ]; then echo "index-url = $PIP_INDEX_URL"; fi
    if [ -n "${PIP_TRUSTED_HOST-}" ]; then echo "trusted-host = $PIP_TRUSTED_HOST"; fi
} >"$registry/pip"
npm_registry=${npm_config_registry:-${NPM_CONFIG_REGISTRY-}}
if [ -n "$npm_registry" ]; then echo "registry=$npm_registry"; fi >"$registry/npm"
printf 'a secret of the stacks\n' >"$registry/token"

# with_settings COMMAND...: the command with what hands those settings to RUN.
with_settings() {
    for id in ca apt pip npm token; do set -- "$@" --secret "id=$id,src=$registry/$id"; done
    for proxy in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        if value=$(printenv "$proxy"); then set -- "$@" --build-arg "$proxy=$value"; fi
    done
    "$@"
}

# build LOG TAG CONTEXT [FLAG...]
build() {
    build_log=$1 build_tag=$2 build_context=$3
    shift 3
    with_settings "$calque_binary" build --progress=plain --network host "$@" -t "$build_tag" "$build_context" \
        >"$build_log" 2>&1 || {
        tail -n 40 "$build_log" >&2
        fail "building $build_tag failed"
    }
}

# The steps of a log that ran, as `stage n/m`, in order: all that can be cached and weren't.
ran() {
    sed -nE 's/^#([0-9]+) (\[([^]]* )?[0-9]+\/[0-9]+\] |CACHED).*/\1 \2/p' "$1" | awk '
        $2 == "CACHED" { cached[$1] = 1; next }
        { label = $0; sub(/^[0-9]+ \[/, "", label); sub(/\] *$/, "", label); if (!($1 in name)) order[++n] = $1; name[$1] = label }
        END { for (i = 1; i <= n; i++) if (!(order[i] in cached)) { printf "%s%s", sep, name[order[i]]; sep = ", " } }'
}

# Without the steps that only name an image: those are never cached and cost nothing.
drop_from() { grep -vE '^#[0-9]+ \[[^]]*\] FROM ' "$1" >"$1.steps"; }
count_steps() { grep -cE '^#[0-9]+ \[([^]]* )?[0-9]+/[0-9]+\] ' "$1.steps" || :; }

seconds() { awk -v from="$1" -v to="$(date +%s.%N)" 'BEGIN { printf "%.1f", to - from }'; }

smoke() {
    calque="$calque_binary" image=$1 sh -eu "$stacks_dir/$2/smoke.sh" 2>"$work/smoke.err" || {
        cat "$work/smoke.err" >&2
        fail "$2: the smoke test failed"
    }
}

ensure_base() {
    "$calque_binary" inspect --type image debian:bookworm >/dev/null 2>&1 && return
    mkdir -p "$work/base"
    if [ -n "${STACKS_BASE-}" ]; then
        cp "$STACKS_BASE" "$work/base/base.tar"
    else
        set --
        while read -r option; do set -- "$@" "--aptopt=$option"; done <"$registry/apt"
        sh "$here/scripts/debian-base.sh" "$work/base/base.tar" "$@"
    fi
    printf 'FROM scratch\nADD base.tar /\nCMD ["bash"]\n' >"$work/base/Dockerfile"
    build "$work/base.log" debian:bookworm "$work/base" --build-arg SOURCE_DATE_EPOCH=1700000000
    if [ "$beside" = 0 ]; then rm -r "$work/base"; fi
}

# The toolchains and images of other stacks that a Dockerfile builds on.
ensure_parents() {
    for parent in $(sed -nE 's/^FROM +(toolchain:[a-z]+|stack-[a-z-]+).*/\1/p' "$1/Dockerfile" | sort -u); do
        [ ! -e "$work/made-$parent" ] || continue
        case $parent in
            toolchain:*) build "$work/$parent.log" "$parent" "$stacks_dir/toolchains" --target "${parent#toolchain:}" ;;
            stack-*)
                ensure_parents "$stacks_dir/${parent#stack-}"
                build "$work/$parent.log" "$parent" "$stacks_dir/${parent#stack-}"
                ;;
        esac
        : >"$work/made-$parent"
    done
}

# With buildah where it can: the same Dockerfile, from a cold cache, in a store of its own.
export BUILDAH_ISOLATION=chroot
export CONTAINERS_CONF="$work/containers.conf"
printf '[containers]\ndefault_ulimits = ["nofile=1024:1024"]\n' >"$CONTAINERS_CONF"
buildah_ready=
with_buildah() {
    timeout 300 buildah --root "$work/buildah" --runroot "$work/buildah-run" --storage-driver "${BUILDAH_DRIVER:-overlay}" "$@"
}
buildah_build() { # LOG TAG CONTEXT [FLAG...]
    buildah_log=$1 buildah_tag=$2 buildah_context=$3
    shift 3
    set -- with_buildah build --layers --network host --pull=never "$@"
    for id in ca apt pip npm token; do set -- "$@" --secret "id=$id,src=$registry/$id"; done
    "$@" -t "$buildah_tag" "$buildah_context" >"$buildah_log" 2>&1
}
# What buildah says of a stack, as one cell of the table: seconds and MB, or why not.
beside_buildah() { # STACK CONTEXT
    if [ "$beside" = 0 ]; then
        echo "not asked"
        return
    fi
    for parent in debian:bookworm $(sed -nE 's/^FROM +(toolchain:[a-z]+|stack-[a-z-]+).*/\1/p' "$2/Dockerfile" | sort -u); do
        [ ! -e "$work/buildah-$parent" ] || continue
        # Its parents are calque's own images: both start from the same layers.
        "$calque_binary" save -o "$work/parent.tar" "$parent" >/dev/null 2>&1 &&
            with_buildah pull -q "docker-archive:$work/parent.tar" >/dev/null 2>"$work/pull.err" || {
            echo "no base: $(tail -n 1 "$work/pull.err" 2>/dev/null | cut -c1-80)"
            return
        }
        rm -f "$work/parent.tar"
        : >"$work/buildah-$parent"
    done
    buildah_from=$(date +%s.%N)
    if buildah_build "$work/$1.buildah" "localhost/stack-$1" "$2"; then
        buildah_took=$(seconds "$buildah_from")
        buildah_size=$(with_buildah inspect --type image --format '{{.Docker.Size}}' "localhost/stack-$1" 2>/dev/null || :)
        case $buildah_size in
            *[!0-9]* | '' | 0) buildah_size=$(with_buildah images --format '{{.Size}}' "localhost/stack-$1" | head -n 1) ;;
            *) buildah_size="$((buildah_size / 1000000)) MB" ;;
        esac
        echo "$buildah_took s, $buildah_size"
    else
        grep -iE 'error|unknown|unsupported' "$work/$1.buildah" | tail -n 1 | tr '|' '/' | cut -c1-90
    fi
}

table=$work/table
one() {
    name=$1
    source=$stacks_dir/$name
    image=stack-$name
    [ -e "$source/Dockerfile" ] || fail "there is no stack \`$name\`"
    shows='' file='' edit='' before='' after='' rebuilt=''
    # shellcheck disable=SC1091
    . "$source/stack.env"
    context=$work/context/$name
    mkdir -p "$work/context"
    cp -a "$source" "$context"
    ensure_parents "$source"
    log=$work/$name.log

    from=$(date +%s.%N)
    build "$log" "$image" "$context" --no-cache
    build_took=$(seconds "$from")
    smoke "$image" "$name" >"$work/$name.out"
    tr '\n' ' ' <"$work/$name.out" | grep -qE "$before" || fail "$name: the smoke test printed: $(cat "$work/$name.out")"

    from=$(date +%s.%N)
    build "$log.cached" "$image" "$context"
    cached_took=$(seconds "$from")
    drop_from "$log.cached"
    again=$(ran "$log.cached.steps")
    [ -z "$again" ] || fail "$name: with nothing changed, these steps ran: $again"
    steps=$(count_steps "$log.cached")

    sed -i -E "$edit" "$context/$file"
    ! cmp -s "$context/$file" "$source/$file" || fail "$name: the edit changes nothing in $file"
    from=$(date +%s.%N)
    build "$log.changed" "$image-changed" "$context"
    changed_took=$(seconds "$from")
    drop_from "$log.changed"
    now=$(ran "$log.changed.steps")
    [ "$now" = "$rebuilt" ] || {
        grep -E 'MISS|SAME' "$log.changed" >&2
        fail "$name: with $file changed, these steps ran: \`$now\`, expected: \`$rebuilt\`"
    }
    grep -qE "^#[0-9]+ MISS: .*$file" "$log.changed" || fail "$name: no cause names $file"
    hits=$((steps - $(printf '%s\n' "$now" | awk -F', ' '{ print NF }')))
    smoke "$image-changed" "$name" >"$work/$name.out"
    tr '\n' ' ' <"$work/$name.out" | grep -qE "$after" || fail "$name: changed, the smoke test printed: $(cat "$work/$name.out")"

    size=$("$calque_binary" inspect --type image "$image" | sed -nE 's/^ *"Size": ([0-9]+).*/\1/p' | head -n 1)
    peer=$(beside_buildah "$name" "$source")
    row="| $name | $shows | $build_took | $cached_took | $changed_took | $hits of $steps | $(awk -v b="$size" 'BEGIN { printf "%.1f", b / 1e6 }') | $peer |"
    echo "$row" | tee -a "$table"
    rm -rf "$context"
}

ensure_base
all=$(cd "$stacks_dir" && for dir in */stack.env; do echo "${dir%/*}"; done)
if [ $# -gt 0 ]; then some=1; else some=0; fi
# shellcheck disable=SC2086
if [ $some = 0 ]; then set -- $all; fi
failed=
for name in "$@"; do (one "$name") || failed="$failed $name"; done
if [ -n "$failed" ]; then fail "failed:$failed"; fi
if [ $some = 1 ]; then exit 0; fi
{
    sed '/^| stack /,$d' "$here/docs/stacks.md"
    echo '| stack | what it shows | build s | cached s | changed s | hits when changed | size MB | buildah |'
    echo '| --- | --- | --- | --- | --- | --- | --- | --- |'
    cat "$table"
} >"$work/stacks.md"
cp "$work/stacks.md" "$here/docs/stacks.md"
