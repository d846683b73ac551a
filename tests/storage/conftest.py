"""Sample torrents with their content, and `Files` that fail or keep a log on demand."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from p2pfs.formats.metainfo import FileEntry, Metainfo, build
from p2pfs.storage.files import Files
from p2pfs.storage.pieces import PieceStore

SYSTEM_CALLS = [name for name in dir(Files) if name.startswith("sys_")]


@dataclass
class Sample:
    """A torrent and what it describes."""

    metainfo: Metainfo
    content: bytes

    @property
    def count(self) -> int:
        return self.metainfo.geometry.piece_count

    def piece(self, index: int) -> memoryview:
        size = self.metainfo.geometry.piece_length
        return memoryview(self.content)[index * size : (index + 1) * size]

    def lay_out(self, folder: Path) -> Path:
        """Write the finished content into a folder, as a user has it."""
        top = folder / self.metainfo.name
        start = 0
        for entry in self.metainfo.files:
            path = top.joinpath(*entry.path) if self.metainfo.multi_file else top
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.content[start : start + entry.length])
            start += entry.length
        return top

    def is_at(self, top: Path) -> bool:
        """Whether the finished content stands at `top`, byte for byte."""
        found = b""
        for entry in self.metainfo.files:
            path = top.joinpath(*entry.path) if self.metainfo.multi_file else top
            if path.stat().st_size != entry.length:
                return False
            found += path.read_bytes()
        return found == self.content


def make_sample(
    lengths: dict[str, int] | int, piece_length: int = 2048, name: str = "thing", seed: int = 1
) -> Sample:
    """A single file of so many bytes, or a tree of `path: length`."""
    multi_file = isinstance(lengths, dict)
    if isinstance(lengths, dict):
        entries = [FileEntry(tuple(path.split("/")), size) for path, size in lengths.items()]
    else:
        entries = [FileEntry((name,), lengths)]
    content = random.Random(seed).randbytes(sum(entry.length for entry in entries))
    pieces = b"".join(
        hashlib.sha1(content[start : start + piece_length]).digest()
        for start in range(0, len(content), piece_length)
    )
    metainfo = build(
        name=name, files=entries, multi_file=multi_file, piece_length=piece_length, pieces=pieces
    )
    return Sample(metainfo, content)


TREE = {"a.txt": 5000, "deep/er/b.bin": 3000, "deep/empty": 0, "deep/c": 1, "d": 6000}


@pytest.fixture
def sample() -> Callable[..., Sample]:
    return make_sample


@pytest.fixture(params=["single", "tree"])
def either(request: pytest.FixtureRequest) -> Sample:
    """A single-file torrent, and one with folders, an empty file and shared pieces."""
    if request.param == "single":
        return make_sample(13_000, name="thing.bin")
    return make_sample(TREE)


@pytest.fixture
def tree() -> Sample:
    return make_sample(TREE)


@pytest.fixture
def single() -> Sample:
    return make_sample(13_000, name="thing.bin")


class QuickFiles(Files):
    """Without the waiting for the disk, which no test can see."""

    def sys_sync_folder(self, fd: int) -> None:
        pass

    def sys_sync_all(self) -> None:
        pass

    @staticmethod
    def sys_sync(fd: int) -> None:
        pass


class WatchedFiles(QuickFiles):
    """Hands every system call to `around(name, call, args)`."""

    def __init__(self, around: Callable[[str, Callable[..., Any], tuple[Any, ...]], Any]) -> None:
        for name in SYSTEM_CALLS:
            setattr(self, name, self._watched(name, getattr(self, name), around))

    @staticmethod
    def _watched(name: str, call: Callable[..., Any], around: Callable[..., Any]) -> Any:
        return lambda *args: around(name, call, args)


@pytest.fixture
def quick() -> Files:
    return QuickFiles()


@pytest.fixture
def start(quick):
    """Opens downloads that are closed in the end."""
    stores = []

    def go(sample: Sample, folder: Path, **options: Any) -> PieceStore:
        store = PieceStore.open_download(sample.metainfo, folder, **{"files": quick, **options})
        stores.append(store)
        return store

    yield go
    for store in stores:
        store.close(clean=False)


def write_all(store: PieceStore, sample: Sample, indices: Iterable[int] | None = None) -> None:
    for index in range(sample.count) if indices is None else indices:
        assert store.write_piece(index, sample.piece(index))


@pytest.fixture
def write() -> Callable[..., None]:
    """Writes pieces (all, or those given) that have to be taken."""
    return write_all


@pytest.fixture
def completes() -> Callable[[PieceStore, Sample], bool]:
    """Writes what is missing; whether the finished content is right then."""

    def go(store: PieceStore, sample: Sample) -> bool:
        write_all(store, sample)
        return sample.is_at(store.finish())

    return go


def snapshot_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, tuple[bytes, int]]]:
    """What is in a folder: content and modification times by path."""
    return snapshot_of


@pytest.fixture
def watched() -> type[WatchedFiles]:
    return WatchedFiles
