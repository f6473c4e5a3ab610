set -u
umask 022
export LC_ALL=C DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

case "${HARMONY_RECIPE_ENVIRONMENT:-}" in
  guest) exec </dev/null >/dev/console 2>&1 ;;
  chroot)
    export SYSTEMD_OFFLINE=1
    exec </dev/null 2>&1
    ;;
  *)
    echo 'harmony-recipe: HARMONY_RECIPE_ENVIRONMENT is not guest or chroot' >&2
    exit 64
    ;;
esac

current=0
finished=no
ended() {
  status=$?
  if [ "$finished" = yes ]; then
    echo 'harmony-recipe: done'
  else
    echo "harmony-recipe: failed step $current (exit status $status)"
  fi
}
trap ended EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# step NUMBER WHAT COMMAND…: the subshell ends at the first command in it that fails.
step() {
  current=$1
  echo "harmony-recipe: step $1/$steps: $2"
  shift 2
  (
    set -e
    "$@"
  )
  status=$?
  [ "$status" -eq 0 ] || exit "$status"
}

# mask_units UNIT…: by links, so that neither the unit nor systemctl has to be there yet.
mask_units() {
  mkdir -p /etc/systemd/system
  for unit; do
    link=/etc/systemd/system/$unit
    if [ "$(readlink -- "$link" || :)" = /dev/null ]; then
      continue
    fi
    if [ -e "$link" ] && [ ! -L "$link" ]; then
      echo "$link is no link: the unit cannot be masked"
      return 1
    fi
    ln -sfn -- /dev/null "$link"
    echo "masked $unit"
  done
}

# install_packages PACKAGE…: those that are missing; none of their services is started.
install_packages() {
  for package; do
    shift
    case "$(dpkg-query -W -f ' ${db:Status-Status} ' -- "$package" 2>/dev/null || :)" in
      *' installed '*) ;;
      *) set -- "$@" "$package" ;;
    esac
  done
  if [ "$#" -eq 0 ]; then
    echo 'all of them are there'
    return 0
  fi
  if [ "$HARMONY_RECIPE_ENVIRONMENT" = guest ]; then
    # They hold the lock of the package lists, for which apt-get does not wait.
    systemctl stop apt-daily.timer apt-daily-upgrade.timer apt-daily.service apt-daily-upgrade.service || :
  fi
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 0755 "$policy"
  fi
  echo "missing: $*"
  apt_get update
  apt_get install --no-install-recommends -- "$@"
  apt_get clean
}

# apt_get COMMAND…: the image is thrown away when it does not come to its end, so nothing is flushed before that.
apt_get() {
  apt-get -q -y -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 \
    -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Options::=--force-confdef \
    -o Dpkg::Options::=--force-confold "$@"
}

# put_file PATH OWNER MODE CONTENT: a link there is replaced and not followed.
put_file() {
  if [ -d "$1" ] && [ ! -L "$1" ]; then
    echo "$1 is a directory: it cannot be a file"
    return 1
  fi
  if [ -f "$1" ] && [ ! -L "$1" ] && printf %s "$4" | cmp -s -- - "$1"; then
    chown -- "$2" "$1"
    chmod -- "$3" "$1"
    return 0
  fi
  mkdir -p -- "$(dirname -- "$1")"
  new=$(mktemp -- "$1.XXXXXX")
  printf %s "$4" >"$new"
  chown -- "$2" "$new"
  chmod -- "$3" "$new"
  mv -fT -- "$new" "$1"
  echo "wrote $1"
}

# fstab_lines FUNCTION ARGUMENT…: each line but comments through the function, which sets it in $line or
# empties it.
fstab_lines() {
  if [ ! -e /etc/fstab ]; then
    echo 'there is no /etc/fstab'
    return 0
  fi
  edit=$1
  shift
  edited=
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in
      '' | '#'*) ;;
      *)
        "$edit" "$@"
        [ -n "$line" ] || continue
        ;;
    esac
    edited=$edited$line$newline
  done </etc/fstab
  put_file /etc/fstab root:root 0644 "$edited"
}
newline='
'

without_matches() {
  for pattern; do
    if printf '%s\n' "$line" | grep -Eq -e "$pattern"; then
      echo "removed from fstab: $line"
      line=
      return 0
    fi
  done
}

with_nofail() {
  read -r source target type options rest <<END
$line
END
  for wanted; do
    case $target,,$options, in
      "$wanted,,"*,nofail,*) ;;
      "$wanted,,"*)
        line="$source $target $type ${options:-defaults},nofail $rest"
        echo "nofail in fstab: $target"
        ;;
    esac
  done
}

# set_boot_arguments CONFIGURATION: a chroot's boot loader is its builder's.
set_boot_arguments() {
  put_file /etc/default/grub.d/60-harmony-recipe.cfg root:root 0644 "$1"
  if [ "$HARMONY_RECIPE_ENVIRONMENT" = guest ]; then
    update-grub
  fi
}

# disable_units UNIT…: of those that there are.
disable_units() {
  for unit; do
    case "$(SYSTEMD_OFFLINE=1 systemctl is-enabled -- "$unit" 2>/dev/null || :)" in
      '' | not-found) echo "there is no $unit" ;;
      *) SYSTEMD_OFFLINE=1 systemctl disable -- "$unit" ;;
    esac
  done
}

# enable_units UNIT…
enable_units() {
  SYSTEMD_OFFLINE=1 systemctl enable -- "$@"
}

# remove_directories DIRECTORY…: through no link and into no other file system.
remove_directories() {
  for directory; do
    if [ ! -e "$directory" ] && [ ! -L "$directory" ]; then
      continue
    fi
    real=$(readlink -f -- "$directory" || :)
    if [ "$real" != "$directory" ] || [ ! -d "$directory" ]; then
      echo "$directory is ${real:-a link to nothing} and no directory of its own"
      return 1
    fi
    rm -rf --one-file-system -- "$directory"
    echo "removed $directory"
  done
}
