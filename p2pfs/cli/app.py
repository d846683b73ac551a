"""The command table, and the one way from a command line to an exit code.

Invariant: a command's module, and with it everything heavy, is imported only when its name
stands in the command line; `p2pfs --help` needs the table alone.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from p2pfs import __version__
from p2pfs.cli import Interrupted
from p2pfs.cli.arguments import commands_in, join_piece_lists

__all__ = ["COMMANDS", "build_app", "run_command_line"]


class Command(NamedTuple):
    """Where a command lives, and its line in `p2pfs --help`."""

    module: str
    function: str
    summary: str


COMMANDS = {
    "make-torrent": Command("torrents", "make_torrent", "Make a .torrent of a file or folder."),
    "show": Command("torrents", "show", "Show what a .torrent file describes."),
    "verify": Command("torrents", "verify", "Check content on disk against a .torrent file."),
    "magnet": Command("magnets", "magnet", "Print the magnet link of a torrent."),
    "scrape": Command("scraping", "scrape", "Ask trackers how many have a torrent."),
    "tracker": Command("tracker", "tracker", "Run a tracker with its catalogue."),
    "index": Command("index", "index", "Run the index: find and share files by name."),
    "seed": Command("swarm", "seed", "Share files, or some pieces of them."),
    "download": Command("swarm", "download", "Fetch a file from everyone who has it."),
    "peer": Command("swarm", "peer", "Seed or download in one program, until `exit`."),
    "ls": Command("listing", "ls", "List what is shared by name."),
    "node": Command("node", "node", "Share a folder, with a menu to list and download."),
    "share": Command("share", "share", "Share files and folders by name, until `exit`."),
    "get": Command("getting", "get", "Fetch files and folders by name."),
}

_EPILOG = """Example, in three terminals:

  p2pfs tracker

  p2pfs seed -i 127.0.0.1 -f movie.mkv

  p2pfs download movie.mkv -i 127.0.0.1 -p 9005"""


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"p2pfs {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """A BitTorrent swarm: share files with many machines, faster the more take part."""


def _placeholder() -> None:
    """Stands for a command whose name is not in the command line."""


def _load(command: Command) -> Callable[..., Any]:
    from importlib import import_module

    function: Callable[..., Any] = getattr(
        import_module(f"p2pfs.cli.{command.module}"), command.function
    )
    return function


class _Group(TyperGroup):
    """Passes Ctrl-C on, so that it is known from the exit of a command that has said its end."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        with _passing_on():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        with _passing_on():
            return super().invoke(ctx)


@contextlib.contextmanager
def _passing_on() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted from None


def build_app(needed: Collection[str] = tuple(COMMANDS)) -> typer.Typer:
    """The program with the commands in `needed` loaded and the others only listed."""
    app = typer.Typer(
        name="p2pfs",
        cls=_Group,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=_EPILOG,
    )
    app.callback()(_root)
    for name, command in COMMANDS.items():
        function = _load(command) if name in needed else _placeholder
        app.command(name, short_help=command.summary)(function)
    return app


def _open_standard_streams() -> None:
    """Put the null device where whoever started us closed one of the three.

    Otherwise the next file or socket would get its number, and our output.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def run_command_line(argv: Sequence[str] | None = None) -> None:
    """Run `argv` (default: this process's arguments) and exit: 0, 1, 2, 130 or 143."""
    _open_standard_streams()
    arguments = join_piece_lists(sys.argv[1:] if argv is None else argv)
    completing = any(name.startswith("_P2PFS_") for name in os.environ)
    app = build_app(tuple(COMMANDS) if completing else commands_in(arguments, COMMANDS))
    if argv is None:  # as `main` has it then: kept away from what is imported
        gc.freeze()
        gc.enable()
    try:
        app(args=arguments, prog_name="p2pfs")
    except Exception as error:
        from p2pfs.cli.run import exit_code_for, print_error

        print_error(error)
        sys.exit(exit_code_for(error))
