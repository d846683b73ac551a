#!/usr/bin/env bash
# A node that only serves the folder pID of this project: runpeer.sh ID [OPTION of p2pfs node]...
. "$(dirname "$0")/find.sh"

[ $# -gt 0 ] || { echo "usage: runpeer.sh ID [OPTION of 'p2pfs node']..." >&2; exit 2; }
id=$1
shift
exec p2pfs node --id "$id" --serve --root "$ROOT" "$@"
