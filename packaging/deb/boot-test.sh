#!/bin/bash
# The part of test.sh that runs in a Debian 12 of its own, under its systemd. One client in a network namespace probes this
# machine; policies allow UDP 7000 and nothing else. Nothing is remembered: each probe needs a verdict.
set -uo pipefail
slow=${KNP_TEST_SLOW:-1}
# Its own copy: it outlives the package.
node=/tmp/node
cp /usr/lib/knp/bin/node "$node"

check() {
  local name=$1 output
  shift
  if output=$("$@" 2>&1); then
    echo "ok - $name"
  else
    echo "not ok - $name"
    sed 's/^/    /' <<<"$output"
  fi
}
property() { systemctl show --property="$1" --value "${2:-knp.service}"; }
pid() { property MainPID; }
port_id() { awk '$1 == 100 { print $2 }' /proc/net/netfilter/nfnetlink_queue; }
# until SECONDS COMMAND...
until_true() {
  local end=$((SECONDS + $1 * slow))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.5
  done
}
is_active() { [ "$(property ActiveState)" = active ]; }
is_other() { is_active && [ "$(pid)" != "$1" ]; }
answers() { ip netns exec client "$node" /knp-test/probe.js once "$1"; }
refuses() { ! answers "$1"; }
knp_status_is() { knp status --json | grep -q "$1"; }
enforces() { answers 7000 && refuses 7001; }
has_rules() { nft list table inet knp >/dev/null 2>&1; }
knp_status() { knp status || true; knp status >/dev/null; }

pace_begin() {
  ip netns exec client "$node" /knp-test/probe.js pace >/tmp/pace &
  pace=$!
  sleep $((5 * slow))
}
# pace_end NAME: of all that was sent, everything allowed was answered and nothing denied
pace_end() {
  sleep $((3 * slow))
  kill "$pace"
  wait "$pace"
  read -r _ sent answered _ denied passed </tmp/pace
  check "$1: of $sent allowed probes $answered were answered, of $denied denied ones $passed" \
    [ "$sent" -gt 10 -a "$sent" = "$answered" -a "$passed" = 0 ]
}

until_true 60 is_active
check 'process 1 is systemd' grep -qx systemd /proc/1/comm
check 'runs after the boot' is_active
check 'without a failed start' [ "$(property NRestarts)" = 0 ]
check 'enforced before the network came up' \
  [ "$(property ActiveEnterTimestampMonotonic)" -le "$(property ActiveEnterTimestampMonotonic network-pre.target)" ]
check 'runs as user knp' [ "$(ps -o user= -p "$(pid)")" = knp ]
check 'has CAP_NET_ADMIN, and can have nothing else' \
  [ "$(awk '/^Cap(Prm|Eff|Bnd)/ { print $2 }' "/proc/$(pid)/status" | sort -u)" = 0000000000001000 ]
check 'nothing has failed' [ -z "$(systemctl list-units --failed --plain --no-legend)" ]
check 'knp doctor finds nothing missing' knp doctor
check 'knp status: healthy' knp_status
check 'group knp may ask' setpriv --reuid=65534 --regid="$(id -g knp)" --clear-groups knp status
check 'others may not' bash -c '! setpriv --reuid=65534 --regid=65534 --clear-groups knp status'
check 'the manager keeps the socket of the queue' [ "$(property NFileDescriptorStore)" = 1 ]

ip netns add client
ip link add veth0 type veth peer name eth0 netns client
ip address add 10.9.0.1/24 dev veth0
ip link set veth0 up
ip -n client address add 10.9.0.2/24 dev eth0
ip -n client link set eth0 up
"$node" /knp-test/probe.js serve &
sleep $((3 * slow))
check 'decides as the policies say' enforces

pace_begin
former=$(pid) port=$(port_id)
kill -9 "$former"
check 'kill -9: starts again' until_true 90 is_other "$former"
check 'with the same queue' [ "$(port_id)" = "$port" ]
pace_end 'kill -9'

pace_begin
former=$(pid)
echo 'onFailure: open' >>/etc/knp/knp.yaml
check 'reload' systemctl reload knp
check 'has restarted it' is_other "$former"
check 'with the same queue' [ "$(port_id)" = "$port" ]
check 'by the new configuration' bash -c 'knp status --json | grep -q "\"onFailure\":\"open\""'
pace_end 'reload'

former=$(pid)
cp /etc/knp/knp.yaml /tmp/knp.yaml
echo 'onFailure: maybe' >/etc/knp/knp.yaml
check 'reload of a configuration that cannot be understood fails' bash -c '! systemctl reload knp'
check 'and leaves everything as it is' [ "$(pid)" = "$former" ]
cp /tmp/knp.yaml /etc/knp/knp.yaml

pace_begin
former=$(pid) begun=$SECONDS
kill -STOP "$former"
check 'a process that stands still is ended' until_true 90 is_other "$former"
echo "# $((SECONDS - begun)) s until the next one enforces"
check 'by the watchdog' bash -c 'journalctl -u knp.service | grep -qi "watchdog timeout"'
pace_end 'SIGSTOP under open'

sed -i '/^onFailure/d' /etc/knp/knp.yaml
check 'closed again' systemctl reload knp
mv /etc/knp/policies/test.yaml /tmp/
printf 'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {nam: x}\n' >/etc/knp/policies/broken.yaml
cp /tmp/test.yaml /etc/knp/policies/
sleep $((3 * slow))
check 'a broken manifest is a problem' bash -c 'knp status; [ $? = 1 ]'
check 'and changes nothing' enforces
check 'a start with it has the last good policies' systemctl restart knp
check 'in force' enforces
rm /etc/knp/policies/broken.yaml

mkdir /etc/knp/next
sed 's/7000/7001/' /etc/knp/policies/test.yaml >/etc/knp/next/test.yaml
check 'knp apply' knp apply /etc/knp/next --confirm 120s
check 'is in force' answers 7001
check 'knp confirm' knp confirm
check 'has put it in its place' cmp /etc/knp/next/test.yaml /etc/knp/policies/test.yaml
check 'knp rollback' knp rollback
check 'goes back' enforces
rm -r /etc/knp/next

systemctl stop knp
check 'stopped under closed: the rules stay' has_rules
check 'and drop what needs a verdict' refuses 7000
check 'starts' systemctl start knp
check 'decides again' enforces

pace_begin
former=$(pid) port=$(port_id)
(while [ ! -e /tmp/upgraded ]; do has_rules || echo gone; sleep 0.2; done) >/tmp/rules &
watch=$!
check 'upgrade' env DEBIAN_FRONTEND=noninteractive dpkg -i /knp-test/next.deb
touch /tmp/upgraded
wait "$watch"
check 'another process decides' is_other "$former"
check 'with the same queue' [ "$(port_id)" = "$port" ]
check 'the rules were never gone' [ ! -s /tmp/rules ]
check 'the configuration is kept' cmp /tmp/knp.yaml <(cat /etc/knp/knp.yaml; echo 'onFailure: open')
pace_end 'upgrade under closed'

check 'remove' dpkg -r knp
check 'no process is left' bash -c '! pgrep -u knp'
check 'no rules are left' bash -c '! nft list table inet knp'
check 'everything passes' answers 7001
check 'purge' dpkg -P knp
check 'no user is left' bash -c '! getent passwd knp && ! getent group knp'
check 'no file is left' [ ! -e /etc/knp -a ! -e /var/lib/knp -a ! -e /run/knp -a ! -e /usr/lib/knp -a -z "$(systemctl list-unit-files --no-legend 'knp*')" ]
echo 'end of the tests'
