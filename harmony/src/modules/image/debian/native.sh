# Programs of the host's architecture for a tree of another one, for the time that its packages are installed: the
# maintainer scripts' shell, perl and small tools, and what unpacks and compiles. Emulated, they take four times as long.
#
# Run in the stages enter, take and leave, with the tree in $1; all programs here are the host's. The native programs,
# of the tree's own release, are in /harmony-native. What is left there afterwards is a mistake: `leave` undoes all.
set -eu
tree=$1
own=$tree/harmony-native
library=usr/lib/x86_64-linux-gnu

# A package that is installed first may remove the link.
find_loader() {
  if [ ! -e "$tree/lib64" ]; then ln -s usr/lib64 "$tree/lib64"; fi
  mkdir -p "$tree/usr/lib64"
  ln -sf "/harmony-native/$library/ld-linux-x86-64.so.2" "$tree/usr/lib64/"
}

is_program() {
  [ -f "$1" ] && [ ! -L "$1" ] && [ "$(head -c 4 "$1" | od -An -tx1)" = ' 7f 45 4c 46' ]
}

case $stage in
  enter)
    # What tells the architecture or keeps the tree's list of packages stays the tree's own, and so does the python that
    # looks for modules.
    for program in arch uname lscpu setarch getconf ldconfig ldd python3 dpkg dpkg-divert dpkg-query dpkg-realpath \
      dpkg-statoverride dpkg-trigger; do
      rm -f "$own/usr/bin/$program" "$own/usr/sbin/$program"
    done
    # Compiled modules are the same for all architectures.
    for python in "$own"/usr/bin/python3.*[0-9]; do
      sed -i "1s|^#!.*|#!${python#"$tree"}|" "$own/usr/bin/py3compile" "$own/usr/bin/py3clean"
    done
    ln -s "/harmony-native/$library" "$tree/$library"
    find_loader
    mkdir -p "$tree/etc/apt/apt.conf.d"
    echo 'DPkg::Path "/harmony-native/usr/sbin:/harmony-native/usr/bin:/usr/sbin:/usr/bin:/sbin:/bin";' \
      >"$tree/etc/apt/apt.conf.d/98harmony-native"
    ;;
  take)
    # Scripts name their interpreter, and many set a path of their own.
    find_loader
    mkdir -p "$own/kept/usr/bin" "$own/kept/usr/sbin"
    for native in "$own"/usr/bin/* "$own"/usr/sbin/*; do
      path=${native#"$own"}
      if is_program "$native" && is_program "$tree$path"; then
        mv "$tree$path" "$own/kept$path"
        cp -p "$native" "$tree$path"
      fi
    done
    ;;
  leave)
    for kept in "$own"/kept/usr/bin/* "$own"/kept/usr/sbin/*; do
      path=${kept#"$own/kept"}
      # Otherwise a package has put a newer one there.
      if cmp -s "$own$path" "$tree$path"; then mv -f "$kept" "$tree$path"; fi
    done
    rm -rf "$own" "$tree/usr/lib64"
    rm -f "$tree/$library" "$tree/lib64" "$tree/etc/apt/apt.conf.d/98harmony-native"
    ;;
esac
