#!/bin/bash
# run.sh: start a login page, an application's API behind the gateway, and Postern, and print what to try.
#   POSTERN   the postern binary
# Further arguments go to `postern run`. Ctrl-C ends all of it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${POSTERN:?set it to the postern binary, for example to what tools/static.sh quick prints}"
target=${CARGO_TARGET_DIR:-$here/../../target}
"${CARGO:-cargo}" build --quiet --manifest-path "$here/../../Cargo.toml" --target-dir "$target" \
  --package postern-echo --package postern-login

# shellcheck source=../servers.sh
. "$here/../servers.sh"

# The login page and the gateway share a key that nobody else knows.
umask 077
PROVISION_KEY=$(head -c 24 /dev/urandom | base64 | tr '+/' '-_')
export PROVISION_KEY
mkdir "$state/secrets"
cat > "$state/secrets/login-page.yaml" << SECRET
apiVersion: v1
kind: Secret
metadata: {name: login-page}
stringData: {provisionKey: "$PROVISION_KEY"}
SECRET

export GATEWAY_PATH=/orders/oauth2/authorize
start "$target/debug/postern-echo" 127.0.0.1:9000
start "$target/debug/postern-login"
start "$POSTERN" run --manifests "$here/manifests" --manifests "$state/secrets" --state-dir "$state/state" "$@"
until_ready 8000 8001 8100 9000 9100

cat << TRY

1. Open this in a browser and sign in as alice with the password alice-pw:

   http://localhost:8000/login?client_id=app&response_type=code&scope=orders&state=xyz&redirect_uri=http%3A%2F%2Flocalhost%3A9200%2Fcallback

2. The browser is sent to http://localhost:9200/callback?code=…, where the application would be. Copy the code, and:

   curl http://localhost:8000/orders/oauth2/token -H 'X-Forwarded-Proto: https' -d grant_type=authorization_code \\
     -d client_id=app -d client_secret=app-secret-of-the-example -d redirect_uri=http://localhost:9200/callback -d code=CODE

3. With the access token the API answers, and is told who it is that the application acts for:

   curl http://localhost:8000/orders -H 'Authorization: Bearer ACCESS_TOKEN'

Ctrl-C ends it.

TRY
wait -n "${pids[@]}"
