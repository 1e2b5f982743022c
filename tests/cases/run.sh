#!/bin/bash
# Runs the acceptance cases against the binary in $POSTERN; options go to run.py.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${POSTERN:?set it to the postern binary to test}"
POSTERN=$(realpath "$POSTERN")
export POSTERN PYTHONDONTWRITEBYTECODE=1

venv=${XDG_CACHE_HOME:-$HOME/.cache}/postern/cases-venv
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

exec "$venv/bin/python" "$here/run.py" --known "$here/known.yaml" \
  --cases "$here/key-auth.yaml" "$here/jwt.yaml" "$here/oauth2.yaml" "$here/openid-connect.yaml" "$here/upstream-oauth.yaml" \
  --https-base https://127.0.0.1:8443 "$@"
