#!/usr/bin/env bash
# Runs a command on a machine where nothing has been done yet: a new minimal Debian, in namespaces of its own, that is
# removed afterwards. What a check needs and no script installs is missing there. Needs root and mmdebstrap.
#
#   in-stranger.sh [--suite bookworm|trixie] [--target DIR] COMMAND [ARGUMENTS…]
#
#   --suite    the Debian release (default: bookworm)
#   --target   a directory for cargo's builds that stays (default: one that goes with the machine)
#
# Lent are the kernel with its devices, control groups, network and binfmt_misc, the compiler's tool chain, the crates
# that cargo has downloaded, and this checkout, read-only at /harmony, where the command runs. Packages come from the mirror that this host uses.
set -euo pipefail

say() { printf 'in-stranger: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
usage() { say "error: $*"; exit 2; }

if [ "${1-}" = --inside ]; then
  # The first process of the new namespaces: makes the tree the root of all of them and goes on in it.
  root=$2 source=$3 rustup=$4 cargo=$5 target=$6
  shift 6
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs -o mode=0755 tmpfs "$root/run"
  lend() { mkdir -p "$root/$2"; mount --bind "$1" "$root/$2"; }
  lend_read_only() { lend "$1" "$2"; mount -o remount,bind,ro "$root/$2"; }
  lend_read_only "$source" harmony
  lend_read_only "$rustup" root/.rustup
  lend_read_only "$cargo/bin" root/.cargo/bin
  lend "$cargo/registry" root/.cargo/registry
  # Its lock goes with it, and where the host's cargo gets crates from.
  for file in .package-cache config.toml; do
    if [ -e "$cargo/$file" ]; then : >"$root/root/.cargo/$file" && mount --bind "$cargo/$file" "$root/root/.cargo/$file"; fi
  done
  if [ -n "$target" ]; then lend "$target" target; fi
  mkdir -p "$root/target" "$root/old"
  cd "$root"
  pivot_root . old
  # The shell stays the first process: it waits for those that nobody else waits for. A guest that has ended and was not
  # waited for counts as running for libvirt.
  # shellcheck disable=SC2016 # the variables are the new shell's
  exec chroot . /bin/bash -uc 'umount -l /old && rmdir /old && cd /harmony || exit 1; "$@"; exit $?' bash "$@"
fi

suite=bookworm target=
while [ $# -gt 0 ]; do
  case "$1" in
    --suite) suite=${2:?--suite needs bookworm or trixie}; shift 2 ;;
    --target) target=${2:?--target needs a directory}; shift 2 ;;
    -*) usage "unknown argument '$1' (expected --suite, --target or a command)" ;;
    *) break ;;
  esac
done
[ $# -gt 0 ] || usage "no command"
case "$suite" in
  bookworm | trixie) ;;
  *) usage "unknown suite '$suite' (expected bookworm or trixie)" ;;
esac
[ "$(id -u)" -eq 0 ] || die "needs root"
command -v mmdebstrap >/dev/null || die "mmdebstrap not found: apt-get install mmdebstrap"
source=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
rustup=$(readlink -f "${RUSTUP_HOME:-$HOME/.rustup}")
cargo=$(readlink -f "${CARGO_HOME:-$HOME/.cargo}")
[ -x "$cargo/bin/cargo" ] || die "no cargo in $cargo/bin: the tool chain that is lent is rustup's"
mkdir -p "$cargo/registry"
: >>"$cargo/.package-cache"
if [ -n "$target" ]; then mkdir -p "$target" && target=$(readlink -f "$target"); fi

# The mirrors of this host; no host name is written down here.
# shellcheck disable=SC2016 # the fields are apt's
indexes=$(apt-get indextargets --format '$(REPO_URI) $(LABEL)' 'Created-By: Packages' | sort -u)
# A mirror that needs a password is none: the machine would have it in its files.
mirror() {
  awk -v label="$1" '{ uri = $1; sub(/^[^ ]+ /, "") } $0 == label && uri ~ /^https?:/ && uri !~ /@/ { print uri; exit }' <<<"$indexes"
}
main=$(mirror Debian) security=$(mirror Debian-Security) sources=()
if [ -n "$main" ]; then sources+=("deb $main $suite main" "deb $main $suite-updates main"); fi
if [ -n "$main" ] && [ -n "$security" ]; then sources+=("deb $security $suite-security main"); fi

# Machines of runs that were killed: nobody holds their locks.
for left in /var/tmp/harmony-stranger-*; do
  if [ -d "$left" ] && flock --nonblock "$left" true; then rm -rf --one-file-system "$left"; fi
done
scratch=$(mktemp -d /var/tmp/harmony-stranger-XXXXXX)
exec 9<"$scratch"
flock 9
machine=
# The mounts are in the namespace, which ends with its first process.
finish() {
  if [ -n "$machine" ]; then
    kill -KILL "$machine" 2>/dev/null || true
    wait "$machine" 2>/dev/null || true
  fi
  rm -rf --one-file-system "$scratch" || rm -rf --one-file-system "$scratch"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP
chmod 0755 "$scratch"
root=$scratch/root
since=$SECONDS
say "making a minimal Debian $suite (about 30 s)"
mmdebstrap --quiet --mode=root --variant=minbase --aptopt='Acquire::Languages "none"' \
  "$suite" "$root" "${sources[@]}"
# How the host reaches others is the machine's and not the system's: names, proxies, certificates.
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
apt-config dump --no-empty --format '%f "%v";%n' Acquire::http::Proxy Acquire::https::Proxy >"$root/etc/apt/apt.conf.d/80-proxy"
if [ -d /usr/local/share/ca-certificates ]; then
  mkdir -p "$root/usr/local/share/ca-certificates"
  cp -rL /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/"
fi
say "made in $((SECONDS - since)) s; running there: $*"

# Where pip gets packages from, without a password.
if [ -e /etc/pip.conf ] && ! grep -q '://[^/]*@' /etc/pip.conf; then cp /etc/pip.conf "$root/etc/pip.conf"; fi
environment=(HARMONY_STRANGER="$suite" HOME=/root USER=root LANG=C.UTF-8 TERM="${TERM:-dumb}" CARGO_TARGET_DIR=/target CARGO_INCREMENTAL=0
  PATH=/root/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
for variable in CI RUST_BACKTRACE RUSTUP_TOOLCHAIN http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
  if [ -n "${!variable-}" ]; then environment+=("$variable=${!variable}"); fi
done
# It ends with this shell, however that ends.
env -i "${environment[@]}" setpriv --pdeathsig KILL -- unshare --mount --propagation private --pid --fork --kill-child --ipc --uts -- \
  "$(readlink -f "$0")" --inside "$root" "$source" "$rustup" "$cargo" "$target" "$@" 9<&- &
machine=$!
status=0
wait "$machine" || status=$?
machine=
exit "$status"
