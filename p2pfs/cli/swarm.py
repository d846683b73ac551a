"""`seed`, `download` and `peer`: three names for a client in a swarm.

Invariant: every way into the swarm is prepared here in one order: listen, know the torrent,
tell the tracker's catalogue (a seeder), run, and say so in one ready line.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfs.cli import content
from p2pfs.cli.options import (
    Bind,
    DownLimit,
    First,
    Host,
    Json,
    Last,
    LogFile,
    Missing,
    Output,
    PeerPort,
    Shared,
    TrackerPort,
    UpLimit,
    Verbose,
    Wanted,
    WantedArgument,
)
from p2pfs.cli.run import run_async, start_logging
from p2pfs.cli.screen import Screen, open_screen
from p2pfs.cli.units import parse_rate
from p2pfs.errors import CatalogueError, StorageError, TrackerError, UsageError

if TYPE_CHECKING:
    from p2pfs.formats.bitfield import Bitfield
    from p2pfs.formats.metainfo import Metainfo
    from p2pfs.net.engine import Client, Torrent

__all__ = ["download", "peer", "seed"]

DEFAULT_PEER_FILE = "0short_story.txt"


@dataclass(frozen=True, slots=True)
class Where:
    """How the swarm is reached. `up_limit` and `down_limit` are bytes a second."""

    host: str | None
    tracker_port: int
    port: int
    bind: str | None
    up_limit: int | None = None
    down_limit: int | None = None

    @property
    def base_url(self) -> str | None:
        """Where the tracker and its catalogue are, if the user named a host."""
        if self.host is None:
            return None
        if "://" in self.host:
            return self.host.removesuffix("/").removesuffix("/announce")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.tracker_port}"

    @property
    def trackers(self) -> list[str]:
        """The announce URLs that the user named."""
        return [] if self.base_url is None else [f"{self.base_url}/announce"]


@dataclass(frozen=True, slots=True)
class Part:
    """Which pieces a partial seeder has, as the user wrote it; everything by default."""

    missing: Sequence[str] = field(default_factory=tuple)
    first: str | None = None
    last: str | None = None

    def __bool__(self) -> bool:
        return bool(self.missing) or self.first is not None or self.last is not None


def _check_host(host: str | None) -> None:
    if host is None:
        return
    bare = host.partition("://")[2] if "://" in host else host
    if not bare or not host.isprintable() or any(mark in host for mark in " @?#\\"):
        raise UsageError(f"{host!r} is not a host name or an address")


class _Stopped(Exception):
    """Raised into a hashing thread whose result nobody waits for any more."""


async def _hashed(shared: content.Shared, *, as_json: bool) -> tuple[Metainfo, bool]:
    """`content.metainfo_for` on a thread; ends soon after it is cancelled."""
    from p2pfs.cli.torrents import hash_bar

    cancelled = threading.Event()
    with hash_bar(f"hashing {shared.path}", as_json=as_json) as draw:

        def progress(done: int, total: int) -> None:
            if cancelled.is_set():
                raise _Stopped
            if draw is not None:
                draw(done, total)

        try:
            return await asyncio.to_thread(content.metainfo_for, shared, progress)
        except asyncio.CancelledError:
            cancelled.set()
            raise


def _need_tracker(where: Where, metainfo: Metainfo) -> None:
    if where.base_url is None and not metainfo.trackers:
        raise UsageError(
            f"{metainfo.name} names no tracker: say where one is with -i HOST (and -d PORT)"
        )


async def _publish(screen: Screen, where: Where, metainfo: Metainfo) -> None:
    """Make the torrent known by name; a tracker without a catalogue is only noted."""
    from p2pfs.net import catalogue_client

    if where.base_url is None:
        return
    try:
        await catalogue_client.publish(where.base_url, metainfo.to_bytes())
    except CatalogueError as error:
        screen.note(f"not in the tracker's catalogue: {error}")


async def _start_seeds(
    screen: Screen, client: Client, where: Where, words: Sequence[str], part: Part, as_json: bool
) -> list[Torrent]:
    from p2pfs.formats.selection import select_pieces

    torrents = []
    for shared in content.find_shared(words):
        metainfo, hashed = await _hashed(shared, as_json=as_json)
        _need_tracker(where, metainfo)
        have = None
        if part:
            try:
                have = select_pieces(
                    metainfo.geometry.piece_count,
                    missing=part.missing,
                    first=part.first,
                    last=part.last,
                )
            except UsageError as error:
                raise UsageError(f"{metainfo.name}: {error}") from None
        await _publish(screen, where, metainfo)
        if not hashed:
            screen.note(f"checking {shared.path}")
        torrent = await client.seed(
            metainfo, shared.path, have=have, trackers=where.trackers, verify=not hashed
        )
        torrents.append(torrent)
        _check_offer(screen, shared.path, torrent, have)
    return torrents


def _check_offer(screen: Screen, path: Path, torrent: Torrent, have: Bitfield | None) -> None:
    """Say so when some of the content differs from its .torrent; all of it is an error."""
    progress = torrent.progress()
    promised = progress.pieces_total if have is None else have.count
    if promised and not progress.pieces_done:
        raise StorageError(f"{path} is not the content that the .torrent describes")
    differ = promised - progress.pieces_done
    if differ:
        screen.note(
            f"{path}: {differ} of {promised} pieces differ from the .torrent and are not offered"
        )


async def _find_wanted(screen: Screen, where: Where, word: str) -> Metainfo:
    """The torrent that a downloader means: a file, a name in the catalogue, or in torrents/."""
    if content.is_torrent_file(word):
        return content.read_torrent(Path(word))
    content.check_name(word)
    from p2pfs.net import catalogue_client

    if where.base_url is not None:
        from p2pfs.formats.metainfo import parse

        try:
            return parse(await catalogue_client.fetch(where.base_url, word))
        except TrackerError as error:
            known = content.known_torrent(word)
            if known is None:
                kind = CatalogueError if isinstance(error, CatalogueError) else TrackerError
                raise kind(f"{error}; there is no {content.torrent_path(word)} either") from error
            screen.note(f"{error}; using {content.torrent_path(word)}")
            return known
    known = content.known_torrent(word)
    if known is not None:
        return known
    raise CatalogueError(
        f"nothing is known of {word}: there is no {content.torrent_path(word)}; "
        "name the tracker that knows it with -i HOST, or give a .torrent file"
    )


async def _start_downloads(
    screen: Screen, client: Client, where: Where, words: Sequence[str], output: Path
) -> list[Torrent]:
    torrents = []
    for word in words:
        metainfo = await _find_wanted(screen, where, word)
        _need_tracker(where, metainfo)
        torrents.append(await client.download(metainfo, output, trackers=where.trackers))
    return torrents


def _client(where: Where) -> Client:
    from p2pfs.net.engine import Client

    return Client(
        port=where.port, bind=where.bind, up_limit=where.up_limit, down_limit=where.down_limit
    )


def _run_seeder(
    role: str, where: Where, words: Sequence[str], part: Part, *, as_json: bool
) -> None:
    from p2pfs.cli.session import Session

    _check_host(where.host)
    screen = open_screen(role, as_json=as_json)

    async def work() -> int:
        async with _client(where) as client:
            seeds = await _start_seeds(screen, client, where, words, part, as_json)
            session = Session(screen, seeds=seeds, output=content.OUTPUT, stay=True)
            screen.ready(client.addresses, torrents=_shared_text(seeds))
            return await session.run()

    run_async(work, screen.finish)


def _shared_text(seeds: Sequence[Torrent]) -> str:
    if len(seeds) != 1:
        return f"seeding {len(seeds)} torrents"
    progress = seeds[0].progress()
    return f"seeding {progress.pieces_done} of {progress.pieces_total} pieces of {progress.name}"


def _run_downloader(
    role: str,
    where: Where,
    words: Sequence[str],
    output: Path,
    *,
    stay: bool,
    as_json: bool,
) -> None:
    from p2pfs.cli.session import Session

    _check_host(where.host)
    if not words:
        raise UsageError("say what to download: a name, or a .torrent file")
    screen = open_screen(role, as_json=as_json)

    async def work() -> int:
        async with _client(where) as client:
            downloads = await _start_downloads(screen, client, where, words, output)
            session = Session(screen, downloads=downloads, output=output, stay=stay)
            names = ", ".join(torrent.progress().name for torrent in downloads)
            screen.ready(client.addresses, torrents=f"downloading {names}")
            return await session.run()

    run_async(work, screen.finish)


def seed(
    host: Host = None,
    tracker_port: TrackerPort = 9999,
    port: PeerPort = 9000,
    file: Shared = None,
    missing: Missing = None,
    range_start: First = None,
    range_end: Last = None,
    up_limit: UpLimit = None,
    bind: Bind = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    log_file: LogFile = None,
) -> None:
    """Share files, or some pieces of them, until `exit` or Ctrl-C.

    \b
    Examples:
      p2pfs seed -i 10.0.0.5                    everything in seeds/
      p2pfs seed -i 10.0.0.5 -f movie.mkv --up-limit 2M
      p2pfs seed -i 10.0.0.5 -f movie.mkv -r1 0.2 -r2 0.4 -m 3 7 12
    """
    start_logging(verbose, log_file)
    where = Where(host, tracker_port, port, bind, _rate(up_limit))
    part = Part(missing or (), range_start, range_end)
    _run_seeder("seed", where, file or (), part, as_json=as_json)


def download(
    name: WantedArgument = None,
    file: Wanted = None,
    host: Host = None,
    tracker_port: TrackerPort = 9999,
    port: PeerPort = 9000,
    output: Output = content.OUTPUT,
    keep_seeding: Annotated[
        bool, typer.Option("--keep-seeding", help="Stay and serve others, until `exit`.")
    ] = False,
    up_limit: UpLimit = None,
    down_limit: DownLimit = None,
    bind: Bind = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    log_file: LogFile = None,
) -> None:
    """Fetch a file from everyone who has it, rarest piece first; exits 0 when it is complete.

    \b
    Examples:
      p2pfs download movie.mkv -i 10.0.0.5
      p2pfs download torrents/movie.mkv.torrent -o ~/Videos --down-limit 5M
    """
    start_logging(verbose, log_file)
    where = Where(host, tracker_port, port, bind, _rate(up_limit), _rate(down_limit))
    words = list(dict.fromkeys([*(name or ()), *(file or ())]))
    _run_downloader("download", where, words, output, stay=keep_seeding, as_json=as_json)


def peer(
    host: Host = None,
    seeder: Annotated[
        bool, typer.Option("--seeder", "-S", help="Share; without it, download.")
    ] = False,
    port: PeerPort = 9000,
    tracker_port: TrackerPort = 9999,
    file: Shared = None,
    missing: Missing = None,
    range_start: First = None,
    range_end: Last = None,
    output: Output = content.OUTPUT,
    up_limit: UpLimit = None,
    down_limit: DownLimit = None,
    bind: Bind = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    log_file: LogFile = None,
) -> None:
    """Seed (-S) or download in one program; stays until `exit`, and serves what it has.

    \b
    Examples:
      p2pfs peer -i 127.0.0.1 -S -p 9000 -f 1short_story_10x.txt -m 3 7 12
      p2pfs peer -i 127.0.0.1 -p 9005 -f 1short_story_10x.txt
    """
    start_logging(verbose, log_file)
    where = Where(host, tracker_port, port, bind, _rate(up_limit), _rate(down_limit))
    part = Part(missing or (), range_start, range_end)
    words = file or [DEFAULT_PEER_FILE]
    if seeder:
        _run_seeder("peer", where, words, part, as_json=as_json)
    elif part:
        raise UsageError("-m, -r1 and -r2 say which pieces a seeder has: they need -S")
    else:
        _run_downloader("peer", where, words, output, stay=True, as_json=as_json)


def _rate(text: str | None) -> int | None:
    return None if text is None else parse_rate(text)
