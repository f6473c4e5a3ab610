# Makes what the installation of each kernel left out: its links and its initramfs. Run in the tree, by its own programs.
set -eu
for image in /boot/vmlinuz-*; do
  [ -e "$image" ] || continue
  version=${image#/boot/vmlinuz-}
  if command -v linux-update-symlinks >/dev/null; then linux-update-symlinks install "$version" "$image"; fi
  run-parts --exit-on-error --arg="$version" --arg="$image" /etc/kernel/postinst.d
done
