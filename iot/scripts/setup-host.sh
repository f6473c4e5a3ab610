#!/usr/bin/env bash
# Prepares a Debian or Ubuntu host for harmony's IoT smoke tests. Safe to run again: it only adds what is missing.
#
#   setup-host.sh            install what is missing (as root, or through sudo) and start libvirt
#   setup-host.sh --check    list what is missing, change nothing; exit 1 when something is
set -euo pipefail
# apt's words are read below.
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin

say() { printf 'setup-host: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

check_only=no
case "${1:-}" in
  "") ;;
  --check) check_only=yes ;;
  *) say "error: unknown argument '$1' (expected nothing, or --check)"; exit 2 ;;
esac

# shellcheck source=/dev/null
. /etc/os-release
case " ${ID:-} ${ID_LIKE:-} " in
  *" debian "* | *" ubuntu "*) ;;
  *) die "this script knows Debian and Ubuntu, not '${ID:-unknown}'; docs/guides/host-requirements.md lists the packages" ;;
esac

# From backports where the distribution's QEMU is older than 9.1.
virtualisation=(qemu-system-arm qemu-system-x86 qemu-utils
  libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients libvirt-dev)
# Guest firmware, networking, the image builder, NATS, a registry for the smoke's container, what judges units, git for --since of test.sh, compilers.
others=(qemu-efi-aarch64 ovmf passt dnsmasq-base iproute2 nftables
  mmdebstrap arch-test qemu-user-static uidmap e2fsprogs grub-common podman crun
  debian-archive-keyring nats-server openssl docker-registry
  systemd shellcheck git build-essential pkg-config gcc-aarch64-linux-gnu libc6-dev-arm64-cross libxml2-utils ca-certificates)

# Tests of the SSH client run a private sshd. The package would start a public one where systemd runs.
if [ ! -d /run/systemd/system ] && [ "$(id -u)" -eq 0 ]; then others+=(openssh-server); fi

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
missing_virtualisation=() missing_others=()
for package in "${virtualisation[@]}"; do installed "$package" || missing_virtualisation+=("$package"); done
for package in "${others[@]}"; do installed "$package" || missing_others+=("$package"); done
missing=("${missing_virtualisation[@]}" "${missing_others[@]}")
binfmt=/proc/sys/fs/binfmt_misc/qemu-aarch64
needs_binfmt=no
if [ "$(dpkg --print-architecture)" != arm64 ]; then
  # What is registered is seen where it is mounted.
  if [ "$check_only" = no ] && [ "$(id -u)" -eq 0 ] && [ -d "${binfmt%/*}" ] && ! mountpoint -q "${binfmt%/*}"; then
    mount -t binfmt_misc binfmt_misc "${binfmt%/*}" || die "this kernel has no binfmt_misc, by which arm64 programs run"
  fi
  if [ ! -e "$binfmt" ]; then needs_binfmt=yes; fi
fi
systemd=no
if [ -d /run/systemd/system ]; then systemd=yes; fi
libvirt_answers() { timeout 60 virsh -q -c qemu:///system uri >/dev/null 2>&1; }

if [ "$check_only" = yes ]; then
  [ ${#missing[@]} -eq 0 ] && [ "$needs_binfmt" = no ] && exit 0
  say "missing packages: ${missing[*]:-none}; arm64 programs run on this host: $([ "$needs_binfmt" = yes ] && echo no || echo yes)"
  exit 1
fi

if [ "$(id -u)" -ne 0 ]; then
  # An ordinary user with everything installed needs no root: qemu:///session is spawned on demand.
  if [ ${#missing[@]} -eq 0 ] && [ "$needs_binfmt" = no ]; then say "nothing to do"; exit 0; fi
  command -v sudo >/dev/null || die "missing: ${missing[*]:-binfmt for arm64}; run 'iot/scripts/setup-host.sh' once as root"
  exec sudo -- "$(readlink -f "$0")" "$@"
fi

export DEBIAN_FRONTEND=noninteractive
apt_install() {
  local since=$SECONDS
  apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >&2
  say "installed in $((SECONDS - since)) s"
}

if [ ${#missing[@]} -gt 0 ]; then
  say "installing: ${missing[*]}"
  apt-get update -qq
  release=()
  candidate=$(apt-cache policy qemu-system-arm | sed -n 's/^ *\(Installed\|Candidate\): //p' | grep -v none | head -n 1)
  if dpkg --compare-versions "${candidate:-0}" lt '1:9.1'; then
    if [ "$ID" = debian ]; then
      suite="${VERSION_CODENAME}-backports"
      if ! apt-get indextargets --format '$(CODENAME) $(SUITE)' | grep -qw "$suite"; then
        # The mirror that this host already uses; no host name is written down here.
        mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
          awk -v c="$VERSION_CODENAME" '$2 == c {print $1; exit}')
        [ -n "$mirror" ] || die "no apt source for '$VERSION_CODENAME' found to take the backports mirror from"
        say "adding $suite for QEMU 9.1 or newer (the distribution has ${candidate:-none})"
        printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
          "$mirror" "$suite" >/etc/apt/sources.list.d/harmony-backports.sources
        apt-get update -qq
      fi
      release=(-t "$suite")
    else
      say "warning: QEMU ${candidate:-none} is older than 9.1; arm64 guests run without multi-threaded TCG's later fixes"
    fi
  fi
  # Without systemd the packages' own scripts would start them.
  policy=/usr/sbin/policy-rc.d
  if [ "$systemd" = no ] && [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 0755 "$policy"
  fi
  # The fields are URI, file, size and digest.
  bytes=$(apt-get install -qq --print-uris --no-install-recommends "${release[@]}" "${missing[@]}" | awk '{ sum += $3 } END { print sum + 0 }')
  say "downloading and installing $((bytes / 1000000)) MB of packages: about a minute"
  if [ ${#missing_virtualisation[@]} -gt 0 ]; then apt_install "${release[@]}" "${missing_virtualisation[@]}"; fi
  # The smokes start servers of their own. Those that come with these packages are not wanted, and the
  # registry's would listen on all addresses.
  unwanted=()
  for package in nats-server docker-registry; do
    if [ "$systemd" = yes ] && ! installed "$package"; then unwanted+=("$package.service"); fi
  done
  if [ ${#unwanted[@]} -gt 0 ]; then systemctl mask --runtime "${unwanted[@]}" >&2; fi
  if [ ${#missing_others[@]} -gt 0 ]; then apt_install "${missing_others[@]}"; fi
  if [ ${#unwanted[@]} -gt 0 ]; then
    systemctl unmask --runtime "${unwanted[@]}" >&2
    systemctl disable "${unwanted[@]}" >&2
  fi
fi

if [ "$needs_binfmt" = yes ]; then
  say "registering the arm64 user-mode emulator with the kernel (binfmt_misc)"
  # Named, so that those of other programs stay.
  if [ "$systemd" = yes ]; then systemctl restart systemd-binfmt.service; else /usr/lib/systemd/systemd-binfmt qemu-aarch64.conf; fi
  [ -e "$binfmt" ] || die "qemu-user-static is installed but $binfmt did not appear"
fi

if ! libvirt_answers; then
  if [ "$systemd" = yes ]; then
    say "starting libvirtd through systemd"
    systemctl enable --now virtlogd.socket libvirtd.socket >&2
  else
    say "starting virtlogd and libvirtd (systemd is not PID 1 here)"
    # By name as well: the number in the file of a daemon that is gone may be another process's by now.
    runs() { [ -s "/run/$1.pid" ] && [ "$(cat "/proc/$(cat "/run/$1.pid")/comm" 2>/dev/null)" = "$1" ]; }
    runs virtlogd || virtlogd -d
    runs libvirtd || libvirtd -d
  fi
  for _ in $(seq 30); do libvirt_answers && break; sleep 1; done
  libvirt_answers || die "qemu:///system does not answer; see 'journalctl -u libvirtd' or /var/log/libvirt/"
fi
say "ready: $(qemu-system-aarch64 --version | head -n 1); libvirt $(virsh -q -c qemu:///system version --daemon | sed -n 's/^Running against daemon: //p')"
