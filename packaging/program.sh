#!/bin/sh
# The program as it is installed: what `npm run build` has made and the packages that it runs on, in one folder, for one kind of
# processor. Node.js itself is not in it.
#
#   packaging/program.sh DIR ARCH NODE      DIR must be absent or empty; ARCH is x64 or arm64; NODE is the path where node will lie
set -eu
fail() { echo "program: $1" >&2; exit "${2:-1}"; }
[ $# -eq 3 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
[ -e "$here/dist/commands/run.js" ] || fail 'dist is missing; make it: npm run build' 5
[ -e "$here/prebuilds/linux-$2/knp.node" ] || fail "prebuilds/linux-$2/knp.node is missing; make it: npm run build:prebuilds" 5
mkdir -p "$1"
to=$(cd "$1" && pwd)
[ -z "$(ls -A "$to")" ] || fail "$1: is not empty" 2
cd "$here"
PATH=$PWD/node_modules/.bin:$PATH

mkdir "$to/bin" "$to/prebuilds"
cp package.json LICENSE "$to/"
node --no-warnings scripts/generate.ts "$to/oclif.manifest.json"
cp -R dist "$to/dist"
cp -R "prebuilds/linux-$2" "$to/prebuilds/"
# Its own Node.js, and no other that PATH may have.
sed "1s|.*|#!$3|" bin/run.js >"$to/bin/run.js"
chmod 755 "$to/bin/run.js"

# The packages that the lock file has for production, as they are installed here.
node -e '
  for (const [path, { dev, devOptional, optional }] of Object.entries(require("./package-lock.json").packages)) {
    if (path === "" || dev || devOptional || path.includes("node_modules/@types/")) continue
    if (optional && !require("node:fs").existsSync(path)) continue
    console.log(path)
  }' | while read -r package; do
  # Nested ones have come with what they lie in.
  [ -e "$to/$package" ] && continue
  mkdir -p "$to/${package%/*}"
  cp -R "$package" "$to/$package" || fail "$package: not installed; install it: npm ci"
done
find "$to" \( -name '*.map' -o -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' -o -name '*.flow' -o -name .tsbuildinfo \
  -o -iname 'readme*' -o -iname 'changelog*' -o -name '.npmignore' -o -name '.editorconfig' -o -name '.eslint*' \
  -o -name '.prettier*' -o -name '.nycrc' -o -name '.travis.yml' -o -name .package-lock.json -o -name .gitattributes -o -name '*.html' \) -type f -delete
find "$to/node_modules" -type d \( -name .github -o -name test -o -name tests -o -name docs -o -name examples \
  -o -name example -o -name benchmarks \) -prune -exec rm -rf {} +
# For the runtime Bare; Node.js has these modules itself.
rm -rf "$to"/node_modules/bare-*/prebuilds "$to"/node_modules/.bin
# Their own commands are nobody's here.
find "$to/node_modules" -type d -name .husky -prune -exec rm -rf {} +
find "$to/node_modules" -type f -name '*.sh' -delete
find "$to/node_modules" -type f -exec chmod a-x {} +
find "$to/node_modules" -type f \( -name '*.js' -o -name '*.mjs' -o -name '*.cjs' \) -exec sed -i '1{/^#!/d}' {} +
find "$to" -type d -empty -delete
