"""`scrape`: what trackers say about the swarms of torrents, over HTTP and UDP.

Invariant: nothing is announced: asking leaves no trace in a swarm. URLs that the user typed
are trusted, those of a torrent are not.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2pfs.cli.hashing import emit
from p2pfs.cli.listed_views import SHORT_HASH
from p2pfs.cli.options import Host, Json, LogFile, TrackerPort, Verbose
from p2pfs.cli.run import run_async, start_logging
from p2pfs.cli.text import check_words, counted, printable, shorten, write_out
from p2pfs.cli.where import named_trackers
from p2pfs.errors import TrackerError, UsageError

if TYPE_CHECKING:
    from p2pfs.formats.scrape_http import ScrapeEntry
    from p2pfs.geometry import TorrentId

__all__ = ["scrape"]

_SECONDS = 20.0
"""For one answer: over UDP that is a question and its repetition."""
_AT_ONCE = 32
"""Trackers: a torrent may name a thousand."""
_HASH = re.compile(r"[0-9a-fA-F]{40}|[2-7a-zA-Z]{32}")
"""In hexadecimal digits, or as older magnet links have it, in base32."""
_NAME_COLUMNS = 48


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A torrent to ask about; `name` is what it is called, or its hash."""

    torrent_id: TorrentId
    name: str
    trackers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one tracker said of one torrent; no entry when it does not know it."""

    wanted: _Wanted
    tracker: str
    entry: ScrapeEntry | None


def scrape(
    torrents: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE.torrent|HASH|MAGNET...",
            help="What to ask about: .torrent files, info hashes or magnet links.",
        ),
    ],
    tracker: Annotated[
        list[str] | None,
        typer.Option(
            "--tracker",
            "-t",
            metavar="URL",
            help="Ask this tracker, not those of the torrent: http, https or udp; repeatable.",
        ),
    ] = None,
    host: Host = None,
    port: TrackerPort = 9999,
    as_json: Json = False,
    verbose: Verbose = 0,
    log_file: LogFile = None,
) -> None:
    """Ask trackers how many seed and fetch a torrent; exits 1 when none of its trackers answers.

    \b
    Examples:
      p2pfs scrape torrents/movie.mkv.torrent
      p2pfs scrape 0123456789abcdef0123456789abcdef01234567 -t udp://10.0.0.5:9999/announce
    """
    start_logging(verbose, log_file)
    named = named_trackers(tracker, host, port)
    words = check_words(torrents, "a torrent to ask about")
    answers: list[_Answer] = []

    async def work() -> int:
        wanted = _read(words, named)
        problems: list[str] = []
        for found in await _ask(wanted, frozenset(named)):
            if isinstance(found, TrackerError):
                problems.append(str(found))
            else:
                answers.extend(found)
        answers.sort(key=lambda one: (wanted.index(one.wanted), one.tracker))
        _show(answers, problems, as_json=as_json)
        untold = len(wanted) - len({one.wanted.torrent_id for one in answers})
        if untold:
            raise TrackerError(f"no tracker of {counted(untold, 'torrent')} answered")
        return 0

    def finish(code: int, error: str | None) -> None:
        if as_json:
            emit("final", ok=code == 0, exit_code=code, error=error, count=len(answers))

    run_async(work, finish)


def _read(words: Sequence[str], named: Sequence[str]) -> list[_Wanted]:
    """The torrents that the words stand for, each once, with the trackers to ask."""
    found: dict[TorrentId, _Wanted] = {}
    for word in words:
        one = _wanted(word)
        trackers = tuple(named) or one.trackers
        if not trackers:
            raise UsageError(
                f"{shorten(printable(word), 80)} names no tracker: "
                "say which to ask with -t URL or -i HOST"
            )
        found.setdefault(one.torrent_id, _Wanted(one.torrent_id, one.name, trackers))
    return list(found.values())


def _wanted(word: str) -> _Wanted:
    from p2pfs.cli.torrent_files import is_torrent_file, read_torrent
    from p2pfs.formats.magnet import is_magnet, parse

    if is_magnet(word):
        magnet = parse(word)
        return _Wanted(magnet.torrent_id, magnet.shown, magnet.trackers)
    if is_torrent_file(word):
        metainfo = read_torrent(Path(word))
        urls = tuple(dict.fromkeys(url for tier in metainfo.trackers for url in tier))
        return _Wanted(metainfo.torrent_id, metainfo.name, urls)
    if _HASH.fullmatch(word):
        torrent_id = parse(f"magnet:?xt=urn:btih:{word}").torrent_id
        return _Wanted(torrent_id, str(torrent_id), ())
    raise UsageError(
        f"{printable(word)!r} is neither a .torrent file nor a magnet link nor an info hash "
        "(40 hexadecimal digits)"
    )


async def _ask(
    wanted: Sequence[_Wanted], trusted: frozenset[str]
) -> list[list[_Answer] | TrackerError]:
    """What every tracker says of all its torrents, at the same time."""
    from p2pfs.net.announce_client import AnnounceClient

    client = AnnounceClient(seconds=_SECONDS)
    turns = asyncio.Semaphore(_AT_ONCE)

    async def ask(url: str) -> list[_Answer] | TrackerError:
        ours = [one for one in wanted if url in one.trackers]
        hashes = [one.torrent_id for one in ours]
        try:
            async with turns:
                found = await client.scrape(url, hashes, trusted=url in trusted)
        except TrackerError as error:
            return error
        return [_Answer(one, url, found.get(one.torrent_id)) for one in ours]

    urls = dict.fromkeys(url for one in wanted for url in one.trackers)
    return list(await asyncio.gather(*map(ask, urls)))


def _show(answers: Sequence[_Answer], problems: Sequence[str], *, as_json: bool) -> None:
    for problem in problems:
        if as_json:
            emit("failed", error=printable(problem))
        else:
            typer.echo(printable(f"p2pfs: {problem}"), err=True)
    if as_json:
        for one in answers:
            emit("scraped", **_object(one))
    elif answers:
        write_out(_table(answers) + "\n")


def _object(one: _Answer) -> dict[str, Any]:
    """An answer for `--json`; counts are null when the tracker does not know the torrent."""
    entry = one.entry
    return {
        "name": one.wanted.name,
        "info_hash": str(one.wanted.torrent_id),
        "tracker": one.tracker,
        "seeders": entry.complete if entry else None,
        "leechers": entry.incomplete if entry else None,
        "downloaders": entry.downloaders if entry else None,
        "downloaded": entry.downloaded if entry else None,
    }


def _table(answers: Sequence[_Answer]) -> str:
    from p2pfs.cli.views import table

    names = Counter(one.name for one in {one.wanted for one in answers})
    rows = []
    for one in answers:
        entry = one.entry
        counts = (
            ("-", "-", "-")
            if entry is None
            else (str(entry.complete), str(entry.incomplete), str(entry.downloaded))
        )
        name = shorten(printable(one.wanted.name), _NAME_COLUMNS)
        if names[one.wanted.name] > 1:
            name += f"@{str(one.wanted.torrent_id)[:SHORT_HASH]}"
        rows.append([name, *counts, printable(one.tracker.partition("?")[0])])
    return table(["name", "seeders", "leechers", "completed", "tracker"], rows, left=(0, 4))
