#!/bin/bash
# Who may depend on whom, as ARCHITECTURE.md draws it. Normal and build dependencies
# count, those of tests do not.
set -euo pipefail
cd "$(dirname "$0")/.."
failed=0

# never CRATE NAME...: none of NAMEs may be anywhere in CRATE's tree.
never() {
  local crate=$1 names
  shift
  names=$(cargo tree --package "$crate" --edges normal,build --prefix none | cut -d' ' -f1 | sort -u)
  for name; do
    if grep -qx "$name" <<< "$names"; then
      echo "directions.sh: $crate must not depend on $name:" >&2
      cargo tree --package "$crate" --edges normal,build --invert "$name" >&2 || true
      failed=1
    fi
  done
}

# The pure core: no I/O, and the plugins know nothing of Kubernetes.
never postern-store    kube kube-core k8s-openapi hyper postern-plugins postern-crds postern-snapshot postern-compile
never postern-plugins  kube kube-core kube-client k8s-openapi tokio hyper postern-crds postern-snapshot postern-outbound
never postern-crds     kube-client tokio hyper postern-snapshot postern-compile
never postern-snapshot kube kube-core k8s-openapi postern-plugins postern-crds postern-compile
never postern-compile  kube-client tokio hyper postern-controller postern-proxy
# The client knows nothing of what is asked, and the control plane calls nobody with it.
never postern-outbound kube kube-core k8s-openapi postern-plugins postern-crds postern-snapshot postern-compile
never postern-controller postern-outbound
# The planes meet only in the snapshot.
never postern-proxy      kube kube-core kube-client k8s-openapi postern-crds postern-compile postern-controller
never postern-controller postern-proxy
# One TLS stack, one crypto library.
never postern openssl openssl-sys native-tls ring

exit "$failed"
