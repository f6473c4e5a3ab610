#!/usr/bin/env bash
# Cuts the power of an emulated arm64 device at random moments: while it pulls an image, makes a container, updates one,
# updates its agent, and writes its state. Each time it has to come back by itself as it should be.
#
#   power-cuts.sh [--count N] [--seed S] [OPTIONS OF power-cuts…]      (default: 5 cuts, one of each kind)
#
# Does its own set-up through setup-host.sh (as root or with sudo; an ordinary user with the packages
# installed needs neither). The logic is in iot/iot-smoke.
set -euo pipefail
exec "$(dirname "$(readlink -f "$0")")/on-devices.sh" power-cuts "$@"
