# shellcheck shell=bash
# Starts and stops what is compared, one at a time on 127.0.0.1:22000, pinned to core 1 with one worker; the load and the
# upstream on 127.0.0.1:21000 are on core 0. Sourced by run.sh, which sets POSTERN, FLOOR, DATA, CONF, PYTHON and the folder.

UP=127.0.0.1:21000 GW=127.0.0.1:22000 STATUS=127.0.0.1:22001
HZ=$(getconf CLK_TCK)
PID=
REDIS=

gateway() { # COMMAND...: in a process group of its own
  setsid taskset -c 1 "$@" > "${GATEWAY_LOG:-run/gateway.log}" 2>&1 9>&- &
  PID=$!
}

nginx_conf() { # plain, key or tls; size of the key list
  sed -e "s#@DATA@#$DATA#g;s#@KEYS@#$2#g" "$CONF/nginx-$1.inc" > run/server.inc
  sed -e '/^@SERVER@$/{r run/server.inc' -e 'd}' "$CONF/nginx.conf.in" > run/nginx.conf
}

postern_run() { # folder of manifests, store, further flags
  local folder=$1 store=${2:-memory:}
  shift $(($# < 2 ? $# : 2))
  rm -rf run/state
  gateway "$POSTERN" run --manifests "$DATA/$folder" --state-dir run/state --store "$store" --workers 1 \
    --status-address "$STATUS" --bind 127.0.0.1 --access-log "${ACCESS_LOG:-off}" "$@"
}

# An authorization server with the store NAME, and tokens of it in pool-oauth2.
authorization_server() { # store
  local store=memory:
  case $1 in
    file) store=file:$PWD/run/tokens.redb ;;
    redis)
      setsid taskset -c 0 redis-server --bind 127.0.0.1 --port 21379 --save '' --appendonly yes --dir run > run/redis.log 2>&1 9>&- &
      REDIS=$!
      store=redis://127.0.0.1:21379/0
      ;;
  esac
  rm -rf run/tokens.redb run/appendonlydir
  postern_run oauth2 "$store" --trusted-proxies 127.0.0.1/32
}

tokens() { # 1,000 of them
  local secret
  secret=$(cat "$DATA/oauth2.key")
  for _ in $(seq 1000); do
    printf '%s\n' "url = http://$GW/oauth2/token" 'header = "X-Forwarded-Proto: https"' 'write-out = "\n"' \
      "data = grant_type=client_credentials&client_id=bench&client_secret=$secret" next
  done | sed '$d' | curl -s -K - | sed -n 's/.*"access_token":"\([^"]*\)".*/\1/p' > "$DATA/pool-$1"
  [ "$(wc -l < "$DATA/pool-$1")" = 1000 ]
}

haproxy_jwt() { # algorithm in small letters; a shared secret is given itself, a public key by its file
  local key=$DATA/jwt-$1.key
  [ "$1" != hs256 ] || key=$(cat "$key")
  MODE=jwt ALG=${1^^} KEY=$key gateway haproxy -db -f "$CONF/haproxy.cfg"
}

start() { # peer mode
  local peer=$1 mode=$2 size=${2#key-}
  case $peer:$mode in
    haproxy:plain) MODE=plain gateway haproxy -db -f "$CONF/haproxy.cfg" ;;
    haproxy:key-*) MODE=key KEYS=$DATA/keys-$size.txt gateway haproxy -db -f "$CONF/haproxy.cfg" ;;
    haproxy:tls) MODE=tls BOTH=$DATA/both.pem gateway haproxy -db -f "$CONF/haproxy.cfg" ;;
    nginx:plain) nginx_conf plain - && gateway nginx -p "$PWD/" -c run/nginx.conf ;;
    nginx:key-*) nginx_conf key "$size" && gateway nginx -p "$PWD/" -c run/nginx.conf ;;
    nginx:tls) nginx_conf tls - && gateway nginx -p "$PWD/" -c run/nginx.conf ;;
    hyper:plain) gateway "$FLOOR" $GW $UP ;;
    hyper:key-*) gateway "$FLOOR" $GW $UP "$DATA/keys-$size.txt" ;;
    haproxy:jwt-*) haproxy_jwt "${mode#jwt-}" ;;
    envoy:jwt-rs256-cached)
      python3 "$CONF/envoy.py" "$DATA/jwks.json" > run/envoy.json
      gateway "$ENVOY" -c run/envoy.json --concurrency 1 --base-id 77 -l error --disable-hot-restart
      ;;
    postern:key-1m) from_last_good ;;
    postern:bearer-* | postern:issue-*) authorization_server "${mode#*-}" ;;
    postern:*) postern_run "$mode" ;;
    postern-logs:*) ACCESS_LOG=stdout GATEWAY_LOG=/dev/null postern_run "$mode" ;;
    *) echo "no such pair: $peer:$mode" >&2 && return 1 ;;
  esac
  wait_answer "$mode" || { echo "$peer:$mode did not start: $(tail -n 3 run/gateway.log)" >&2 && return 1; }
  case $mode in
    bearer-*) tokens "$mode" || { echo "$peer:$mode issued no tokens" >&2 && return 1; } ;;
    oidc-session) "$PYTHON" "$CONF/../sign_in.py" "$DATA" "$GW" || { echo "$peer:$mode: nobody could sign in" >&2 && return 1; } ;;
  esac
}

wait_answer() { # mode
  local url=http://$GW/ code
  [ "$1" = tls ] && url=https://$GW/
  for _ in $(seq 12000); do
    code=$(curl -sk -o /dev/null -w '%{http_code}' "$url")
    case $code in 200 | 302 | 401) return 0 ;; esac
    kill -0 "$PID" 2> /dev/null || return 1
    sleep .01
  done
  return 1
}

# A proxy whose controller is away starts from the file that it wrote when it was there.
from_last_good() {
  rm -rf run/state
  cp -r "$LAST_GOOD" run/state
  gateway "$POSTERN" proxy --controller https://127.0.0.1:1 --state-dir run/state --store memory: --workers 1 \
    --status-address "$STATUS" --bind 127.0.0.1 --access-log off
}

stop() {
  [ -z "$REDIS" ] || kill "$REDIS" 2> /dev/null || true
  REDIS=
  [ -n "$PID" ] || return 0
  kill -TERM -- "-$PID" 2> /dev/null || true
  for _ in $(seq 50); do
    kill -0 "$PID" 2> /dev/null || break
    sleep .02
  done
  kill -KILL -- "-$PID" 2> /dev/null || true
  wait "$PID" 2> /dev/null || true
  PID=
}

tree() { # pid: it and all below it
  echo "$1"
  local child
  for child in $(cat /proc/"$1"/task/*/children 2> /dev/null || true); do tree "$child"; done
}

cpu() { # pid: clock ticks of its tree
  local pid
  for pid in $(tree "$1"); do awk '{sub(/.*\) /, ""); print $12 + $13}' "/proc/$pid/stat"; done |
    awk '{s += $1} END {print s + 0}'
}

rss() { # pid: KiB of the largest process of its tree
  local pid
  for pid in $(tree "$1"); do awk '/^(RssAnon|RssShmem|RssFile)/ {s += $2} END {print s}' "/proc/$pid/status"; done |
    sort -n | tail -1
}

load() { # mode seconds: prints RESULT n= us= bad= err= p50= p99=
  case $1 in
    key-*) HEADER=apikey POOL=$DATA/pool-${1#key-} taskset -c 0 wrk -t1 -c64 -d"$2"s -s "$WRK/pool.lua" "http://$GW/" ;;
    oidc-session) HEADER=Cookie POOL=$DATA/pool-$1 taskset -c 0 wrk -t1 -c64 -d"$2"s -s "$WRK/pool.lua" "http://$GW/" ;;
    jwt-* | bearer-* | oidc-bearer)
      HEADER=Authorization PREFIX="Bearer " POOL=$DATA/pool-${1%-cached} taskset -c 0 wrk -t1 -c64 -d"$2"s -s "$WRK/pool.lua" "http://$GW/"
      ;;
    routes-*) POOL=$DATA/pool-$1 taskset -c 0 wrk -t1 -c64 -d"$2"s -s "$WRK/routes.lua" "http://$GW/" ;;
    issue-*) SECRET=$(cat "$DATA/oauth2.key") taskset -c 0 wrk -t1 -c64 -d"$2"s -s "$WRK/issue.lua" "http://$GW/" ;;
    *) taskset -c 0 wrk -t1 -c64 -d"$2"s -s "$WRK/plain.lua" "http://$GW/" ;;
  esac | sed -n 's/^RESULT //p'
}

# Each peer must let a good credential through and tell the upstream whose it is, and refuse a bad one.
check() { # peer mode
  local header="Authorization: Bearer " pool=$DATA/pool-${2%-cached} good bad who
  case $2 in
    key-*) header="apikey: " pool=$DATA/pool-${2#key-} ;;
    oidc-session) header="Cookie: " ;;
    jwt-* | bearer-* | oidc-bearer) ;;
    *) return 0 ;;
  esac
  good=$(sed -n 500p "$pool")
  bad=${good%????????}00000000
  who=$(curl -s -H "$header$good" "http://$GW/echo")
  [[ $who =~ ^(consumer|user)- ]] || { echo "$1:$2 does not say who calls: $who" >&2 && return 1; }
  [[ $(curl -s -o /dev/null -w '%{http_code}' -H "$header$bad" "http://$GW/") =~ ^(302|401|403)$ ]] ||
    { echo "$1:$2 lets a wrong credential pass" >&2 && return 1; }
}

row() { # suite peer mode round requests microseconds ticks bad p50 p99 idle after start
  awk -v s="$1" -v p="$2" -v m="$3" -v i="$4" -v n="$5" -v us="$6" -v c="$7" -v b="$8" -v q="$9" -v z="${10}" \
    -v r0="${11}" -v r1="${12}" -v st="${13}" -v hz="$HZ" 'BEGIN {
      printf "%s,%s,%s,%d,%.0f,%.2f,%d,%d,%d,%.1f,%.1f,%d,%.2f\n",
        s, p, m, i, n * 1e6 / us, n ? c / hz * 1e6 / n : 0, b, q, z, r0 / 1024, r1 / 1024, st, c / hz * 1e6 / us}' |
    tee -a run/results.csv
}
