"""Changes in folders are told: by the system where it can, and in any case after a while."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pfs.net import folder_watch
from p2pfs.net.folder_watch import FolderWatch

pytestmark = pytest.mark.usefixtures("nothing_left")

NEVER = 3600.0


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is told counts, unless a test says otherwise."""
    monkeypatch.setattr(folder_watch, "SLOW", NEVER)


@pytest.fixture
async def watch(tmp_path: Path) -> AsyncIterator[FolderWatch]:
    (tmp_path / "p1" / "deep").mkdir(parents=True)
    made = FolderWatch([tmp_path / "p1"], more=False)
    made.start()
    await told_of(made, tmp_path / "p1" / "begun")
    yield made
    await made.close()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


async def told_of(watch: FolderWatch, path: Path) -> None:
    """Write to `path` until it is told: the system begins to watch some time after the start."""
    told = asyncio.ensure_future(watch.wait(None))
    for turn in itertools.count():
        write(path, b"%d" % turn)
        if (await asyncio.wait([told], timeout=0.5))[0]:
            return
        assert turn < 40


@pytest.mark.parametrize("name", ["new.txt", "deep/new.txt"])
async def test_what_is_written_into_the_folder_is_told(
    watch: FolderWatch, tmp_path: Path, name: str
) -> None:
    await told_of(watch, tmp_path / "p1" / name)


async def test_what_is_removed_or_moved_in_is_told(watch: FolderWatch, tmp_path: Path) -> None:
    path = tmp_path / "p1" / "begun"
    async with asyncio.timeout(15):
        path.unlink()
        await watch.wait(None)
        (tmp_path / "outside").write_bytes(b"x")
        (tmp_path / "outside").rename(path)
        await watch.wait(None)


async def test_our_own_working_files_are_not_told(watch: FolderWatch, tmp_path: Path) -> None:
    hidden = tmp_path / "p1" / ".story.0123.p2pfs-part"
    told = asyncio.ensure_future(watch.wait(None))
    for turn in range(5):
        hidden.write_bytes(b"%d" % turn)
        await asyncio.sleep(0)
    early = told.done()

    await told_of(watch, tmp_path / "p1" / "visible")

    assert not early
    told.cancel()


async def test_without_a_change_the_wait_ends_when_it_was_said_to(watch: FolderWatch) -> None:
    async with asyncio.timeout(15):
        await watch.wait(0.01)


async def test_somebody_who_knows_of_a_change_is_heard(watch: FolderWatch) -> None:
    watch.look_now()

    async with asyncio.timeout(15):
        await watch.wait(None)


async def test_a_folder_that_cannot_be_watched_is_looked_at_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_watch, "SLOW_UNWATCHED", 0.01)
    watch = FolderWatch([tmp_path / "not there"], more=False)
    watch.start()

    async with asyncio.timeout(15):
        for _ in range(5):
            await watch.wait(None)
    await watch.close()


async def test_what_is_no_folder_is_looked_at_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_watch, "SLOW_UNWATCHED", 0.01)
    watch = FolderWatch([], more=True)
    watch.start()

    async with asyncio.timeout(15):
        await watch.wait(None)
    await watch.close()
