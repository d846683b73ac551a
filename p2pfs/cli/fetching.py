"""Downloads that begin with a magnet link: first its metadata from peers, then the content.

Invariant: what was fetched once is not fetched again: the metadata is kept as a .torrent in
`torrents/`, and the same link finds it there. A link that nobody answers is gone on with, and
what was tried is told, less and less often. What goes wrong with one never stops the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pfs.cli import torrent_files, views
from p2pfs.cli.joining import start_download
from p2pfs.cli.run import error_text
from p2pfs.cli.text import printable
from p2pfs.cli.units import format_duration
from p2pfs.errors import FormatError, MagnetError, NetworkError, P2pfsError, UsageError

if TYPE_CHECKING:
    from p2pfs.cli.screen import Screen
    from p2pfs.cli.session import Session
    from p2pfs.formats.magnet import Magnet
    from p2pfs.formats.metainfo import Metainfo
    from p2pfs.net.engine import Client, Torrent
    from p2pfs.net.metadata_fetch import MetadataFetch
    from p2pfs.net.tried import Fetched

__all__ = ["MagnetDownloads", "raise_failures", "read_link"]

_TELL_EVERY = 0.5
_EXPLAIN_AFTER = 20.0
"""Seconds without any metadata after which it is told what was tried; twice as long each time."""

_EXPLAIN_EVERY = 600.0
"""The longest time between two explanations, in seconds."""

_NAME_ONE = "say where a tracker is with -i HOST (and -d PORT)"
_CUT = "; if it was longer, put it into quotes: a shell ends it at the first &"

_NAMED = 5
"""Names that an error line lists."""


class _Failed(P2pfsError):
    """Some of what was asked for could not be fetched."""


def raise_failures(failures: Mapping[str, P2pfsError], asked: int) -> None:
    """What is to be said at the end when not all of `asked` things are here, by their names."""
    if failures and asked == 1:
        raise next(iter(failures.values()))
    if failures:
        names = ", ".join(printable(name) for name in list(failures)[:_NAMED])
        more = f" and {len(failures) - _NAMED} more" if len(failures) > _NAMED else ""
        raise _Failed(f"{len(failures)} of {asked} could not be fetched: {names}{more}")


def read_link(text: str) -> Magnet:
    """The magnet link that the user typed; raises `UsageError`."""
    from p2pfs.formats.magnet import parse

    try:
        return parse(text)
    except MagnetError as error:
        raise UsageError(str(error)) from error


@dataclass(frozen=True, slots=True)
class _How:
    """How each is downloaded: as for `Client.download`; `patience` as for `MagnetDownloads`."""

    output: Path
    trackers: Sequence[str]
    files: Sequence[str]
    sequential: bool
    patience: float
    as_json: bool


class MagnetDownloads:
    """The magnet links of one command.

    `files`, if any, are chosen instead of those that a link selects (BEP 53). `patience`:
    seconds without any metadata after which a link is given up, 0 for never. `local`: peers
    are looked for on the local network too. `others`: what the command downloads beside them.
    Raises `UsageError` for a link that cannot be used.
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
        patience: float = 0.0,
        local: bool = False,
        others: int = 0,
        as_json: bool = False,
    ) -> None:
        self._screen = screen
        self._how = _How(output, trackers, files, sequential, patience, as_json)
        from p2pfs.formats.magnet import merged

        self.magnets = merged(map(read_link, links))
        self._asked = len(self.magnets) + others
        self._fetched: dict[str, Fetched] = {}
        self._failures: dict[str, P2pfsError] = {}
        for magnet in self.magnets:
            if not (local or self._has_whom_to_ask(magnet)):
                raise UsageError(f"{_alone(magnet)}: {_NAME_ONE}{_CUT * _is_bare(magnet)}")

    def _has_whom_to_ask(self, magnet: Magnet) -> bool:
        return bool(magnet.trackers or magnet.peers or self._how.trackers)

    @property
    def names(self) -> list[str]:
        return [magnet.shown for magnet in self.magnets]

    def status(self) -> str:
        """What is done about the metadata now, in a phrase; empty when there is nothing to do."""
        return "; ".join(views.metadata_line(one) for one in self._fetched.values())

    def report(self) -> str:
        """The same with what was tried so far."""
        lines = [views.metadata_line(one, tried=True) for one in self._fetched.values()]
        return "; ".join(lines) or "the metadata is there"

    def feed(self, client: Client) -> Callable[[Session], Coroutine[Any, Any, None]]:
        """What downloads all in a session; ends when each is complete or has failed.

        Raises what is to be said when nothing that was asked for can come any more; the rest
        is for `raise_failures`, when the others are through.
        """

        async def run(session: Session) -> None:
            work = [
                asyncio.ensure_future(self._attempt(client, one, session)) for one in self.magnets
            ]
            try:
                await asyncio.gather(*work)
            finally:
                for task in work:
                    task.cancel()
                await asyncio.gather(*work, return_exceptions=True)
            if len(self._failures) == self._asked:
                self.raise_failures()

        return run

    def raise_failures(self) -> None:
        """Raise what is to be said at the end when not every link was downloaded."""
        raise_failures(self._failures, self._asked)

    async def _attempt(self, client: Client, magnet: Magnet, session: Session) -> None:
        try:
            await self._download(client, magnet, session)
        except P2pfsError as error:
            taken = magnet.shown in self._failures
            self._failures[str(magnet.torrent_id) if taken else magnet.shown] = error
            if self._asked > 1:
                self._screen.failed(magnet.shown, error_text(error))

    async def _download(self, client: Client, magnet: Magnet, session: Session) -> None:
        for torrent in client.torrents:  # named in another way, too
            if torrent.metainfo.torrent_id == magnet.torrent_id:
                torrent.add_peers(magnet.peers)
                return
        torrent = await self.start(client, magnet)
        session.add(torrent)
        await session.complete(torrent)

    async def start(self, client: Client, magnet: Magnet, known: Metainfo | None = None) -> Torrent:
        """Start the download of one; that takes as long as its metadata does, unless it is `known`.

        Raises `NetworkError` when nobody gives it, and what `Client.download` raises.
        """
        if known is None:
            known = await self._kept(magnet)
        if known is None:
            return await self._fetch(client, magnet)
        torrent = await self._start(client, magnet, _with_more(known, magnet))
        torrent.add_peers(magnet.peers)
        return torrent

    async def _kept(self, magnet: Magnet) -> Metainfo | None:
        """The metadata, from `torrents/`."""
        found = await asyncio.to_thread(torrent_files.find_kept, magnet.torrent_id, magnet.shown)
        if found is None:
            return None
        path, metainfo = found
        self._screen.note(f"the metadata of {metainfo.name} is in {path}")
        return metainfo

    async def _fetch(self, client: Client, magnet: Magnet) -> Torrent:
        if not self._has_whom_to_ask(magnet):
            self._screen.note(
                f"{_alone(magnet)}: peers are looked for on the local network alone; "
                f"{_NAME_ONE}{_CUT * _is_bare(magnet)}"
            )
        fetch = client.fetch_metadata(magnet, trackers=self._how.trackers)
        coming = asyncio.ensure_future(fetch.wait())
        try:
            await self._follow(fetch, coming)
            metainfo = await self._verified(coming, magnet)
            self._screen.metadata(fetch.progress())
            self._screen.note(await asyncio.to_thread(torrent_files.keep_fetched, metainfo))
            return await self._start(client, magnet, metainfo)
        finally:
            self._fetched.pop(str(magnet.torrent_id), None)
            coming.cancel()
            await fetch.close()

    async def _follow(self, fetch: MetadataFetch, coming: asyncio.Future[Metainfo]) -> None:
        """Tell how far the metadata is until it has come; raises `NetworkError` to give up."""
        patience, loop = self._how.patience, asyncio.get_running_loop()
        gained, gained_at, explain_after = 0, loop.time(), _EXPLAIN_AFTER
        while not coming.done():
            now = fetch.progress()
            self._fetched[now.info_hash] = now
            self._screen.metadata(now)
            if now.bytes_done != gained:
                gained, gained_at, explain_after = now.bytes_done, loop.time(), _EXPLAIN_AFTER
            waited = loop.time() - gained_at
            failed = f"nobody gave the metadata of {printable(now.name)} in "
            if patience and waited >= patience:
                raise NetworkError(f"{failed}{format_duration(patience)}: {now.tried}")
            if waited >= explain_after:
                self._screen.note(f"{failed}{format_duration(waited)}, trying on: {now.tried}")
                explain_after += min(explain_after, _EXPLAIN_EVERY)
            await asyncio.wait([coming], timeout=_TELL_EVERY)

    async def _verified(self, coming: asyncio.Future[Metainfo], magnet: Magnet) -> Metainfo:
        try:
            return await coming
        except FormatError as error:
            raise type(error)(
                f"the torrent of the magnet link {printable(magnet.shown)} cannot be used: {error}"
            ) from error

    async def _start(self, client: Client, magnet: Magnet, metainfo: Metainfo) -> Torrent:
        from p2pfs.formats.magnet import selected_files

        return await start_download(
            self._screen,
            client,
            metainfo,
            self._how.output,
            self._how.as_json,
            trackers=self._how.trackers,
            files=self._how.files or selected_files(magnet, metainfo),
            sequential=self._how.sequential,
            bar=False,
        )


def _alone(magnet: Magnet) -> str:
    name = printable(magnet.shown)
    return f"the magnet link of {name} names neither a tracker (http, https, udp) nor a peer"


def _is_bare(magnet: Magnet) -> bool:
    """Whether the link says nothing but the hash."""
    return magnet == type(magnet)(magnet.torrent_id)


def _with_more(kept: Metainfo, magnet: Magnet) -> Metainfo:
    """A torrent that is known already, with the trackers and web seeds of the link as well.

    A private torrent has its own trackers and no others (BEP 27).
    """
    known = {url for tier in kept.trackers for url in tier}
    more = tuple((url,) for url in magnet.trackers if url not in known)
    if kept.private and known:
        more = ()
    seeds = tuple(dict.fromkeys((*kept.web_seeds, *magnet.web_seeds)))
    return replace(kept, trackers=(*kept.trackers, *more), web_seeds=seeds)
