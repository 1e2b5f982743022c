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

# shellcheck source=../servers.sh
. "$here/../servers.sh"
start "$echo_server" 127.0.0.1:9000
start "$POSTERN" run --manifests "$here/manifests" --state-dir "$state" "$@"
until_ready 8000 8001 8100 9000

cat << TRY

Postern serves $here/manifests. In another terminal, try:

  curl -i http://localhost:8000/public                                  # nobody asks for a key
  curl -i http://localhost:8000/orders                                  # 401: no key
  curl -i http://localhost:8000/orders -H 'apikey: wrong'               # 401: an unknown key
  curl -i http://localhost:8000/orders -H 'apikey: alice-secret-key'    # 200: the application sees X-Consumer-Username

Change a file in that folder: it is in force at once. A mistake is said here, and takes nothing away.
Ctrl-C ends it.

TRY
wait -n "${pids[@]}"
