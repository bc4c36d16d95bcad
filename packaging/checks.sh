# Sourced by the tests of packages: they count what they check.
passed=0 failed=0

# check NAME COMMAND...: what the command prints is shown where it fails
check() {
  local name=$1 output
  shift
  if output=$("$@" 2>&1); then
    passed=$((passed + 1))
    echo "ok - $name"
  else
    failed=$((failed + 1))
    echo "not ok - $name"
    sed 's/^/    /' <<<"$output"
  fi
}

# The last line of a test, and its exit status.
report() {
  echo "$passed passed, $failed failed"
  [ "$failed" = 0 ]
}
