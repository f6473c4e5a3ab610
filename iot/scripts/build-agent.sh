#!/usr/bin/env bash
# Builds a binary for a device, with the profile "agent", and prints its path on stdout; everything else goes to
# stderr.
#
#   build-agent.sh [--arch x86_64|aarch64] [--package NAME] [--bin NAME] [--static]
#   build-agent.sh [--arch x86_64|aarch64] --members NAME[,NAME…]
#
#   --arch      what it runs on (default: x86_64)
#   --package   the workspace member (default: iot-agent-v0)
#   --bin       its binary (default: the package's name)
#   --static    link the C library in; for a container image that has nothing else
#   --members   build these workspace members, without features and unoptimised, and print nothing: tells
#               whether they compile for the architecture
#
# Another architecture than the host's is compiled with rustup's target where that is installed, else with Debian's
# compiler (cross-compiler.sh). The binary's ELF header is checked, the glibc that it needs, and the agent's size.
set -euo pipefail

say() { printf 'build-agent: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
usage() { say "error: $*"; exit 2; }

arch=x86_64 package=iot-agent-v0 bin='' static=no members=''
while [ $# -gt 0 ]; do
  case "$1" in
    --arch | --package | --bin | --members)
      [ $# -ge 2 ] || usage "$1 has no value"
      printf -v "${1#--}" '%s' "$2"
      shift 2
      ;;
    --static) static=yes; shift ;;
    *) usage "unknown argument '$1' (expected --arch, --package, --bin, --static or --members)" ;;
  esac
done
bin=${bin:-$package}
# The agent goes over slow lines and stays in small flash memories: docs/performance.md.
max_agent_bytes=6000000
# That of the oldest system that devices are made of.
max_glibc=2.36
case "$arch" in
  x86_64) machine=3e00 ;;
  aarch64) machine=b700 ;;
  *) usage "unknown architecture '$arch' (expected x86_64 or aarch64)" ;;
esac

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$scripts/../.."
command -v cargo >/dev/null || die "cargo not found: install rustup, or put ~/.cargo/bin into PATH"
target=$arch-unknown-linux-gnu
base=${CARGO_TARGET_DIR:-target}
[ "${base:0:1}" = / ] || base=$PWD/$base
# The caller's directory is of one compiler and one set of flags; the others get their own below it.
directory=$base
flags=()

if [ "$arch" != "$(uname -m)" ]; then
  flags+=(--target "$target")
  linker=$arch-linux-gnu-gcc
  variable=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$target")_LINKER
  command -v "${!variable:-$linker}" >/dev/null ||
    die "linker '${!variable:-$linker}' not found: apt-get install gcc-${arch/_/-}-linux-gnu"
  export "$variable=${!variable:-$linker}"
  if rustup target list --installed 2>/dev/null | grep -x "$target" >/dev/null; then
    say "compiling for $arch with rustup's target"
  elif ! grep -qxE 'ID="?debian"?' /etc/os-release && rustup target add "$target" >&2; then
    say "compiling for $arch with rustup's target, added just now"
  elif [ "$arch" = aarch64 ]; then
    say "compiling for $arch with Debian's compiler"
    RUSTC=$("$scripts/cross-compiler.sh")/bin/rustc
    export RUSTC
    directory=$base/cross
  else
    die "no standard library for $target: rustup target add $target"
  fi
fi
if [ "$static" = yes ]; then
  # With --target the flags do not reach build scripts and procedural macros, which cannot be static.
  [ ${#flags[@]} -gt 0 ] || flags+=(--target "$target")
  export RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static"
  directory=$directory/static
fi

if [ -n "$members" ]; then
  mapfile -t packages < <(tr ',' '\n' <<<"$members" | sed 's/^/--package=/')
  cargo build --locked "${packages[@]}" --target-dir "$directory" "${flags[@]}" >&2
  exit 0
fi
cargo build --profile agent --locked --package "$package" --bin "$bin" --target-dir "$directory" "${flags[@]}" >&2

if [ ${#flags[@]} -gt 0 ]; then directory=$directory/$target; fi
binary=$directory/agent/$bin
# ELF magic, 64 bits, little-endian; e_machine is at offset 18.
header=$(od -An -v -tx1 -N20 "$binary" | tr -d ' \n')
[ "${header:0:12}" = 7f454c460201 ] || die "'$binary' is not a 64-bit ELF (its first bytes: ${header:0:12})"
[ "${header:36:4}" = "$machine" ] || die "'$binary' is for ELF machine ${header:36:4} (expected $machine, $arch)"
bytes=$(stat -c %s "$binary")
[ "$bin" != iot-agent-v0 ] || [ "$bytes" -le "$max_agent_bytes" ] ||
  die "'$binary' has $bytes bytes (expected at most $max_agent_bytes)"
# A program that needs a newer glibc than the device's does not start there.
needs=$(LC_ALL=C readelf --version-info --wide "$binary") || die "readelf cannot read '$binary' (binutils)"
glibc=$(grep -oE 'GLIBC_[0-9.]+' <<<"$needs" | sort -uV | tail -n1 || true)
newest=$(printf '%s\n' "${glibc:-GLIBC_2.0}" "GLIBC_$max_glibc" | sort -V | tail -n1)
[ "$newest" = "GLIBC_$max_glibc" ] || die "'$binary' needs $glibc (expected at most GLIBC_$max_glibc, which Debian 12 has)"
printf '%s\n' "$binary"
