# shellcheck shell=bash
# Where the project is ($ROOT), and `p2pfs` and its `python` on the PATH; sourced by the others.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ -x "$ROOT/.venv/bin/p2pfs" ] && [ -z "${P2PFS_BIN:-}" ]; then
    P2PFS_BIN="$ROOT/.venv/bin"
fi
[ -z "${P2PFS_BIN:-}" ] || PATH="$P2PFS_BIN:$PATH"
command -v p2pfs >/dev/null || { echo "p2pfs is not installed: run 'make data' first" >&2; exit 1; }
