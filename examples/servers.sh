# shellcheck shell=bash
# Sourced by the examples' run.sh: servers that run until one of them ends, or Ctrl-C ends them all.
# $state is a folder for them that goes away in the end.
state=$(mktemp -d)
pids=()

# The last one started ends first, so that the gateway's running requests still find the application.
finish() {
  trap - EXIT INT TERM
  for pid in "${pids[@]}"; do
    kill "$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null || true
  done
  rm -rf "$state"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start COMMAND...
start() {
  "$@" &
  pids=("$!" "${pids[@]}")
}

alive() {
  for pid in "${pids[@]}"; do
    kill -0 "$pid" 2> /dev/null || { echo "run.sh: ports of this machine are needed: $*" >&2; exit 1; }
  done
}

ready() {
  [[ $(curl --silent --output /dev/null --max-time 1 --write-out '%{http_code}' http://127.0.0.1:8100/readyz) == 200 ]]
}

# until_ready PORTS: which ports they take is said when one of them has ended.
until_ready() {
  until ready; do
    alive "$@"
    sleep 0.1
  done
  # Whoever answered may have been another one.
  alive "$@"
}
