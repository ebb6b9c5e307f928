#!/bin/bash
# What goroutines, channels and locks cost in race mode: peer-raddle compiled by `cargo raddle`, beside a peer built with a race
# detector of its own (Go: `go build -race -o peer-go-race`), one after the other, and the medians.
#
#     PEER=/path/to/peer-go-race bench/race-micro.sh                       three rounds
#     ROUNDS=5 PEER=... bench/race-micro.sh select2:500000 million:300000  more of them, these benchmarks so often
#
# Without PEER it prints Raddle's figures alone. CARGO_TARGET_DIR is obeyed.
set -euo pipefail
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-$PWD/target}
triple=x86_64-unknown-linux-gnu
rounds=${ROUNDS:-3}
benches=("$@")
[ $# -gt 0 ] || benches=(spawn_join:100000 spawn_seq:100000 skynet:100000 pingpong:100000 ring:100000 buffered:1000000 buffered_local:1000000
    mpmc:400000 select2:500000 mutex_uncontended:2000000 mutex_contended:1000000)

CARGO_TARGET_DIR=$target cargo run --quiet --release --manifest-path ../Cargo.toml -p cargo-raddle -- \
    build --race --quiet --release --bin peer-raddle
raddle=$target/raddle-race/$triple/release/peer-raddle

# Nanoseconds per operation, and the most memory that was in use, in KB.
run() {
    GOMAXPROCS=2 RADDLE_PROCS=2 RADDLE_RACE=1 timeout 300 "$@" | awk '{ print $3, $4 }'
}

results=$(mktemp)
trap 'rm -f "$results"' EXIT
for ((round = 0; round < rounds; round++)); do
    for spec in "${benches[@]}"; do
        echo "${spec%:*} raddle $(run "$raddle" "${spec%:*}" "${spec#*:}")" >>"$results"
        [ -z "${PEER:-}" ] || echo "${spec%:*} peer $(run "$PEER" "${spec%:*}" "${spec#*:}")" >>"$results"
    done
done

python3 - "$results" <<'PY'
import collections, statistics, sys
figures = collections.defaultdict(list)
for line in open(sys.argv[1]):
    bench, who, ns, kb = line.split()
    figures[bench, who].append((float(ns), float(kb)))
median = {key: [statistics.median(column) for column in zip(*values)] for key, values in figures.items()}
print("| | peer | Raddle | Raddle / peer | memory |")
print("| --- | ---: | ---: | ---: | ---: |")
for bench in dict.fromkeys(key[0] for key in median):
    ns, kb = median[bench, "raddle"]
    theirs = median.get((bench, "peer"))
    cells = [f"{theirs[0]:,.0f}", f"{ns:,.0f}", f"{ns / theirs[0]:.2f}", f"{kb / theirs[1]:.2f}"] if theirs else ["-", f"{ns:,.0f}", "-", "-"]
    print(f"| {bench} | " + " | ".join(cells) + " |")
PY
