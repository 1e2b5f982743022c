#!/bin/bash
# Tokens of a real Keycloak and a real oidc-provider against the binary in $POSTERN, in a
# network of their own (as root). Both are fetched once, through Maven and npm, and kept
# under ~/.cache/postern; Keycloak needs a JDK of 17 or newer, oidc-provider Node 20.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${POSTERN:?set it to the postern binary to test}"
POSTERN=$(realpath "$POSTERN")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/postern
export KC_STATE=$cache/keycloak OP_STATE=$cache/oidc-provider
mkdir -p "$cache"
( # One run at a time fetches, and uses them.
  flock 9
  "$here/keycloak.sh" get
  "$here/oidc-provider.sh" get
  export PYTHONDONTWRITEBYTECODE=1
  # shellcheck disable=SC2016 # it is the inner shell that reads them
  unshare --net bash -c 'ip link set lo up && exec python3 "$1" "$2"' _ "$here/check.py" "$POSTERN"
) 9> "$cache/idp.lock"
