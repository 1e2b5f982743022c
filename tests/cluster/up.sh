#!/bin/bash
# up.sh [IMAGE.tar...]: start a one-node Kubernetes cluster with these images and wait
# until its node is Ready.
#
# All of it runs in private PID, network and mount namespaces: it has no way in or out,
# leaves the host's network alone, and ends with the one process whose id is in
# $KUBELAB_STATE/pid. Clients join its network with ./in.sh COMMAND...
#
# One cluster at a time on a machine (its cgroups have fixed names): the cluster holds
# /tmp/kubelab.lock for as long as it runs, and up.sh waits for it.
set -euo pipefail
[ "$(id -u)" = 0 ] || {
  echo "up.sh: the test cluster needs root (namespaces, containers): run it as root, or in CI" >&2
  exit 1
}
images=()
for image; do images+=("$(realpath "$image")"); done
cd "$(dirname "$0")"
# shellcheck source=env.sh
. ./env.sh
../setup/packages.sh
./build.sh > /dev/null

if [ -e "$KUBELAB_STATE/pid" ] && [ "$(cat "/proc/$(< "$KUBELAB_STATE/pid")/comm" 2> /dev/null)" = unshare ]; then
  echo "up.sh: a cluster runs already with its state in $KUBELAB_STATE: end it with down.sh first" >&2
  exit 1
fi
exec 9> /tmp/kubelab.lock
if ! flock --nonblock 9; then
  echo "up.sh: another cluster runs on this machine: waiting for it to end" >&2
  flock --wait 1800 9 || { echo "up.sh: it did not end within 30 minutes" >&2; exit 1; }
fi
rm -rf "${KUBELAB_STATE:?}"
mkdir -p "$KUBELAB_STATE/log"
[ -z "${SEED:-}" ] || cp -r "$SEED" "$KUBELAB_STATE/etcd" # an etcd directory kept from another cluster
# The lock's descriptor goes along on purpose: it is let go when the last process ends.
PATH=$KUBELAB_BIN:$PATH setsid unshare --net --mount --pid --fork --mount-proc --kill-child \
  bash ./node.sh "${images[@]}" < /dev/null > "$KUBELAB_STATE/log/node.log" 2>&1 &
pid=$!
echo "$pid" > "$KUBELAB_STATE/pid"

deadline=$((SECONDS + ${TIMEOUT:-180}))
while [ "$SECONDS" -lt "$deadline" ] && kill -0 "$pid" 2> /dev/null; do
  if [ -e "$KUBELAB_STATE/kubeconfig" ] &&
    ./in.sh kubectl wait --for=condition=Ready node/node --timeout=5s > /dev/null 2>&1 &&
    ./in.sh kubectl get serviceaccount default > /dev/null 2>&1; then
    exit 0
  fi
  sleep 0.2
done
echo "up.sh: the node did not become Ready; see $KUBELAB_STATE/log" >&2
tail -n 5 "$KUBELAB_STATE"/log/*.log >&2
./down.sh
exit 1
