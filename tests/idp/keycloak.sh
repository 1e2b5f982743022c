#!/usr/bin/env bash
# Runs Keycloak on loopback with the realm in realm.json.
#   keycloak.sh get | up | down | status
# Variables: KC_VERSION KC_PORT KC_MGMT_PORT KC_STATE KC_REALM_FILE KC_HEAP JAVA_HOME
#   KC_BACKCHANNEL_LOGOUT_URL (of the client gw-secret)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
version=${KC_VERSION:-26.7.3}
port=${KC_PORT:-18080}
mgmt=${KC_MGMT_PORT:-19000}
state=${KC_STATE:-${XDG_CACHE_HOME:-$HOME/.cache}/postern/keycloak}
realm_file=${KC_REALM_FILE:-$here/realm.json}
home=$state/keycloak-$version
issuer=http://127.0.0.1:$port/realms/gw
ready=http://127.0.0.1:$mgmt/health/ready
key=$state/client-key.pem
# shellcheck source=server.sh
. "$here/server.sh"

get() {
  [ -x "$home/bin/kc.sh" ] && return
  mkdir -p "$state"
  local out=$state/download
  mvn -B -q dependency:copy \
    -Dartifact="org.keycloak:keycloak-quarkus-dist:$version:tar.gz" \
    -DoutputDirectory="$out" -Dmdep.useBaseVersion=true
  tar xzf "$out/keycloak-quarkus-dist-$version.tar.gz" -C "$state"
  rm -r "$out"
}

# An RSA key for the private_key_jwt client; its public half goes into the realm.
write_realm() {
  [ -f "$key" ] || openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$key"
  mkdir -p "$home/data/import"
  python3 - "$realm_file" "$home/data/import/gw-realm.json" \
    "$(openssl rsa -in "$key" -noout -modulus)" <<'PY'
import base64, json, os, sys
source, target, modulus = sys.argv[1:]
n = bytes.fromhex(modulus.split("=", 1)[1])
jwk = {"kty": "RSA", "kid": "client-key", "use": "sig", "alg": "RS256", "e": "AQAB",
       "n": base64.urlsafe_b64encode(n).rstrip(b"=").decode()}
realm = json.load(open(source))
for client in realm["clients"]:
    attributes = client.get("attributes", {})
    if attributes.get("jwks.string") == "@CLIENT_JWKS@":
        attributes["jwks.string"] = json.dumps({"keys": [jwk]})
    if client["clientId"] == "gw-secret" and os.environ.get("KC_BACKCHANNEL_LOGOUT_URL"):
        attributes["backchannel.logout.url"] = os.environ["KC_BACKCHANNEL_LOGOUT_URL"]
json.dump(realm, open(target, "w"))
PY
}

prepare() {
  write_realm
  # The augmentation step costs as much as a start, so it is done once.
  [ -f "$state/built-$version" ] || {
    JAVA_OPTS_APPEND=-XX:TieredStopAtLevel=1 \
      "$home/bin/kc.sh" build --db=dev-mem --cache=local --health-enabled=true >"$state/build.log" 2>&1
    touch "$state/built-$version"
  }
}

serve() {
  # The quick compiler alone: a third less work for a short-lived server.
  export JAVA_OPTS_KC_HEAP=${KC_HEAP:--Xms64m -Xmx512m} JAVA_OPTS_APPEND=${JAVA_OPTS_APPEND:--XX:TieredStopAtLevel=1}
  export KC_BOOTSTRAP_ADMIN_USERNAME=admin KC_BOOTSTRAP_ADMIN_PASSWORD=admin
  # cache=local is needed here too, or a cluster port opens on every address.
  exec "$home/bin/kc.sh" start --optimized --import-realm --cache=local \
    --log-level=info,io.smallrye.health:off \
    --http-enabled=true --http-host=127.0.0.1 --http-port="$port" \
    --http-management-port="$mgmt" --hostname="http://127.0.0.1:$port"
}

act "$@"
