"""Downloads that begin with a magnet link: first its metadata from peers, then the content.

Invariant: what was fetched once is not fetched again: the metadata is kept as a .torrent in
`torrents/`, and the same link finds it there. A link that nobody answers ends with what was
tried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pfs.cli import torrent_files, views
from p2pfs.cli.hashing import hash_bar
from p2pfs.cli.text import counted, printable
from p2pfs.cli.units import format_duration
from p2pfs.errors import FormatError, MagnetError, NetworkError, UsageError

if TYPE_CHECKING:
    from p2pfs.cli.screen import Screen
    from p2pfs.cli.session import Session
    from p2pfs.formats.magnet import Magnet
    from p2pfs.formats.metainfo import Metainfo
    from p2pfs.net.engine import Client, Torrent
    from p2pfs.net.metadata_fetch import Fetched

__all__ = ["PATIENCE", "MagnetDownloads", "is_link", "read_link"]

PATIENCE = 120.0
"""Seconds without any metadata after which a link is given up, unless the user says else."""

_TELL_EVERY = 0.5
_ALONE = "names no tracker and no peer, so there is nobody to ask"


def is_link(word: str) -> bool:
    """Whether a word on the command line means a magnet link."""
    return word.lstrip()[: len("magnet:")].lower() == "magnet:"


def read_link(text: str) -> Magnet:
    """The magnet link that the user typed; raises `UsageError`."""
    from p2pfs.formats.magnet import parse

    try:
        return parse(text)
    except MagnetError as error:
        raise UsageError(str(error)) from error


@dataclass(frozen=True, slots=True)
class _How:
    """How each is downloaded: as for `Client.download`; `patience` in seconds, 0 without end."""

    output: Path
    trackers: Sequence[str]
    files: Sequence[str]
    sequential: bool
    patience: float
    as_json: bool


class MagnetDownloads:
    """The magnet links of one command.

    `files`, if any, are chosen instead of those that a link selects (BEP 53). `local`: peers
    are looked for on the local network too. Raises `UsageError` for a link that cannot be used.
    """

    def __init__(
        self,
        screen: Screen,
        links: Sequence[str],
        output: Path,
        *,
        trackers: Sequence[str] = (),
        files: Sequence[str] = (),
        sequential: bool = False,
        patience: float = PATIENCE,
        local: bool = False,
        as_json: bool = False,
    ) -> None:
        self._screen = screen
        self._how = _How(output, trackers, files, sequential, patience, as_json)
        magnets = {magnet.torrent_id: magnet for magnet in map(read_link, links)}
        self.magnets = list(magnets.values())
        self._fetched: dict[str, Fetched] = {}
        for magnet in self.magnets:
            if not (magnet.trackers or magnet.peers or trackers or local):
                raise UsageError(
                    f"the magnet link of {printable(magnet.shown)} {_ALONE}: "
                    "say where a tracker is with -i HOST (and -d PORT)"
                )

    @property
    def names(self) -> list[str]:
        return [magnet.shown for magnet in self.magnets]

    def status(self) -> str:
        """What is done about the metadata now, in a phrase."""
        return "; ".join(views.metadata_line(one) for one in self._fetched.values())

    def feed(self, client: Client) -> Callable[[Session], Coroutine[Any, Any, None]]:
        """What downloads all in a session; ends when each is complete.

        Raises what ends one of them.
        """

        async def run(session: Session) -> None:
            work = [
                asyncio.ensure_future(self._download(client, one, session)) for one in self.magnets
            ]
            try:
                await asyncio.gather(*work)
            finally:
                for task in work:
                    task.cancel()
                await asyncio.gather(*work, return_exceptions=True)

        return run

    async def _download(self, client: Client, magnet: Magnet, session: Session) -> None:
        torrent = await self.start(client, magnet)
        session.add(torrent)
        await session.complete(torrent)

    async def start(self, client: Client, magnet: Magnet) -> Torrent:
        """Start the download of one, which may take as long as its metadata takes.

        Raises `NetworkError` when nobody gives it, and what `Client.download` raises.
        """
        known = await asyncio.to_thread(torrent_files.find_kept, magnet.torrent_id, magnet.shown)
        if known is None:
            return await self._fetch(client, magnet)
        path, kept = known
        self._screen.note(f"the metadata of {kept.name} is in {path}")
        torrent = await self._start(client, magnet, _with_more(kept, magnet))
        torrent.add_peers(magnet.peers)
        return torrent

    async def _fetch(self, client: Client, magnet: Magnet) -> Torrent:
        fetch = client.fetch_metadata(magnet, trackers=self._how.trackers)
        key = str(magnet.torrent_id)
        loop = asyncio.get_running_loop()
        coming = asyncio.ensure_future(fetch.wait())
        try:
            gained, gained_at = 0, loop.time()
            while not coming.done():
                self._fetched[key] = now = fetch.progress()
                self._screen.metadata(now)
                if now.bytes_done != gained:
                    gained, gained_at = now.bytes_done, loop.time()
                if self._how.patience and loop.time() - gained_at >= self._how.patience:
                    raise NetworkError(
                        f"nobody gave the metadata of {printable(magnet.shown)} in "
                        f"{format_duration(self._how.patience)}: {fetch.explain()}"
                    )
                await asyncio.wait([coming], timeout=_TELL_EVERY)
            metainfo = await self._verified(coming, magnet)
            self._screen.metadata(fetch.progress())
            self._screen.note(torrent_files.keep_fetched(metainfo))
            return await self._start(client, magnet, metainfo)
        finally:
            self._fetched.pop(key, None)
            coming.cancel()
            await fetch.close()

    async def _verified(self, coming: asyncio.Future[Metainfo], magnet: Magnet) -> Metainfo:
        try:
            return await coming
        except FormatError as error:
            raise type(error)(
                f"the torrent of the magnet link {printable(magnet.shown)} cannot be used: {error}"
            ) from error

    async def _start(self, client: Client, magnet: Magnet, metainfo: Metainfo) -> Torrent:
        from p2pfs.formats.magnet import selected_paths

        how = self._how
        with hash_bar(f"checking {metainfo.name}", as_json=how.as_json, bar=False) as told:
            torrent = await client.download(
                metainfo,
                how.output,
                trackers=how.trackers,
                progress=told,
                files=how.files or selected_paths(magnet, metainfo),
                sequential=how.sequential,
            )
        if metainfo.links:
            links = counted(metainfo.links, "symbolic link")
            self._screen.note(f"{metainfo.name}: {links} in the torrent, which are never made")
        return torrent


def _with_more(kept: Metainfo, magnet: Magnet) -> Metainfo:
    """A torrent that is known already, with the trackers and web seeds of the link as well."""
    known = {url for tier in kept.trackers for url in tier}
    more = tuple((url,) for url in magnet.trackers if url not in known)
    seeds = tuple(dict.fromkeys((*kept.web_seeds, *magnet.web_seeds)))
    return replace(kept, trackers=(*kept.trackers, *more), web_seeds=seeds)
