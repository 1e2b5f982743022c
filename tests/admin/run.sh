#!/bin/bash
# Calls the Admin API of the binary in $POSTERN as its own OpenAPI document says that it
# can be called, well and badly, and fails on a server error or an answer that the
# document does not know. Bounded: some hundred calls, half a minute.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${POSTERN:?set it to the postern binary to test}"
POSTERN=$(realpath "$POSTERN")

venv=${XDG_CACHE_HOME:-$HOME/.cache}/postern/admin-venv
mkdir -p "${venv%/*}"
( # One run at a time makes it; it is made anew when what it needs changes.
  flock 9
  if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/requirements.txt"
  fi
) 9> "$venv.lock"

work=$(mktemp -d)
postern=
# shellcheck disable=SC2317  # The trap calls it.
end() {
  [ -z "$postern" ] || kill "$postern" 2> /dev/null || true
  rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT TERM

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
admin=$(port) status=$(port) http=$(port)
mkdir "$work/manifests"
sed "s/PORT/$http/" "$here/manifests.yaml" > "$work/manifests/base.yaml"
"$POSTERN" run --manifests "$work/manifests" --state-dir "$work/state" --bind 127.0.0.1 --store memory: \
  --access-log off --admin-address "127.0.0.1:$admin" --status-address "127.0.0.1:$status" 2> "$work/log" &
postern=$!
for _ in $(seq 200); do
  curl --silent --fail --output /dev/null "http://127.0.0.1:$status/readyz" && break
  kill -0 "$postern" || { cat "$work/log" >&2; exit 1; }
  sleep 0.05
done

for call in "consumers username=alice" "consumers/alice/key-auth key=k" "consumers/alice/jwt key=issuer" \
  "consumers/alice/oauth2 name=app&client_id=app" "oauth2_tokens credential.id=app" "consumers/alice/acls group=gold" "routes/orders/plugins name=key-auth"; do
  read -r path fields <<< "$call"
  curl --silent --show-error --fail --output /dev/null --data "$fields" "http://127.0.0.1:$admin/$path"
done

cd "$work"
failed=0
"$venv/bin/schemathesis" --config-file "$here/schemathesis.toml" run "http://127.0.0.1:$admin/openapi.json" \
  --url "http://127.0.0.1:$admin" --phases examples,coverage,fuzzing --max-examples "${EXAMPLES:-8}" \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
  --seed 1 --workers 1 --no-color --suppress-health-check all --max-time "${SECONDS_AT_MOST:-30}" || failed=$?
if ! kill -0 "$postern"; then
  echo "postern ended" >&2
  failed=1
fi
[ "$failed" = 0 ] || tail -20 "$work/log" >&2
exit "$failed"
