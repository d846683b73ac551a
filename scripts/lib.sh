# shellcheck shell=bash
# What the scenarios share. Each runs in a folder of its own, which is removed at the end
# (KEEP=1 leaves it), and starts real processes of the real commands:
#
#   sample NAME...          make sample files in seeds/
#   run COMMAND...          a command in the foreground
#   launch NAME COMMAND...  a command in the background; its output goes to NAME.log
#   ready NAME...           wait for the ready lines; that of `tracker` gives $TRACKER
#   says NAME TEXT          wait until a process has printed TEXT
#   finished NAME...        wait for downloads to end well
#   stop NAME...            end processes cleanly, wait for them
#   same FILE FILE          compare byte for byte
#   gave NAME               print what the process printed: who gave what
#   sent_at_most NAME N     what a stopped seeder sent, in copies
#   timer_on ID, timer_off ID, ratio_at_most N ID ID
#
# The twins in PowerShell use the same words, so that the lines are the same.
. "$(dirname "${BASH_SOURCE[0]}")/find.sh"

LIMIT=${LIMIT:-60}
TRACKER=
BASE=${P2PFS_BASE_PORT:-$((20000 + RANDOM % 118 * 100))}
for number in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
    eval "P$number=$((BASE + 5 * number))"
done

WORK=$(mktemp -d "${TMPDIR:-/tmp}/p2pfs-scenario.XXXXXX")
NAMES=""
cd "$WORK"

pid_of() { eval "echo \"\${PID_$1:-}\""; }

clean_up() {
    code=$?
    trap - EXIT INT TERM
    for name in $NAMES; do kill -TERM "$(pid_of "$name")" 2>/dev/null || true; done
    if [ "$code" -ne 0 ] && [ "$code" -lt 128 ]; then
        for name in $NAMES; do
            echo "--- $name.log"
            tail -n 20 "$name.log"
        done >&2
        echo "FAILED" >&2
    fi
    wait
    cd /
    [ -n "${KEEP:-}" ] && echo "left in $WORK" || rm -rf "$WORK"
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() { echo "$*" >&2; exit 1; }

title() { echo "== scenario $*"; }

sample() { python "$ROOT/scripts/make_data.py" seeds "$@" >/dev/null; }

run() { p2pfs "$@"; }

launch() {
    name=$1
    shift
    : >"$name.log"
    p2pfs "$@" >"$name.log" 2>&1 </dev/null &
    eval "PID_$name=$!"
    NAMES="$NAMES $name"
}

says() {
    tries=$((LIMIT * 20))
    until grep -qF -- "$2" "$1.log"; do
        kill -0 "$(pid_of "$1")" 2>/dev/null || fail "$1 ended before it said: $2"
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "$1 did not say within $LIMIT s: $2"
        sleep 0.05
    done
}

ready() {
    for name in "$@"; do
        says "$name" " ready on "
        if [ "$name" = tracker ]; then
            TRACKER=$(sed -n 's/.* ready on [^ ]*:\([0-9][0-9]*\).*/\1/p' tracker.log)
        fi
    done
}

forget() {
    left=""
    for other in $NAMES; do [ "$other" = "$1" ] || left="$left $other"; done
    NAMES=$left
}

finished() {
    for name in "$@"; do
        says "$name" "Successfully Downloaded "
        code=0
        wait "$(pid_of "$name")" || code=$?
        [ "$code" -eq 0 ] || fail "$name ended with exit code $code"
        forget "$name"
    done
}

stop() {
    for name in "$@"; do kill -TERM "$(pid_of "$name")"; done
    for name in "$@"; do
        code=0
        wait "$(pid_of "$name")" || code=$?
        [ "$code" -eq 143 ] || fail "$name did not stop cleanly: exit code $code"
        forget "$name"
    done
}

same() { cmp "$1" "$2" && echo "$2 is the same as $1, byte for byte"; }

gave() {
    echo "-- $1"
    sed -e '/ ready on /d' -e '/: downloading /d' "$1.log"
}

copies_of() { sed -n 's/.*(\([0-9.]*\) copies).*/\1/p' "$1.log" | tail -n 1; }

at_most() {
    echo "$1: $2 (at most $3)"
    awk -v is="$2" -v most="$3" 'BEGIN { exit !(is != "" && is <= most) }' || fail "$1: $2 is above $3"
}

sent_at_most() { at_most "copies sent by $1" "$(copies_of "$1")" "$2"; }

now() { python -c 'import time; print(time.time())'; }

timer_on() { eval "T_$1=$(now)"; }

timer_off() {
    eval "D_$1=$(awk -v from="$(eval "echo \$T_$1")" -v to="$(now)" 'BEGIN { printf "%.3f", to - from }')"
    eval "echo \"time $1: \$D_$1 s\""
}

ratio_at_most() {
    at_most "time $2 over time $3" \
        "$(eval "awk -v a=\$D_$2 -v b=\$D_$3" "'BEGIN { printf \"%.3f\", a / b }'")" "$1"
}

passed() { echo "passed"; }
