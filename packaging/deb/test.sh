#!/bin/bash
# What the Debian package promises, tried in a Debian 12 that has nothing else: built by mmdebstrap, once in a folder, then booted
# by its own systemd, in a container with a network of its own. As root, on Debian, amd64.
#
#   npm run test:deb                          the last line says how many checks passed
#   npm run test:deb -- --debian-kernel       boots a machine under Debian's kernel, in an emulator: half an hour
#   npm run test:deb -- --without-boot
#
# Builds the package first, unless KNP_DEB names one. The clean root is kept below ~/.cache/knp.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin
fail() { echo "test-deb: $1" >&2; exit "${2:-1}"; }
[ "$(id -u)" = 0 ] || fail 'needs root, to make and to boot a root of its own' 5

. packaging/need.sh
need test-deb mmdebstrap:mmdebstrap lintian:lintian systemd-analyze:systemd dpkg-deb:dpkg mandoc:mandoc
. packaging/checks.sh

work=$(mktemp -d "${TMPDIR:-/tmp}/knp-deb-test.XXXXXX")
finish() {
  for name in proc sys; do umount "$work/root/$name" 2>/dev/null || true; done
  rm -rf --one-file-system "$work"
}
trap finish EXIT

if [ -z "${KNP_DEB:-}" ]; then
  KNP_DEB_OUT=$work KNP_DEB_LEVEL=1 bash packaging/deb/build.sh amd64 >&2
  KNP_DEB=$(ls "$work"/knp_*_amd64.deb)
fi
clean=${XDG_CACHE_HOME:-$HOME/.cache}/knp/debian-12.tar
if [ ! -e "$clean" ]; then
  echo 'test-deb: making a clean Debian 12 (once)' >&2
  mkdir -p "${clean%/*}"
  # What the package depends on is in it, so that the tests need no network.
  mmdebstrap --quiet --format=tar --variant=minbase \
    --include=systemd-sysv,nftables,libstdc++6,init-system-helpers,iproute2,procps,kmod,man-db bookworm "$clean.part"
  mv "$clean.part" "$clean"
fi
root=$work/root
mkdir "$root"
tar -C "$root" -xpf "$clean" --exclude='./dev/*'
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"; }

# everything: each file and folder with its owner, and each user; but what any package leaves behind
everything() {
  (cd "$1" && find . \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./run -o -path ./knp-test -o -path ./var/lib/dpkg -o -path ./var/log \
    -o -path ./var/cache -o -path './etc/*-' -o -path ./etc/.pwd.lock -o -path ./tmp \) -prune -o -printf '%p %u %g\n' | LC_ALL=C sort)
  cut -d : -f 1 "$1/etc/passwd" "$1/etc/group" | sort
}
everything "$root" >"$work/before"

# The next version: the same files under a higher number.
mkdir "$work/next"
dpkg-deb -R "$KNP_DEB" "$work/next"
sed -i 's/^Version: .*/&+next/' "$work/next/DEBIAN/control"
dpkg-deb --root-owner-group -Zgzip -z1 --build "$work/next" "$work/next.deb" >/dev/null
rm -r "$work/next"

check 'lintian: no errors' lintian --allow-root --fail-on error "$KNP_DEB"
cp "$KNP_DEB" "$root/knp.deb"
cp "$work/next.deb" "$root/next.deb"
check 'installs in a clean Debian 12' inside dpkg -i /knp.deb
check 'the unit: systemd-analyze verify says nothing' bash -c '[ -z "$(chroot "$0" systemd-analyze verify knp.service 2>&1)" ]' "$root"
exposure() { inside systemd-analyze security --offline=true --no-pager knp.service | awk '/Overall exposure/ { print $(NF - 2); exit $(NF - 2) > 2.5 }'; }
check "the unit: exposure of $(exposure || true), at most 2.5" exposure
check 'is enabled' inside systemctl is-enabled knp.service
check 'has a user without a shell' bash -c 'grep -q "^knp:x:.*:/usr/sbin/nologin$" "$0/etc/passwd"' "$root"
check 'knp --version' inside knp --version
check 'knp explain' inside knp explain shop/api shop/db:5432 --source /usr/share/doc/knp/examples/shop
check 'the manual page' inside sh -c 'MANWIDTH=80 man knp 2>&1 | grep -q "knp explain FROM TO"'
check 'the configuration is understood, and enforces nothing yet' bash -c 'chroot "$0" knp run --print-config | grep -qx "mode: audit"' "$root"
echo '# mine' >>"$root/etc/knp/knp.yaml"
check 'upgrades' inside dpkg -i /next.deb
check 'an edited configuration is kept' grep -q '^# mine$' "$root/etc/knp/knp.yaml"
check 'goes away' inside dpkg -r knp
check 'and leaves the configuration' test -e "$root/etc/knp/knp.yaml"
touch "$root/etc/knp/policies/mine.yaml"
mkdir -p "$root/var/lib/knp"
touch "$root/var/lib/knp/last-good.jsonl"
check 'is purged' inside dpkg -P knp
rm "$root/knp.deb" "$root/next.deb"
everything "$root" >"$work/after"
check 'nothing is left' diff "$work/before" "$work/after"

if [ "${1:-}" != --without-boot ]; then
  cp "$KNP_DEB" "$root/knp.deb"
  inside dpkg -i /knp.deb >/dev/null 2>&1
  rm "$root/knp.deb"
  for name in proc sys; do umount "$root/$name"; done
  mkdir "$root/knp-test"
  cp packaging/deb/boot-test.sh packaging/deb/probe.js "$root/knp-test/"
  cp "$work/next.deb" "$root/knp-test/next.deb"
  cp packaging/deb/test-policies.yaml "$root/etc/knp/policies/test.yaml"
  printf '%s\n' 'sources: [{ files: { path: /etc/knp/policies } }]' 'nodeName: test' 'remember: { allowed: 0s, denied: 0s }' \
    >"$root/etc/knp/knp.yaml"
  if [ "${1:-}" = --debian-kernel ]; then
    echo 'test-deb: booting a machine (half an hour)' >&2
    # It takes ten times as long for everything.
    mkdir "$root/etc/systemd/system/knp.service.d"
    printf '[Service]\nTimeoutStartSec=900\nWatchdogSec=90\n' >"$root/etc/systemd/system/knp.service.d/slow.conf"
    KNP_TEST_SLOW=10 KNP_VM_ROOT=$root KNP_VM_TIMEOUT=${KNP_VM_TIMEOUT:-3600} \
      scripts/debian-kernel.sh /bin/bash /knp-test/boot-test.sh | tee "$work/boot" || true
  else
    packaging/deb/boot-container.sh "$root" /bin/bash /knp-test/boot-test.sh | tee "$work/boot" || true
  fi
  passed=$((passed + $(grep -c '^ok' "$work/boot" || true)))
  failed=$((failed + $(grep -c '^not ok' "$work/boot" || true)))
  grep -q '^end of the tests' "$work/boot" || {
    echo 'not ok - the system came to the end of its tests'
    failed=$((failed + 1))
  }
fi
report
