# A node that only serves the folder pID of this project: runpeer.ps1 ID [OPTION of p2pfs node]...
. "$PSScriptRoot/find.ps1"

if ($args.Count -eq 0) {
    [Console]::Error.WriteLine("usage: runpeer.ps1 ID [OPTION of 'p2pfs node']...")
    exit 2
}
$options = @($args | Select-Object -Skip 1)
& $P2PFS node --id $args[0] --serve --root $ROOT @options
exit $LASTEXITCODE
