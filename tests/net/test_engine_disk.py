"""Disks that are full or fail, and content that changes while it is served."""

from __future__ import annotations

import asyncio
import errno
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from p2pfs.net import content_watch, piece_writer
from p2pfs.net import engine as engine_module
from p2pfs.net.engine import Client
from p2pfs.storage import pieces as pieces_module
from p2pfs.storage.files import Files
from p2pfs.storage.hashing import verify_piece
from p2pfs.swarm import peer_book
from tests.support.swarm import KIB, Sample, Swarm, at, done, make_sample
from tests.support.waiting import until

pytestmark = pytest.mark.loops("uvloop")
both_loops = pytest.mark.loops("uvloop", "asyncio")

TREE = {"a.txt": 50_000, "deep/er/b.bin": 33_000, "deep/empty": 0, "c": 1, "z/last": 0, "d": 70_000}


# -- the disk


class FullDisk(Files):
    """A disk that has no room for content while it is full; it is when `room` bytes are written."""

    full = False
    room = math.inf
    refused = 0

    @classmethod
    def sys_pwrite(cls, fd: int, data: Any, offset: int) -> int:  # type: ignore[override]
        if len(data) > 4 * KIB:
            cls.full |= len(data) > cls.room
            if cls.full:
                cls.refused += 1
                raise OSError(errno.ENOSPC, "No space left on device")
            cls.room -= len(data)
        return Files.sys_pwrite(fd, data, offset)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> type[FullDisk]:
    FullDisk.full, FullDisk.room, FullDisk.refused = False, math.inf, 0
    monkeypatch.setattr(pieces_module, "Files", FullDisk)
    monkeypatch.setattr(piece_writer, "RETRY_AFTER", 0.1)
    return FullDisk


@pytest.mark.parametrize("budget", [32 * 1024 * KIB, 1])
async def test_on_a_full_disk_requests_stop_seeding_goes_on_and_space_completes_it(
    swarm: Swarm,
    tmp_path: Path,
    full_disk: type[FullDisk],
    monkeypatch: pytest.MonkeyPatch,
    budget: int,
) -> None:
    monkeypatch.setattr(engine_module, "ASSEMBLY_BUDGET", budget)
    sample = make_sample(tmp_path / "shared", 3_000_000, piece_length=32 * KIB)
    full_disk.room = 1_500_000
    seeder, seeded = await swarm.seed(sample, up_limit=3_000_000)
    leecher, torrent = await swarm.download(sample, seeder)

    await until(lambda: torrent.progress().state == "error")
    error = torrent.progress().error
    await until(lambda: all(not p.session.outstanding for p in torrent.exchange.transfer.peers))
    done_then = torrent.progress().pieces_done
    _, third = await swarm.download(sample, leecher, client=await _second(swarm, monkeypatch))
    await until(lambda: third.progress().pieces_done >= done_then)
    uploaded = seeded.progress().uploaded
    await asyncio.sleep(0.3)
    uploaded_meanwhile = seeded.progress().uploaded - uploaded

    full_disk.full, full_disk.room = False, math.inf
    [path] = await done(torrent)

    assert error is not None
    assert "full" in error
    assert uploaded_meanwhile == 0
    assert full_disk.refused > 0
    assert torrent.progress().error is None
    assert torrent.progress().state == "seeding"
    assert sample.is_at(path)


async def _second(swarm: Swarm, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client on another disk, which has room."""
    monkeypatch.setattr(pieces_module, "Files", Files)
    return await swarm.client()


async def test_a_client_with_a_full_disk_closes_and_goes_on_with_what_it_has(
    swarm: Swarm, sample: Sample, full_disk: type[FullDisk]
) -> None:
    seeder, _ = await swarm.seed(sample, up_limit=600_000)
    output = swarm.output()
    leecher, torrent = await swarm.download(sample, seeder, output=output)
    await until(lambda: torrent.progress().pieces_done >= 3)
    full_disk.full = True
    await until(lambda: torrent.progress().error)
    async with asyncio.timeout(5):
        await leecher.close()
    kept = torrent.progress().pieces_done

    full_disk.full = False
    _, again = await swarm.download(sample, seeder, output=output)
    [path] = await done(again)

    assert sample.is_at(path)
    assert again.progress().downloaded <= 300_000 - (kept - 1) * 16 * KIB


# -- content that changes while it is served


def _truncate(path: Path) -> None:
    os.truncate(path, 100_000)


def _edit(path: Path) -> None:
    with path.open("r+b") as file:
        for piece in (2, 9, 10):
            file.seek(piece * 16 * KIB + 7)
            file.write(b"changed")


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(bytes(300_000))
    other.replace(path)


def _delete(path: Path) -> None:
    path.unlink()


@both_loops
@pytest.mark.parametrize("change", [_truncate, _edit, _replace, _delete])
async def test_what_changed_is_not_served_and_what_is_put_back_is_served_again(
    swarm: Swarm,
    sample: Sample,
    stream_kind: str,
    change: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(content_watch, "CHECK_EVERY", 0.05)
    monkeypatch.setattr(peer_book, "FIRST_RETRY", 0.05)
    kept = sample.path.with_name("kept")
    kept.write_bytes(sample.content)
    seeder, seeded = await swarm.seed(sample, up_limit=1_000_000)
    _, torrent = await swarm.download(sample, seeder)
    await until(lambda: torrent.progress().pieces_done >= 2)

    change(sample.path)
    mine = sample.path.read_bytes() if sample.path.exists() else None
    right = {
        piece
        for piece in range(sample.count)
        if mine and verify_piece(mine[piece * 16 * KIB :][: 16 * KIB], sample.digest(piece))
    }
    await until(lambda: set(seeded.exchange.transfer.have) == right, what=seeded.progress)
    error = seeded.progress().error
    newcomer, late = await swarm.download(sample, seeder)
    await until(lambda: late.progress().pieces_done == len(right))
    unchanged = sample.path.read_bytes() if sample.path.exists() else None
    kept.replace(sample.path)
    torrent.add_peers(at(newcomer))  # it may have banned the seeder for what it was sent

    paths = await done(torrent, late)
    await until(lambda: seeded.progress().state == "seeding")

    assert unchanged == mine
    assert error is not None
    assert f"{19 - len(right)} pieces are not offered" in error
    assert seeded.progress().error is None
    assert all(sample.is_at(path) for path in paths)
    assert late.progress().hash_failures == 0  # it came when the change had been seen


class DamagedDisk(Files):
    """Cannot read the first bytes of piece 4, as soon as it is damaged."""

    damaged = False
    at = 4 * 16 * KIB

    @classmethod
    def sys_pread(cls, fd: int, view: Any, offset: int) -> int:  # type: ignore[override]
        if cls.damaged and offset <= cls.at < offset + len(view):
            raise OSError(errno.EIO, "Input/output error")
        return Files.sys_pread(fd, view, offset)


async def test_what_can_no_longer_be_read_is_no_longer_offered(
    swarm: Swarm, sample: Sample, stream_kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_watch, "CHECK_EVERY", 0.05)
    monkeypatch.setattr(peer_book, "FIRST_RETRY", 0.05)
    monkeypatch.setattr(pieces_module, "Files", DamagedDisk)
    monkeypatch.setattr(DamagedDisk, "damaged", False)
    sendfile = os.sendfile

    def damaged_sendfile(out: int, file: int, offset: int, count: int) -> int:
        if offset <= DamagedDisk.at < offset + count:
            raise OSError(errno.EIO, "Input/output error")
        return sendfile(out, file, offset, count)

    preadv = os.preadv

    def damaged_preadv(file: int, views: Sequence[memoryview], offset: int, *flags: int) -> int:
        if offset <= DamagedDisk.at < offset + sum(map(len, views)):
            raise OSError(errno.EIO, "Input/output error")
        return preadv(file, views, offset, *flags)

    monkeypatch.setattr(os, "sendfile", damaged_sendfile)
    monkeypatch.setattr(os, "preadv", damaged_preadv)
    _, seeded = await swarm.seed(sample)
    monkeypatch.setattr(DamagedDisk, "damaged", True)
    _, torrent = await swarm.download(sample, seeded._client)

    await until(lambda: torrent.progress().pieces_done == 18)

    await until(lambda: torrent.progress().missing == (4,))
    await until(lambda: seeded.progress().pieces_done == 18)
    assert "1 piece" in (seeded.progress().error or "")


async def test_a_file_of_many_that_is_deleted_takes_no_other_along(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_watch, "CHECK_EVERY", 0.05)
    monkeypatch.setattr(peer_book, "FIRST_RETRY", 0.05)
    sample = make_sample(tmp_path / "shared", TREE, name="tree")
    seeder, seeded = await swarm.seed(sample)
    _, first = await swarm.download(sample, seeder)
    await done(first)
    (sample.path / "deep/er/b.bin").unlink()
    _, second = await swarm.download(sample, seeder)  # may still get all: what is open stays
    await until(lambda: seeded.progress().error)
    have = seeded.progress().pieces_done

    _, torrent = await swarm.download(sample, seeder)
    await until(lambda: torrent.progress().pieces_done == have)
    await until(lambda: torrent.progress().missing)
    torrent.add_peers(at(first._client))
    await done(torrent)

    assert have == sample.count - 3
    assert second.progress().hash_failures == 0
