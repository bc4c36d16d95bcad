#!/bin/sh
# The root filesystem of knp's image, as a folder: Node.js, nft, the libraries of both, the program with the packages that it
# runs on, and nothing else: no shell, no package manager. For this machine's architecture.
#
#   packaging/container/rootfs.sh DIR      DIR must be absent or empty
#
# Node.js, nft and the libraries are those of this machine; `npm run build` must have made dist and prebuilds. What the image
# starts is /usr/bin/knp.
set -eu
fail() { echo "rootfs: $1" >&2; exit "${2:-1}"; }
[ $# -eq 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1"
root=$(cd "$1" && pwd)
[ -z "$(ls -A "$root")" ] || fail "$1: is not empty" 2
cd "$(dirname "$0")/../.."
PATH=$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin
[ -e dist/commands/run.js ] && ls prebuilds/linux-*/knp.node >/dev/null 2>&1 ||
  fail 'dist or prebuilds are missing; make them: npm run build' 5
nft=$(command -v nft) || fail 'nft is missing; install it: apt-get install nftables' 5
# The program itself, where PATH leads to a package that wraps it.
node=$(node -p process.execPath)
node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 22 || (a == 22 && b >= 19) ? 0 : 1)' ||
  fail "$node: Node.js 22.19 or newer is needed" 5

# One /usr, as Debian has it; the loader is found by the old name.
mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64" "$root/etc/knp/policies" "$root/run/knp" "$root/var/lib/knp" \
  "$root/proc" "$root/sys" "$root/dev" "$root/tmp"
for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$root/$folder"; done
ln -s ../run "$root/var/run"
chmod 1777 "$root/tmp"

# program SOURCE TARGET: a program and the libraries that it is linked with, at the paths where it looks for them
program() {
  install -D -m 755 "$1" "$root$2"
  ldd "$1" | awk '{ for (i = 1; i <= NF; i++) if ($i ~ /^\//) { print $i; break } }' | while read -r library; do
    # Through the links of the folders (/lib is usr/lib), not of the file: the loader asks for this name.
    [ -e "$root$library" ] || install -D -m 755 "$(readlink -f "$library")" "$root$library"
  done
}
program "$node" /usr/bin/node
program "$nft" /usr/sbin/nft
# 18 MB of symbols that nothing reads at run time.
if command -v strip >/dev/null; then strip -s "$root/usr/bin/node"; fi

knp=$root/usr/lib/knp
mkdir -p "$knp/bin" "$knp/prebuilds"
cp package.json LICENSE "$knp/"
cp -R dist "$knp/dist"
rm -f "$knp/dist/.tsbuildinfo"
case $(uname -m) in x86_64) arch=x64 ;; aarch64) arch=arm64 ;; *) arch=$(uname -m) ;; esac
[ -e "prebuilds/linux-$arch/knp.node" ] || fail "prebuilds/linux-$arch/knp.node is missing; make it: npm run build:native" 5
cp -R "prebuilds/linux-$arch" "$knp/prebuilds/"
# There is no env(1) to find node.
sed '1s|.*|#!/usr/bin/node|' bin/run.js >"$knp/bin/run.js"
chmod 755 "$knp/bin/run.js"
ln -s ../lib/knp/bin/run.js "$root/usr/bin/knp"

# The packages that the lock file has for production, as they are installed here.
packages=$(node -e '
  for (const [path, { dev, devOptional, optional }] of Object.entries(require("./package-lock.json").packages)) {
    if (path === "" || dev || devOptional || path.includes("node_modules/@types/")) continue
    if (optional && !require("node:fs").existsSync(path)) continue
    console.log(path)
  }')
for package in $packages; do
  # Nested ones have come with what they lie in.
  if [ ! -e "$knp/$package" ]; then
    mkdir -p "$knp/${package%/*}"
    cp -R "$package" "$knp/$package" || fail "$package: not installed; install it: npm ci"
  fi
  for folder in .github test tests docs examples; do rm -rf "${knp:?}/$package/$folder"; done
done
find "$knp" \( -name '*.map' -o -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' -o -iname 'readme*' -o -iname 'changelog*' \) \
  -type f -delete
# For the runtime Bare; Node.js has these modules itself.
rm -rf "$knp"/node_modules/bare-*/prebuilds
find "$knp" -type d -empty -delete

printf 'root:x:0:0:root:/:/usr/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
chmod -R go-w "$root/usr" "$root/etc"
du -sm "$root" | awk '{ print "rootfs: " $1 " MB in " $2 }' >&2
