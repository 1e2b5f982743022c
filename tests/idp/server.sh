# shellcheck shell=bash disable=SC2154 # They are set where it is sourced.
# Sourced by the scripts of the providers: one server on loopback, known by its pid.
#   SCRIPT get | up | down | status
# Each says what its $state folder is, the $issuer, the address that answers when it is $ready, and has functions: get (fetches
# and builds, once), prepare (before every start), serve (becomes the server).

running() { [ -f "$state/pid" ] && kill -0 "$(cat "$state/pid")" 2>/dev/null; }

up() {
  running && { echo "already running"; return; }
  get
  prepare
  serve >"$state/log" 2>&1 </dev/null &
  echo $! >"$state/pid"
  for _ in $(seq 600); do
    curl -fsS -o /dev/null "$ready" 2>/dev/null && { echo "$issuer"; return; }
    running || break
    sleep 0.2
  done
  echo "$issuer did not become ready, see $state/log" >&2
  tail -20 "$state/log" >&2
  exit 1
}

down() {
  if running; then
    local pid
    pid=$(cat "$state/pid")
    kill "$pid"
    for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null || true
  fi
  rm -f "$state/pid"
}

act() {
  case ${1:-} in
    get | up | down) "$1" ;;
    status) if running; then echo up; else echo down; exit 3; fi ;;
    *) sed -n '2,/^set/{/^#/p}' "$0"; exit 2 ;;
  esac
}
