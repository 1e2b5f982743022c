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
pid_file=$state/pid

running() { [ -f "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; }

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

up() {
  running && { echo "already running"; return; }
  get
  "${JAVA_HOME:+$JAVA_HOME/bin/}java" -Xmx256m -XX:TieredStopAtLevel=1 -jar "$jar" >"$state/log" 2>&1 </dev/null &
  echo $! >"$pid_file"
  for _ in $(seq 300); do
    curl -fsS -o /dev/null "http://127.0.0.1:$SI_PORT/.well-known/openid-configuration" 2>/dev/null &&
      { echo "http://127.0.0.1:$SI_PORT"; return; }
    running || break
    sleep 0.2
  done
  tail -20 "$state/log" >&2
  exit 1
}

down() {
  if running; then kill "$(cat "$pid_file")"; fi
  rm -f "$pid_file"
}

case ${1:-} in
  get) get ;;
  up) up ;;
  down) down ;;
  status) if running; then echo up; else echo down; exit 3; fi ;;
  *) sed -n '2,4p' "$0"; exit 2 ;;
esac
