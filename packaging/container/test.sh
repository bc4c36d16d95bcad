#!/bin/bash
# What the image promises: built, unpacked, and run by runc as the DaemonSet runs it, with CAP_NET_ADMIN and no other capability,
# no new privileges and a root that is only read, in a network namespace where it decides real connections.
#
#   npm run test:image      the last line says how many checks passed
#
# As root. Builds the image first, unless KNP_IMAGE names an archive.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin
[ "$(id -u)" = 0 ] || { echo 'test-image: needs root, to run containers and to make network namespaces' >&2; exit 5; }
. packaging/need.sh
need test-image runc:runc umoci:umoci ip:iproute2 nft:nftables
. packaging/checks.sh

work=$(mktemp -d "${TMPDIR:-/tmp}/knp-image-test.XXXXXX")
prefix=knpo-$$
server=
finish() {
  runc delete --force "$prefix" >/dev/null 2>&1 || true
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
  for name in web db router; do ip netns delete "$prefix-$name" 2>/dev/null || true; done
  rm -rf --one-file-system "$work"
}
trap finish EXIT

archive=${KNP_IMAGE:-$work/knp.oci.tar}
if [ -z "${KNP_IMAGE:-}" ]; then bash packaging/container/build.sh "$archive"; fi
version=$(node -p 'require("./package.json").version')

mkdir "$work/layout"
tar -C "$work/layout" -xf "$archive"
layout=$work/layout
check 'is an OCI image layout' grep -q '"imageLayoutVersion"' "$layout/oci-layout"
# Each blob is what its name says.
check 'its blobs are whole' bash -c 'cd "$0/blobs/sha256" && for blob in *; do echo "$blob  $blob"; done | sha256sum --check --strict' "$layout"
check 'has the name that the manifest for Kubernetes asks for' bash -c \
  'name=$(sed -n "s/^ *image: //p" packaging/kubernetes/knp.yaml) && grep -qF "\"docker.io/library/$name\"" "$0/index.json" && grep -qF "[\"$name\"]" "$0/manifest.json"' "$layout"
check 'unpacks' umoci unpack --image "$layout:$version" "$work/bundle"
[ -e "$work/bundle/config.json" ] || report || exit 1
mv "$work/bundle/config.json" "$work/config.json"
check 'starts knp, by itself as a firewall' [ "$(node -p 'require(process.argv[1]).process.args.join(" ")' "$work/config.json")" = '/usr/bin/knp run' ]
check 'has no shell' [ ! -e "$work/bundle/rootfs/bin/sh" ]

# web - router - db: the firewall runs in the router's namespace.
on() { ip netns exec "$prefix-$1" "${@:2}"; }
for name in web db router; do
  ip netns add "$prefix-$name"
  on "$name" ip link set lo up
done
on router sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
join() {
  ip -n "$prefix-router" link add "$1" type veth peer name eth0 netns "$prefix-$1"
  ip -n "$prefix-router" address add "10.77.$2.1/24" dev "$1"
  ip -n "$prefix-router" address add "fd77:$2::1/64" dev "$1" nodad
  ip -n "$prefix-router" link set "$1" up
  ip -n "$prefix-$1" address add "10.77.$2.2/24" dev eth0
  ip -n "$prefix-$1" address add "fd77:$2::2/64" dev eth0 nodad
  ip -n "$prefix-$1" link set eth0 up
  ip -n "$prefix-$1" route add default via "10.77.$2.1"
  ip -n "$prefix-$1" route add default via "fd77:$2::1"
}
join web 1
join db 2
ip netns exec "$prefix-db" node -e '
  for (const port of [80, 81]) require("node:net").createServer((socket) => socket.end("hello\n")).listen(port, "::")' &
server=$!
# connects ADDRESS PORT: web hears what db says there
connects() { on web timeout 3 bash -c 'exec 3<>"/dev/tcp/$0/$1" && read -r said <&3 && [ "$said" = hello ]' "$1" "$2" 2>/dev/null; }
refuses() { ! connects "$@"; }
# until_true COMMAND...: within twenty seconds
until_true() {
  local end=$((SECONDS + 20))
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.1
  done
}
until_true connects 10.77.2.2 81

mkdir -p "$work/etc/policies" "$work/run" "$work/state"
cat >"$work/etc/policies/db.yaml" <<'END'
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {containers: [{name: db, image: db}]}
status: {phase: Running, podIP: 10.77.2.2, podIPs: [{ip: 10.77.2.2}, {ip: "fd77:2::2"}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress]
  ingress:
  - ports: [{protocol: TCP, port: 80}]
END

# configure CAPABILITIES WORD...: the image's own configuration, as unpacked, in the router's network and with the DaemonSet's
# privileges; the words are knp's, in the place of those of the image
configure() {
  node -e '
    const { readFileSync, writeFileSync } = require("node:fs")
    const [, work, namespace, names, ...words] = process.argv
    const config = JSON.parse(readFileSync(`${work}/config.json`, "utf8"))
    const capabilities = names === "" ? [] : names.split(",")
    const { process: program, root, mounts, linux } = config
    program.terminal = false
    program.noNewPrivileges = true
    program.capabilities = { bounding: capabilities, effective: capabilities, permitted: capabilities }
    if (words.length > 0) program.args = [program.args[0], ...words]
    root.readonly = true
    const volumes = [["/etc/knp", "etc", "ro"], ["/run/knp", "run", "rw"], ["/var/lib/knp", "state", "rw"]]
    config.mounts = mounts.filter(({ type }) => type !== "cgroup")
    for (const [destination, folder, access] of volumes)
      config.mounts.push({ destination, type: "bind", source: `${work}/${folder}`, options: ["bind", access] })
    linux.namespaces = linux.namespaces.filter(({ type }) => type !== "network")
    linux.namespaces.push({ type: "network", path: `/run/netns/${namespace}` })
    writeFileSync(`${work}/bundle/config.json`, JSON.stringify(config))' "$work" "$prefix-router" "$@"
}
# contained WORD...: knp with these words, to its end
contained() {
  configure CAP_NET_ADMIN "$@"
  runc run --bundle "$work/bundle" "$prefix" </dev/null
}
# fails_with STATUS TEXT COMMAND...
fails_with() {
  local status=0 output
  output=$("${@:3}" 2>&1) || status=$?
  echo "$output (status $status)"
  [ "$status" = "$1" ] && grep -q "$2" <<<"$output"
}
unprivileged() {
  configure '' run
  runc run --bundle "$work/bundle" "$prefix" </dev/null
}
inside() { runc exec "$prefix" /usr/bin/knp "$@"; }
start() {
  printf 'sources: [{ files: { path: /etc/knp/policies } }]\nonFailure: %s\n' "$1" >"$work/etc/knp.yaml"
  configure CAP_NET_ADMIN
  runc run --bundle "$work/bundle" "$prefix" </dev/null >"$work/log" 2>&1 &
  container=$!
}
enforces() { until_true grep -q '^enforcing: ' "$work/log" || { cat "$work/log"; return 1; }; }
# Not by `check`, whose subshell cannot wait for it.
stop() {
  stopped=0
  runc kill "$prefix" TERM || true
  wait "$container" || stopped=$?
}
has_rules() { on router nft list table inet knp >/dev/null 2>&1; }
has_no_rules() { ! has_rules; }
# passes PORT and drops PORT: over IPv4 and IPv6
passes() { connects 10.77.2.2 "$1" && connects fd77:2::2 "$1"; }
drops() { refuses 10.77.2.2 "$1" && refuses fd77:2::2 "$1"; }
privilege() {
  local pid
  pid=$(runc state "$prefix" | sed -n 's/^ *"pid": \([0-9]*\),/\1/p')
  grep -E '^(CapInh|CapPrm|CapEff|CapBnd|NoNewPrivs)' "/proc/$pid/status" | tr -s '\t\n' ' '
}

check "knp --version: $version" bash -c '[[ $0 == "knp/$1 linux-"* ]]' "$(contained --version)" "$version"
printf 'sources: [{ files: { path: /etc/knp/policies } }]\n' >"$work/etc/knp.yaml"
contained doctor >"$work/doctor" 2>&1 && status=0 || status=$?
sed 's/^/# /' "$work/doctor"
check "knp doctor: exit status $status, no failure" bash -c '[ "$0" -le 1 ] && grep -q "^ok " "$1" && ! grep "^fail" "$1"' "$status" "$work/doctor"
check 'without NET_ADMIN it says so, with exit status 5' fails_with 5 CAP_NET_ADMIN unprivileged
check 'before it runs: 80 connects' passes 80
check 'before it runs: 81 connects' passes 81

start open
check 'knp run, as the image starts it' enforces
check 'it has NET_ADMIN and nothing else' \
  [ "$(privilege)" = 'CapInh: 0000000000000000 CapPrm: 0000000000001000 CapEff: 0000000000001000 CapBnd: 0000000000001000 NoNewPrivs: 1 ' ]
check 'knp status says that it enforces' bash -c 'grep -qx "enforcing  *yes" <<<"$0"' "$(inside status || true)"
check 'the allowed port connects' passes 80
check 'the denied port does not' drops 81
check 'knp flows names the policy' bash -c 'grep -q "DENIED .*shop/db.* 81/tcp .*shop/db isolates" <<<"$0"' "$(inside flows --last 20 || true)"
check 'an edited policy is in force' bash -c 'sed -i "s/port: 80/port: 81/" "$0"' "$work/etc/policies/db.yaml"
check 'what it allows now connects' until_true passes 81
check 'what it denies now does not' drops 80
check 'the last good policies are kept' [ -s "$work/state/last-good.jsonl" ]
stop
check "SIGTERM ends it with 0: $stopped" [ "$stopped" = 0 ]
check 'under onFailure: open the rules are gone' has_no_rules
check 'and what was denied connects' passes 80

start closed
check 'under onFailure: closed it enforces too' enforces
stop
check "SIGTERM ends that with 0: $stopped" [ "$stopped" = 0 ]
check 'the rules stay' has_rules
check 'and drop what needs a verdict' drops 80
check 'knp ruleset remove, in the image, takes them away' contained ruleset remove
check 'so that it connects again' passes 80
report
