#!/bin/bash
# What race mode costs ordinary code, beside LLVM's ThreadSanitizer: builds race-workloads plain, by `cargo raddle`, and with the
# sanitizer that rustc has, runs them in turn, and prints the medians.
#
#     bench/race.sh                 five rounds
#     ROUNDS=9 bench/race.sh json   more of them, one workload
#
# Every round runs every variant once, so that the machine's moods meet all alike. The sanitizer needs RUSTC_BOOTSTRAP; nothing else does.
set -euo pipefail
cd "$(dirname "$0")/race-workloads"
target=${CARGO_TARGET_DIR:-$PWD/target}
triple=x86_64-unknown-linux-gnu
rounds=${ROUNDS:-5}

CARGO_TARGET_DIR=$target/plain cargo build --quiet --release
CARGO_TARGET_DIR=$target/goroutines cargo build --quiet --release --features goroutines
CARGO_TARGET_DIR=$target/raddle cargo run --quiet --release --manifest-path ../../Cargo.toml -p cargo-raddle -- \
    build --race --quiet --release --features goroutines
CARGO_TARGET_DIR=$target/tsan RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer' \
    cargo build --quiet --release --target "$triple"

raddle=$target/raddle/raddle-race/$triple/release/race-workloads
# A time in milliseconds. The sanitizer has a status of its own after a report (of std, which it does not know), and wants its addresses.
run() {
    case $1 in
    plain) [ "$2" = pipeline ] && set -- goroutines "$2"; timeout 300 "$target/$1/release/race-workloads" "$2" 3 ;;
    tsan) [ "$2" = pipeline ] || TSAN_OPTIONS=report_bugs=0 timeout 300 setarch -R "$target/tsan/$triple/release/race-workloads" "$2" 3 2>/dev/null ;;
    off) timeout 300 "$raddle" "$2" 3 ;;
    race) RADDLE_RACE=1 timeout 300 "$raddle" "$2" 3 ;;
    esac | awk 'NF == 4 { print $2 }'
}

results=$(mktemp)
trap 'rm -f "$results"' EXIT
workloads=("$@")
[ $# -gt 0 ] || workloads=(regex bzip2 json threads pipeline)
for ((round = 0; round < rounds; round++)); do
    for workload in "${workloads[@]}"; do
        for variant in plain tsan off race; do
            echo "$workload $variant $(run "$variant" "$workload")" >>"$results"
        done
    done
done

python3 - "$results" <<'PY'
import collections, statistics, sys
times = collections.defaultdict(list)
for line in open(sys.argv[1]):
    workload, variant, *ms = line.split()
    if ms:
        times[workload, variant].append(float(ms[0]))
median = {key: statistics.median(values) for key, values in times.items()}
print("| | plain | ThreadSanitizer | Raddle, race off | Raddle, race on | on / plain | on / ThreadSanitizer |")
print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
for workload in dict.fromkeys(key[0] for key in times):
    ms = {variant: median.get((workload, variant)) for variant in ("plain", "tsan", "off", "race")}
    cell = lambda value: "-" if value is None else f"{value:,.1f} ms"
    ratio = lambda to: "-" if not ms[to] else f"{ms['race'] / ms[to]:.2f}"
    print(f"| {workload} | {cell(ms['plain'])} | {cell(ms['tsan'])} | {cell(ms['off'])} | {cell(ms['race'])} | {ratio('plain')} | {ratio('tsan')} |")
PY
