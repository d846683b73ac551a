"""The commands: typer in, rich out; a thin face on the engine."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command line (default: the process's own arguments) and exit with its code."""
    try:
        from p2pfs.cli.app import run_command_line

        run_command_line(argv)
    except KeyboardInterrupt:  # Ctrl-C while the program is still being loaded
        raise SystemExit(130) from None
