#!/usr/bin/env bash
# Runs the Spring Authorization Server of spring/ on loopback.
#   spring.sh get | up | down | status
# Variables: SI_PORT SI_STATE SI_REDIRECT_URIS JAVA_HOME
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export SI_PORT=${SI_PORT:-18095}
export SI_REDIRECT_URIS=${SI_REDIRECT_URIS:-http://127.0.0.1:18999/callback}
state=${SI_STATE:-${XDG_CACHE_HOME:-$HOME/.cache}/postern/spring}
jar=$state/spring/target/spring-provider-1.jar
issuer=http://127.0.0.1:$SI_PORT
ready=$issuer/.well-known/openid-configuration
# shellcheck source=server.sh
. "$here/server.sh"

get() {
  local of
  of=$(find "$here/spring" -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)
  [ -f "$jar" ] && [ "$(cat "$state/of" 2>/dev/null)" = "$of" ] && return
  mkdir -p "$state"
  rm -rf "$state/spring"
  cp -r "$here/spring" "$state/"
  (cd "$state/spring" && mvn -B -q package)
  echo "$of" >"$state/of"
}

prepare() { :; }

serve() { exec "${JAVA_HOME:+$JAVA_HOME/bin/}java" -Xmx256m -XX:TieredStopAtLevel=1 -jar "$jar"; }

act "$@"
