#!/bin/sh
# The addon for every kind of processor that packages are made for: x64 and arm64, whichever this machine is. The compiler
# for the other one is Debian's; where it is missing, root gets it by apt.
set -eu
cd "$(dirname "$0")/.."
for arch in x64 arm64; do
  case $arch in x64) machine=x86_64 ;; arm64) machine=aarch64 ;; esac
  compiler=g++
  if [ "$(uname -m)" != "$machine" ]; then
    compiler=$machine-linux-gnu-g++
    if ! command -v "$compiler" >/dev/null; then
      package=g++-$(echo "$machine" | tr _ -)-linux-gnu
      if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "prebuilds: $compiler is missing; install it first: apt-get install $package" >&2
        exit 5
      fi
      echo "prebuilds: installing $package" >&2
      apt-get -qq update >/dev/null
      DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$package" >/dev/null
    fi
  fi
  make -s -C src/native arch=$arch CXX="$compiler"
  # A third of the file.
  "${compiler%g++}strip" --strip-unneeded prebuilds/linux-$arch/knp.node
done
