#!/usr/bin/env bash
# The arm64 smoke as an ordinary user without root, on qemu:///session, from a checkpoint. The user builds the image,
# as root of a user namespace. Needs root to make that user, who is removed afterwards with all that was theirs.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
[ "$(id -u)" -eq 0 ] || { echo "smoke-as-user: needs root" >&2; exit 1; }

source iot/scripts/cargo-on-path.sh smoke-as-user
./iot/scripts/setup-host.sh
cargo build --locked -p iot-smoke --bin iot-smoke -p example_iot_vm_setup --bin example_iot_vm_setup
agent=$(./iot/scripts/build-agent.sh --arch aarch64)
workload=$(./iot/scripts/build-agent.sh --arch aarch64 --package smoke-workload --bin smoke-workload --static)
target=${CARGO_TARGET_DIR:-target}

user=harmony-test-$$
if getent passwd "$user" >/dev/null; then echo "smoke-as-user: there is a user $user already" >&2; exit 1; fi
home=$(mktemp -d /var/tmp/harmony-test-XXXXXX)
runtime=
made=no
finish() {
  if [ "$made" = no ]; then rm -rf "$home"; return; fi
  pkill -u "$user" 2>/dev/null || true
  for _ in $(seq 50); do pgrep -u "$user" >/dev/null || break; sleep 0.1; done
  userdel "$user" || true
  rm -rf "$home" "$runtime"
}
trap finish EXIT
useradd --home-dir "$home" --shell /bin/bash "$user"
made=yes

mkdir -m 0755 "$home/bin"
cp "$target/debug/iot-smoke" "$target/debug/example_iot_vm_setup" "$agent" "$workload" "$home/bin/"
# Where a login would put it; libvirt's sockets there need short paths.
runtime=/run/user/$(id -u "$user")
install -d -m 0755 /run/user
install -d -m 0700 -o "$user" -g "$user" "$runtime"
chown -R "$user:$user" "$home"

runuser -u "$user" -- env -i PATH=/usr/bin:/bin HOME="$home" XDG_RUNTIME_DIR="$runtime" \
  HARMONY_DATA_DIR="$home/data" \
  "$home/bin/iot-smoke" --arch aarch64 --name harmony-smoke-session --connect qemu:///session --warm \
  --example "$home/bin/example_iot_vm_setup" \
  --agent-binary "$home/bin/iot-agent-v0" --workload-binary "$home/bin/smoke-workload"
