#!/bin/bash
# image.sh NAME BINARY > image.tar: an image FROM scratch that holds one static binary
# as /BASENAME and runs it as user 65532. NAME is like postern:0.1.0.
#
# The archive is an OCI layout with docker-archive's manifest.json beside it, so that
# `ctr images import`, `kind load image-archive`, `docker load` and `podman load` all
# take it. Equal binaries give equal bytes.
set -euo pipefail
name=${1:?usage: image.sh NAME BINARY} binary=${2:?usage: image.sh NAME BINARY}
case $(uname -m) in
  x86_64) arch=amd64 ;;
  aarch64 | arm64) arch=arm64 ;;
  *) arch=$(uname -m) ;;
esac
[ "$(head -c 4 "$binary" | tail -c 3)" = ELF ] || {
  echo "image.sh: $binary is not a Linux program: build the image on Linux, or with docker build" >&2
  exit 1
}
entry=/$(basename "$binary")
# Runtimes qualify a bare name with docker.io/library; so must the archive.
case $name in
  */*) case ${name%%/*} in *.* | *:* | localhost) full=$name ;; *) full=docker.io/$name ;; esac ;;
  *) full=docker.io/library/$name ;;
esac

dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
plain_tar() { tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --format=gnu "$@"; }
# blob FILE: move FILE to its place by digest; sets $digest (hex) and $size.
blob() {
  digest=$(sha256sum "$1" | cut -d' ' -f1)
  size=$(stat -c %s "$1")
  mv "$1" "$dir/oci/blobs/sha256/$digest"
}

mkdir -p "$dir/oci/blobs/sha256" "$dir/root/tmp"
chmod 755 "$dir/root"
chmod 1777 "$dir/root/tmp"
install -m 755 "$binary" "$dir/root$entry"
plain_tar -C "$dir/root" -cf "$dir/layer.tar" .
diff_id=$(sha256sum "$dir/layer.tar" | cut -d' ' -f1)
gzip -n -"${GZIP_LEVEL:-6}" "$dir/layer.tar"
blob "$dir/layer.tar.gz"
layer=$digest layer_size=$size

cat > "$dir/config" <<JSON
{"architecture":"$arch","os":"linux","config":{"User":"65532:65532","Entrypoint":["$entry"],"WorkingDir":"/"},
 "rootfs":{"type":"layers","diff_ids":["sha256:$diff_id"]}}
JSON
blob "$dir/config"
config=$digest config_size=$size

cat > "$dir/manifest" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
 "config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:$config","size":$config_size},
 "layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:$layer","size":$layer_size}]}
JSON
blob "$dir/manifest"

cat > "$dir/oci/index.json" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[
 {"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:$digest","size":$size,
  "platform":{"architecture":"$arch","os":"linux"},
  "annotations":{"io.containerd.image.name":"$full","org.opencontainers.image.ref.name":"${name##*:}"}}]}
JSON
echo '{"imageLayoutVersion":"1.0.0"}' > "$dir/oci/oci-layout"
cat > "$dir/oci/manifest.json" <<JSON
[{"Config":"blobs/sha256/$config","RepoTags":["$full"],"Layers":["blobs/sha256/$layer"]}]
JSON
plain_tar -C "$dir/oci" -c oci-layout index.json manifest.json blobs
