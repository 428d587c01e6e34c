# Builds one tree, on the machine that keeps the cache. Arguments: CACHE NAME SUITE PACKAGES UNITS
# (UNITS, separated by spaces, are disabled in it).
# Made by mmdebstrap(1). The cache of .deb files is shared by all trees, also by those that are being
# built at the same time: a file gets its name there when it is whole.
set -eu
umask 022
cache=$1 name=$2 suite=$3 packages=$4 units=${5:-}
trees=$cache/trees debs=$cache/debs
mkdir -p "$trees" "$debs"
exec 9>"$trees/.$name.lock"
flock 9
[ ! -d "$trees/$name" ] || exit 0
command -v mmdebstrap >/dev/null || { echo "mmdebstrap is not installed" >&2; exit 3; }
work=$trees/.partial-$name
rm -rf --one-file-system "$work"
mkdir "$work"
# KILL leaves a partial tree behind; the next run removes it before it builds.
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 143' TERM INT HUP
cat >"$work/prepare" <<'HOOK'
#!/bin/sh
set -eu
mkdir -p "$1/var/cache/apt/archives" "$1/etc/initramfs-tools/conf.d" "$1/etc/apt/apt.conf.d"
printf 'MODULES=list\nCOMPRESS=zstd\n' >"$1/etc/initramfs-tools/conf.d/solostack"
printf 'virtio_pci\nvirtio_blk\nvirtio_net\next4\n' >"$1/etc/initramfs-tools/modules"
HOOK
cat >"$work/keep" <<'HOOK'
#!/bin/sh
set -eu
whole=${0%/*}/whole
mkdir "$whole"
for deb in "$1"/var/cache/apt/archives/*.deb; do
    cmp -s "$deb" "$KEPT_DEBS/${deb##*/}" || cp "$deb" "$whole"
done
# apt takes a file of the right size as it is, also one that a power cut left full of zeros.
sync -f "$whole"
find "$whole" -type f -exec mv -t "$KEPT_DEBS" {} +
rmdir "$whole"
HOOK
cat >"$work/finish" <<'HOOK'
#!/bin/sh
# What tells one machine from another must not be in a golden tree.
set -eu
rm -f "$1"/etc/ssh/ssh_host_* "$1/etc/hostname" "$1/var/lib/rabbitmq/.erlang.cookie" \
    "$1/etc/iscsi/initiatorname.iscsi" "$1/var/lib/systemd/random-seed" "$1/var/lib/dbus/machine-id" \
    "$1/etc/openvswitch/conf.db" "$1/etc/openvswitch/system-id.conf"
: >"$1/etc/machine-id"
rm -f "$1/etc/resolv.conf"
: >"$1/etc/resolv.conf"
HOOK
chmod 755 "$work/prepare" "$work/keep" "$work/finish"
export KEPT_DEBS="$debs"
# The machine's own sources, with the wanted suite in place of its own: a mirror that works here.
. /etc/os-release
sources=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 'Component: main' |
    sort -u | sed -n "s/^\([^ ]*\) $VERSION_CODENAME\(-updates\|-security\|\)$/deb \1 $suite\2 main/p")
[ -n "$sources" ] || { echo "no apt source of $VERSION_CODENAME on this machine" >&2; exit 4; }
mmdebstrap --verbose --mode=root --variant=minbase --components=main \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "3"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='force-confold' --dpkgopt='force-unsafe-io' --skip=download/empty --skip=essential/unlink \
    --setup-hook="$work/prepare" --setup-hook="sync-in $debs /var/cache/apt/archives/" \
    --customize-hook="$work/keep" --customize-hook="$work/finish" \
    --include="$packages" "$suite" "$work/root" - 2>&1 <<SOURCES
$sources
SOURCES
[ -z "$units" ] || chroot "$work/root" systemctl -q disable $units
rm -f "$work/prepare" "$work/keep" "$work/finish"
chroot "$work/root" dpkg-query -W -f '${Package} ${Version}\n' >"$work/manifest"
sync -f "$work"
mv "$work" "$trees/$name"
