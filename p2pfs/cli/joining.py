"""How a command gets into the swarm: whom it asks, what it shares, what it fetches.

Invariant: every torrent is prepared in one order: know it, know a tracker for it, tell the
tracker's catalogue (a seeder), start it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfs.cli import content, torrent_files
from p2pfs.cli.finding import token_of_environment
from p2pfs.cli.hashing import hash_bar
from p2pfs.cli.screen import Screen
from p2pfs.cli.text import counted, pieces_differ
from p2pfs.errors import CatalogueError, StorageError, TrackerError, UsageError

if TYPE_CHECKING:
    from p2pfs.cli.where import Where
    from p2pfs.formats.bitfield import Bitfield
    from p2pfs.formats.metainfo import Metainfo
    from p2pfs.net.engine import Client, Torrent

__all__ = ["Part", "start_download", "start_downloads", "start_seeds"]


_NAME_ONE = "say where one is with -i HOST (and -d PORT)"


@dataclass(frozen=True, slots=True)
class Part:
    """Which pieces a partial seeder has, as the user wrote it; everything by default."""

    missing: Sequence[str] = field(default_factory=tuple)
    first: str | None = None
    last: str | None = None

    def __bool__(self) -> bool:
        return bool(self.missing) or self.first is not None or self.last is not None


class _Stopped(Exception):
    """Raised into a hashing thread whose result nobody waits for any more."""


async def _hashed(shared: content.Shared, *, as_json: bool) -> content.Described:
    """`content.metainfo_for` on a thread; ends soon after it is cancelled."""
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


def _need_tracker(screen: Screen, where: Where, metainfo: Metainfo, *, local: bool = True) -> None:
    """Raise `UsageError` where nobody would be found; `local`: the local network may do."""
    if where.base_url is not None or metainfo.trackers:
        return
    if local and where.lsd and not metainfo.private:
        screen.note(
            f"{metainfo.name} names no tracker: peers are looked for on the local network alone; "
            f"{_NAME_ONE}"
        )
        return
    raise UsageError(f"{metainfo.name} names no tracker: {_NAME_ONE}")


async def _publish(screen: Screen, where: Where, metainfo: Metainfo) -> None:
    """Make the torrent known by name; a tracker without a catalogue is only noted."""
    from p2pfs.net.index_client import IndexClient

    if where.base_url is None:
        return
    try:
        tracker = IndexClient(where.base_url, called="tracker", token=token_of_environment())
        await tracker.publish(metainfo.to_bytes())
    except CatalogueError as error:
        screen.note(f"not in the tracker's catalogue: {error}")


async def start_seeds(
    screen: Screen, client: Client, where: Where, words: Sequence[str], part: Part, as_json: bool
) -> list[Torrent]:
    """Seed what the words of `-f` stand for, in the given part; the torrents that run."""
    from p2pfs.formats.selection import select_pieces
    from p2pfs.net.index_client import IndexClient

    async def publish_again(torrent: Torrent) -> None:
        await _publish(screen, where, torrent.metainfo)

    everything = content.find_shared(words)
    if where.base_url is not None:  # before hours of hashing, not after
        await IndexClient(where.base_url, called="tracker").reach()
    torrents = []
    for shared in everything:
        described = await _hashed(shared, as_json=as_json)
        metainfo = described.metainfo
        if described.note is not None:
            screen.note(described.note)
        # the hash of content that is described anew is known to nobody else
        _need_tracker(screen, where, metainfo, local=shared.torrent is not None)
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
        if not described.hashed:
            screen.note(f"checking {shared.path}")
        with hash_bar(f"checking {shared.path}", as_json=as_json) as draw:
            torrent = await client.seed(
                metainfo,
                shared.path,
                have=have,
                trackers=where.trackers,
                verify=not described.hashed,
                progress=draw,
                on_tracker_return=publish_again,
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
        told = pieces_differ(differ, promised)
        are = "is" if differ == 1 else "are"
        screen.note(f"{path}: {told} from the .torrent and {are} not offered")


async def _find_wanted(screen: Screen, where: Where, word: str) -> Metainfo:
    """The torrent that a downloader means: a file, a name in the catalogue, or in torrents/."""
    if torrent_files.is_torrent_file(word):
        return torrent_files.read_torrent(Path(word))
    content.check_name(word)
    if where.base_url is not None:
        from p2pfs.formats.metainfo import parse
        from p2pfs.net.index_client import IndexClient

        try:
            return parse(await IndexClient(where.base_url, called="tracker").fetch(word))
        except TrackerError as error:
            known = torrent_files.known_torrent(word)
            if known is None:
                kind = CatalogueError if isinstance(error, CatalogueError) else TrackerError
                raise kind(
                    f"{error}; there is no {torrent_files.torrent_path(word)} either"
                ) from error
            screen.note(f"{error}; using {torrent_files.torrent_path(word)}")
            return known
    known = torrent_files.known_torrent(word)
    if known is not None:
        return known
    raise CatalogueError(
        f"nothing is known of {word}: there is no {torrent_files.torrent_path(word)}; "
        "name the tracker that knows it with -i HOST, or give a .torrent file"
    )


async def start_downloads(
    screen: Screen,
    client: Client,
    where: Where,
    words: Sequence[str],
    output: Path,
    as_json: bool,
    *,
    files: Sequence[str] = (),
    sequential: bool = False,
) -> list[Torrent]:
    """Download what the words stand for into `output`; the torrents that run.

    `files` and `sequential` as for `Client.download`.
    """
    torrents = []
    for word in words:
        metainfo = await _find_wanted(screen, where, word)
        if not (metainfo.web_seeds and where.web_seeds):
            _need_tracker(screen, where, metainfo)
        torrent = await start_download(
            screen,
            client,
            metainfo,
            output,
            as_json,
            trackers=where.trackers,
            files=files,
            sequential=sequential,
        )
        torrents.append(torrent)
    return torrents


async def start_download(
    screen: Screen,
    client: Client,
    metainfo: Metainfo,
    output: Path,
    as_json: bool,
    *,
    trackers: Sequence[str],
    files: Sequence[str | int] = (),
    sequential: bool = False,
    bar: bool = True,
) -> Torrent:
    """Download a torrent into `output`, and say what will not be of it.

    `bar`: the terminal is free for one while it is seen what is there. The others, and what is
    raised, as for `Client.download`.
    """
    with hash_bar(f"checking {metainfo.shared_name}", as_json=as_json, bar=bar) as told:
        torrent = await client.download(
            metainfo,
            output,
            trackers=trackers,
            progress=told,
            files=files,
            sequential=sequential,
        )
    if metainfo.links:
        links = counted(metainfo.links, "symbolic link")
        screen.note(f"{metainfo.shared_name}: {links} in the torrent, which are never made")
    return torrent
