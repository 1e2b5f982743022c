#!/bin/bash
# suite.sh [FILTER]: install Postern from its own image into a fresh cluster, and run the
# tests in suite/ against it.
#   POSTERN   a static binary to test instead of building one
#   KEEP=1    leave the cluster running, to look at it with ./in.sh
set -euo pipefail
cd "$(dirname "$0")"
[ "$(id -u)" = 0 ] || {
  echo "suite.sh: the cluster needs root (namespaces, containers): run it as root" >&2
  exit 1
}
# shellcheck source=env.sh
. ./env.sh
../setup/packages.sh
./build.sh > /dev/null
root=$(cd ../.. && pwd)
: "${POSTERN:=$("$root/tools/static.sh" quick)}"
tests=$(cd "$root" && "${CARGO:-cargo}" test --workspace --features postern-tests/cluster --test cluster \
  --no-run --message-format=json | jq -r 'select(.reason == "compiler-artifact" and .target.name == "cluster").executable')

own_state
images=$(mktemp -d)
# shellcheck disable=SC2317  # The trap calls it.
finish() {
  rm -rf "$images"
  if [ -n "${KEEP:-}" ]; then
    echo "the cluster is kept: KUBELAB_STATE=$KUBELAB_STATE tests/cluster/in.sh kubectl ...; down.sh likewise" >&2
    return
  fi
  ./down.sh
  if [ "$1" = 0 ]; then
    rm -rf "$KUBELAB_STATE"
  else
    echo "the logs of the cluster's parts are in $KUBELAB_STATE/log" >&2
  fi
}
trap 'finish $?' EXIT
trap 'exit 130' INT TERM
version=$("$root/tools/version.sh")
export GZIP_LEVEL=1
"$root/tools/image.sh" "postern:$version" "$POSTERN" > "$images/postern.tar"
# The examples' application is a public image, which cannot be pulled here: hello answers in its place.
example=$(sed -n 's/^ *image: *//p' "$root/examples/kubernetes/hello.yaml")
"$root/tools/image.sh" "$example" "$KUBELAB_BIN/parts/hello" > "$images/example.tar"
echo "starting the cluster"
TIMEOUT=${TIMEOUT:-180} ./up.sh "$images"/*.tar

# One at a time: several of them end or disturb the controller that all share.
status=0
./in.sh env POSTERN="$POSTERN" POSTERN_ROOT="$root" GATEWAY_API="$KUBELAB_BIN/gateway-api" \
  "$tests" --test-threads=1 "$@" || status=$?
if [ "$status" != 0 ]; then
  echo "== what the cluster says" >&2
  ./in.sh kubectl get pods --all-namespaces --output=wide >&2 || true
  ./in.sh kubectl get events --namespace=postern-system --sort-by=.lastTimestamp 2> /dev/null | tail -n 30 >&2 || true
  for pod in $(./in.sh kubectl get pods --namespace=postern-system --output=name 2> /dev/null); do
    echo "== $pod" >&2
    ./in.sh kubectl logs --namespace=postern-system "$pod" --tail=40 >&2 || true
  done
fi
exit "$status"
