set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin

# Whoever installed what is saved has gone: a session that was about to end would do so in every fork.
if command -v loginctl >/dev/null; then
  loginctl list-sessions --no-legend | while read -r session _; do
    # It may have ended by itself.
    loginctl terminate-session "$session" || :
  done
  loginctl list-users --no-legend | while read -r uid _; do
    if [ "$(loginctl show-user "$uid" --property=Linger --value || echo yes)" = no ]; then
      systemctl stop "user@$uid.service"
    fi
  done
fi

# Podman's service ends by itself 5 s after it was last asked, unless somebody else has started it.
if command -v pgrep >/dev/null; then
  for service in $(pgrep -f 'podman.* system service' || :); do
    timeout 15 tail --pid="$service" -f /dev/null || :
  done
fi

# It has waited; started anew with the network's service, it would do so again in every fork.
systemctl stop systemd-networkd-wait-online.service 2>/dev/null || :

# What runs now is what a fork has to start anew.
systemctl list-units --plain --no-legend --state=active systemd-journald.service systemd-networkd.service \
  NetworkManager.service ssh.service sshd.service | cut -d ' ' -f 1 >/run/harmony-services

# What is in use is moved together: a host gives memory in large pages, and clears the whole of each that has anything
# in it, for each fork. A kernel that cannot has no such file.
if [ -e /proc/sys/vm/compact_memory ]; then echo 1 >/proc/sys/vm/compact_memory; fi

# Free memory is full of what it was used for. As zeros it is neither saved nor brought back for each fork. At most
# 1 GiB, in kB: what is beyond was hardly used.
free=$(sed -n 's/^MemFree: *\([0-9]*\) kB$/\1/p' /proc/meminfo)
free=$((free * 9 / 10))
[ "$free" -le 1048576 ] || free=1048576
perl -e 'my $zeros = "\0" x ($ARGV[0] * 1024)' "$free"

# What is written is on the disk, so that a fork whose power is cut soon has all of it.
sync
