"""The content of one torrent while it runs: checkpoints, its final name, what changed under us.

Invariant: a job at the disk that was begun is waited for by `close`, and the state is saved
after the last of them; what the disk says is told in `error`, never raised.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from p2pfs.errors import StorageError
from p2pfs.net.content_watch import ContentWatch
from p2pfs.net.disk import Disk
from p2pfs.net.holdings import Holdings
from p2pfs.storage.pieces import PieceStore

__all__ = ["ContentKeeper", "KeeperOwner"]

log = logging.getLogger(__name__)

T = TypeVar("T")

CHECKPOINT_EVERY: Final = 5.0


class KeeperOwner(Protocol):
    """The torrent whose content it is."""

    @property
    def in_use(self) -> bool:
        """Whether there are peers, who may want something of it."""
        ...

    @property
    def arrived(self) -> bool:
        """Whether the content has its name, as far as those know who wait for that."""
        ...

    async def content_arrived(self, path: Path) -> None:
        """Everything that is wanted is there, at `path`."""
        ...

    def content_lost(self, pieces: list[int]) -> None:
        """Pieces that are not what they were."""
        ...

    def content_found(self, pieces: list[int]) -> None:
        """Pieces that were lost and are right again."""
        ...

    def suspend(self) -> None:
        """Fetch nothing more."""
        ...


class ContentKeeper:
    """Makes the calls of one `store` that are not about single pieces, on `disk`."""

    def __init__(
        self, owner: KeeperOwner, store: PieceStore, holdings: Holdings, disk: Disk
    ) -> None:
        self._owner = owner
        self._store = store
        self._holdings = holdings
        self._disk = disk
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._jobs: set[asyncio.Future[Any]] = set()
        self._stopped = False
        self._watch = ContentWatch(store, self._check, self._lost, self._found, self.rest)
        self.error: str | None = None
        """What is wrong with the disk or the content, while it is."""

    def start(self) -> None:
        """Save from now on how far it is, until it is finished."""
        if not self._store.finished:
            self._begin(self._checkpoint_often(), "checkpoint")

    def rest(self) -> None:
        """Keep no file open while nobody wants anything of it."""
        if not self._owner.in_use and not self._watch.busy and not self._jobs:
            self._store.rest()

    async def stop(self) -> None:
        """Begin nothing more: what is complete from now on gets its name at the next start."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._watch.close()

    async def close(self) -> None:
        """Save the state and let go of the files, when what is under way is done."""
        await asyncio.gather(*self._jobs, return_exceptions=True)
        try:
            if self._store.only_read:
                self._store.close()
            else:
                await self._on_disk(self._store.close)
        except StorageError as error:
            log.error("%s", error)

    # -- what the exchange tells

    def completed(self) -> None:
        """Every wanted piece is there."""
        if not self._stopped:
            self._begin(self._finish(), "finish")

    def served(self, number: int) -> None:
        """Content file `number` is being sent from."""
        self._watch.served(number)

    def reading_failed(self, number: int) -> None:
        """Content file `number` could not be read as promised."""
        self._watch.reading_failed(number)

    def disk_failed(self, error: StorageError | None) -> None:
        """Writing failed, or (None) works again."""
        self.error = None if error is None else str(error)

    # -- what it does

    def _begin(self, work: Coroutine[None, None, None], name: str) -> None:
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self) -> None:
        """Give the content its name, and flush it."""
        if self._owner.arrived:
            return
        while self._holdings.satisfied:
            try:
                path = await self._on_disk(_finish, self._store)
            except StorageError as error:
                self.disk_failed(error)
                await asyncio.sleep(CHECKPOINT_EVERY)
                continue
            self.disk_failed(None)
            await self._owner.content_arrived(path)
            await self._settle()
            return

    async def _settle(self) -> None:
        """Flush the finished content; until then a start after power loss rechecks it."""
        try:
            await self._on_disk(self._store.settle)
        except StorageError as error:
            log.error("%s", error)
        self.rest()

    async def _checkpoint_often(self) -> None:
        while not self._store.finished:
            await asyncio.sleep(CHECKPOINT_EVERY)
            try:
                await self._on_disk(self._store.checkpoint)
            except StorageError as error:
                log.error("%s", error)
                self.disk_failed(StorageError(f"{error}; stop, and start again to recheck"))
                self._owner.suspend()

    async def _on_disk(self, call: Callable[..., T], *args: Any) -> T:
        """A storage call that `close` waits for even when its caller is cancelled."""
        return await self._awaited(self._disk.run(0, call, *args))

    async def _check(self, call: Callable[..., T], *args: Any) -> T:
        """The same for what may take minutes."""
        return await self._awaited(self._disk.check(call, *args))

    async def _awaited(self, job: asyncio.Future[T]) -> T:
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return await asyncio.shield(job)

    # -- what the watch tells

    def _lost(self, pieces: list[int]) -> None:
        self._tell_what_is_missing()
        log.error("%s", self.error)
        self._owner.content_lost(pieces)

    def _found(self, pieces: list[int]) -> None:
        self._tell_what_is_missing()
        path = self._store.final_path
        log.warning("%s: %d pieces are right again, and offered", path, len(pieces))
        self._owner.content_found(pieces)

    def _tell_what_is_missing(self) -> None:
        gone = len(self._watch.missing)
        count = f"{gone} pieces are" if gone > 1 else "1 piece is"
        told = (
            f"{self._store.final_path} changed while it was served: {count} not offered any more; "
            "put it back as it was, or seed it again as it is now"
        )
        self.error = told if gone else None


def _finish(store: PieceStore) -> Path:
    return store.finish(durable=False)
