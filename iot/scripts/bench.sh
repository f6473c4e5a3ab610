#!/usr/bin/env bash
# Prints the tables of docs/performance.md, and writes the figures as JSON, into ./figures by default.
#
# Usage: bench.sh [--out DIR] [option of ready-bench, like --rounds N or --only SUBJECT …]
#
# Needs an idle machine: raw QEMU, virt-install and harmony are compared in turns, round by round, about 10 minutes each
# on two cores without KVM.
set -euo pipefail
out=$PWD/figures
if [ "${1-}" = --out ]; then
  out=$(readlink -m "${2:?--out needs a directory}")
  shift 2
fi
cd "$(dirname "$(readlink -f "$0")")/../.."

source iot/scripts/cargo-on-path.sh bench
./iot/scripts/setup-host.sh
agent=$(./iot/scripts/build-agent.sh --arch aarch64)
cargo build --locked -p iot-smoke --bin ready-bench -p example_iot_vm_setup --bin example_iot_vm_setup
target=${CARGO_TARGET_DIR:-target}/debug
mkdir -p "$out"
for bench in creation fetching inspection; do
  echo "bench: $bench" >&2
  cargo bench --quiet --locked -p harmony --features kvm --bench "$bench" >"$out/$bench.json"
done
"$target/ready-bench" --example "$target/example_iot_vm_setup" --agent-binary "$agent" --out "$out/ready.json" "$@"
echo "bench: the figures are in $out" >&2
