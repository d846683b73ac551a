"""Puts the blocks of one torrent together and gets whole pieces checked and written.

Invariant: a piece's bytes are in one place at a time: a buffer being filled, a buffer at a
worker thread, or the disk; its owner hears of it only after the worker is done. A piece
that could not be written keeps its buffer and is tried again, so that nothing is fetched
twice for want of space; of what went to the disk in blocks, one block is kept, and nothing is
fetched before that one can be written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from p2pfs.errors import StorageError
from p2pfs.geometry import BlockRequest
from p2pfs.net.disk import Disk
from p2pfs.storage.assembler import Assembler
from p2pfs.storage.hashing import block_digests
from p2pfs.storage.pieces import PieceStore

__all__ = ["PieceWriter", "WriterOwner"]

log = logging.getLogger(__name__)

RETRY_AFTER: Final = 5.0
"""Seconds after which what could not be written is tried again."""

T = TypeVar("T")


class WriterOwner(Protocol):
    """What a writer tells."""

    def piece_checked(self, piece: int, right: bool, digests: list[bytes]) -> None:
        """`piece` is verified and on disk, or (not `right`) failed its hash."""
        ...

    def piece_lost(self, piece: int) -> None:
        """What was stored of `piece` is gone: it has to be fetched again."""
        ...

    def writing_failed(self, error: StorageError) -> None: ...

    def writing_works(self) -> None:
        """What had failed was written at last."""
        ...


class PieceWriter:
    """Pieces are put together in `assembler`'s memory; beyond its budget, on the disk."""

    def __init__(
        self, owner: WriterOwner, store: PieceStore, disk: Disk, assembler: Assembler
    ) -> None:
        self._owner = owner
        self._store = store
        self._disk = disk
        self._assembler = assembler
        self._geometry = store.metainfo.geometry
        self._loop = asyncio.get_running_loop()
        self._filling: set[int] = set()
        self._spilled: dict[int, list[asyncio.Future[None]]] = {}
        self._unwritten: dict[int, memoryview] = {}
        self._probe: tuple[int, int, bytes] | None = None
        """A block (piece, begin, content) that could not be written: once it can be, others can."""
        self._jobs: set[asyncio.Task[None]] = set()
        self._at_disk: set[asyncio.Future[Any]] = set()
        self._checking = 0
        """Whole pieces at worker threads."""
        self._drained: asyncio.Event | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._closed = False

    def keep(self, block: BlockRequest, data: memoryview) -> None:
        """Copy a block to its place; `data` is not used after that."""
        piece, begin, _ = block
        writes = self._spilled.get(piece)
        if writes is None:
            if self._assembler.begin((self, piece), self._geometry.piece_size(piece)):
                self._filling.add(piece)
                self._assembler.put((self, piece), begin, data)
                return
            writes = self._spilled[piece] = []
        copy = bytes(data)
        write = self.on_disk(len(copy), self._store.write_block, piece, begin, copy)
        write.add_done_callback(partial(self._block_written, piece, begin, copy))
        writes.append(write)

    def _block_written(
        self, piece: int, begin: int, data: bytes, write: asyncio.Future[None]
    ) -> None:
        if self._probe is None and not write.cancelled() and write.exception() is not None:
            self._probe = piece, begin, data

    def verify(self, piece: int, *, digests: bool) -> None:
        """Every block of `piece` was kept: check and write it. Its outcome is told later."""
        if piece in self._spilled:
            self._start(self._verify_spilled(piece, digests))
        else:
            self._filling.discard(piece)
            self._check_buffer(piece, self._assembler.take((self, piece)), digests)

    def forget(self, piece: int) -> None:
        """What was kept of `piece` is of no use."""
        self._filling.discard(piece)
        self._assembler.drop((self, piece))
        self._spilled.pop(piece, None)

    def on_disk(self, weight: int, call: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """A storage call that `close` waits for, whatever becomes of its caller."""
        job = self._disk.run(weight, call, *args)
        self._at_disk.add(job)
        job.add_done_callback(self._at_disk.discard)
        return asyncio.shield(job)

    def _start(self, job: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        if not job.cancelled() and (error := job.exception()) is not None:
            log.error("a fault of ours while a piece was written", exc_info=error)

    def _check_buffer(
        self, piece: int, buffer: memoryview, digests: bool, *, again: bool = False
    ) -> None:
        """Have a whole piece checked and written; `again`: that failed before."""
        checked = partial(self._buffer_checked, piece, buffer, again)
        self._checking += 1
        try:
            self._disk.post(
                len(buffer), checked, _check_and_write, self._store, piece, buffer, digests
            )
        except StorageError as error:
            checked(None, error)

    def _buffer_checked(
        self,
        piece: int,
        buffer: memoryview,
        again: bool,
        outcome: tuple[bool, list[bytes]] | None,
        error: BaseException | None,
    ) -> None:
        self._checking -= 1
        if not self._checking and self._drained is not None:
            self._drained.set()
        if isinstance(error, StorageError):
            self._unwritten[piece] = buffer
            self._failed(error)
            return
        self._assembler.release(buffer)
        try:
            if outcome is None:
                self._owner.piece_lost(piece)
                raise error or AssertionError("neither a result nor an error")
            right, found = outcome
            self._owner.piece_checked(piece, right, found)
        finally:
            if again:
                self._try_again()

    async def _verify_spilled(self, piece: int, digests: bool) -> None:
        writes = self._spilled.pop(piece)
        try:
            for outcome in await asyncio.gather(*writes, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
            right, found = await self.on_disk(0, _check_written, self._store, piece, digests)
        except StorageError as error:
            self._owner.piece_lost(piece)
            self._failed(error)
            return
        self._owner.piece_checked(piece, right, found)

    def _failed(self, error: StorageError) -> None:
        log.error("%s", error)
        self._owner.writing_failed(error)
        if self._retry is None and not self._closed:
            self._retry = self._loop.call_later(RETRY_AFTER, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        if self._closed:
            return
        if self._unwritten:
            piece, buffer = next(iter(self._unwritten.items()))
            del self._unwritten[piece]
            self._check_buffer(piece, buffer, digests=True, again=True)
        elif self._probe is not None:
            self._start(self._write_probe(*self._probe))
        else:
            self._owner.writing_works()

    async def _write_probe(self, piece: int, begin: int, data: bytes) -> None:
        try:
            await self.on_disk(len(data), self._store.write_block, piece, begin, data)
        except StorageError as error:
            self._failed(error)
            return
        self._probe = None
        self._try_again()

    async def close(self) -> None:
        """Wait for the pieces at the disk, and let go of all others."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        while self._jobs or self._at_disk or self._checking:
            await asyncio.gather(*self._jobs, *self._at_disk, return_exceptions=True)
            if self._checking:
                self._drained = asyncio.Event()
                await self._drained.wait()
        for buffer in self._unwritten.values():
            self._assembler.release(buffer)
        self._unwritten.clear()
        for piece in list(self._filling):
            self.forget(piece)


def _check_and_write(
    store: PieceStore, piece: int, buffer: memoryview, digests: bool
) -> tuple[bool, list[bytes]]:
    right = store.write_piece(piece, buffer)
    return right, block_digests(buffer) if digests or not right else []


def _check_written(store: PieceStore, piece: int, digests: bool) -> tuple[bool, list[bytes]]:
    right = store.verify_written(piece)
    found: list[bytes] = []
    if digests or not right:
        size = store.metainfo.geometry.piece_size(piece)
        found = block_digests(store.read(piece, 0, size))
    return right, found
