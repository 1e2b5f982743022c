#!/bin/sh
# Print the workspace's version, which is the image's tag and the chart's appVersion.
set -eu
cd "$(dirname "$0")/.."
sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml
