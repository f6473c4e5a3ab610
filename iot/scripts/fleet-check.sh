#!/usr/bin/env bash
# Makes several arm64 devices from one checkpoint and checks each: no two share an identity, each runs its own
# container, and each comes back from a power cut as who it was.
#
#   fleet-check.sh [--count N] [OPTIONS OF fleet-check…]      (default: 10 devices)
#
# Does its own set-up through setup-host.sh (as root or with sudo; an ordinary user with the packages
# installed needs neither). The logic is in iot/iot-smoke.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

source iot/scripts/cargo-on-path.sh fleet-check
./iot/scripts/setup-host.sh
cargo build --locked -p iot-smoke --bin fleet-check -p example_iot_vm_setup --bin example_iot_vm_setup
target=${CARGO_TARGET_DIR:-target}/debug
name=harmony-fleet-$$
# fleet-check cleans up after itself; this is for the case that it is killed.
trap '"$target/fleet-check" "$@" --name "$name" --example "$target/example_iot_vm_setup" --clean-up >/dev/null 2>&1 || true' EXIT
"$target/fleet-check" "$@" --name "$name" --example "$target/example_iot_vm_setup"
