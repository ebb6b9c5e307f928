#!/bin/bash
# Builds peer-raddle and puts it beside the peers' programs.
#
#     PEERS_BIN=/path/to/peers/bin bench/run.sh                  build, and copy it there if PEERS_BIN is set
#     bench/run.sh pingpong 1000000                              build, and run one benchmark
#     bench/run.sh all                                           build, and run every benchmark once, briefly
#
# A peer is any executable peer-NAME in that folder with the same command line: peer-NAME <bench> <n>, peer-NAME --list.
# CARGO_TARGET_DIR is obeyed, so nothing need be written into the sources.
set -euo pipefail
cd "$(dirname "$0")"

cargo build --release --bin peer-raddle
program=${CARGO_TARGET_DIR:-target}/release/peer-raddle

if [ -n "${PEERS_BIN:-}" ]; then
    mkdir -p "$PEERS_BIN"
    cp "$program" "$PEERS_BIN/"
    echo "$PEERS_BIN/peer-raddle"
fi
case "${1:-}" in
"") ;;
all) for bench in $("$program" --list); do timeout 120 "$program" "$bench" 10000; done ;;
*) exec "$program" "$@" ;;
esac
