"""A node: folders that are shared as they are, and a place at the index.

Invariant: what is listed as ours is served from a file that looked the same when it was
hashed; a file that is being written, or is half downloaded, is not shared; and no fault
with one file, or with the index, ends the sharing of the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from p2pfs.errors import P2pfsError, StorageError, UsageError
from p2pfs.formats.metainfo import Metainfo, parse
from p2pfs.net.engine import Client, Torrent
from p2pfs.net.folder_watch import FolderWatch
from p2pfs.net.index_client import IndexClient, Listed
from p2pfs.net.progress import Taking
from p2pfs.net.publication import Publication
from p2pfs.storage.hash_cache import HashCache
from p2pfs.storage.sharing import Item, Settling, Source
from p2pfs.storage.shelf import Hashing, Shelf

__all__ = ["Node", "NodeEvent", "NodeFile"]

log = logging.getLogger(__name__)

TELL_EVERY: Final = 0.5
"""Seconds between two new lists for the index while many files are being hashed."""

SETTLE_PATIENCE: Final = 3.0
"""Seconds that the start waits for files that were written just before it."""

LEAVE_PATIENCE: Final = 2.0
"""Seconds that a download waits to be out of the tracker's list before it is shared."""

IDLE_TAKER: Final = 60.0
"""Seconds after which a peer that takes nothing is not waited for any more."""

Kind = Literal["shared", "changed", "withdrawn", "complete", "problem", "index_lost", "index_back"]


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """Something that a user would want to know; `name` is a file's, or empty."""

    kind: Kind
    name: str = ""
    text: str = ""
    size: int = 0
    info_hash: str = ""


@dataclass(frozen=True, slots=True)
class NodeFile:
    """A file (or tree) that is shared now; `size` in bytes."""

    name: str
    size: int
    info_hash: str
    path: Path


@dataclass(slots=True)
class _Shared:
    item: Item
    torrent: Torrent


class Node:
    """Shares what `sources` find through `client`, and holds a place at `index`.

    The client is the caller's: it is started before and closed after the node; the index
    was told who this node is, and `find_index` moves it to where it is when it does not
    answer any more. Events come in the loop's thread. `hashing` is told (name,
    bytes done, bytes in all) on worker threads.
    """

    def __init__(
        self,
        client: Client,
        index: IndexClient,
        sources: Sequence[Source],
        *,
        cache: HashCache,
        on_event: Callable[[NodeEvent], None] = lambda event: None,
        hashing: Hashing | None = None,
        find_index: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._client = client
        self._index = index
        self._shelf = Shelf(sources, cache, hashing)
        self._tell = on_event
        self._shared: dict[str, _Shared] = {}
        self._fetching: dict[str, Torrent] = {}
        self._whole: dict[str, Torrent] = {}
        """Downloads that are no single file of the folder: trees, by their names."""
        self._problems: dict[str, str] = {}
        self._settling = Settling()
        self._turn = asyncio.Lock()
        self._told_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch = FolderWatch(self._shelf.folders, more=not self._shelf.all_in_folders)
        self._publication = Publication(
            index,
            client.port,
            self._leased,
            refused=self._problem,
            lost=lambda why: self._tell(NodeEvent("index_lost", text=why)),
            back=lambda: self._tell(NodeEvent("index_back")),
            again=find_index,
        )

    async def start(self) -> None:
        """Register, then share what is there; what was written a moment ago is waited for.

        An index that is down is told of and tried again. Raises `NodeTaken` when another
        node has this id, `NotAllowed` without the token, `StorageError` when a source
        cannot be looked at.
        """
        await asyncio.to_thread(self._shelf.scan)
        await self._publication.lease.start()
        self._watch.start()
        known = await asyncio.to_thread(self._shelf.known)
        wait = await self._look()
        until = asyncio.get_running_loop().time() + SETTLE_PATIENCE
        while wait is not None and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(wait)
            wait = await self._look()
        await self._publication.settled()
        await self._take_back(known)
        self._background(self._look_forever(wait), "node")

    def _background(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Leave the index and stop sharing; downloads under way are broken off, resumable."""
        self._shelf.break_off()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._watch.close()
        await self._publication.lease.close()
        torrents = [*self._fetching.values(), *self._torrents()]
        await asyncio.gather(*(torrent.close() for torrent in torrents), return_exceptions=True)
        self._shared.clear()
        self._whole.clear()
        self._fetching.clear()

    # -- what is here, and what there is

    @property
    def index_problem(self) -> str:
        """Why the index does not have us now; empty when it does."""
        return self._publication.lease.problem

    def files(self) -> list[NodeFile]:
        """What is shared now, in the order of the names."""
        return [
            NodeFile(name, shared.item.size, shared.torrent.info_hash, shared.item.path)
            for name, shared in sorted(self._shared.items())
        ]

    async def listed(self, pattern: str | None = None) -> list[Listed]:
        """What the index lists; raises `TrackerError`."""
        return await self._index.list(pattern)

    def taken_from_here(self) -> list[Taking]:
        """The downloads that others have running from this node."""
        return [taking for taking in self._client.takings() if taking.idle < IDLE_TAKER]

    async def finish_serving(
        self,
        grace: float,
        tell: Callable[[list[Taking], float], None] = lambda takings, left: None,
    ) -> None:
        """Serve for `grace` seconds more, and then until nobody downloads from here.

        `tell` hears once a second who does, and how many seconds of grace are left.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + grace
        while True:
            left = max(0.0, until - loop.time())
            takings = self.taken_from_here()
            if not left and not takings:
                return
            tell(takings, left)
            await asyncio.sleep(min(left, 1.0) or 1.0)

    # -- fetching

    async def fetch(self, wanted: str) -> Torrent:
        """Download a name (NAME@HASH, an info hash) into the first folder, then share it.

        The torrent that runs; `Torrent.close` breaks it off, and the next fetch resumes it.
        Raises `CatalogueError`, `TrackerError`, `StorageError`, and `UsageError` for what
        is here already.
        """
        folder = self._shelf.download_folder
        if folder is None:
            raise UsageError("this node has no folder to download into")
        metainfo = parse(await self._index.fetch(wanted))
        name = metainfo.shared_name
        if name in self._fetching:
            raise UsageError(f"{name} is being downloaded already")
        mine = self._shared.get(name)
        if mine is not None:
            if mine.torrent.metainfo.torrent_id == metainfo.torrent_id:
                raise UsageError(f"{name} is here already, at {mine.item.path}")
            raise StorageError(
                f"another {name} is here already, at {mine.item.path}: "
                "move it away or delete it first"
            )
        torrent = await self._client.download(
            metainfo, folder, trackers=[f"{self._index.base}/announce"]
        )
        self._fetching[name] = torrent
        self._background(self._adopt(name, torrent), f"fetch {name}")
        return torrent

    async def _adopt(self, name: str, torrent: Torrent) -> None:
        """Wait for a download, and make it a shared file like any other."""
        try:
            await torrent.wait()
            if not _has_own_tracker(torrent.metainfo):
                leaving = self._background(torrent.stop_announcing(), f"leave {name}")
                await asyncio.wait([leaving], timeout=LEAVE_PATIENCE)
            async with self._turn:
                item = (await asyncio.to_thread(self._shelf.scan)).items.get(name)
                if item is None or len(torrent.metainfo.files) > 1:
                    self._whole[name] = torrent
                else:
                    self._shared[name] = _Shared(item, torrent)
                    await asyncio.to_thread(self._shelf.remember, item, torrent.metainfo)
                self._publication.update()
            size = torrent.metainfo.total_length
            self._tell(NodeEvent("complete", name, size=size, info_hash=torrent.info_hash))
        except P2pfsError as error:
            if not torrent.closing:
                self._tell(NodeEvent("problem", name, str(error)))
        finally:
            self._fetching.pop(name, None)
            self._watch.look_now()

    # -- deleting

    async def delete(self, names: Iterable[str]) -> dict[str, str | None]:
        """Delete files of ours by their exact names: for each the reason why not, or None.

        They are no longer served, and the index is told, when this returns.
        """
        outcome: dict[str, str | None] = {}
        gone: list[str] = []
        async with self._turn:
            for name in names:
                shared = self._shared.get(name)
                if shared is None or shared.item.tree:
                    outcome[name] = "there is no file of this name here"
                    continue
                await shared.torrent.close()
                try:
                    await asyncio.to_thread(self._shelf.delete, shared.item)
                except StorageError as error:
                    outcome[name] = str(error)
                    self._watch.look_now()
                else:
                    outcome[name] = None
                del self._shared[name]
                gone.append(shared.torrent.info_hash)
        await self._publication.settled()
        await self._publication.take_back(gone)
        return outcome

    # -- keeping up with the disk

    async def _look_forever(self, wait: float | None) -> None:
        while True:
            await self._watch.wait(wait)
            try:
                wait = await self._look()
            except StorageError as error:
                self._problem("", str(error))
                wait = None
            except Exception:
                log.exception("a fault of ours while looking at the folder")
                wait = None

    async def _look(self) -> float | None:
        """Bring what is shared in line with the disk; in how many seconds to look again."""
        gone: list[str] = []
        async with self._turn:
            scan = await asyncio.to_thread(self._shelf.scan)
            for name, shared in list(self._shared.items()):
                item = scan.items.get(name)
                if item is None or item.signature != shared.item.signature:
                    kind: Kind = "withdrawn" if item is None else "changed"
                    await self._unshare(name, kind)
                    gone.append(shared.torrent.info_hash)
            fresh = {
                name: item
                for name, item in scan.items.items()
                if name not in self._shared and name not in self._fetching
            }
            loop = asyncio.get_running_loop()
            ready, wait = self._settling.ready(fresh, loop.time(), time.time())
            for path, reason in scan.problems.items():
                self._problem(path, reason)
        for item in ready:
            await self._share(item)
        self._publication.update()
        if gone:
            await self._publication.settled()
            await self._publication.take_back(gone)
        return wait

    async def _share(self, item: Item) -> None:
        """Hash one item, or remember its hashes, and seed it."""
        try:
            metainfo = await asyncio.to_thread(self._shelf.describe, item)
            async with self._turn:
                if metainfo is None or item.name in self._shared or item.name in self._fetching:
                    return
                torrent = await self._client.seed(
                    metainfo, item.seed_path, verify=False, announce_locally=False
                )
                self._shared[item.name] = _Shared(item, torrent)
        except P2pfsError as error:
            self._problem(item.name, str(error))
            return
        except OSError as error:
            self._problem(item.name, error.strerror or str(error))
            return
        self._problems.pop(item.name, None)
        self._tell(_event("shared", item.name, item, torrent))
        now = asyncio.get_running_loop().time()
        if now - self._told_at >= TELL_EVERY:
            self._told_at = now
            self._publication.update()

    async def _unshare(self, name: str, kind: Kind) -> None:
        shared = self._shared.pop(name)
        await shared.torrent.close()
        self._tell(_event(kind, name, shared.item, shared.torrent))

    def _problem(self, name: str, reason: str) -> None:
        """Told once, until it is another one."""
        if self._problems.get(name) != reason:
            self._problems[name] = reason
            self._tell(NodeEvent("problem", name, reason))

    # -- what the index knows

    def _torrents(self) -> list[Torrent]:
        return [*self._whole.values(), *(one.torrent for one in self._shared.values())]

    def _served(self) -> dict[str, Metainfo]:
        return {torrent.info_hash: torrent.metainfo for torrent in self._torrents()}

    def _leased(self) -> dict[str, Metainfo]:
        """What the index is told that we have: not what is for another tracker alone."""
        served = self._served().items()
        return {name: metainfo for name, metainfo in served if not _has_own_tracker(metainfo)}

    async def _take_back(self, known: dict[str, Path]) -> None:
        """What changed or went while this node was away is no longer what we publish."""
        served = self._served()
        gone = [info_hash for info_hash in known if info_hash not in served]
        for info_hash in gone:
            if not await asyncio.to_thread(known[info_hash].exists):
                await asyncio.to_thread(self._shelf.forget, known[info_hash])
        await self._publication.take_back(gone)


def _has_own_tracker(metainfo: Metainfo) -> bool:
    """Whether only that tracker may hear of who has it (BEP 27)."""
    return metainfo.private and bool(metainfo.trackers)


def _event(kind: Kind, name: str, item: Item, torrent: Torrent) -> NodeEvent:
    return NodeEvent(kind, name, size=item.size, info_hash=torrent.info_hash)
