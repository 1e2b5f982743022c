#!/bin/bash
# Stop what up.sh started: when PID 1 of the namespaces dies, the kernel ends every
# process in them and drops their mounts and network. Logs stay.
set -euo pipefail
# shellcheck source=env.sh
. "$(dirname "$0")/env.sh"
[ -e "$KUBELAB_STATE/pid" ] || exit 0
pid=$(< "$KUBELAB_STATE/pid")
# --kill-child takes PID 1 along. A stale file must not hit another process.
if [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = unshare ]; then
  kill -KILL "$pid"
fi
rm "$KUBELAB_STATE/pid"
# Cgroups outlive their processes, which may need a moment to go.
for _ in $(seq 100); do
  find /sys/fs/cgroup -depth -type d -path '*/kubepods*' -exec rmdir {} + 2> /dev/null || true
  [ -n "$(find /sys/fs/cgroup -type d -name kubepods)" ] || exit 0
  sleep 0.1
done
echo "down.sh: cgroups named kubepods are left" >&2
exit 1
