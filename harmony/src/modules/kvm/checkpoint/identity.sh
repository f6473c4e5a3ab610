umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin

# Fresh entropy, and the kernel's generator seeded with it at once: writing alone waits for the next minute. Whatever
# the next boot begins with is fresh then, too.
# 0x5207 is RNDRESEEDCRNG of linux/random.h.
perl - <<END
  my \$entropy = pack("H*", "$entropy");
  length(\$entropy) >= 32 or die "no entropy arrived";
  open(my \$random, "+<", "/dev/urandom") or die "/dev/urandom: \$!";
  defined(syswrite(\$random, \$entropy)) or die "write: \$!";
  defined(ioctl(\$random, 0x5207, 0)) or die "reseed: \$!";
  my \$kept = "/var/lib/systemd/random-seed";
  if (-e \$kept) {
    sysread(\$random, my \$fresh, 512) == 512 or die "read: \$!";
    open(my \$seed, ">", \$kept) or die "\$kept: \$!";
    defined(syswrite(\$seed, \$fresh)) or die "\$kept: \$!";
  }
END

date -u -s "@$now" >/dev/null

# The kernel's boot id is that of all forks. Whoever asks which boot this is reads this file first; it goes with the boot.
read -r own_boot_id </proc/sys/kernel/random/uuid
(umask 022 && echo "$own_boot_id" >/run/harmony-boot-id)

# Most of this is done by the shell itself: the first run of a program costs an emulated guest much more than the next.
read -r old </proc/sys/kernel/hostname
echo "$hostname" >/proc/sys/kernel/hostname
(umask 022 && echo "$hostname" >/etc/hostname)
hosts=
if [ -e /etc/hosts ]; then
  while read -r line || [ -n "$line" ]; do hosts="$hosts $line"; done </etc/hosts
fi
case $hosts in
  *"$old"*) sed -i "s/\(^\|[[:space:]]\)$old\([[:space:]]\|\$\)/\1$hostname\2/g" /etc/hosts ;;
esac

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
      ip -batch - <<END
link set dev ${card##*/} down
link set dev ${card##*/} address $is
link set dev ${card##*/} up
END
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

# What was installed may have an identity of its own to make.
for program in /etc/harmony/identity.d/*; do
  [ ! -x "$program" ] || "$program" >/dev/null
done

# From here on a power cut leaves this device, and not the checkpoint's.
sync -f /etc /var/lib

# Those that keep any of it in memory, as settled before saving. The SSH server reads its host keys again, which is
# cheaper than a new start and does as well.
again=
while read -r service; do
  case $service in
    ssh.service | sshd.service)
      if [ -s /run/sshd.pid ] && read -r sshd </run/sshd.pid && kill -HUP "$sshd"; then continue; fi
      ;;
  esac
  again="$again $service"
done </run/harmony-services
# shellcheck disable=SC2086 # a word for each unit
[ -z "$again" ] || systemctl restart $again
