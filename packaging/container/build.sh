#!/bin/bash
# knp's image for this machine's architecture, as one file that every container runtime loads: an OCI image layout in a tar, with
# the manifest beside it that older Dockers ask for.
#
#   npm run build:image [-- ARCHIVE]      build/knp_VERSION_amd64.oci.tar, unless named
#
# Needs what `npm run build` needs, nft, and umoci, which root gets by apt where it is missing. The same commit, Node.js and
# Debian packages make the same bytes.
set -euo pipefail
[ $# -le 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
archive=${1:+$(realpath -m "$1")}
cd "$(dirname "$0")/../.."
PATH=$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin
. packaging/need.sh
need image umoci:umoci nft:nftables
umask 022

field() { node -p "require('./package.json').$1"; }
version=$(field version)
case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=$(uname -m) ;; esac
archive=${archive:-$PWD/build/knp_${version}_$arch.oci.tar}
# As one that names no registry is understood; packaging/kubernetes/knp.yaml names it so.
name=docker.io/library/knp:$version
# Of the commit where there is one, so that one commit makes one file.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
created=$(date -ud "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
work=$(mktemp -d "${TMPDIR:-/tmp}/knp-image.XXXXXX")
trap 'rm -rf "$work"' EXIT

# pack TAR FOLDER PATH...: a tar that only tells what the files are, not who packed them when
pack() {
  local tar=$1 folder=$2
  shift 2
  tar --format=gnu --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$folder" -cf "$tar" "$@"
}

make -s -C src/native
tsc -p tsconfig.build.json
packaging/container/rootfs.sh "$work/root"
pack "$work/layer.tar" "$work/root" .

layout=$work/layout
image=$layout:$version
umoci init --layout "$layout"
umoci new --image "$image"
umoci raw add-layer --image "$image" --history.created "$created" --history.created_by packaging/container/build.sh "$work/layer.tar"
umoci config --image "$image" --no-history --created "$created" --os linux --architecture "$arch" \
  --config.entrypoint /usr/bin/knp --config.cmd run --config.stopsignal SIGTERM \
  --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  --config.label org.opencontainers.image.title=knp \
  --config.label "org.opencontainers.image.version=$version" \
  --config.label "org.opencontainers.image.licenses=$(field license)" \
  --config.label "org.opencontainers.image.description=$(field description)" \
  --config.label "org.opencontainers.image.created=$created"
umoci gc --layout "$layout" >/dev/null
# The whole name, which umoci has no place for: containerd and podman take it from the index, and Dockers that do not know the
# layout from a manifest of their own.
node -e '
  const { readFileSync, writeFileSync } = require("node:fs")
  const [, layout, name] = process.argv
  const read = (path) => JSON.parse(readFileSync(`${layout}/${path}`, "utf8"))
  const pathOf = ({ digest }) => `blobs/${digest.replace(":", "/")}`
  const index = read("index.json")
  const [entry] = index.manifests
  entry.annotations["io.containerd.image.name"] = name
  writeFileSync(`${layout}/index.json`, JSON.stringify(index))
  const { config, layers } = read(pathOf(entry))
  const image = { Config: pathOf(config), RepoTags: [name.replace("docker.io/library/", "")], Layers: layers.map(pathOf) }
  writeFileSync(`${layout}/manifest.json`, JSON.stringify([image]))' "$layout" "$name"

# umoci keeps its files to itself.
chmod -R go=rX "$layout"
mkdir -p "$(dirname "$archive")"
# Aside and moved: an interrupted build leaves nothing that looks complete.
pack "$archive.part" "$layout" oci-layout index.json manifest.json blobs
mv "$archive.part" "$archive"
echo "${archive#"$PWD"/} ($(($(stat -c %s "$archive") / 1000000)) MB, unpacked $(($(stat -c %s "$work/layer.tar") / 1000000)) MB): ${name#docker.io/library/}"
