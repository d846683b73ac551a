"""Pieces on their way to the disk: in memory and beyond it, right, wrong and without room."""

from __future__ import annotations

import pytest

from p2pfs.errors import StorageError
from p2pfs.net import piece_writer
from p2pfs.net.piece_writer import PieceWriter
from p2pfs.storage.pieces import PieceStore
from tests.support.swarm import Sample, Swarm
from tests.support.waiting import until

pytestmark = pytest.mark.loops("uvloop", "asyncio")


class Told:
    """What a writer told its owner."""

    def __init__(self) -> None:
        self.checked: list[tuple[int, bool, int]] = []
        self.lost: list[int] = []
        self.failures = 0
        self.works = 0

    def piece_checked(self, piece: int, right: bool, digests: list[bytes]) -> None:
        self.checked.append((piece, right, len(digests)))

    def piece_lost(self, piece: int) -> None:
        self.lost.append(piece)

    def writing_failed(self, error: StorageError) -> None:
        self.failures += 1

    def writing_works(self) -> None:
        self.works += 1


@pytest.fixture
async def writing(
    swarm: Swarm, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> tuple[PieceWriter, Told, PieceStore]:
    """A writer of its own beside that of a download, on the same store."""
    monkeypatch.setattr(piece_writer, "RETRY_AFTER", 0.05)
    client, torrent = await swarm.download(sample)
    told = Told()
    writer = PieceWriter(told, torrent._store, client.disk, client.assembler)
    swarm._stack.push_async_callback(writer.close)
    return writer, told, torrent._store


def keep(writer: PieceWriter, sample: Sample, piece: int, *, wrong: bool = False) -> None:
    for block in sample.metainfo.geometry.blocks(piece):
        data = bytearray(sample.block(*block))
        if wrong:
            data[0] ^= 1
        writer.keep(block, memoryview(data))
        data[:] = bytes(len(data))  # what was kept is a copy


@pytest.mark.parametrize("budget", [1 << 20, 0], ids=["memory", "disk"])
async def test_a_piece_is_told_right_or_wrong_once_it_was_checked(
    writing: tuple[PieceWriter, Told, PieceStore], sample: Sample, budget: int
) -> None:
    writer, told, store = writing
    writer._assembler.budget = budget
    writer._assembler.begin("other", 1)  # so that a budget of nothing is used up

    keep(writer, sample, 3)
    keep(writer, sample, 18)
    keep(writer, sample, 5, wrong=True)
    writer.verify(3, digests=False)
    writer.verify(18, digests=True)
    writer.verify(5, digests=False)
    await until(lambda: len(told.checked) == 3)

    assert sorted(told.checked) == [(3, True, 0), (5, False, 1), (18, True, 1)]
    assert sorted(store.verified) == [3, 18]
    writer._assembler.drop("other")
    assert writer._assembler.used == 0


async def test_a_piece_that_cannot_be_written_is_kept_and_tried_again(
    writing: tuple[PieceWriter, Told, PieceStore], sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, told, store = writing
    write_piece, attempts = store.write_piece, []

    def failing(piece: int, data: memoryview) -> bool:
        attempts.append(piece)
        if len(attempts) < 5:
            raise StorageError("no room", disk_full=True)
        return write_piece(piece, data)

    monkeypatch.setattr(store, "write_piece", failing)
    for piece in (1, 2):
        keep(writer, sample, piece)
        writer.verify(piece, digests=False)

    await until(lambda: told.works)

    assert told.lost == []
    assert sorted(store.verified) == [1, 2]
    assert told.failures == 4
    assert told.works == 1
    assert writer._assembler.used == 0


async def test_a_piece_beyond_the_memory_that_cannot_be_written_is_lost(
    writing: tuple[PieceWriter, Told, PieceStore], sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, told, store = writing
    writer._assembler.budget = 0
    writer._assembler.begin("other", 1)
    write_block, room = store.write_block, False

    def failing(piece: int, begin: int, data: bytes) -> None:
        if not room:
            raise StorageError("no room", disk_full=True)
        write_block(piece, begin, data)

    monkeypatch.setattr(store, "write_block", failing)
    keep(writer, sample, 1)
    writer.verify(1, digests=False)
    await until(lambda: told.failures > 3)  # it is tried now and then
    works_without_room = told.works
    room = True
    await until(lambda: told.works)

    assert works_without_room == 0
    assert told.lost == [1]
    assert told.checked == []


async def test_closing_waits_for_what_is_at_the_disk_and_lets_go_of_the_rest(
    writing: tuple[PieceWriter, Told, PieceStore], sample: Sample
) -> None:
    writer, told, store = writing
    keep(writer, sample, 1)
    keep(writer, sample, 2)
    writer.verify(1, digests=False)
    job = writer.on_disk(0, int)
    job.cancel()  # its caller gave up; it is waited for all the same

    await writer.close()

    assert told.checked == [(1, True, 0)]
    assert list(store.verified) == [1]
    assert writer._assembler.used == 0


async def test_a_fault_of_ours_in_a_check_is_told_in_the_log(
    writing: tuple[PieceWriter, Told, PieceStore],
    sample: Sample,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer, _, store = writing

    def broken(piece: int, data: memoryview) -> bool:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(store, "write_piece", broken)
    keep(writer, sample, 1)
    writer.verify(1, digests=False)
    await until(lambda: "a mistake" in caplog.text)
