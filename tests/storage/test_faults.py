"""Every system call of a download fails once, and then for good: nothing wrong is believed."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pfs.errors import StorageError
from p2pfs.storage.pieces import PieceStore
from p2pfs.storage.places import hidden_name


class Fault:
    """Fails call number `at` (1-based), and all later ones if `sticky`."""

    def __init__(self, at: int, code: int | None, sticky: bool, only: str | None = None) -> None:
        self.at = at
        self.code = code
        self.sticky = sticky
        self.only = only
        self.calls = 0
        self.happened = False

    def __call__(self, name: str, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if self.only in (None, name):
            self.calls += 1
        due = self.calls > self.at if self.sticky else False
        if (self.calls == self.at and self.only in (None, name)) or due:
            self.happened = True
            if name == "sys_close":
                call(*args)
            if self.code is not None:
                raise OSError(self.code, "injected")
            fd, data, offset = args
            return call(fd, memoryview(data)[: max(1, len(data) // 2)], offset)
        return call(*args)


def download(sample, folder, files, *, durable=True, reported=None):
    """All of a download; pieces that fail are tried once more in the same session."""
    reported = set() if reported is None else reported
    store = PieceStore.open_download(sample.metainfo, folder, files=files, threads=1)
    try:
        for index in range(sample.count):
            try:
                assert store.write_piece(index, sample.piece(index))
            except StorageError:
                assert index not in store.verified
                assert store.write_piece(index, sample.piece(index))
            assert index in store.verified
            reported.add(index)
            if index == sample.count // 2:
                store.checkpoint()
        store.finish(durable=durable)
    except BaseException:
        with contextlib.suppress(StorageError):
            store.close(clean=False)
        raise
    store.close()


def begun(sample, folder, files, with_record):
    """A download that was killed half way; gives the pieces it had."""
    store = PieceStore.open_download(sample.metainfo, folder, files=files, threads=1)
    have = set(range(0, sample.count, 2))
    for index in have:
        store.write_piece(index, sample.piece(index))
        if index == 2:
            store.checkpoint()
    store.close(clean=False)
    if not with_record:
        (folder / hidden_name(sample.metainfo, "resume")).unlink()
    return have


def open_descriptors() -> int:
    table = Path("/proc/self/fd")
    return len(list(table.iterdir())) if table.is_dir() else 0


def check_and_go_on(sample, folder, quick, reported):
    """What is left can be opened, claims what was reported and nothing wrong, and completes."""
    store = PieceStore.open_download(sample.metainfo, folder, files=quick, threads=1)
    try:
        assert reported <= set(store.verified)
        for index in store.verified:
            size = sample.metainfo.geometry.piece_size(index)
            assert store.read(index, 0, size) == sample.piece(index)
        for index in range(sample.count):
            assert store.write_piece(index, sample.piece(index))
        assert sample.is_at(store.finish())
    finally:
        store.close()
    assert [path.name for path in folder.iterdir()] == [sample.metainfo.name]


@pytest.mark.parametrize(
    ("code", "sticky", "durable", "start"),
    [
        (errno.EIO, False, True, "nothing"),
        (errno.ENOSPC, True, False, "nothing"),
        (errno.EIO, False, False, "killed"),
        (errno.ENOSPC, True, True, "no record"),
    ],
)
def test_a_failing_call_leaves_an_error_and_nothing_wrong(
    either, tmp_path, watched, quick, code, sticky, durable, start
):
    descriptors = open_descriptors()
    for at in range(1, 1000):
        folder = tmp_path / str(at)
        folder.mkdir()
        reported = set()
        if start != "nothing":
            reported = begun(either, folder, quick, with_record=start == "killed")
        fault = Fault(at, code, sticky)
        trouble = None
        try:
            download(either, folder, watched(fault), durable=durable, reported=reported)
        except StorageError as error:
            trouble = error
        assert open_descriptors() == descriptors
        if trouble is not None:
            assert fault.happened
            assert trouble.disk_full == (code == errno.ENOSPC)
        check_and_go_on(either, folder, quick, reported)
        if not fault.happened:
            return
    pytest.fail("the sweep did not come to an end")


def test_an_interrupted_call_is_made_again(either, tmp_path, watched):
    for at in range(1, 1000):
        folder = tmp_path / str(at)
        fault = Fault(at, errno.EINTR, sticky=False)
        download(either, folder, watched(fault))
        assert either.is_at(folder / either.metainfo.name)
        if not fault.happened:
            break


def test_a_short_write_is_continued(either, tmp_path, watched):
    for at in range(1, 1000):
        folder = tmp_path / str(at)
        fault = Fault(at, None, sticky=False, only="sys_pwrite")
        download(either, folder, watched(fault))
        assert either.is_at(folder / either.metainfo.name)
        if not fault.happened:
            break


def test_a_disk_that_fills_up_and_is_freed_costs_only_the_pieces_that_failed(
    single, tmp_path, watched
):
    full = False

    def around(name: str, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if full and name == "sys_pwrite":
            raise OSError(errno.ENOSPC, "injected")
        return call(*args)

    store = PieceStore.open_download(single.metainfo, tmp_path, files=watched(around))
    assert store.write_piece(0, single.piece(0))
    full = True
    for index in (1, 2):
        with pytest.raises(StorageError, match="disk is full") as caught:
            store.write_piece(index, single.piece(index))
        assert caught.value.disk_full
    assert list(store.verified) == [0]
    full = False
    for index in range(single.count):
        assert store.write_piece(index, single.piece(index))
    assert single.is_at(store.finish())
    store.close()
