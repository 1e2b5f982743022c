#!/bin/bash
# Build the suite and the programs of its images, once for these sources, and print where they are.
set -euo pipefail
cd "$(dirname "$0")"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/postern
sources=$(find suite build.sh -type f | LC_ALL=C sort | xargs sha256sum | sha256sum)
bin=$cache/conformance-${sources:0:16}
[ ! -e "$bin/complete" ] || { echo "$bin"; exit 0; }
mkdir -p "$cache"
exec 8> "$cache/conformance-build.lock"
flock 8
[ ! -e "$bin/complete" ] || { echo "$bin"; exit 0; }
command -v go > /dev/null || { echo "build.sh: go 1.26 or newer is needed to build the suite" >&2; exit 1; }
echo "building the conformance suite into $bin (minutes, once)" >&2
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -buildvcs=false"
rm -rf "$bin"
mkdir -p "$bin"
go -C suite build -trimpath -ldflags '-s -w' -o "$bin/echo-basic" sigs.k8s.io/gateway-api/conformance/echo-basic
go -C suite test -c -trimpath -ldflags '-s -w' -o "$bin/conformance" .
# The one part of it that must become ready, and needs to do nothing.
go -C ../cluster/kubelab build -trimpath -ldflags '-s -w' -o "$bin/coredns" ./images/hello
suite=$(go -C suite list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api/conformance)
# The suite's manifests say what its images are called.
for name in echo-basic coredns; do
  grep -rhoE "image: *\S*/$name:\S+" "$suite" --include='*.yaml' | sed 's/image: *//' | sort -u > "$bin/$name.images"
done
cp -r --no-preserve=mode "$(go -C suite list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api)/config/crd" "$bin/crd"
find "$bin/crd" -name kustomization.yaml -delete
touch "$bin/complete"
find "$cache" -maxdepth 1 -name 'conformance-????????????????' -mtime +7 ! -path "$bin" -exec rm -rf {} +
echo "$bin"
