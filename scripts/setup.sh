#!/bin/sh
# Everything `npm run demo` and `npm run check` need on a fresh machine: system packages where missing and allowed,
# npm packages, the addon, the compiled program. What is there already is left alone. Arguments are further programs wanted,
# by the names of their packages.
set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin
export PATH

missing=
command -v nft >/dev/null || missing="$missing nftables"
command -v ip >/dev/null || missing="$missing iproute2"
command -v g++ >/dev/null || missing="$missing g++"
command -v gcc >/dev/null || missing="$missing gcc"
command -v make >/dev/null || missing="$missing make"
# Elsewhere the tests that need these say so and are left out.
if [ -n "${CI-}" ]; then
  command -v runc >/dev/null || missing="$missing runc"
  command -v iptables-legacy >/dev/null || missing="$missing iptables"
fi
for program; do
  command -v "$program" >/dev/null || missing="$missing $program"
done
if [ -n "$missing" ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "setup: these programs are missing, and only root on a Debian or Ubuntu machine can install them here:$missing" >&2
    echo "setup: install them (on Debian and Ubuntu: sudo apt-get install$missing), then run this again" >&2
    exit 5
  fi
  echo "setup: installing$missing" >&2
  # shellcheck disable=SC2086
  apt-get -qq update >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null
fi

# npm writes this file last: older than the lock file means an install that is out of date.
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  # npm empties the folder before it fills it, also one that a link leads to and others use.
  if [ -L node_modules ]; then
    echo "setup: node_modules is a link to $(readlink node_modules), and out of date for this package-lock.json" >&2
    echo 'setup: run `npm ci` where it leads to, or remove the link, then run this again' >&2
    exit 5
  fi
  echo 'setup: installing npm packages (half a minute)' >&2
  npm ci --no-audit --no-fund --loglevel=error >&2
  touch node_modules/.package-lock.json
fi

# The test runner with the plugins that .taprc wants.
if [ ! -e node_modules/.tap-built ] || [ .taprc -nt node_modules/.tap-built ]; then
  tap build >/dev/null
  touch node_modules/.tap-built
fi

make -s -C src/native
tsc -p tsconfig.build.json
