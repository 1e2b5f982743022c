#!/bin/sh
# static.sh PROFILE: build `postern` without any shared library and print its path.
# The target is glibc's with crt-static rather than musl: it needs no further
# toolchain, and names are resolved in Rust, so nothing of glibc is loaded at run time.
# --target keeps the flag off build scripts and procedural macros. On other systems
# than Linux the program is built as is usual there: good to run, not for an image.
set -eu
cd "$(dirname "$0")/.."
profile=${1:?usage: static.sh PROFILE}
target=
case $(uname -s)/$(uname -m) in
  Linux/x86_64) target=x86_64-unknown-linux-gnu ;;
  Linux/aarch64) target=aarch64-unknown-linux-gnu ;;
esac
if [ -n "$target" ]; then
  flags=CARGO_TARGET_$(echo "$target" | tr a-z- A-Z_)_RUSTFLAGS
  export "$flags=-C target-feature=+crt-static"
fi
"${CARGO:-cargo}" build --profile "$profile" ${target:+--target "$target"} --package postern >&2
echo "${CARGO_TARGET_DIR:-$PWD/target}/${target:+$target/}$profile/postern"
