#!/bin/bash
# Install the Debian packages that tests need, if any is missing: the cluster's parts
# that are not built from source, and what the cases and the scripts use.
set -euo pipefail
packages=(
  containerd runc containernetworking-plugins nftables iptables iproute2 # the node
  openssl curl jq procps util-linux                                      # scripts
  python3 python3-venv                                                   # cases
  redis-server redis-tools                                               # stores
  shellcheck                                                             # lint
)

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] ||
    missing+=("$package")
done
[ "${#missing[@]}" -gt 0 ] || exit 0

if ! command -v apt-get > /dev/null; then
  echo "packages.sh: this is not Debian: install what these packages hold: ${missing[*]}" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "packages.sh: not root: run 'apt-get install ${missing[*]}' first" >&2
  exit 1
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update && apt-get install --yes --no-install-recommends "${missing[@]}"; } > "$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi
