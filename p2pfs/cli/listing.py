"""`ls`: what is shared, by name.

Invariant: without options standard output holds names only, one a line, sorted, each once;
what is said about them goes to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfs.cli.hashing import emit
from p2pfs.cli.options import ConfigDir, IndexHost, IndexPort, Json, LogFile, Verbose
from p2pfs.cli.run import run_async, start_logging
from p2pfs.cli.text import check_words, printable, write_out

if TYPE_CHECKING:
    from p2pfs.net.index_client import IndexClient, Listed

__all__ = ["ls"]


def ls(
    pattern: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATTERN",
            help="Only these: a pattern such as '*.pdf', or a part of the name.",
        ),
    ] = None,
    host: IndexHost = None,
    port: IndexPort = 9999,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Also what nobody has at the moment.")
    ] = False,
    long: Annotated[
        bool, typer.Option("--long", "-l", help="With size, counts, date and short hash.")
    ] = False,
    config_dir: ConfigDir = Path("config"),
    as_json: Json = False,
    verbose: Verbose = 0,
    log_file: LogFile = None,
) -> None:
    """List what is shared by name; exits 0 also when nothing is.

    \b
    Examples:
      p2pfs ls -i 10.0.0.5
      p2pfs ls "*.pdf" --long
    """
    start_logging(verbose, log_file)
    patterns = check_words(pattern or (), "a name or pattern to list")
    found: list[Listed] = []

    async def work() -> int:
        from p2pfs.cli.finding import locate
        from p2pfs.net.index_client import IndexClient

        place = await locate(host, port, config_dir)
        async with IndexClient(place.base, advice=place.advice) as index:
            found.extend(await list_all(index, patterns, everything=everything))
        if as_json:
            _print_objects(found)
        elif not found:
            _say_nothing(patterns, index.where, everything=everything)
        elif long:
            _print_table(found)
        else:
            names = dict.fromkeys(printable(one.name) for one in found)
            write_out("".join(f"{name}\n" for name in names))
        return 0

    def finish(code: int, error: str | None) -> None:
        if as_json:
            emit("final", ok=code == 0, exit_code=code, error=error, count=len(found))

    run_async(work, finish)


async def list_all(
    index: IndexClient, patterns: Sequence[str], *, everything: bool = False
) -> list[Listed]:
    """What matches any of the patterns (all without any), each once, in the order of names."""
    found: dict[str, Listed] = {}
    for pattern in dict.fromkeys(patterns) if patterns else [None]:
        for one in await index.list(pattern, everything=everything):
            found.setdefault(one.info_hash, one)
    return sorted(found.values(), key=lambda one: (one.name, -one.published, one.info_hash))


def _print_objects(found: Sequence[Listed]) -> None:
    from p2pfs.cli.listed_views import listed_object

    for one in found:
        emit("listed", **listed_object(one))


def _print_table(found: Sequence[Listed]) -> None:
    from p2pfs.cli.listed_views import listed_table

    columns = None
    if sys.stdout.isatty():
        import shutil

        columns = shutil.get_terminal_size().columns
    write_out(listed_table(found, colour=_in_colour(), columns=columns) + "\n")


def _in_colour() -> bool:
    import os

    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", "unknown")
    return sys.stdout.isatty() and not plain


def _say_nothing(patterns: Sequence[str], where: str, *, everything: bool) -> None:
    what = "nothing that matches " + " or ".join(patterns) if patterns else "nothing"
    state = "is known to" if everything else "is shared now by"
    more = "" if everything else "; --all lists also what nobody has at the moment"
    typer.echo(printable(f"p2pfs: {what} {state} {where}{more}"), err=True)
