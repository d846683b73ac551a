"""`get`: files, folders and patterns by name, several at a time.

Invariant: what goes wrong with one name never stops the others, and the command succeeds
only when everything that was asked for is complete and verified.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfs.cli.fetching import MagnetDownloads, raise_failures
from p2pfs.cli.joining import start_download
from p2pfs.cli.options import (
    Bind,
    ConfigDir,
    DownLimit,
    Files,
    IndexHost,
    IndexPort,
    Json,
    LogFile,
    NoLsd,
    NoPex,
    Output,
    PeerPort,
    Sequential,
    UpLimit,
    Verbose,
)
from p2pfs.cli.replaced import watch_for_another
from p2pfs.cli.run import error_text, run_async, start_logging
from p2pfs.cli.screen import open_screen
from p2pfs.cli.text import check_words
from p2pfs.cli.units import rate_option
from p2pfs.cli.wanted import Found, find_wanted
from p2pfs.errors import P2pfsError, StorageError, UsageError

if TYPE_CHECKING:
    from p2pfs.cli.screen import Screen
    from p2pfs.cli.session import Session
    from p2pfs.net.engine import Client, Torrent
    from p2pfs.net.index_client import IndexClient, Listed

__all__ = ["get"]

RUNNING = 8
"""Downloads that run at the same time."""

KEPT = 32
"""Complete downloads that go on being served while others run."""


def get(
    name: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME",
            help="A name, NAME@HASH, an info hash, a magnet link, a pattern such as '*.pdf', "
            "or a folder.",
        ),
    ],
    host: IndexHost = None,
    index_port: IndexPort = 9999,
    output: Output = Path(),
    files: Files = None,
    sequential: Sequential = False,
    keep_seeding: Annotated[
        bool, typer.Option("--keep-seeding", help="Stay and serve others, until `exit`.")
    ] = False,
    port: PeerPort = 0,
    up_limit: UpLimit = None,
    down_limit: DownLimit = None,
    bind: Bind = None,
    no_pex: NoPex = False,
    no_lsd: NoLsd = False,
    config_dir: ConfigDir = Path("config"),
    as_json: Json = False,
    verbose: Verbose = 0,
    log_file: LogFile = None,
) -> None:
    """Fetch files by name, from everyone who has them; exits 0 when all of it is complete.

    \b
    Examples:
      p2pfs get movie.mkv -i 10.0.0.5
      p2pfs get photos "*.pdf" -o ~/Downloads
    """
    start_logging(verbose, log_file)
    words = check_words(name, "a name to get")
    up, down = rate_option(up_limit), rate_option(down_limit)
    screen = open_screen("get", as_json=as_json)

    async def work() -> int:
        from p2pfs.cli.finding import locate
        from p2pfs.cli.session import Session
        from p2pfs.net.engine import Client
        from p2pfs.net.index_client import IndexClient

        without = _without_index(words)
        try:
            place = await locate(host, index_port, config_dir)
        except UsageError as error:
            raise UsageError(f"{error}{without}") from None
        client = Client(
            port=port,
            bind=bind,
            up_limit=up,
            down_limit=down,
            peer_exchange=not no_pex,
            local_discovery=not no_lsd,
        )
        async with IndexClient(place.base, advice=place.advice + without) as index, client:
            found = await find_wanted(index, words)
            getting = _Getting(screen, client, index, found, output, as_json, keep=keep_seeding)
            getting.files, getting.sequential = files or (), sequential
            screen.brief = len(found.wanted) > 1
            getting.tell_what_was_found()
            await asyncio.to_thread(_check_output, output)
            session = Session(screen, output=output, stay=keep_seeding, feed=getting.run)
            screen.ready(client.addresses, torrents=found.summary())
            code = await session.run()
            getting.raise_failures()
            return code

    run_async(work, screen.finish)


def _without_index(words: Sequence[str]) -> str:
    """What else can be done with a magnet link among the words; empty without one."""
    from p2pfs.formats.magnet import is_magnet

    linked = any(map(is_magnet, words))
    return "; p2pfs download LINK takes a magnet link without any index" if linked else ""


def _check_output(folder: Path) -> None:
    """Make the folder for the downloads. Raises `StorageError` when it cannot be one."""
    from p2pfs.storage.files import Files

    files = Files()
    files.close_root(files.open_root(folder, create=True))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(f"nothing can be written in {folder}: choose another folder with -o")


class _Getting:
    """The downloads of one command, `RUNNING` at a time."""

    def __init__(
        self,
        screen: Screen,
        client: Client,
        index: IndexClient,
        found: Found,
        output: Path,
        as_json: bool,
        *,
        keep: bool,
    ) -> None:
        self._screen = screen
        self._client = client
        self._index = index
        self._found = found
        self._output = output
        self._as_json = as_json
        self._keep = keep
        self.files: Sequence[str] = ()
        self.sequential = False
        self._asked = len(found.wanted) + len(found.failures)
        self._waiting = deque(found.wanted.items())
        self._complete: deque[Torrent] = deque()

    def tell_what_was_found(self) -> None:
        """Say what is wrong with what was asked for; raises it when that is all there is."""
        for note in self._found.notes:
            self._screen.note(note)
        for name, error in self._found.failures.items():
            self._tell(name, error)
        if not self._found.wanted:
            self.raise_failures()

    def _tell(self, name: str, error: P2pfsError) -> None:
        candidates: Sequence[Listed] = getattr(error, "candidates", ())
        if self._asked > 1 or self._as_json:
            self._screen.failed(name, error_text(error), candidates)
        elif candidates:
            self._screen.choices(candidates)

    def raise_failures(self) -> None:
        """What is to be said at the end when not everything is here."""
        raise_failures(self._found.failures, self._asked)

    async def run(self, session: Session) -> None:
        """Fetch all; ends when each is complete or has failed."""
        workers = [asyncio.ensure_future(self._work(session)) for _ in range(RUNNING)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, session: Session) -> None:
        while self._waiting:
            info_hash, name = self._waiting.popleft()
            try:
                await self._fetch(session, info_hash)
            except P2pfsError as error:
                self._found.failures[name] = error
                self._tell(name, error)

    async def _fetch(self, session: Session, info_hash: str) -> None:
        torrent = await self._start(info_hash)
        session.add(torrent)
        say, listed = self._screen.note, self._index.list
        async with watch_for_another(torrent, listed, say, "p2pfs get"):
            await session.complete(torrent)
        if not self._keep:
            self._complete.append(torrent)
            if len(self._complete) > KEPT:
                await session.drop(self._complete.popleft())

    async def _start(self, info_hash: str) -> Torrent:
        from p2pfs.formats.metainfo import parse

        trackers = [f"{self._index.base}/announce"]
        data = self._found.data.pop(info_hash, None)
        link = self._found.links.get(info_hash)
        if link is not None:
            downloads = MagnetDownloads(
                self._screen,
                [link],
                self._output,
                trackers=trackers,
                files=self.files,
                sequential=self.sequential,
                as_json=self._as_json,
            )
            (magnet,) = downloads.magnets
            return await downloads.start(
                self._client, magnet, None if data is None else parse(data)
            )
        return await start_download(
            self._screen,
            self._client,
            parse(data or await self._index.fetch(info_hash)),
            self._output,
            self._as_json,
            trackers=trackers,
            files=self.files,
            sequential=self.sequential,
            bar=False,
        )
