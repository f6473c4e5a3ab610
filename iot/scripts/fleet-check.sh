#!/usr/bin/env bash
# Makes several arm64 devices from one checkpoint and checks each: no two share an identity, each runs its own
# container, and each comes back from a power cut as who it was.
#
#   fleet-check.sh [--count N] [OPTIONS OF fleet-check…]      (default: 10 devices)
#
# Does its own set-up through setup-host.sh (as root or with sudo; an ordinary user with the packages
# installed needs neither). The logic is in iot/iot-smoke.
set -euo pipefail
exec "$(dirname "$(readlink -f "$0")")/on-devices.sh" fleet-check "$@"
