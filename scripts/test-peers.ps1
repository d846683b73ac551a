# How downloads get faster with more nodes: a table, and a plot in results/ (--help: options).
. "$PSScriptRoot/find.ps1"

& python "$ROOT/scripts/bench_peers.py" @args
exit $LASTEXITCODE
