#!/bin/sh
# static.sh PROFILE: build `postern` without any shared library and print its path.
# The target is glibc's with crt-static rather than musl: it needs no further
# toolchain, and names are resolved in Rust, so nothing of glibc is loaded at run time.
# --target keeps the flag off build scripts and procedural macros.
set -eu
cd "$(dirname "$0")/.."
profile=${1:?usage: static.sh PROFILE}
case $(uname -m) in
  x86_64) target=x86_64-unknown-linux-gnu ;;
  aarch64 | arm64) target=aarch64-unknown-linux-gnu ;;
  *) echo "static.sh: $(uname -m) is not supported: build on x86_64 or aarch64" >&2; exit 1 ;;
esac
flags=CARGO_TARGET_$(echo "$target" | tr a-z- A-Z_)_RUSTFLAGS
env "$flags=-C target-feature=+crt-static" \
  "${CARGO:-cargo}" build --profile "$profile" --target "$target" --package postern >&2
echo "${CARGO_TARGET_DIR:-$PWD/target}/$target/$profile/postern"
