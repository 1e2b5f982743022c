#!/bin/bash
# propagate.sh [OPTION...]: from a change that the API server took to the proxies that enforce it, in a real cluster with
# Postern installed (tests/cluster; root). Options are propagate.py's; without any, what README.md's table holds.
#   POSTERN   a static binary to measure instead of building one
set -euo pipefail
cd "$(dirname "$0")/.."
cluster=$PWD/tests/cluster
"$cluster/../setup/packages.sh"
"$cluster/build.sh" > /dev/null
: "${POSTERN:=$(tools/static.sh release)}"
# shellcheck source=../tests/cluster/env.sh
. "$cluster/env.sh"
own_state
images=$(mktemp -d)
trap 'rm -rf "$images"; [ -n "${KEEP:-}" ] || { "$cluster/down.sh"; rm -rf "$KUBELAB_STATE"; }' EXIT
trap 'exit 130' INT TERM
GZIP_LEVEL=1 tools/image.sh "postern:$(tools/version.sh)" "$POSTERN" > "$images/postern.tar"
TIMEOUT=${TIMEOUT:-180} "$cluster/up.sh" "$images"/*.tar
in=$cluster/in.sh
"$in" kubectl apply --server-side --filename="$KUBELAB_BIN/gateway-api" > /dev/null
"$in" helm install postern charts/postern --namespace postern-system --create-namespace \
  --set proxy.service.type=ClusterIP --set proxy.accessLog=off --wait --timeout 5m > /dev/null
if [ $# -gt 0 ]; then
  "$in" python3 bench/propagate.py "$@"
else
  "$in" python3 bench/propagate.py --count 30
  "$in" python3 bench/propagate.py --count 30 --credentials 10000
  "$in" python3 bench/propagate.py --count 60 --gap 0.05-0.2
fi
