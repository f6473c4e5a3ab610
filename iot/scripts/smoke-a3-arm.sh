#!/usr/bin/env bash
# The arm64 smoke, for CI: the same as smoke-a3.sh for an emulated aarch64 device.
set -euo pipefail
ARCH=aarch64 exec "$(dirname "$(readlink -f "$0")")/smoke-a3.sh" "$@"
