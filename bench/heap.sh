#!/bin/bash
# The heap and the collector beside their peers: Raddle's heap beside mimalloc, the same program built with each; binary trees, SyncLeak and
# the pauses beside Go. Each pair of programs runs in turn, REPS times (5); the tables give medians.
#
#     bench/heap.sh                       all of it, about ten minutes
#     QUICK=1 REPS=1 bench/heap.sh        everything once, briefly: does it work?
#     ONLY="heap" bench/heap.sh           of heap, trees, syncleak, pause only these
#     DEPTH=18 MIB=512 bench/heap.sh      depth of the trees (16 to 21 make sense), MiB alive for the pauses
#
# Go is GO (go); without it Raddle's programs run alone. What was measured, run by run, is in $CARGO_TARGET_DIR/heap/raw.tsv.
# CARGO_TARGET_DIR is obeyed, so nothing need be written into the sources.
set -euo pipefail
cd "$(dirname "$0")"

reps=${REPS:-5}
quick=${QUICK:-}
only=${ONLY:-heap trees syncleak pause}
depth=${DEPTH:-$([ -n "$quick" ] && echo 12 || echo 18)}
mib=${MIB:-$([ -n "$quick" ] && echo 64 || echo 1024)}
counts=$([ -n "$quick" ] && echo 20 || echo "400 2000")
go=${GO:-go}
target=${CARGO_TARGET_DIR:-$PWD/target}
out=$target/heap
raw=$out/raw.tsv
mkdir -p "$out"
: >"$raw"

wants() { [[ " $only " == *" $1 "* ]]; }

# median FILE-FILTER COLUMN: of the lines of raw.tsv that begin so.
median() {
    awk -F'\t' -v what="$1" -v column="$2" 'index($0, what "\t") == 1 { print $column }' "$raw" | sort -g |
        awk '{ value[NR] = $1 } END { if (NR) print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2; else print "-" }'
}

ratio() { awk -v a="$1" -v b="$2" 'BEGIN { if (a == "-" || b == "-" || b == 0) print "-"; else printf "%.2f\n", a / b }'; }

# record ROW PROGRAM FIGURES...: one run.
record() {
    local IFS=$'\t'
    echo "$*" >>"$raw"
}

# table PEER UNIT ROWS...: Raddle and the peer, by row.
table() {
    local peer=$1 unit=$2 row ours theirs ours_kb theirs_kb
    shift 2
    printf '\n%-22s %12s %12s %7s %12s %12s %7s\n' row "raddle $unit" "$peer $unit" ratio "raddle MiB" "$peer MiB" ratio
    for row in "$@"; do
        ours=$(median "$row"$'\t'raddle 3) theirs=$(median "$row"$'\t'"$peer" 3)
        ours_kb=$(median "$row"$'\t'raddle 4) theirs_kb=$(median "$row"$'\t'"$peer" 4)
        printf '%-22s %12s %12s %7s %12s %12s %7s\n' "$row" "$ours" "$theirs" "$(ratio "$ours" "$theirs")" \
            "$(ratio "$ours_kb" 1024)" "$(ratio "$theirs_kb" 1024)" "$(ratio "$ours_kb" "$theirs_kb")"
    done
}

has_go=
if command -v "$go" >/dev/null; then
    has_go=1
else
    echo "heap.sh: there is no Go here ($go): its columns stay empty"
fi

cargo build --release --quiet --bin measure
cp "$target/release/measure" "$out/"

if wants heap; then
    cargo build --release --quiet --bin heap-bench
    cp "$target/release/heap-bench" "$out/heap-raddle"
    cargo build --release --quiet --bin heap-bench --features mimalloc
    cp "$target/release/heap-bench" "$out/heap-mimalloc"
    rows=()
    while read -r row n; do
        rows+=("$row")
        [ -n "$quick" ] && n=$((n / 50))
        for _ in $(seq "$reps"); do
            for program in raddle mimalloc; do
                read -r _ _ ns kb _ < <(timeout 120 "$out/heap-$program" "$row" "$n")
                record "$row" "$program" "$ns" "$kb"
            done
        done
    done < <("$out/heap-raddle" --list)
    table mimalloc ns "${rows[@]}"
fi

# side_by_side ROW RADDLE-COMMAND -- GO-COMMAND: wall time and peak memory of both, REPS times.
side_by_side() {
    local row=$1 ours=() ms kb
    shift
    while [ "$1" != -- ]; do
        ours+=("$1")
        shift
    done
    shift
    for _ in $(seq "$reps"); do
        read -r ms kb _ < <(timeout 600 "$out/measure" "${ours[@]}")
        record "$row" raddle "$ms" "$kb"
        if [ -n "$has_go" ]; then
            read -r ms kb _ < <(timeout 600 "$out/measure" "$@")
            record "$row" go "$ms" "$kb"
        fi
    done
}

go_build() {
    [ -z "$has_go" ] || (cd go && "$go" build "$@")
}

example() {
    cargo build --release --quiet --manifest-path ../Cargo.toml --target-dir "$target" --example "$1"
    cp "$target/release/examples/$1" "$out/$1-raddle"
}

export GOMAXPROCS=${GOMAXPROCS:-2} RADDLE_PROCS=${RADDLE_PROCS:-2}
rows=()
if wants trees; then
    example binary_trees
    go_build -o "$out/binary_trees-go" ./binary_trees
    side_by_side "binary_trees $depth" "$out/binary_trees-raddle" "$depth" -- "$out/binary_trees-go" "$depth"
    rows+=("binary_trees $depth")
fi
if wants syncleak; then
    example syncleak
    go_build -o "$out/syncleak-go" ./syncleak
    go_build -race -o "$out/syncleak-go-race" ./syncleak
    for n in $counts; do
        side_by_side "syncleak $n" "$out/syncleak-raddle" "$n" -- "$out/syncleak-go" "$n"
        side_by_side "syncleak $n race" "$out/syncleak-raddle" --race "$n" -- "$out/syncleak-go-race" "$n"
        rows+=("syncleak $n" "syncleak $n race")
    done
fi
[ ${#rows[@]} -eq 0 ] || table go ms "${rows[@]}"

if wants pause; then
    cargo build --release --quiet --bin gc-pause
    cp "$target/release/gc-pause" "$out/"
    go_build -o "$out/gc_pause-go" ./gc_pause
    echo
    for _ in $(seq "$reps"); do
        timeout 600 "$out/gc-pause" "$mib" 10
        [ -z "$has_go" ] || timeout 600 "$out/gc_pause-go" "$mib" 10
    done
fi
