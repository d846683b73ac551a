"""A stop at every moment of a download: by kill -9, and by power loss.

All changes to the disk of one run are logged. For every prefix of the log the disk is built
as it may look after the stop, and the download is opened again. Promises checked:
  after a kill, every piece that `write_piece` had reported is still verified;
  after a power loss, every piece of the last completed checkpoint is;
  no piece is verified that does not hash right, and nothing of the user's has changed;
  the download goes on to the end from there.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from p2pfs.storage.pieces import PieceStore

SECTOR = 512
USERS_FILE = "notes of the user"


class Op(NamedTuple):
    """One change: what, the file's number or the path, and the details."""

    what: str
    target: Any = None
    a: Any = None
    b: Any = None
    time: int = 0


@dataclass
class Log:
    """Follows the system calls of one run; knows every file by its inode."""

    root: str
    ops: list[Op] = field(default_factory=list)
    opened: dict[int, str] = field(default_factory=dict)
    inode_of: dict[int, int] = field(default_factory=dict)

    def mark(self, what: str, target: Any = None) -> None:
        self.ops.append(Op(what, target))

    def path(self, name: str, dir_fd: int | None) -> str:
        return name if dir_fd is None else f"{self.opened[dir_fd]}/{name}"

    def __call__(self, name: str, call: Any, args: tuple[Any, ...]) -> Any:
        follow = getattr(self, "on_" + name[4:], None)
        return call(*args) if follow is None else follow(call, *args)

    def on_open(self, call: Any, name: str, flags: int, dir_fd: int | None) -> int:
        path = self.path(name, dir_fd)
        new = bool(flags & os.O_CREAT) and not Path(path).exists()
        fd = call(name, flags, dir_fd)
        self.opened[fd] = path
        self.inode_of[fd] = os.fstat(fd).st_ino
        if new:
            self.ops.append(Op("create", self.inode_of[fd], path, time=os.fstat(fd).st_mtime_ns))
        return fd

    def on_pwrite(self, call: Any, fd: int, data: Any, offset: int) -> int:
        count = call(fd, data, offset)
        stamp = os.fstat(fd).st_mtime_ns
        self.ops.append(Op("write", self.inode_of[fd], offset, bytes(data[:count]), stamp))
        return count

    def on_truncate(self, call: Any, fd: int, length: int) -> None:
        call(fd, length)
        stamp = os.fstat(fd).st_mtime_ns
        self.ops.append(Op("truncate", self.inode_of[fd], length, time=stamp))

    def on_sync(self, call: Any, fd: int) -> None:
        self.ops.append(Op("sync", self.inode_of[fd]))

    def on_sync_folder(self, call: Any, fd: int) -> None:
        self.ops.append(Op("sync folder", self.opened[fd]))

    def on_mkdir(self, call: Any, name: str, dir_fd: int | None) -> None:
        call(name, dir_fd)
        path = self.path(name, dir_fd)
        self.ops.append(Op("mkdir", path, Path(path).stat().st_ino))

    def on_link(self, call: Any, old: str, new: str, old_fd: int, new_fd: int) -> None:
        call(old, new, old_fd, new_fd)
        self.ops.append(Op("link", self.path(old, old_fd), self.path(new, new_fd)))

    def on_rename(self, call: Any, old: str, new: str, old_fd: int, new_fd: int) -> None:
        call(old, new, old_fd, new_fd)
        self.ops.append(Op("rename", self.path(old, old_fd), self.path(new, new_fd)))

    def on_unlink(self, call: Any, name: str, dir_fd: int | None) -> None:
        call(name, dir_fd)
        self.ops.append(Op("unlink", self.path(name, dir_fd)))

    def on_rmdir(self, call: Any, name: str, dir_fd: int | None) -> None:
        call(name, dir_fd)
        self.ops.append(Op("unlink", self.path(name, dir_fd)))


@dataclass
class Image:
    """A disk as it may look: names to inodes, inodes to bytes (None: a folder) and times."""

    names: dict[str, int] = field(default_factory=dict)
    content: dict[int, bytearray | None] = field(default_factory=dict)
    times: dict[int, int] = field(default_factory=dict)

    def change_name(self, op: Op) -> None:
        if op.what == "create":
            self.names[op.a] = op.target
        elif op.what == "mkdir":
            self.names[op.target] = op.a
            self.content[op.a] = None
        elif op.what == "link":
            self.names[op.a] = self.names[op.target]
        elif op.what == "unlink":
            del self.names[op.target]
        elif op.what == "rename":
            for path in [path for path in self.names if (path + "/").startswith(op.target + "/")]:
                self.names[op.a + path[len(op.target) :]] = self.names.pop(path)

    def change_content(self, op: Op) -> None:
        data = self.content.setdefault(op.target, bytearray())
        self.times[op.target] = max(op.time, self.times.get(op.target, 0))
        assert data is not None
        if op.what == "write":
            data.extend(bytes(max(0, op.a + len(op.b) - len(data))))
            data[op.a : op.a + len(op.b)] = op.b
        elif op.what == "truncate":
            del data[op.a :]
            data.extend(bytes(op.a - len(data)))

    def build(self, log_root: str, folder: Path) -> dict[int, int]:
        """Write the image to a folder; gives the new inodes with the old ones."""
        old_inode: dict[int, int] = {}
        made: dict[int, Path] = {}
        for path in sorted(self.names):
            inode = self.names[path]
            place = folder / path[len(log_root) + 1 :]
            data = self.content.get(inode, bytearray())
            if data is None:
                place.mkdir()
            elif inode in made:
                place.hardlink_to(made[inode])
            else:
                place.write_bytes(data)
                made[inode] = place
                os.utime(place, ns=(0, self.times.get(inode, 0)))
            old_inode[place.stat().st_ino] = inode
        return old_inode


NAME_OPS = {"create", "mkdir", "link", "unlink", "rename"}
CONTENT_OPS = {"write", "truncate"}


def after_kill(ops: list[Op]) -> Image:
    """All that was done is there."""
    image = Image()
    for op in ops:
        if op.what in NAME_OPS:
            image.change_name(op)
        if op.what in CONTENT_OPS or op.what == "create":
            image.change_content(op)
    return image


def after_power_loss(ops: list[Op], rng: random.Random) -> Image:
    """What was flushed is there; of the rest each write is kept, lost, torn or zeros.

    Changes of names come to the disk in order, as in a journal: a tail of them may be lost,
    but none from before the last flush of a folder.
    """
    image = Image()
    flushed: dict[int, int] = {}
    names_flushed = 0
    for place, op in enumerate(ops):
        if op.what == "sync":
            flushed[op.target] = place
        elif op.what == "sync folder":
            names_flushed = place
    cut = rng.choice([len(ops), rng.randint(names_flushed, len(ops))])
    mood = rng.choice(["all lost", "all kept", "mixed", "zeros"])
    for place, op in enumerate(ops):
        if op.what in NAME_OPS and place < max(cut, names_flushed):
            image.change_name(op)
        if op.what == "create":
            image.change_content(op)
        if op.what not in CONTENT_OPS:
            continue
        if place < flushed.get(op.target, -1) or mood == "all kept":
            image.change_content(op)
        elif mood == "zeros" and op.what == "write":
            image.change_content(op._replace(b=bytes(len(op.b))))
        elif mood == "mixed":
            fate = rng.choice(["kept", "lost", "torn"])
            if fate == "torn" and op.what == "write":
                keep = rng.randint(0, len(op.b) // SECTOR) * SECTOR
                image.change_content(op._replace(b=op.b[:keep]))
            elif fate == "kept":
                image.change_content(op)
    return image


def record(sample, folder: Path, watched, durable: bool, chosen: set[int] | None = None) -> Log:
    """One download from nothing to the real name, killed once on the way; its log and marks."""
    log = Log(str(folder))
    files = watched(log)
    store = PieceStore.open_download(sample.metainfo, folder, files=files, threads=1, chosen=chosen)
    order = list(range(sample.count) if store.wanted is None else store.wanted)
    random.Random(3).shuffle(order)
    for number, index in enumerate(order):
        store.write_piece(index, sample.piece(index))
        log.mark("verified", index)
        if number % 4 == 1:
            store.checkpoint()
            log.mark("checkpoint")
        if number == len(order) // 2:
            store.close(clean=False)
            store = PieceStore.open_download(
                sample.metainfo, folder, files=files, threads=1, chosen=chosen
            )
            log.mark("checkpoint")
    store.finish(durable=durable)
    if durable:
        log.mark("checkpoint")
    store.close()
    log.mark("checkpoint")
    return log


def promised(ops: Iterable[Op], power_loss: bool) -> set[int]:
    """The pieces that have to be there after a stop."""
    reported: set[int] = set()
    settled: set[int] = set()
    for op in ops:
        if op.what == "verified":
            reported.add(op.target)
        elif op.what == "checkpoint":
            settled = set(reported)
    return settled if power_loss else reported


def reopen_and_check(sample, image: Image, log: Log, folder: Path, watched, must: set[int]) -> None:
    folder.mkdir()
    old_inode = image.build(log.root, folder)
    (folder / USERS_FILE).write_text("mine")

    def with_old_inodes(name: str, call: Any, args: tuple[Any, ...]) -> Any:
        found = call(*args)
        if name not in ("sys_stat", "sys_fstat"):
            return found
        return SimpleNamespace(
            st_size=found.st_size,
            st_mtime_ns=found.st_mtime_ns,
            st_mode=found.st_mode,
            st_ino=old_inode.get(found.st_ino, found.st_ino),
        )

    files = watched(with_old_inodes)
    store = PieceStore.open_download(sample.metainfo, folder, files=files, threads=1)
    try:
        for index in store.verified:
            size = sample.metainfo.geometry.piece_size(index)
            assert store.read(index, 0, size) == sample.piece(index)
        assert must <= set(store.verified)
        for index in range(sample.count):
            assert store.write_piece(index, sample.piece(index))
        assert sample.is_at(store.finish())
    finally:
        store.close()
    assert (folder / USERS_FILE).read_text() == "mine"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [USERS_FILE, sample.metainfo.name]
    )


@pytest.mark.parametrize("durable", [True, False], ids=["flushed first", "flushed later"])
def test_after_a_kill_at_any_moment_no_reported_piece_is_lost(either, tmp_path, watched, durable):
    run = tmp_path / "run"
    run.mkdir()
    log = record(either, run, watched, durable)
    for length in range(len(log.ops) + 1):
        ops = log.ops[:length]
        must = promised(ops, power_loss=False)
        reopen_and_check(either, after_kill(ops), log, tmp_path / str(length), watched, must)


@pytest.mark.parametrize("durable", [True, False], ids=["flushed first", "flushed later"])
def test_after_a_power_loss_at_any_moment_the_last_checkpoint_stands(
    either, tmp_path, watched, durable
):
    run = tmp_path / "run"
    run.mkdir()
    log = record(either, run, watched, durable)
    rng = random.Random(7)
    for length in range(len(log.ops) + 1):
        ops = log.ops[:length]
        must = promised(ops, power_loss=True)
        for turn in range(2):
            folder = tmp_path / f"{length}-{turn}"
            reopen_and_check(either, after_power_loss(ops, rng), log, folder, watched, must)


@pytest.mark.parametrize("power_loss", [False, True], ids=["killed", "power loss"])
@pytest.mark.parametrize("chosen", [{1}, {0, 4}, {3}])
def test_a_choice_of_files_stopped_at_any_moment_is_used_by_the_download_of_all(
    tree, tmp_path, watched, chosen, power_loss
):
    run = tmp_path / "run"
    run.mkdir()
    log = record(tree, run, watched, False, chosen)
    rng = random.Random(9)
    for length in range(len(log.ops) + 1):
        ops = log.ops[:length]
        image = after_power_loss(ops, rng) if power_loss else after_kill(ops)
        must = promised(ops, power_loss)
        reopen_and_check(tree, image, log, tmp_path / str(length), watched, must)
