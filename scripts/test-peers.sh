#!/usr/bin/env bash
# How downloads get faster with more nodes: a table, and a plot in results/ (--help: options).
. "$(dirname "$0")/find.sh"

exec python "$ROOT/scripts/bench_peers.py" "$@"
