#!/usr/bin/env bash
# Everything that must hold, in one command: format, lints, every test tier, and the smokes on real guests.
#
#   test.sh            all of it (as root or with sudo; CI runs this)
#   test.sh --quick    what needs no guest: format, lints, unit and golden tests
#
# Prints one line for each step with its time; stops at the first that fails.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
quick=no
case "${1:-}" in
  "") ;;
  --quick) quick=yes ;;
  *) echo "test.sh: unknown argument '$1' (expected nothing, or --quick)" >&2; exit 2 ;;
esac

report=()
step() {
  local name=$1 since=$SECONDS
  shift
  echo "== $name" >&2
  if "$@"; then
    report+=("$(printf 'ok    %5d s  %s' $((SECONDS - since)) "$name")")
  else
    printf '%s\n' "${report[@]}" "FAIL  $((SECONDS - since)) s  $name"
    exit 1
  fi
}
skip() { report+=("skip           $1: $2"); }

source iot/scripts/cargo-on-path.sh test.sh
target=$(readlink -m "${CARGO_TARGET_DIR:-target}")
step "set up the host" ./iot/scripts/setup-host.sh
step "format" cargo fmt --all --check
step "shell scripts" shellcheck -x -e SC2016,SC2317 iot/scripts/*.sh .ci/run
# What runs in guests; some of it finds its variables set before it.
step "shell scripts of the library" find harmony/src -name '*.sh' -exec shellcheck -s sh -e SC1091,SC2154 {} +
step "check, all targets, feature kvm" cargo check --locked --workspace --all-targets --features harmony/kvm
step "clippy" cargo clippy --locked --workspace --all-targets --features harmony/kvm --no-deps -- -D warnings
step "clippy, no features" cargo clippy --locked -p harmony --all-targets --no-deps -- -D warnings
step "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --features harmony/kvm
step "unit and golden tests" cargo test --locked --workspace --features harmony/kvm
if [ "$quick" = yes ]; then printf '%s\n' "${report[@]}"; exit 0; fi

# Tests that need something of this host. The first ones left out build images, as the smokes do; those of the
# builder in a guest have a step of their own, when there is a base for it. The tests of the
# SSH client run a private sshd: Debian's package would start a public one where systemd runs, so it is only
# installed where that cannot happen.
left_out=(--skip an_image_is_built_once_and_nothing_else_is_left
  --skip where_no_image_host_can_be_reached_the_built_image_stands_in
  --skip the_edge_device_is_built_from_packages --skip image::build::guest)
if [ ! -x /usr/sbin/sshd ] && [ "$(id -u)" -eq 0 ] && [ ! -d /run/systemd/system ]; then
  step "install sshd" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends openssh-server
fi
if [ ! -x /usr/sbin/sshd ] || [ "$(id -u)" -ne 0 ]; then
  left_out+=(--skip modules::ssh::host_tests)
  skip "host tests of the SSH client" "need root and /usr/sbin/sshd (openssh-server)"
fi
# What QEMU is told is compared with golden arguments, which are those of one version of both on one kind of host.
versions=$(virsh -c qemu:///system version 2>/dev/null || true)
case "$(uname -m) $versions" in
  x86_64*"Using library: libvirt 11.3."*"QEMU 10.0."*) has_kvm=$([ -e /dev/kvm ] && echo yes || echo no) ;;
  *) has_kvm=no ;;
esac
if [ "$has_kvm" = no ] || [ "$(id -u)" -ne 0 ]; then
  left_out+=(--skip domain_documents::libvirt_accepts --skip properties::libvirt_accepts)
  skip "golden QEMU arguments and definitions" "need root, /dev/kvm, libvirt 11.3 and QEMU 10.0 on x86_64"
fi
step "host tests" cargo test --locked --workspace --features harmony/kvm -- \
  --ignored --test-threads=1 "${left_out[@]}"
idle_agent() {
  local agent
  agent=$(./iot/scripts/build-agent.sh --arch "$(uname -m)") || return 1
  IOT_AGENT_BINARY=$agent cargo test --locked --workspace --features harmony/kvm --test footprint -- --ignored
}
step "the idle agent, as it ships" idle_agent
step "aarch64 build of harmony without features and of the iot crates" ./iot/scripts/build-agent.sh \
  --arch aarch64 --members harmony,iot-contracts,iot-agent-v0

step "smoke: arm64, user network" ./iot/scripts/smoke-a3-arm.sh
step "smoke: arm64, from a checkpoint" ./iot/scripts/smoke-a3-arm.sh --warm
step "three devices of one checkpoint" ./iot/scripts/fleet-check.sh --count 3
step "smoke: x86_64, emulated" ./iot/scripts/smoke-a3.sh --arch x86_64 --accel tcg
step "guests of every lane, from inside" ./iot/scripts/guest-lanes.sh

# The lanes boot a plain image, which is what a guest builds on.
base=$(find "${XDG_CACHE_HOME:-$HOME/.cache}/harmony/images" -name "debian-12-$(uname -m)-*.qcow2" -printf '%T@ %p\n' 2>/dev/null |
  sort -n | tail -n 1 | cut -d ' ' -f 2-)
if [ -n "$base" ]; then
  step "images built in a guest" env "HARMONY_TEST_BASE=$base" cargo test --locked -p harmony --features kvm --lib -- \
    --ignored --test-threads=1 image::build::guest
else
  skip "images built in a guest" "no plain Debian 12 was built from packages on this host"
fi

if [ "$(id -u)" -eq 0 ]; then
  # The private network has no way out: the image is the one that the first smoke left.
  nat=(--connect qemu:///system --network nat --listen 192.168.122.1)
  step "smoke, and two devices of one checkpoint: arm64, NAT network in a namespace" ./iot/scripts/in-private-libvirt.sh \
    sh -euc './iot/scripts/smoke-a3-arm.sh --warm "$@"; ./iot/scripts/fleet-check.sh --count 2 "$@"' sh "${nat[@]}"
  step "smoke: arm64, from a checkpoint, an ordinary user, qemu:///session" ./iot/scripts/smoke-as-user.sh "$target"
else
  skip "smoke and two devices: NAT network in a namespace" "needs root"
  skip "smoke: as another user" "needs root"
fi
printf '%s\n' "${report[@]}"
