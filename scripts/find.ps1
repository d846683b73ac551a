# Where the project is ($ROOT), and `p2pfs` ($P2PFS) and its `python` on the PATH; the twin of find.sh.
$ErrorActionPreference = 'Stop'

$ROOT = Split-Path -Parent $PSScriptRoot
$folders = @($env:P2PFS_BIN, "$ROOT/.venv/bin", "$ROOT/.venv/Scripts")
foreach ($folder in $folders) {
    if ($folder -and (Get-Command -Name "$folder/p2pfs" -CommandType Application -ErrorAction SilentlyContinue)) {
        $env:PATH = $folder + [IO.Path]::PathSeparator + $env:PATH
        break
    }
}
$P2PFS = Get-Command -Name p2pfs -CommandType Application -ErrorAction SilentlyContinue | Select-Object -First 1
if (-not $P2PFS) {
    [Console]::Error.WriteLine("p2pfs is not installed: run 'make data' first")
    exit 1
}
