#!/bin/sh
# Writes knp.yaml anew, which is the chart with its own values; with --check it says whether it still is. Needs helm 3 or 4.
set -eu
cd "$(dirname "$0")"
command -v helm >/dev/null || { echo 'render: helm is missing; install it: https://helm.sh/docs/intro/install' >&2; exit 5; }
made=$(mktemp)
trap 'rm -f "$made"' EXIT
{
  echo '# knp on every node: kubectl apply -f knp.yaml. docs/kubernetes.md tells what it does and needs.'
  echo '# This is the chart beside it with its own values; made by render.sh.'
  # Comments of templates stand in front of what they are of; which template that was says nothing here.
  helm template knp chart --namespace kube-system --kube-version 1.25.0 | grep -v '^# Source: '
} >"$made"
if [ "${1-}" = --check ]; then
  diff -u knp.yaml "$made" || { echo 'render: knp.yaml is not what the chart makes; run packaging/kubernetes/render.sh' >&2; exit 1; }
else
  cp "$made" knp.yaml
  chmod 644 knp.yaml
fi
