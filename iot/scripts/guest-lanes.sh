#!/usr/bin/env bash
# Boots a real guest of every lane, all emulated, and checks each from inside: CPU, interrupt controller, console,
# firmware, identity, disks, cards, and what is plugged in and out while it runs.
#
#   guest-lanes.sh [OPTIONS OF guest-lanes…]      (--lane NAME picks some; --json prints the table as JSON)
#
# Does its own set-up through setup-host.sh (as root or with sudo; an ordinary user with the packages
# installed needs neither). The logic is in iot/iot-smoke.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

source iot/scripts/cargo-on-path.sh guest-lanes
./iot/scripts/setup-host.sh
cargo build --locked -p iot-smoke --bin guest-lanes
target=${CARGO_TARGET_DIR:-target}/debug
# guest-lanes cleans up after itself; this is for the case that it is killed.
trap '"$target/guest-lanes" "$@" --clean-up >/dev/null 2>&1 || true' EXIT
"$target/guest-lanes" "$@"
