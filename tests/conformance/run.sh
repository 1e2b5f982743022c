#!/bin/bash
# run.sh [FLAG...]: the Gateway API's conformance suite against Postern, in a cluster of its own; see README.md.
set -euo pipefail
own=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$own/../.." && pwd)
[ "$(id -u)" = 0 ] || {
  echo "run.sh: the cluster needs root (namespaces, containers): run it as root" >&2
  exit 1
}
: "${PROFILES:=GATEWAY-HTTP,GATEWAY-GRPC,GATEWAY-TLS}" "${CHANNEL:=experimental}" "${OUT:=$root/out/conformance}"
# shellcheck source=../cluster/env.sh
. "$root/tests/cluster/env.sh"
"$root/tests/setup/packages.sh"
bin=$("$own/build.sh")
: "${POSTERN:=$("$root/tools/static.sh" quick)}"
version=$("$root/tools/version.sh")
cluster=$root/tests/cluster
mkdir -p "$OUT"

if [ -n "${REUSE:-}" ]; then
  [ -e "$KUBELAB_STATE/pid" ] || { echo "run.sh: REUSE needs KUBELAB_STATE of a running cluster" >&2; exit 1; }
else
  own_state
fi
images=$(mktemp -d)
balancer=
# shellcheck disable=SC2317  # The trap calls it.
finish() {
  rm -rf "$images"
  [ -z "$balancer" ] || kill "$balancer" 2> /dev/null || true
  if [ -n "${KEEP:-}${REUSE:-}" ]; then
    echo "the cluster is kept: KUBELAB_STATE=$KUBELAB_STATE" >&2
    return
  fi
  "$cluster/down.sh"
  rm -rf "$KUBELAB_STATE"
}
trap finish EXIT
trap 'exit 130' INT TERM
inside() { "$cluster/in.sh" "$@"; }

export GZIP_LEVEL=1
number=0
"$root/tools/image.sh" "postern:$version" "$POSTERN" > "$images/postern.tar"
for program in echo-basic coredns; do
  while read -r name; do
    number=$((number + 1))
    "$root/tools/image.sh" "$name" "$bin/$program" > "$images/$number.tar"
  done < "$bin/$program.images"
done
if [ -z "${REUSE:-}" ]; then
  echo "starting the cluster"
  TIMEOUT=${TIMEOUT:-300} "$cluster/up.sh" "$images"/*.tar
  inside kubectl apply --server-side --filename="$bin/crd/$CHANNEL" > "$OUT/crds.log"
  inside kubectl wait --for=condition=Established --timeout=30s crd --all >> "$OUT/crds.log"
else
  inside ctr images import "$images/postern.tar" > /dev/null
fi

inside python3 "$own/balancer.py" &
balancer=$!
inside helm upgrade --install postern "$root/charts/postern" --namespace postern-system --create-namespace \
  --set image.tag="$version" --set image.pullPolicy=Never --set proxy.replicas=1 \
  --set controller.gatewayService.namespace=gateway --wait --timeout 120s > "$OUT/helm.log"
if [ -n "${REUSE:-}" ]; then
  inside kubectl rollout restart --namespace=postern-system deployment > /dev/null
  inside kubectl rollout status --namespace=postern-system deployment --timeout=60s > /dev/null
fi

echo "running the suite"
started=$SECONDS status=0
inside "$bin/conformance" -test.v -test.timeout=60m -gateway-class=postern -conformance-profiles="$PROFILES" \
  -usable-address=10.97.0.200 -unusable-address=192.0.2.1 -report-output="$OUT/report.yaml" \
  -organization=postern -project=postern -url=https://postern.dev -version="$version" -contact=https://postern.dev \
  "$@" > "$OUT/run.log" 2>&1 || status=$?
echo "the suite ended with $status after $((SECONDS - started)) s"
grep -E '^ {4}--- ' "$OUT/run.log" | awk '{ count[$2]++ } END { for (result in count) print "  " result, count[result] }'
grep -E '^ {4}--- FAIL' "$OUT/run.log" || true
if [ "$status" != 0 ]; then
  for pod in $(inside kubectl get pods --namespace=postern-system --output=name); do
    inside kubectl logs --namespace=postern-system "$pod" > "$OUT/$(basename "$pod").log" 2>&1 || true
  done
  echo "logs are in $OUT" >&2
fi
exit "$status"
