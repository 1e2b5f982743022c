#!/bin/bash
# last-good.sh POSTERN MANIFESTS FOLDER: the state folder that `postern run` leaves behind on these manifests, made anew
# for another binary.
set -euo pipefail
postern=$1 manifests=$2 folder=$3
of=$(sha256sum "$postern" "$manifests"/* | sha256sum)
[ "$(cat "$folder.of" 2> /dev/null || true)" = "$of" ] && exit 0
rm -rf "$folder" "$folder.of"
echo "a last-good file from $manifests, which takes a while" >&2
began=$SECONDS
"$postern" run --manifests "$manifests" --state-dir "$folder" --store memory: --workers 1 --access-log off \
  --status-address 127.0.0.1:22001 --bind 127.0.0.1 > "$folder.log" 2>&1 &
pid=$!
trap 'kill "$pid" 2> /dev/null || true' EXIT
until [ "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:22001/readyz)" = 200 ]; do
  kill -0 "$pid" 2> /dev/null || { tail -n 5 "$folder.log" >&2; exit 1; }
  [ $((SECONDS - began)) -lt 900 ] || { echo "not ready after 15 minutes" >&2; exit 1; }
  sleep .2
done
peak=$(awk '/VmHWM/ {print int($2 / 1024)}' "/proc/$pid/status")
echo "control and data plane were ready after $((SECONDS - began)) s, at most $peak MB" >&2
# It writes the file behind the change and is done with it when it ends.
kill -TERM "$pid"
wait "$pid"
trap - EXIT
find "$folder" -type f ! -name 'last-good*' -delete # what the proxy does not read
echo "$of" > "$folder.of"
