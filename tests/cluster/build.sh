#!/bin/bash
# Build what up.sh needs, once for these sources, and print where it is: kubelab (etcd,
# Kubernetes and kubectl in one binary), helm, the images pause and hello, and the CRDs
# of the Gateway API. Needs Go; cgo is off, so no C compiler.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=env.sh
. ./env.sh
[ ! -e "$KUBELAB_BIN/complete" ] || { echo "$KUBELAB_BIN"; exit 0; }

mkdir -p "$cache"
exec 8> "$cache/kubelab-build.lock"
flock 8
[ ! -e "$KUBELAB_BIN/complete" ] || { echo "$KUBELAB_BIN"; exit 0; }
command -v go > /dev/null || { echo "build.sh: go 1.26 or newer is needed to build the test cluster" >&2; exit 1; }
echo "building the test cluster's Kubernetes into $KUBELAB_BIN (minutes, once)" >&2
started=$SECONDS
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -buildvcs=false"
rm -rf "$KUBELAB_BIN"
mkdir -p "$KUBELAB_BIN/images" "$KUBELAB_BIN/parts"
cd kubelab

# kubectl version and helm's kubeVersion read the server's version from these.
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
major=${version#v}; minor=${major#*.}; minor=${minor%%.*}; major=${major%%.*}
pkg=k8s.io/component-base/version
go build -trimpath -o "$KUBELAB_BIN/kubelab" -ldflags "-s -w -X $pkg.gitVersion=$version \
  -X $pkg.gitMajor=$major -X $pkg.gitMinor=$minor -X $pkg.gitTreeState=clean" .
cat > "$KUBELAB_BIN/kubectl" <<'SH'
#!/bin/sh
exec "$(dirname "$0")/kubelab" kubectl "$@"
SH
chmod +x "$KUBELAB_BIN/kubectl"

# Its own module: helm wants newer Kubernetes libraries than the cluster's. What it takes
# a cluster for when there is none is this cluster's version, too.
pkg=helm.sh/helm/v3/pkg
go -C helm build -trimpath -o "$KUBELAB_BIN/helm" -ldflags "-s -w \
  -X $pkg/chartutil.k8sVersionMajor=$major -X $pkg/chartutil.k8sVersionMinor=$minor \
  -X $pkg/lint/rules.k8sVersionMajor=$major -X $pkg/lint/rules.k8sVersionMinor=$minor" helm.sh/helm/v3/cmd/helm

for name in pause hello; do
  go build -trimpath -o "$KUBELAB_BIN/parts/$name" -ldflags "-s -w" "./images/$name"
  ../../../tools/image.sh "localhost/$name:1" "$KUBELAB_BIN/parts/$name" > "$KUBELAB_BIN/images/$name.tar"
done

go -C gateway-api mod download
cp -r --no-preserve=mode "$(go -C gateway-api list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api)/config/crd/standard" \
  "$KUBELAB_BIN/gateway-api"

touch "$KUBELAB_BIN/complete"
echo "built in $((SECONDS - started)) s" >&2
# What other sources made, older than a week, is not needed any more.
find "$cache" -maxdepth 1 -name 'kubelab-????????????????' -mtime +7 ! -path "$KUBELAB_BIN" -exec rm -rf {} +
echo "$KUBELAB_BIN"
