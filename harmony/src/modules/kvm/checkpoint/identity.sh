umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin

# Fresh entropy, and the kernel's generator seeded with it at once: writing alone waits for the next minute.
# 0x5207 is RNDRESEEDCRNG of linux/random.h.
printf %s "$entropy" | base64 -d | perl -e '
  local $/; my $seed = <STDIN>;
  length($seed) >= 32 or die "no entropy arrived";
  open(my $random, "+>", "/dev/urandom") or die "/dev/urandom: $!";
  defined(syswrite($random, $seed)) or die "write: $!";
  defined(ioctl($random, 0x5207, 0)) or die "reseed: $!";
'
if [ -e /var/lib/systemd/random-seed ]; then
  head -c 512 /dev/urandom >/var/lib/systemd/random-seed
fi

date -u -s "@$now" >/dev/null

# Most of this is done by the shell itself: the first run of a program costs an emulated guest much more than the next.
read -r old </proc/sys/kernel/hostname
echo "$hostname" >/proc/sys/kernel/hostname
(umask 022 && echo "$hostname" >/etc/hostname)
if [ -e /etc/hosts ]; then
  sed -i "s/\(^\|[[:space:]]\)$old\([[:space:]]\|\$\)/\1$hostname\2/g" /etc/hosts
fi

# The same inode, for those who have it mounted or linked.
read -r old_machine_id </etc/machine-id || old_machine_id=
echo "$machine_id" >/etc/machine-id
if [ -f /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ]; then
  echo "$machine_id" >/var/lib/dbus/machine-id
fi

# The journal is kept, and found again, in a directory with that name.
for journal in /var/log/journal /run/log/journal; do
  if [ -n "$old_machine_id" ] && [ -d "$journal/$old_machine_id" ]; then
    mv "$journal/$old_machine_id" "$journal/$machine_id"
  fi
done

rm -f /etc/ssh/ssh_host_*
printf '%s\n' "$host_key" >/etc/ssh/ssh_host_ed25519_key
(umask 022 && printf '%s\n' "$host_key_public" >/etc/ssh/ssh_host_ed25519_key.pub)

for pair in $macs; do
  was=${pair%=*} is=${pair#*=}
  found=no
  for card in /sys/class/net/*; do
    # Not everything there is a card.
    read -r address 2>/dev/null <"$card/address" || continue
    if [ "$address" = "$was" ]; then
      # Down and up, so that the addresses that follow from the old one go.
      ip link set dev "${card##*/}" down
      ip link set dev "${card##*/}" address "$is"
      ip link set dev "${card##*/}" up
      found=yes
    fi
  done
  [ "$found" = yes ] || { echo "no network card has the address $was" >&2; exit 1; }
  # For the services below, and for the next boot.
  for file in /etc/netplan/*.yaml /etc/network/interfaces.d/* /etc/systemd/network/*; do
    { [ -f "$file" ] && [ ! -L "$file" ]; } || continue
    sed -i "s/$was/$is/g" "$file"
  done
done

# The SSH server reads its host keys again, which is cheaper than a new start and does as well.
services="systemd-journald.service systemd-networkd.service NetworkManager.service"
if [ -s /run/sshd.pid ] && read -r sshd </run/sshd.pid && kill -HUP "$sshd"; then :; else
  services="$services ssh.service sshd.service"
fi

# Those of them that run, together.
# shellcheck disable=SC2086 # a word for each unit
running=$(systemctl list-units --plain --no-legend --state=active $services | cut -d ' ' -f 1)
# shellcheck disable=SC2086 # a word for each unit
[ -z "$running" ] || systemctl restart $running
