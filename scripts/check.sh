#!/bin/sh
# Lint, types, unit and kernel tests; the last line says how many tests passed.
set -eu
cd "$(dirname "$0")/.."
results=$(mktemp)
trap 'rm -f "$results"' EXIT

# Runs test files, all or those that are named, and prints what failed and the totals.
run_tests() {
  # The runner's own live display is for terminals; elsewhere a line a file.
  if [ -t 1 ]; then
    tap --reporter=terse --output-file="$results" "$@" || true
  else
    tap --reporter=tap "$@" | tee "$results" | grep --line-buffered -E '^(not )?ok ' || true
  fi
  # The totals decide, not the pipeline's status: no totals is a failure too.
  node scripts/count-results.ts "$results"
}

echo 'check: lint' >&2
biome ci --colors=off --error-on-warnings .
echo 'check: types' >&2
tsc --noEmit
echo 'check: tests' >&2
run_tests && exit

# Tests with real packets, files that are watched, memory that is collected: other work on the machine delays them. One or two
# files that failed are judged alone. Both results are printed. More than that has failed, and in CI what was skipped.
failed=$(sed -nE 's/^not ok [0-9]+ - (test\/[^ ]+).*/\1/p' "$results")
count=$(echo "$failed" | wc -w)
if [ "$count" -eq 0 ] || [ "$count" -gt 2 ]; then
  exit 1
fi
if [ -n "${CI-}" ] && grep -q '^ *ok .*# SKIP' "$results"; then exit 1; fi
# shellcheck disable=SC2086
echo "check: failed beside other tests, so run again alone:" $failed >&2
# shellcheck disable=SC2086
run_tests --jobs=1 $failed
