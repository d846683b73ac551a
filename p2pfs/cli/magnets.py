"""`magnet`: the magnet link of a torrent, for others to download with and nothing else.

Invariant: nothing goes to the network, and standard output holds the link alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfs.cli import torrent_files
from p2pfs.cli.hashing import emit
from p2pfs.cli.options import Host, Json, LogFile, TrackerPort, Verbose
from p2pfs.cli.run import error_text, exit_code_for, start_logging
from p2pfs.cli.text import printable, write_out
from p2pfs.cli.where import named_trackers
from p2pfs.errors import CatalogueError, MagnetError, P2pfsError, UsageError

if TYPE_CHECKING:
    from p2pfs.formats.metainfo import Metainfo

__all__ = ["magnet"]


def magnet(
    torrent: Annotated[
        str, typer.Argument(metavar="FILE.torrent|NAME", help="A file, or a name in torrents/.")
    ],
    peer: Annotated[
        list[str] | None,
        typer.Option("--peer", metavar="HOST:PORT", help="Somebody who has it; repeatable."),
    ] = None,
    tracker: Annotated[
        list[str] | None,
        typer.Option("--tracker", "-t", metavar="URL", help="One more tracker; repeatable."),
    ] = None,
    host: Host = None,
    port: TrackerPort = 9999,
    as_json: Json = False,
    verbose: Verbose = 0,
    log_file: LogFile = None,
) -> None:
    """Print the magnet link of a torrent, which names its trackers, web seeds and the peers given.

    \b
    Examples:
      p2pfs magnet torrents/movie.mkv.torrent
      p2pfs magnet movie.mkv -i 10.0.0.5
      p2pfs magnet movie.mkv --peer 10.0.0.7:9000
    """
    start_logging(verbose, log_file)
    try:
        named = named_trackers(tracker, host, port)
        metainfo = _read(torrent)
        link, notes = _link(metainfo, named, peer or ())
    except (P2pfsError, OSError) as error:
        if as_json:
            code = exit_code_for(error)
            emit("final", ok=False, exit_code=code, error=error_text(error))
        raise
    for note in notes:
        typer.echo(printable(note), err=True)
    if as_json:
        name, info_hash = metainfo.name, str(metainfo.torrent_id)
        emit("final", ok=True, exit_code=0, error=None, name=name, info_hash=info_hash, magnet=link)
    else:
        write_out(link + "\n")


def _read(word: str) -> Metainfo:
    if torrent_files.is_torrent_file(word):
        return torrent_files.read_torrent(Path(word))
    known = torrent_files.known_torrent(word) if word else None
    if known is None:
        raise CatalogueError(
            f"there is no {torrent_files.torrent_path(word)}: give the path of a .torrent file"
        )
    return known


def _link(
    metainfo: Metainfo, trackers: Sequence[str], peers: Sequence[str]
) -> tuple[str, list[str]]:
    """The link, and what is to be known about it."""
    from p2pfs.formats.magnet import encode, link_of, parse_peer

    try:
        where = [parse_peer(text) for text in peers]
    except MagnetError as error:
        raise UsageError(f"--peer: {error}") from None
    made = link_of(metainfo, trackers=trackers, peers=where)
    notes = []
    if not made.trackers and not made.peers:
        notes.append(
            f"{metainfo.name} names no tracker: this link finds peers on the local network only; "
            "-i HOST, -t URL or --peer HOST:PORT adds somebody to ask"
        )
    if metainfo.private:
        notes.append(
            f"{metainfo.name} is private: its metadata is not given to those who have the link "
            "alone; give them the .torrent"
        )
    return encode(made), notes
