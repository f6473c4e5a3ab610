#!/usr/bin/env bash
# Everything that must hold, in one command: format, lints, every test tier, and the smokes on real guests, in lanes
# that each run alone. Prepares the host first.
#
#   test.sh              what runs each time and a third of the rest (as root or with sudo; CI runs this, see .ci/run)
#   test.sh --all        every lane
#   test.sh --quick      the lanes that need no guest
#   test.sh --since REV  the lanes that read something that has changed since that commit
#   test.sh --lane NAME  that lane; may be repeated
#   test.sh --list       the lanes, what each needs and about how long it takes; prepares nothing
#   test.sh --help       all options
#
# The lanes and what they count are in iot/xtask.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

source iot/scripts/cargo-on-path.sh test.sh
case " $* " in
  *" --list "* | *" --help "* | *" -h "*) ;;
  *) ./iot/scripts/setup-host.sh ;;
esac
exec cargo xtask test "$@"
