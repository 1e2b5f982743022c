#!/bin/bash
# run.sh: start the quickstart's application and Postern, and print what to try.
#   POSTERN        the postern binary; postern-echo is looked for beside it, then built
#   POSTERN_ECHO   the application's binary
# Further arguments go to `postern run`. Ctrl-C ends both.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${POSTERN:?set it to the postern binary, or use: make run}"
echo_server=${POSTERN_ECHO:-$(dirname "$POSTERN")/postern-echo}
if [ ! -x "$echo_server" ]; then
  target=${CARGO_TARGET_DIR:-$here/../../target}
  "${CARGO:-cargo}" build --quiet --manifest-path "$here/../echo/Cargo.toml" --target-dir "$target"
  echo_server=$target/debug/postern-echo
fi

state=$(mktemp -d)
pids=()
finish() {
  trap - EXIT INT TERM
  # Postern first, so that its running requests still find the application.
  for pid in "${pids[@]}"; do
    kill "$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null || true
  done
  rm -rf "$state"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$echo_server" 127.0.0.1:9000 &
application=$!
pids=("$application")
"$POSTERN" run --manifests "$here/manifests" --state-dir "$state" "$@" &
gateway=$!
pids=("$gateway" "$application")

ready() {
  [[ $(curl --silent --output /dev/null --max-time 1 --write-out '%{http_code}' http://127.0.0.1:8100/readyz) == 200 ]]
}
alive() {
  for pid in "${pids[@]}"; do
    kill -0 "$pid" 2> /dev/null || { echo "run.sh: the quickstart needs the ports 8000, 8100 and 9000 of this machine" >&2; exit 1; }
  done
}
until ready; do
  alive
  sleep 0.1
done
# Whoever answered may have been another one.
alive

cat << TRY

Postern serves $here/manifests. In another terminal, try:

  curl -i http://localhost:8000/public                                  # nobody asks for a key
  curl -i http://localhost:8000/orders                                  # 401: no key
  curl -i http://localhost:8000/orders -H 'apikey: wrong'               # 401: an unknown key
  curl -i http://localhost:8000/orders -H 'apikey: alice-secret-key'    # 200: the application sees X-Consumer-Username

Change a file in that folder: it is in force at once. A mistake is said here, and takes nothing away.
Ctrl-C ends it.

TRY
wait -n "$gateway" "$application"
