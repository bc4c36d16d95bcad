# Sourced by the scripts that build and test packages.

# need SCRIPT COMMAND:PACKAGE...: has these commands; where one is missing root gets its package by apt, on Debian and Ubuntu.
# Elsewhere the script ends with exit status 5 and their names.
need() {
  local script=$1 pair missing=()
  shift
  for pair; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "$script: installing ${missing[*]}" >&2
    if apt-get -qq update >/dev/null &&
      DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null; then
      return 0
    fi
  fi
  echo "$script: missing: ${missing[*]}; install first: apt-get install ${missing[*]}" >&2
  exit 5
}
