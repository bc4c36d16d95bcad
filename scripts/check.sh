#!/bin/sh
# Lint, types, unit and kernel tests; the last line says how many tests passed.
set -eu
cd "$(dirname "$0")/.."
results=$(mktemp)
trap 'rm -f "$results"' EXIT

echo 'check: lint' >&2
biome ci --colors=off --error-on-warnings .
echo 'check: types' >&2
tsc --noEmit
echo 'check: tests' >&2
# The runner's own live display is for terminals; elsewhere a line a file.
if [ -t 1 ]; then
  tap --reporter=terse --output-file="$results" || true
else
  tap --reporter=tap | tee "$results" | grep --line-buffered -E '^(not )?ok ' || true
fi
# The totals decide, not the pipeline's status: no totals is a failure too.
node scripts/count-results.ts "$results"
