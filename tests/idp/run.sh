#!/bin/bash
# A real Keycloak, oidc-provider and Spring Authorization Server with the binary in $POSTERN, and real
# applications with the gateway as their provider, in networks of their own (as root).
# What is needed is fetched once, through Maven, npm, pip and Go, and kept under
# ~/.cache/postern; Keycloak needs a JDK of 17 or newer, the others Node 20, Python, Go 1.26,
# curl, jq, redis-server and chromium (of $CHROMIUM, by default /usr/bin/chromium).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${POSTERN:?set it to the postern binary to test}"
POSTERN=$(realpath "$POSTERN")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/postern
export KC_STATE=$cache/keycloak OP_STATE=$cache/oidc-provider SI_STATE=$cache/spring
mkdir -p "$cache"
( # One run at a time fetches, and uses them.
  flock 9
  "$here/keycloak.sh" get
  "$here/oidc-provider.sh" get
  "$here/spring.sh" get
  venv=$cache/idp-venv
  if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/requirements.txt"
  fi
  target=${CARGO_TARGET_DIR:-$here/../../target}
  cargo build --quiet --manifest-path "$here/../../Cargo.toml" --target-dir "$target" \
    --package postern-echo --package postern-login
  (cd "$here/go" && go build -o "$cache/idp-go-client" .)
  export PYTHONDONTWRITEBYTECODE=1
  # Each in a network of its own.
  alone() {
    # shellcheck disable=SC2016 # it is the inner shell that reads them
    unshare --net bash -c 'ip link set lo up && exec python3 "$@"' _ "$here/$1" "$POSTERN" "${@:2}"
  }
  alone document.py "$target/debug/postern-echo"
  alone check.py
  alone sign_in.py
  alone provider.py "$target/debug" "$OP_STATE" "$venv/bin/python" "$cache/idp-go-client"
) 9> "$cache/idp.lock"
