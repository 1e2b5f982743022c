#!/bin/bash
# The wire: conformance of HTTP/2, load, long bodies, slow clients, tunnels, gRPC, spellings of framing and of paths before
# upstream servers of different make, and upstreams with every fault of toxiproxy. Not part of `make test`: needs Go, Node and the package registries.
#   POSTERN=target/quick/postern tests/wire/run.sh [PART...]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${POSTERN:?set it to the postern binary to test}"
POSTERN=$(realpath "$POSTERN")
export POSTERN PYTHONDONTWRITEBYTECODE=1

for program in go node curl openssl; do
  command -v "$program" > /dev/null || { echo "run.sh: $program is needed" >&2; exit 1; }
done
if ! command -v h2load > /dev/null; then
  apt-get update -qq && apt-get install -y -qq --no-install-recommends nghttp2-client > /dev/null
fi
cache=${XDG_CACHE_HOME:-$HOME/.cache}/postern/wire
mkdir -p "$cache"
( # One run at a time makes it; it is made anew when what it needs changes.
  flock 9
  if ! cmp -s "$here/requirements.txt" "$cache/venv/requirements.txt"; then
    rm -rf "$cache/venv"
    python3 -m venv "$cache/venv"
    "$cache/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$cache/venv/requirements.txt"
  fi
  GOBIN=$cache go -C "$here/upstreams/go" install github.com/summerwind/h2spec/cmd/h2spec
  go -C "$here/upstreams/go" build -o "$cache/toxiproxy" github.com/Shopify/toxiproxy/v2/cmd/server
  go -C "$here/upstreams/go" build -o "$cache/go-upstream" .
  go -C "$here/upstreams/go" build -o "$cache/grpc-client" ./grpc-client
) 9> "$cache/lock"
export WIRE_BIN=$cache
exec "$cache/venv/bin/python" "$here/wire.py" "$@"
