#!/usr/bin/env bash
# Runs a program of iot-smoke that makes devices by the example and removes them at its end.
#
#   on-devices.sh PROGRAM [OPTIONS OF PROGRAM…]
#
# Called by fleet-check.sh and power-cuts.sh. Does its own set-up through setup-host.sh.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

program=${1:?on-devices.sh needs a program of iot-smoke}
shift
source iot/scripts/cargo-on-path.sh "$program"
./iot/scripts/setup-host.sh
cargo build --locked -p iot-smoke --bin "$program" -p example_iot_vm_setup --bin example_iot_vm_setup
target=${CARGO_TARGET_DIR:-target}/debug
options=("$@" --name "harmony-$program-$$" --example "$target/example_iot_vm_setup")
# The program cleans up after itself; this is for the case that it is killed.
trap '"$target/$program" "${options[@]}" --clean-up >/dev/null 2>&1 || true' EXIT
"$target/$program" "${options[@]}"
