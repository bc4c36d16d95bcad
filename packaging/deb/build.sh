#!/bin/bash
# Debian packages with a Node.js runtime of their own: build/knp_VERSION_amd64.deb and build/knp_VERSION_arm64.deb.
#
#   npm run build:deb [-- amd64|arm64]...     both, unless named
#
# KNP_DEB_VERSION  the package's version (that of package.json)
# KNP_DEB_OUT      the folder that it is put into (build/)
# KNP_DEB_LEVEL    how hard xz tries, 0 to 9 (6)
#
# Needs Debian and what `npm run build` needs; dpkg-dev, and for the other processor its binutils and compiler, are installed
# by root where they are missing. Node.js comes from the npm registry, in the version that package.json pins.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PWD/node_modules/.bin:$PATH
fail() { echo "deb: $1" >&2; exit "${2:-1}"; }
umask 022

version=${KNP_DEB_VERSION:-$(node -p 'require("./package.json").version')}
out=$(mkdir -p "${KNP_DEB_OUT:-build}" && cd "${KNP_DEB_OUT:-build}" && pwd)
[ $# -gt 0 ] || set -- amd64 arm64
. packaging/need.sh
need deb dpkg-shlibdeps:dpkg-dev
tsc -p tsconfig.build.json
sh scripts/prebuilds.sh
node scripts/generate.ts

# Of the commit where there is one, so that one commit makes one file.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
work=$(mktemp -d "${TMPDIR:-/tmp}/knp-deb.XXXXXX")
trap 'rm -rf "$work"' EXIT

# runtime ARCH: prints the folder of the npm package that holds Node.js
runtime() {
  local name=node-linux-$1 node_version folder
  node_version=$(node -p 'require("./package.json").devDependencies.node')
  folder=$PWD/build/$name-$node_version
  if [ ! -e "$folder/bin/node" ]; then
    echo "deb: fetching $name $node_version" >&2
    mkdir -p build
    # Unpacked aside and moved: an interrupted download leaves nothing that looks complete.
    (cd "$work" && npm pack --silent --loglevel=error "$name@$node_version" >/dev/null && tar -xzf "$name"-*.tgz && rm "$name"-*.tgz)
    rm -rf "$folder"
    mv "$work/package" "$folder"
  fi
  echo "$folder"
}

for deb_arch; do
  case $deb_arch in
  amd64) arch=x64 machine=x86_64 ;;
  arm64) arch=arm64 machine=aarch64 ;;
  *) fail "$deb_arch: neither amd64 nor arm64" 2 ;;
  esac
  strip=strip
  [ "$(uname -m)" = "$machine" ] || strip=$machine-linux-gnu-strip
  root=$work/$deb_arch
  lib=$root/usr/lib/knp
  echo "deb: packing for $deb_arch" >&2
  sh packaging/program.sh "$lib" "$arch" /usr/lib/knp/bin/node
  node_runtime=$(runtime "$arch")
  install -D -m 755 "$node_runtime/bin/node" "$lib/bin/node"
  "$strip" -s "$lib/bin/node"

  mkdir -p "$root/usr/bin"
  sed -i 1d "$lib/bin/run.js"
  chmod 644 "$lib/bin/run.js"
  printf '#!/bin/sh\nexec /usr/lib/knp/bin/node /usr/lib/knp/bin/run.js "$@"\n' >"$root/usr/bin/knp"
  chmod 755 "$root/usr/bin/knp"
  install -D -m 644 packaging/systemd/knp.service "$root/usr/lib/systemd/system/knp.service"
  install -D -m 644 packaging/systemd/knp.sysusers "$root/usr/lib/sysusers.d/knp.conf"
  install -D -m 644 packaging/systemd/knp.yaml "$root/etc/knp/knp.yaml"
  install -D -m 644 packaging/deb/host.yaml "$root/etc/knp/policies/host.yaml"
  install -D -m 644 packaging/man/knp.1 "$root/usr/share/man/man1/knp.1"
  install -D -m 644 packaging/completion/knp.bash "$root/usr/share/bash-completion/completions/knp"
  install -D -m 644 packaging/completion/_knp "$root/usr/share/zsh/vendor-completions/_knp"
  install -D -m 644 packaging/completion/knp.fish "$root/usr/share/fish/vendor_completions.d/knp.fish"
  install -D -m 644 packaging/deb/lintian-overrides "$root/usr/share/lintian/overrides/knp"
  doc=$root/usr/share/doc/knp
  mkdir -p "$doc"
  cp -R docs "$doc/docs"
  cp -R demo "$doc/examples"
  rm -f "$lib/LICENSE"
  gzip -9n "$root/usr/share/man/man1/knp.1"
  gzip -9nc CHANGELOG.md >"$doc/NEWS.md.gz"
  cp packaging/deb/copyright "$doc/copyright"
  gzip -9nc "$node_runtime/LICENSE" >"$doc/LICENSE.node.gz"
  printf 'knp (%s) unstable; urgency=medium\n\n  * See NEWS.md.gz.\n\n -- knp developers <knp@knp.dev>  %s\n' \
    "$version" "$(LC_ALL=C date -uRd "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.gz"

  mkdir "$root/DEBIAN"
  for script in postinst prerm postrm; do install -m 755 "packaging/deb/$script" "$root/DEBIAN/$script"; done
  (cd "$root" && find etc -type f -printf '/%p\n' | sort) >"$root/DEBIAN/conffiles"
  # What both programs are linked with, in the versions whose symbols they use: the names are the same for both processors.
  mkdir -p "$work/debian"
  printf 'Source: knp\n\nPackage: knp\nArchitecture: any\n' >"$work/debian/control"
  depends=$(cd "$work" && dpkg-shlibdeps -O --ignore-missing-info -e"$OLDPWD/prebuilds/linux-x64/knp.node" \
    -e"$(cd "$OLDPWD" && runtime x64)/bin/node" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
  [ -n "$depends" ] || fail 'dpkg-shlibdeps names no libraries'
  find "$root" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
  cat >"$root/DEBIAN/control" <<END
Package: knp
Version: $version
Architecture: $deb_arch
Maintainer: knp developers <knp@knp.dev>
Installed-Size: $(du -k --apparent-size -s --exclude=DEBIAN "$root" | cut -f 1)
Depends: $depends, init-system-helpers (>= 1.54~), nftables, systemd (>= 249)
Section: net
Priority: optional
Homepage: https://knp.dev
Description: firewall that decides by Kubernetes network policy
 The first packet of each new connection is decided in userspace by
 NetworkPolicy, ClusterNetworkPolicy and their like, read from files or from
 a cluster; the kernel remembers the answer. Every answer can be explained:
 which policy, which rule, and why.
 .
 It runs on Kubernetes nodes, on plain servers, and on routers. This package
 brings its own Node.js.
END
  (cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
  chmod 644 "$root"/DEBIAN/{control,conffiles,md5sums}
  chmod -R u=rwX,go=rX "$root/usr" "$root/etc"
  deb=$out/knp_${version}_$deb_arch.deb
  dpkg-deb --root-owner-group -Zxz -z${KNP_DEB_LEVEL:-6} --build "$root" "$deb" >/dev/null
  echo "$deb ($(($(stat -c %s "$deb") / 1000000)) MB)"
done
