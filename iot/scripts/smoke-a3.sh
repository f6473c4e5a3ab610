#!/usr/bin/env bash
# The end-to-end smoke: a real guest gets the agent, joins NATS, runs a container, loses power, comes back.
#
#   smoke-a3.sh [--arch x86_64|aarch64] [OPTIONS OF iot-smoke…]      (default: x86_64; ARCH=… works too)
#
# Does its own set-up through setup-host.sh (as root or with sudo; an ordinary user with the packages
# installed needs neither). The logic is in iot/iot-smoke.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

arch=${ARCH:-x86_64}
if [ "${1:-}" = --arch ]; then
  arch=${2:?--arch needs x86_64 or aarch64}
  shift 2
fi
case "$arch" in
  x86_64 | aarch64) ;;
  *) echo "smoke-a3: unknown architecture '$arch' (expected x86_64 or aarch64)" >&2; exit 2 ;;
esac

source iot/scripts/cargo-on-path.sh smoke-a3
./iot/scripts/setup-host.sh
echo "smoke-a3: building the tools (4 min the first time), then the device's programs and image (8 min)" >&2
# The device's compiler uses what the tools' leaves idle; iot-smoke takes up what it has done, and says what fails. It ends
# with this script.
case " $* " in
  *" --agent-binary "*) ;;
  *) setpriv --pdeathsig TERM -- timeout 3600 nice -n 19 ./iot/scripts/build-agent.sh --arch "$arch" >/dev/null 2>&1 & ;;
esac
cargo build --locked -p iot-smoke --bin iot-smoke -p example_iot_vm_setup --bin example_iot_vm_setup
target=${CARGO_TARGET_DIR:-target}/debug
name=harmony-smoke-$arch-$$
# iot-smoke cleans up after itself; this is for the case that it is killed.
connect=()
for ((i = 1; i < $#; i++)); do
  if [ "${!i}" = --connect ]; then j=$((i + 1)) && connect=(--connect "${!j}"); fi
done
trap '"$target/example_iot_vm_setup" --destroy --name "$name" "${connect[@]}" >/dev/null 2>&1 || true' EXIT
"$target/iot-smoke" --arch "$arch" --name "$name" --example "$target/example_iot_vm_setup" "$@"
