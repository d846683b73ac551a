# What the scenarios share: the twin of lib.sh, with the same words. Works in PowerShell 7
# on every system, and in Windows PowerShell 5.1.
. "$PSScriptRoot/find.ps1"

$LIMIT = 60
if ($env:LIMIT) { $LIMIT = [int]$env:LIMIT }
$TRACKER = ''
$BASE = 20000 + (Get-Random -Maximum 118) * 100
if ($env:P2PFS_BASE_PORT) { $BASE = [int]$env:P2PFS_BASE_PORT }
foreach ($number in 1..15) { Set-Variable -Name "P$number" -Value ($BASE + 5 * $number) }

$WORK = Join-Path ([IO.Path]::GetTempPath()) ('p2pfs-scenario.' + [guid]::NewGuid().ToString('N'))
$PROCESSES = @{}
$CLOCKS = @{}
New-Item -ItemType Directory -Path $WORK | Out-Null
$HOME_FOLDER = Get-Location
Set-Location $WORK

function clean_up {
    foreach ($process in @($PROCESSES.Values)) {
        if (-not $process.HasExited) { $process.Kill() }
        $process.WaitForExit()
    }
    Set-Location $HOME_FOLDER
    if ($env:KEEP) { Write-Output "left in $WORK" } else { Remove-Item -Recurse -Force $WORK }
}

function fail {
    foreach ($name in @($PROCESSES.Keys)) {
        [Console]::Error.WriteLine("--- $name.log")
        [Console]::Error.WriteLine((log_of $name))
    }
    [Console]::Error.WriteLine("$args")
    [Console]::Error.WriteLine('FAILED')
    clean_up
    exit 1
}

trap { fail $_ }

function title { Write-Output "== scenario $args" }

function sample {
    & python "$ROOT/scripts/make_data.py" seeds @args | Out-Null
    if ($LASTEXITCODE -ne 0) { fail 'the sample files could not be made' }
}

function run {
    & $P2PFS @args
    if ($LASTEXITCODE -ne 0) { fail "p2pfs $args ended with exit code $LASTEXITCODE" }
}

function quoted($words) {
    $texts = foreach ($word in $words) {
        $text = [string]::Format([Globalization.CultureInfo]::InvariantCulture, '{0}', $word)
        if ($text -match '\s') { '"' + $text + '"' } else { $text }
    }
    return $texts -join ' '
}

function log_stream($path) {
    return [IO.FileStream]::new(
        $path, [IO.FileMode]::Create, [IO.FileAccess]::Write, [IO.FileShare]::ReadWrite, 1)
}

function launch {
    $name = $args[0]
    $info = New-Object Diagnostics.ProcessStartInfo
    $info.FileName = $P2PFS.Source
    $info.Arguments = quoted $args[1..($args.Count - 1)]
    $info.WorkingDirectory = $WORK
    $info.UseShellExecute = $false
    $info.RedirectStandardInput = $true
    $info.RedirectStandardOutput = $true
    $info.RedirectStandardError = $true
    $process = [Diagnostics.Process]::Start($info)
    $copying = @(
        $process.StandardOutput.BaseStream.CopyToAsync((log_stream "$WORK/$name.log"))
        $process.StandardError.BaseStream.CopyToAsync((log_stream "$WORK/$name.err"))
    )
    Add-Member -InputObject $process -NotePropertyName Copying -NotePropertyValue $copying
    $PROCESSES[$name] = $process
}

function log_of($name) {
    $text = ''
    foreach ($path in @("$WORK/$name.log", "$WORK/$name.err")) {
        $stream = [IO.FileStream]::new(
            $path, [IO.FileMode]::Open, [IO.FileAccess]::Read, [IO.FileShare]::ReadWrite)
        $reader = New-Object IO.StreamReader $stream
        $text += $reader.ReadToEnd()
        $reader.Dispose()
    }
    return $text
}

function says($name, $text) {
    $deadline = (Get-Date).AddSeconds($LIMIT)
    while (-not (log_of $name).Contains($text)) {
        if ($PROCESSES[$name].HasExited) {
            [void][Threading.Tasks.Task]::WaitAll($PROCESSES[$name].Copying, 5000)
            if ((log_of $name).Contains($text)) { return }
            fail "$name ended before it said: $text"
        }
        if ((Get-Date) -gt $deadline) { fail "$name did not say within $LIMIT s: $text" }
        Start-Sleep -Milliseconds 50
    }
}

function ready {
    foreach ($name in $args) {
        says $name ' ready on '
        if ($name -eq 'tracker') {
            $found = [regex]::Match((log_of 'tracker'), ' ready on \S*:(\d+)')
            $script:TRACKER = $found.Groups[1].Value
        }
    }
}

function ended($name, $codes) {
    $process = $PROCESSES[$name]
    if (-not $process.WaitForExit($LIMIT * 1000)) { fail "$name did not end within $LIMIT s" }
    [void][Threading.Tasks.Task]::WaitAll($process.Copying, 5000)
    if ($codes -notcontains $process.ExitCode) {
        fail "$name ended with exit code $($process.ExitCode)"
    }
    $PROCESSES.Remove($name)
}

function finished {
    foreach ($name in $args) {
        says $name 'Successfully Downloaded '
        ended $name @(0)
    }
}

function stop {
    foreach ($name in $args) { $PROCESSES[$name].StandardInput.WriteLine('exit') }
    foreach ($name in $args) { ended $name @(0) }
}

function same($one, $other) {
    if ((Get-FileHash "$WORK/$one").Hash -ne (Get-FileHash "$WORK/$other").Hash) {
        fail "$one and $other differ"
    }
    Write-Output "$other is the same as $one, byte for byte"
}

function gave($name) {
    Write-Output "-- $name"
    log_of $name -split '\r?\n' | Where-Object { $_ -and $_ -notmatch ' ready on |: downloading ' }
}

function at_most($what, $is, $most) {
    Write-Output "${what}: $is (at most $most)"
    if ($is -gt $most) { fail "${what}: $is is above $most" }
}

function sent_at_most($name, $most) {
    $found = [regex]::Matches((log_of $name), '\(([0-9.]+) copies\)')
    if ($found.Count -eq 0) { fail "$name did not say what it sent" }
    $copies = [double]::Parse($found[$found.Count - 1].Groups[1].Value, [Globalization.CultureInfo]::InvariantCulture)
    at_most "copies sent by $name" $copies $most
}

function timer_on($id) { $CLOCKS[$id] = [Diagnostics.Stopwatch]::StartNew() }

function timer_off($id) {
    $CLOCKS[$id].Stop()
    Write-Output "time ${id}: $($CLOCKS[$id].Elapsed.TotalSeconds) s"
}

function ratio_at_most($most, $one, $other) {
    $ratio = $CLOCKS[$one].Elapsed.TotalSeconds / $CLOCKS[$other].Elapsed.TotalSeconds
    at_most "time $one over time $other" $ratio $most
}

function passed {
    clean_up
    Write-Output 'passed'
}
