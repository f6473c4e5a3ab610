set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/root
dir=/run/harmony-build

# say WORD…: the console is opened for each line, because a login prompt hangs up what has it open.
say() {
  printf '%s\r\n' "$*" >"$console" || :
}

# try WHAT COMMAND…: the build ends at the first command in it that fails.
try() {
  what=$1
  shift
  (
    set -e
    "$@"
  ) </dev/null >/dev/console 2>&1
  status=$?
  if [ "$status" -ne 0 ]; then
    say "harmony-build: failed to $what (exit status $status)"
    exit 1
  fi
}

# The mirrors of the host, for this build only: nothing of them is in the file system of the image.
mirrors() {
  . /etc/os-release
  gateway=$(ip -4 route show default | sed -n 's/^default via \([0-9.]*\).*/\1/p' | head -n 1)
  sed -i "s/@gateway@/$gateway/" "$dir/apt.conf"
  sources=$dir/sources.$ID
  [ -e "$sources" ] && [ -n "${VERSION_CODENAME:-}" ] || return 0
  sed -i "s/@codename@/$VERSION_CODENAME/" "$sources"
  keyring=/usr/share/keyrings/$ID-archive-keyring.gpg
  if [ -e "$keyring" ]; then sed -i "s|^deb |deb [signed-by=$keyring] |" "$sources"; fi
  mv "$sources" "$dir/mirrors.list"
  printf 'Dir::Etc::SourceList "%s";\nDir::Etc::SourceParts "/dev/null";\n' "$dir/mirrors.list" >>"$dir/apt.conf"
}

# copy_all PATH NAME PATH NAME…: to the disk that is for it, as an archive.
copy_all() {
  mkdir "$dir/out"
  while [ "$#" -gt 0 ]; do
    cp -L -- "$1" "$dir/out/$2"
    shift 2
  done
  tar -C "$dir/out" -cf "$out" .
}

# What one guest is known by, and what the build has left.
reset() {
  cloud-init clean --logs
  userdel --remove --force "$build_user"
  rm -rf /var/lib/cloud /var/lib/apt/lists/* /var/log/journal/*
  rm -f /etc/ssh/ssh_host_* /etc/ssh/sshd_config.d/50-cloud-init.conf /etc/sudoers.d/90-cloud-init-users \
    /root/.ssh/authorized_keys /etc/netplan/50-cloud-init.yaml /etc/network/interfaces.d/50-cloud-init \
    /var/lib/systemd/random-seed /var/lib/dbus/machine-id
  : >/etc/machine-id
  if [ "$keep_hostname" = no ]; then echo localhost >/etc/hostname; fi
  apt-get clean
  rm -f /var/cache/apt/*.bin
  find /var/log -type f -exec truncate -s 0 {} +
  find /tmp /var/tmp -xdev -mindepth 1 -delete || :
  sync
  fstrim --all || :
}

finish() {
  try 'reset the disk' reset
  sync
  say 'harmony-build: clean'
  # Services that were stopped in order would write to the disk again.
  systemctl poweroff --force
}

cloud-init status --wait >/dev/null 2>&1
try 'set the mirrors' mirrors
# The script says itself when it fails.
APT_CONFIG=$dir/apt.conf sh "$dir/setup" || exit 1
