#!/bin/sh
# Makes a small base image, busybox:latest, of Debian's busybox-static.
#
#   base-image.sh OUT.tar            a docker archive, for `calque load -i OUT.tar` (docker, podman and skopeo read it too)
#   base-image.sh --rootfs OUT.tar   only the root file system
#
# The same busybox gives the same bytes. It has no /dev, /proc and /sys on purpose: a runtime must do without.
set -eu

form=image
if [ "${1-}" = --rootfs ]; then
    form=rootfs
    shift
fi
out=${1:?usage: base-image.sh [--rootfs] OUT.tar}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# A static busybox: the installed one, else the package's, which is only unpacked and needs no privilege.
is_static() { [ -x "$1" ] && ! ldd "$1" >/dev/null 2>&1; }
busybox=
for candidate in "${BUSYBOX-}" /bin/busybox /usr/bin/busybox; do
    if [ -n "$candidate" ] && is_static "$candidate"; then
        busybox=$candidate
        break
    fi
done
if [ -z "$busybox" ]; then
    mkdir "$work/package"
    (
        cd "$work/package"
        apt-get download busybox-static >/dev/null 2>&1 || {
            if [ "$(id -u)" = 0 ]; then
                apt-get update -qq && chmod 755 "$work" && apt-get download busybox-static >/dev/null
            else
                echo "base-image.sh: needs a static busybox: apt-get install busybox-static" >&2
                exit 1
            fi
        }
        dpkg-deb -x busybox-static_*.deb root
    )
    for candidate in "$work"/package/root/bin/busybox "$work"/package/root/usr/bin/busybox; do
        if [ -x "$candidate" ]; then busybox=$candidate; fi
    done
fi

root=$work/rootfs
umask 022
mkdir -p "$root/bin" "$root/etc" "$root/home" "$root/lib" "$root/root" "$root/tmp" "$root/usr/bin" \
    "$root/usr/sbin" "$root/var/spool/mail" "$root/var/tmp" "$root/var/www"
chmod 700 "$root/root"
chmod 1777 "$root/tmp" "$root/var/tmp"
cp "$busybox" "$root/bin/busybox"
chmod 755 "$root/bin/busybox"
"$busybox" --list | LC_ALL=C sort -u | while read -r applet; do
    if [ "$applet" != busybox ]; then ln "$root/bin/busybox" "$root/bin/$applet"; fi
done
ln -s /bin/env "$root/usr/bin/env"
ln -s bin "$root/sbin"
cat >"$root/etc/passwd" <<'EOF'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
EOF
cat >"$root/etc/group" <<'EOF'
root:x:0:
daemon:x:1:
bin:x:2:
mail:x:8:
www-data:x:33:
operator:x:37:
users:x:100:
nogroup:x:65534:
EOF
printf 'root:*:::::::\nnobody:*:::::::\n' >"$root/etc/shadow"
chmod 640 "$root/etc/shadow"
echo 'PRETTY_NAME="busybox, from Debian busybox-static"' >"$root/etc/os-release"

# archive OUT DIR NAME...: a tar that depends on nothing but the files.
archive() {
    archive_out=$1
    archive_dir=$2
    shift 2
    tar -C "$archive_dir" --format=pax --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime \
        --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - "$@" >"$archive_out"
}

archive "$work/layer.tar" "$root" .
if [ "$form" = rootfs ]; then
    cp "$work/layer.tar" "$out"
    exit 0
fi

diff_id=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
case $(uname -m) in
    x86_64) platform='"architecture":"amd64"' ;;
    aarch64) platform='"architecture":"arm64","variant":"v8"' ;;
    armv7l) platform='"architecture":"arm","variant":"v7"' ;;
    *) platform="\"architecture\":\"$(uname -m)\"" ;;
esac
image=$work/image
mkdir -p "$image/$diff_id"
mv "$work/layer.tar" "$image/$diff_id/layer.tar"
cat >"$work/config.json" <<EOF
{$platform,"config":{"Cmd":["sh"],"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},"created":"1970-01-01T00:00:00Z","history":[{"created":"1970-01-01T00:00:00Z","created_by":"scripts/base-image.sh"}],"os":"linux","rootfs":{"diff_ids":["sha256:$diff_id"],"type":"layers"}}
EOF
config=$(sha256sum "$work/config.json" | cut -d' ' -f1)
mv "$work/config.json" "$image/$config.json"
printf '[{"Config":"%s.json","RepoTags":["busybox:latest"],"Layers":["%s/layer.tar"]}]\n' "$config" "$diff_id" \
    >"$image/manifest.json"
archive "$out" "$image" manifest.json "$config.json" "$diff_id"
