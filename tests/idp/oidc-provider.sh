#!/usr/bin/env bash
# Runs oidc-provider.mjs on loopback; every start makes new signing keys.
#   oidc-provider.sh get | up | down | status
# Variables: OP_PORT OP_STATE OP_CLIENT_KEY and those of oidc-provider.mjs
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export OP_PORT=${OP_PORT:-18090}
state=${OP_STATE:-${XDG_CACHE_HOME:-$HOME/.cache}/postern/oidc-provider}
export OP_CLIENT_KEY=${OP_CLIENT_KEY:-$state/client-key.pem}
pid_file=$state/pid

running() { [ -f "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; }

# Node looks for packages beside the script, so the script goes to where they are kept.
get() {
  mkdir -p "$state"
  cp "$here/oidc-provider.mjs" "$state/"
  cmp -s "$here/package-lock.json" "$state/package-lock.json" && [ -d "$state/node_modules/oidc-provider" ] && return
  cp "$here/package.json" "$here/package-lock.json" "$state/"
  npm --prefix "$state" ci --no-audit --no-fund >"$state/npm.log" 2>&1
}

up() {
  running && { echo "already running"; return; }
  get
  [ -f "$OP_CLIENT_KEY" ] || openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$OP_CLIENT_KEY"
  node "$state/oidc-provider.mjs" >"$state/log" 2>&1 </dev/null &
  echo $! >"$pid_file"
  for _ in $(seq 300); do
    curl -fsS -o /dev/null "http://127.0.0.1:$OP_PORT/.well-known/openid-configuration" 2>/dev/null &&
      { echo "http://127.0.0.1:$OP_PORT"; return; }
    running || break
    sleep 0.1
  done
  cat "$state/log" >&2
  exit 1
}

down() {
  running || { rm -f "$pid_file"; return 0; }
  local pid; pid=$(cat "$pid_file")
  kill "$pid"
  for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  rm -f "$pid_file"
}

case ${1:-} in
  get) get ;;
  up) up ;;
  down) down ;;
  status) if running; then echo up; else echo down; exit 3; fi ;;
  *) sed -n '2,4p' "$0"; exit 2 ;;
esac
