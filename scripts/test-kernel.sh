#!/bin/bash
# The tests that run the firewall on real packets, as root.
#
#   npm run test:kernel [-- FILE...]          under the kernel of this machine
#   npm run test:kernel -- --debian-kernel    under Debian's stock kernel, in an emulator: what other kernels may lack (nft's
#                                             own queue statement, SCTP, IPVS), and what depends on it
#
# KNP_TEST_SLOW multiplies the tests' limits there (8). Every file of test/kernel that is given runs there too.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin
export PATH

if [ "${1:-}" != --debian-kernel ]; then
  if [ $# -eq 0 ]; then set -- test/kernel/*.test.ts; fi
  exec tap "$@"
fi
shift

if ! command -v ipvsadm >/dev/null; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo 'test-kernel: ipvsadm is missing; install it first: apt-get install ipvsadm' >&2
    exit 5
  fi
  echo 'test-kernel: installing ipvsadm' >&2
  apt-get -qq update >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends ipvsadm >/dev/null
fi
npm run -s build
make -s -C test/tools

results=$(mktemp)
trap 'rm -f "$results"' EXIT
export KNP_TEST_SLOW=${KNP_TEST_SLOW:-8}
# Five files take half an hour there, more where the machine has other work.
export KNP_VM_TIMEOUT=${KNP_VM_TIMEOUT:-5400}
# The first file looks at a machine that has just started. One process for all: tap's own takes 10 s to start there.
scripts/debian-kernel.sh env TAP_TIMEOUT=600 node --no-warnings scripts/run-tests.ts \
  test/debian/firewall.test.ts test/debian/sctp.test.ts test/debian/ipvs.test.ts test/kernel/native.test.ts \
  test/kernel/rules.test.ts "$@" |
  tee "$results" | grep --line-buffered -E '^( {4})?(not )?ok ' || true
# Without totals, the machine did not get to the end: that is a failure too.
node scripts/count-results.ts "$results"
