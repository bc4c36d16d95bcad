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
umask 022
mkdir -p "$1"
root=$(cd "$1" && pwd)
[ -z "$(ls -A "$root")" ] || fail "$1: is not empty" 2
cd "$(dirname "$0")/../.."
PATH=$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin
nft=$(command -v nft) || fail 'nft is missing; install it: apt-get install nftables' 5
# The program itself, where PATH leads to a package that wraps it.
node=$(node -p process.execPath)
node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 22 || (a == 22 && b >= 19) ? 0 : 1)' ||
  fail "$node: Node.js 22.19 or newer is needed" 5

case $(uname -m) in x86_64) arch=x64 ;; aarch64) arch=arm64 ;; *) arch=$(uname -m) ;; esac
sh packaging/program.sh "$root/usr/lib/knp" "$arch" /usr/bin/node

# One /usr, as Debian has it; the loader is found by the old name.
mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64" "$root/etc/knp/policies" "$root/run/knp" "$root/var/lib/knp" \
  "$root/proc" "$root/sys" "$root/dev" "$root/tmp"
for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$root/$folder"; done
ln -s ../run "$root/var/run"
ln -s ../lib/knp/bin/run.js "$root/usr/bin/knp"
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

printf 'root:x:0:0:root:/:/usr/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
chmod -R u=rwX,go=rX "$root/usr" "$root/etc"
du -sm "$root" | awk '{ print "rootfs: " $1 " MB in " $2 }' >&2
