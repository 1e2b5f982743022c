#!/bin/bash
# Everything `make lint` checks, each step named; all steps run even when one fails.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
failed=()

step() {
  local name=$1
  shift
  echo "-- lint: $name"
  "$@" || failed+=("$name")
}

scripts() {
  git ls-files --cached --others --exclude-standard -- "*.sh" .ci/run | while read -r file; do
    [ ! -e "$file" ] || echo "$file"
  done
}

shell_syntax() {
  local status=0 file
  while read -r file; do
    bash -n "$file" || status=1
  done < <(scripts)
  return "$status"
}

# Where Debian's shellcheck cannot be had, the syntax check above stands alone.
shell_check() {
  if ! command -v shellcheck > /dev/null; then
    [ -z "${CI:-}" ] || { echo "shellcheck is missing: run make setup" >&2; return 1; }
    echo "shellcheck is not installed: skipped (make setup installs it)"
    return 0
  fi
  scripts | xargs shellcheck --external-sources --source-path=SCRIPTDIR
}

lock_file() { cargo metadata --locked --format-version=1 > /dev/null; }

step "Cargo.lock is up to date" lock_file
step "cargo fmt" cargo fmt --all --check
step "clippy" cargo clippy --workspace --all-targets --features postern-tests/cluster -- --deny warnings
step "each room builds alone" cargo check --package postern-plugins --no-default-features
step "tokens can be looked after without handlers" cargo clippy --package postern-plugins --no-default-features --features ledger -- --deny warnings
step "directions" tools/directions.sh
step "licences, bans and sources" python3 tools/deny.py
step "shell syntax" shell_syntax
step "shellcheck" shell_check

if [ "${#failed[@]}" -gt 0 ]; then
  printf 'lint failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
echo "lint passed"
