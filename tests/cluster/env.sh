# shellcheck shell=bash
# Sourced by the scripts beside it: where things are.
#   KUBELAB_BIN    what build.sh makes; the name changes with its sources
#   KUBELAB_STATE  the running cluster's data, logs and kubeconfig; not under /run or /var/log
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/postern
sources=$(cd "$here" && find kubelab build.sh ../../tools/image.sh -type f | LC_ALL=C sort | xargs sha256sum | sha256sum)
export KUBELAB_BIN=${KUBELAB_BIN:-$cache/kubelab-${sources:0:16}}
export KUBELAB_STATE=${KUBELAB_STATE:-$cache/kubelab-state}

# own_state: a state for this run alone, so that runs at the same time wait for each other
# in up.sh, and none ends another's cluster.
own_state() {
  mkdir -p "$cache"
  # What runs that failed have left: their logs were for the same day.
  find "$cache" -maxdepth 1 -name 'kubelab-run-??????' -mtime +1 -exec rm -rf {} +
  KUBELAB_STATE=$(mktemp -d "$cache/kubelab-run-XXXXXX")
}
