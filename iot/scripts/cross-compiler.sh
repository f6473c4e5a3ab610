#!/usr/bin/env bash
# Unpacks Debian's Rust compiler with the arm64 standard library, for hosts where rustup cannot fetch a target.
#
#   cross-compiler.sh [DIR]   make DIR (default: ${XDG_CACHE_HOME:-~/.cache}/harmony/cross) and print it
#
# DIR/bin/rustc then compiles for x86_64 and aarch64. Needs no root and leaves dpkg, apt's own state and rustup alone;
# about 150 MB are downloaded from the host's own Debian mirror and checked by apt. DIR is a link that is set last, so
# a DIR that exists is complete; it is kept as it is. Linking for arm64 needs gcc-aarch64-linux-gnu besides.
set -euo pipefail

say() { printf 'cross-compiler: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

[ $# -le 1 ] || { say "error: ${#} arguments (expected at most one, the directory)"; exit 2; }
dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/harmony/cross}
mkdir -p "$(dirname "$dir")"
parent=$(cd "$(dirname "$dir")" && pwd)
dir=$parent/$(basename "$dir")

works() {
  [ -d "$1/usr/lib/rustlib/aarch64-unknown-linux-gnu/lib" ] && "$1/bin/rustc" --version >/dev/null 2>&1
}

for tool in apt-get apt-cache dpkg-deb flock; do
  command -v "$tool" >/dev/null || die "'$tool' not found: this needs Debian; elsewhere run 'rustup target add aarch64-unknown-linux-gnu'"
done
exec 9>"$dir.lock"
flock 9
if works "$dir"; then printf '%s\n' "$dir"; exit 0; fi
[ ! -e "$dir" ] || [ -L "$dir" ] || die "'$dir' is there, does not work and is not ours to replace; remove it"
[ "$(dpkg --print-architecture)" = amd64 ] || die "this host is $(dpkg --print-architecture) (expected amd64)"

new=$(mktemp -d "$dir.XXXXXXXX")
scratch=$(mktemp -d "$dir.apt.XXXXXXXX")
trap 'rm -rf "$scratch" ${new:+"$new"}' EXIT

# An apt of its own: both architectures, nothing installed, the host's mirrors and keys.
mkdir -p "$scratch"/{lists/partial,cache/archives/partial,debs}
: >"$scratch/status"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
signed=''
if [ -r "$keyring" ]; then signed="[signed-by=$keyring] "; fi
# shellcheck disable=SC2016 # the fields are apt's
suites=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 'Origin: Debian' | sort -u)
[ -n "$suites" ] || die "apt knows no Debian archive; run 'apt-get update' as root first"
sed "s|^|deb $signed|; s|\$| main|" <<<"$suites" >"$scratch/sources.list"
# The host's own hooks (container images have one that empties apt's cache) are not for this apt.
printf '#clear %s;\n' APT::Update::Pre-Invoke APT::Update::Post-Invoke APT::Update::Post-Invoke-Success >"$scratch/apt.conf"
options=(-c "$scratch/apt.conf" -o "Dir::State=$scratch" -o "Dir::State::status=$scratch/status" -o "Dir::State::lists=$scratch/lists"
  -o "Dir::Cache=$scratch/cache" -o "Dir::Etc::sourcelist=$scratch/sources.list" -o Dir::Etc::sourceparts=-
  -o APT::Architecture=amd64 -o APT::Architectures::=amd64 -o APT::Architectures::=arm64
  -o Acquire::Languages=none -o "APT::Sandbox::User=$(id -un)")

# depends PACKAGE PATTERN: the first of PACKAGE's dependencies that matches PATTERN
depends() {
  apt-cache "${options[@]}" show --no-all-versions "$1" | sed -n 's/^Depends: //p' | tr ',' '\n' |
    awk -v pattern="^$2\$" '$1 ~ pattern { print $1; exit }'
}

say "reading the package index"
apt-get "${options[@]}" -qq update >&2
# The compiler that browsers are built with: an older release has it in its security archive.
version=$(apt-cache "${options[@]}" policy rustc-web:amd64 | awk '$1 == "Candidate:" && $2 != "(none)" { print $2 }')
[ -n "$version" ] || die "no package rustc-web in: $(tr '\n' ' ' <"$scratch/sources.list")"
runtime=$(depends libstd-rust-web-dev:amd64 'libstd-rust-web-[0-9.]+')
[ -n "$runtime" ] || die "libstd-rust-web-dev $version names no libstd-rust-web-VERSION"
llvm=$(depends "$runtime:amd64" 'libllvm[0-9]+')
[ -n "$llvm" ] || die "$runtime $version names no libllvmVERSION"
# What LLVM needs besides: a minimal system has not all of it. The C library is the host's.
mapfile -t libraries < <(apt-get "${options[@]}" -qq --no-install-recommends --print-uris install "$llvm:amd64" |
  awk '{ sub(/_.*/, "", $2); print $2 }' | grep -vxE 'libc6|gcc-[0-9]+-base')
[ ${#libraries[@]} -gt 0 ] || die "apt names nothing to install for $llvm"

say "downloading rustc-web $version for amd64 with the arm64 standard library"
(cd "$scratch/debs" && apt-get "${options[@]}" -qq download "rustc-web:amd64=$version" "$runtime:amd64=$version" \
  "libstd-rust-web-dev:amd64=$version" "libstd-rust-web-dev:arm64=$version" "${libraries[@]/%/:amd64}" >&2)
for package in "$scratch"/debs/*.deb; do dpkg-deb -x "$package" "$new"; done
mkdir "$new/bin"
for tool in rustc rustdoc; do
  cat >"$new/bin/$tool" <<WRAPPER
#!/bin/sh
usr=\$(dirname "\$(dirname "\$(readlink -f "\$0")")")/usr
LD_LIBRARY_PATH=\$usr/lib/x86_64-linux-gnu\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH} exec "\$usr/bin/$tool" "\$@"
WRAPPER
  chmod 755 "$new/bin/$tool"
done
chmod 755 "$new"
works "$new" || die "the unpacked compiler does not run: $("$new/bin/rustc" --version 2>&1 | tail -1)"

old=$(readlink "$dir" || true)
ln -s "$(basename "$new")" "$scratch/link"
mv -T "$scratch/link" "$dir"
new=
case "$old" in "$(basename "$dir")".*) rm -rf "${parent:?}/$old" ;; esac
say "$("$dir/bin/rustc" --version)"
printf '%s\n' "$dir"
