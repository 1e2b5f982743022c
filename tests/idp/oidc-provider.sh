#!/usr/bin/env bash
# Runs oidc-provider.mjs on loopback; every start makes new signing keys.
#   oidc-provider.sh get | up | down | status
# Variables: OP_PORT OP_STATE OP_CLIENT_KEY and those of oidc-provider.mjs
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export OP_PORT=${OP_PORT:-18090}
state=${OP_STATE:-${XDG_CACHE_HOME:-$HOME/.cache}/postern/oidc-provider}
export OP_CLIENT_KEY=${OP_CLIENT_KEY:-$state/client-key.pem}
issuer=http://127.0.0.1:$OP_PORT
ready=$issuer/.well-known/openid-configuration
# shellcheck source=server.sh
. "$here/server.sh"

# Node looks for packages beside the script, so the script goes to where they are kept.
get() {
  mkdir -p "$state"
  cp "$here/oidc-provider.mjs" "$state/"
  cmp -s "$here/package-lock.json" "$state/package-lock.json" && [ -d "$state/node_modules/oidc-provider" ] && return
  cp "$here/package.json" "$here/package-lock.json" "$state/"
  npm --prefix "$state" ci --no-audit --no-fund >"$state/npm.log" 2>&1
}

prepare() {
  [ -f "$OP_CLIENT_KEY" ] || openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$OP_CLIENT_KEY"
}

serve() { exec node "$state/oidc-provider.mjs"; }

act "$@"
