"""The commands: typer in, rich out; a thin face on the engine."""

from __future__ import annotations

import gc
from collections.abc import Sequence

__all__ = ["Interrupted", "main"]


class Interrupted(BaseException):
    """Ctrl-C, on its way past everything that would make an ordinary exit of it."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command line (default: the process's own arguments) and exit with its code."""
    alone = argv is None  # the process is for nothing else
    if alone:
        gc.disable()  # what is imported is no garbage
    try:
        from p2pfs.cli.app import run_command_line

        run_command_line(argv)
    except (KeyboardInterrupt, Interrupted):  # before a command runs that stops in its own way
        _say_stopped(argv)
        raise SystemExit(130) from None
    finally:
        if alone:
            gc.freeze()  # nor is it worth while to look for any at the end


def _say_stopped(argv: Sequence[str] | None) -> None:
    import sys

    if "--json" in (sys.argv[1:] if argv is None else argv):
        from p2pfs.cli.hashing import emit
        from p2pfs.errors import P2pfsError

        try:
            emit("final", ok=False, exit_code=130, error=None)
        except (OSError, P2pfsError):  # nobody reads it
            return
