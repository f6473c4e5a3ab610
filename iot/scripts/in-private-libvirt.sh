#!/usr/bin/env bash
# Runs a command beside a private system libvirt: a network namespace for its NAT bridge, leases and guest
# traffic, a mount namespace for its sockets and state, a process namespace that ends daemons and guests with
# it. Nothing of it is left afterwards. There is no way out of the network. Needs root.
#
#   in-private-libvirt.sh COMMAND [ARGUMENTS…]
set -euo pipefail

if [ "${HARMONY_PRIVATE_LIBVIRT:-}" != inside ]; then
  [ $# -gt 0 ] || { echo "usage: in-private-libvirt.sh COMMAND [ARGUMENTS…]" >&2; exit 2; }
  [ "$(id -u)" -eq 0 ] || { echo "in-private-libvirt: needs root" >&2; exit 1; }
  scratch=$(mktemp -d /var/tmp/harmony-private-libvirt-XXXXXX)
  # Everything in there has ended when unshare returns.
  trap 'rm -rf "$scratch"' EXIT
  HARMONY_PRIVATE_LIBVIRT=inside HARMONY_PRIVATE_SCRATCH=$scratch \
    unshare --net --mount --propagation private --pid --fork --kill-child --mount-proc -- "$0" "$@"
  exit
fi

scratch=$HARMONY_PRIVATE_SCRATCH
ip link set lo up
# The new /proc lacks what was mounted below the old one; the registrations themselves are the kernel's.
if grep -qw binfmt_misc /proc/filesystems; then mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc; fi
cp -a /etc/libvirt "$scratch/etc"
# Neither the host's domains nor its networks: one of our own, of the standard name.
rm -rf "$scratch"/etc/qemu
mkdir -p "$scratch/etc/qemu/networks" "$scratch/lib/images"
cat >"$scratch/etc/qemu/networks/default.xml" <<'XML'
<network>
  <name>default</name>
  <forward mode='nat'/>
  <bridge name='virbr0'/>
  <ip address='192.168.122.1' netmask='255.255.255.0'>
    <dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp>
  </ip>
</network>
XML
chmod 0711 "$scratch" "$scratch/lib" "$scratch/lib/images"
mount -t tmpfs tmpfs /run
mount --bind "$scratch/lib" /var/lib/libvirt
mount --bind "$scratch/etc" /etc/libvirt

virtlogd 2>"$scratch/virtlogd.log" &
libvirtd 2>"$scratch/libvirtd.log" &
for _ in $(seq 60); do virsh -q -c qemu:///system uri >/dev/null 2>&1 && break; sleep 1; done
virsh -q -c qemu:///system net-start default >&2
"$@"
