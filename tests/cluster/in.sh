#!/bin/bash
# in.sh COMMAND...: run a command inside the cluster's network, with kubectl, helm and
# ctr set up to reach the cluster.
set -euo pipefail
# shellcheck source=env.sh
. "$(dirname "$0")/env.sh"
[ -e "$KUBELAB_STATE/pid" ] || { echo "in.sh: no cluster runs: start one with up.sh" >&2; exit 1; }
unshare_pid=$(< "$KUBELAB_STATE/pid")
init=$(< "/proc/$unshare_pid/task/$unshare_pid/children") # its one child
exec nsenter --target "${init% }" --net env PATH="$KUBELAB_BIN:$PATH" KUBECONFIG="$KUBELAB_STATE/kubeconfig" \
  HELM_CACHE_HOME="$KUBELAB_STATE/helm" HELM_CONFIG_HOME="$KUBELAB_STATE/helm" HELM_DATA_HOME="$KUBELAB_STATE/helm" \
  CONTAINERD_ADDRESS="$KUBELAB_STATE/containerd.sock" CONTAINERD_NAMESPACE=k8s.io "$@"
