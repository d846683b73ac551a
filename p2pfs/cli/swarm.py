"""`seed`, `download` and `peer`: three names for a client in a swarm.

Invariant: the three differ only in what they start with and in when they end; the ready line
comes once everything asked for runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfs.cli import content
from p2pfs.cli.fetching import MagnetDownloads
from p2pfs.cli.joining import Part, start_downloads, start_seeds
from p2pfs.cli.options import (
    Bind,
    DownLimit,
    Files,
    First,
    Host,
    Json,
    Last,
    LogFile,
    MetadataTimeout,
    Missing,
    NoLsd,
    NoPex,
    NoWebSeeds,
    Output,
    PeerFile,
    PeerPort,
    PrivateWebSeeds,
    Sequential,
    Shared,
    TrackerPort,
    UpLimit,
    Verbose,
    Wanted,
    WantedArgument,
)
from p2pfs.cli.run import run_async, start_logging
from p2pfs.cli.screen import open_screen
from p2pfs.cli.units import rate_option
from p2pfs.cli.where import Where
from p2pfs.errors import UsageError

if TYPE_CHECKING:
    from p2pfs.net.engine import Client, Torrent

__all__ = ["download", "peer", "seed"]

DEFAULT_PEER_FILE = "0short_story.txt"


def _client(where: Where) -> Client:
    from p2pfs.net.engine import Client

    return Client(
        port=where.port,
        bind=where.bind,
        up_limit=where.up_limit,
        down_limit=where.down_limit,
        peer_exchange=where.pex,
        local_discovery=where.lsd,
        web_seeds=where.web_seeds,
        private_web_seeds=where.private_web_seeds,
    )


def _run_seeder(
    role: str, where: Where, words: Sequence[str], part: Part, *, as_json: bool
) -> None:
    from p2pfs.cli.session import Session

    screen = open_screen(role, as_json=as_json)

    async def work() -> int:
        async with _client(where) as client:
            seeds = await start_seeds(screen, client, where, words, part, as_json)
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
    files: Sequence[str] = (),
    sequential: bool = False,
    patience: float = 0.0,
) -> None:
    from p2pfs.cli.session import Session
    from p2pfs.formats.magnet import is_magnet

    if not words:
        raise UsageError("say what to download: a name, a .torrent file, or a magnet link")
    screen = open_screen(role, as_json=as_json)
    links = [word for word in words if is_magnet(word)]
    magnets = MagnetDownloads(
        screen,
        links,
        output,
        trackers=where.trackers,
        files=files,
        sequential=sequential,
        patience=patience,
        local=where.lsd,
        others=len(words) - len(links),
        as_json=as_json,
    )

    async def work() -> int:
        async with _client(where) as client:
            downloads = await start_downloads(
                screen,
                client,
                where,
                [word for word in words if word not in links],
                output,
                as_json,
                files=files,
                sequential=sequential,
            )
            session = Session(
                screen,
                downloads=downloads,
                output=output,
                stay=stay,
                feed=magnets.feed(client),
                status=magnets.report if links else None,
            )
            screen.status = lambda: magnets.status() or role
            names = ", ".join([*(one.progress().name for one in downloads), *magnets.names])
            screen.ready(client.addresses, torrents=f"downloading {names}")
            code = await session.run()
            magnets.raise_failures()
            return code

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
    no_pex: NoPex = False,
    no_lsd: NoLsd = False,
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
    up = rate_option(up_limit)
    where = Where(host, tracker_port, port, bind, up, pex=not no_pex, lsd=not no_lsd)
    part = Part(missing or (), range_start, range_end)
    _run_seeder("seed", where, file or (), part, as_json=as_json)


def download(
    name: WantedArgument = None,
    file: Wanted = None,
    host: Host = None,
    tracker_port: TrackerPort = 9999,
    port: PeerPort = 9000,
    output: Output = content.OUTPUT,
    files: Files = None,
    sequential: Sequential = False,
    metadata_timeout: MetadataTimeout = 0.0,
    keep_seeding: Annotated[
        bool, typer.Option("--keep-seeding", help="Stay and serve others, until `exit`.")
    ] = False,
    up_limit: UpLimit = None,
    down_limit: DownLimit = None,
    bind: Bind = None,
    no_pex: NoPex = False,
    no_lsd: NoLsd = False,
    no_web_seeds: NoWebSeeds = False,
    allow_private_web_seeds: PrivateWebSeeds = False,
    as_json: Json = False,
    verbose: Verbose = 0,
    log_file: LogFile = None,
) -> None:
    """Fetch a file from everyone who has it, rarest piece first; exits 0 when it is complete.

    \b
    Examples:
      p2pfs download movie.mkv -i 10.0.0.5
      p2pfs download "magnet:?xt=urn:btih:..."
      p2pfs download torrents/movie.mkv.torrent -o ~/Videos --down-limit 5M
      p2pfs download torrents/album.torrent --files "*.flac" --files 12-14
    """
    start_logging(verbose, log_file)
    where = Where(
        host,
        tracker_port,
        port,
        bind,
        rate_option(up_limit),
        rate_option(down_limit),
        pex=not no_pex,
        lsd=not no_lsd,
        web_seeds=not no_web_seeds,
        private_web_seeds=allow_private_web_seeds,
    )
    words = list(dict.fromkeys([*(name or ()), *(file or ())]))
    _run_downloader(
        "download",
        where,
        words,
        output,
        stay=keep_seeding,
        as_json=as_json,
        files=files or (),
        sequential=sequential,
        patience=metadata_timeout,
    )


def peer(
    host: Host = None,
    seeder: Annotated[
        bool, typer.Option("--seeder", "-S", help="Share; without it, download.")
    ] = False,
    port: PeerPort = 9000,
    tracker_port: TrackerPort = 9999,
    file: PeerFile = None,
    missing: Missing = None,
    range_start: First = None,
    range_end: Last = None,
    output: Output = content.OUTPUT,
    up_limit: UpLimit = None,
    down_limit: DownLimit = None,
    bind: Bind = None,
    no_pex: NoPex = False,
    no_lsd: NoLsd = False,
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
    where = Where(
        host,
        tracker_port,
        port,
        bind,
        rate_option(up_limit),
        rate_option(down_limit),
        pex=not no_pex,
        lsd=not no_lsd,
    )
    part = Part(missing or (), range_start, range_end)
    words = file or [DEFAULT_PEER_FILE]
    if seeder:
        _run_seeder("peer", where, words, part, as_json=as_json)
    elif part:
        raise UsageError("-m, -r1 and -r2 say which pieces a seeder has: they need -S")
    else:
        _run_downloader("peer", where, words, output, stay=True, as_json=as_json)
