#!/usr/bin/env bash
# Cuts the power of an emulated arm64 device at random moments: while it pulls an image, makes a container, updates one,
# updates its agent, and writes its state. Each time it has to come back by itself as it should be.
#
#   power-cuts.sh [--count N] [--seed S] [OPTIONS OF power-cuts…]      (default: 5 cuts, one of each kind)
#
# Does its own set-up through setup-host.sh (as root or with sudo; an ordinary user with the packages
# installed needs neither). The logic is in iot/iot-smoke.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

source iot/scripts/cargo-on-path.sh power-cuts
./iot/scripts/setup-host.sh
cargo build --locked -p iot-smoke --bin power-cuts -p example_iot_vm_setup --bin example_iot_vm_setup
target=${CARGO_TARGET_DIR:-target}/debug
name=harmony-cuts-$$
# power-cuts cleans up after itself; this is for the case that it is killed.
trap '"$target/power-cuts" "$@" --name "$name" --example "$target/example_iot_vm_setup" --clean-up >/dev/null 2>&1 || true' EXIT
"$target/power-cuts" "$@" --name "$name" --example "$target/example_iot_vm_setup"
