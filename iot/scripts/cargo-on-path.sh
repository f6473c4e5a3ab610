# shellcheck shell=bash
# Sourced with the name of the script: puts cargo on PATH, or ends the script and says what to install.
PATH=$PATH:$HOME/.cargo/bin
command -v cargo >/dev/null || {
  echo "$1: cargo is not on PATH: install rustup (Debian 13, Ubuntu 24.04: apt-get install rustup)" >&2
  exit 1
}
