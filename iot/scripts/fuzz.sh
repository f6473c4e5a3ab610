#!/usr/bin/env bash
# Has libFuzzer look for what the agent does not withstand: values of the desired state, signed orders, releases of the
# agent, markers and what the device keeps, reports, configurations, and Podman's answers. With the stable compiler: the coverage is LLVM's, and no memory
# checker is needed where no code is unsafe.
#
#   fuzz.sh [--seconds N | --runs N] [TARGET...]
#
#   --seconds N   for each target; 60 when nothing is said
#   --runs N      executions of each target instead; a quarter of them where one takes milliseconds
#
# Targets: desired-state orders release kept report config podman; all when none is named, as many at once as there are
# cores. What was found useful is kept below the compiler's output for the next run, in fuzz/corpus/TARGET; what was not
# withstood is in fuzz/found. Seeds are in iot/iot-agent-v0/fuzz/corpus; longer ones, of as much as a bucket takes and
# more, are made here. Exit code 1 when something was found.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
source iot/scripts/cargo-on-path.sh fuzz.sh

# The most that one target may have in memory, in MB: above it libFuzzer ends it as an error. Most of it is libFuzzer's own.
memory=512
# The longest input in bytes: of what a bucket holds, more than the 256 KiB that it takes. Signing that much takes long.
max_len() {
  case "$1" in
    desired-state | report) echo 300000 ;;
    *) echo 8192 ;;
  esac
}
known=(desired-state orders release kept report config podman)

seconds=60 runs='' targets=()
while [ $# -gt 0 ]; do
  case "$1" in
    --seconds | --runs)
      [[ ${2:-} =~ ^[0-9]+$ ]] || { echo "fuzz: error: $1 '${2:-}' (expected a number)" >&2; exit 2; }
      if [ "$1" = --runs ]; then runs=$2; else seconds=$2 runs=''; fi
      shift 2 ;;
    desired-state | orders | release | kept | report | config | podman) targets+=("$1"); shift ;;
    *) echo "fuzz: error: unknown argument '$1' (expected --seconds N, --runs N or a target)" >&2; exit 2 ;;
  esac
done
if [ ${#targets[@]} -eq 0 ]; then targets=("${known[@]}"); fi

work=$(readlink -m "${CARGO_TARGET_DIR:-target}")/fuzz
mkdir -p "$work/found"
host=$(rustc -vV | sed -n 's/^host: //p')
# With a target the flags are not for build scripts and macros. Overflows are errors as in tests.
RUSTFLAGS="--cfg fuzzing --cap-lints allow -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1 \
  -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares" \
  CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_STRIP=none CARGO_TARGET_DIR="$work" \
  cargo build --locked --release --target "$host" -p iot-agent-v0 --bin iot-agent-v0
program=$work/$host/release/iot-agent-v0

# How long a target runs.
bound() {
  case "$runs:$1" in
    :*) echo "-max_total_time=$seconds" ;;
    # Long values, and signatures.
    *:desired-state | *:orders) echo "-runs=$((runs / 4))" ;;
    *) echo "-runs=$runs" ;;
  esac
}

# Seeds whose length matters, where it may be long: one that is just short enough for a bucket, and one that is not.
long_seeds() {
  local format zeros
  mkdir -p "$2"
  case "$1" in
    desired-state)
      format='{"type":"PodmanV1","data":{"services":[{"name":"a","image":"host/x:1","env":{"A":"%0*d"}}]}}' ;;
    report)
      format='{"device_id":"pi-1","timestamp_unix_ms":1,"boot_id":"b","agent_version":"0","architecture":"x","sequence":1,"deployments":{"a":{"phase":"Failed","detail":"%0*d"}}}' ;;
    *) return 0 ;;
  esac
  for zeros in 261000 262144; do
    # shellcheck disable=SC2059
    printf "$format" "$zeros" 0 >"$2/$zeros"
  done
}

# One target; its row of the table.
fuzz() {
  local target=$1 log=$work/$1.log code=0 number memory_used
  mkdir -p "$work/corpus/$target"
  long_seeds "$target" "$work/long/$target"
  HARMONY_FUZZ_TARGET=$target "$program" "$work/corpus/$target" "iot/iot-agent-v0/fuzz/corpus/$target" \
    "$work/long/$target" "$(bound "$target")" -rss_limit_mb=$memory -timeout=20 -max_len="$(max_len "$target")" -print_final_stats=1 \
    -artifact_prefix="$work/found/$target-" >"$log" 2>&1 || code=$?
  number=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  memory_used=$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")
  if [ $code -eq 0 ] && [ "${number:-0}" -gt 0 ]; then
    echo "  ok    $target: $number executions, at most $memory_used MB"
  else
    echo "  FAIL  $target: exit code $code after ${number:-0} executions; the end of $log:"
    tail -n 25 "$log"
    return 1
  fi
}

failed=0 running=0
for target in "${targets[@]}"; do
  if [ "$running" -ge "$(nproc)" ]; then
    wait -n || failed=1
    running=$((running - 1))
  fi
  fuzz "$target" &
  running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
  wait -n || failed=1
  running=$((running - 1))
done
exit $failed
