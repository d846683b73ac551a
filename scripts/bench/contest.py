"""Runs of contenders: who seeds, who downloads, and what each of them took.

Invariant: every process that was started has ended when `run` returns or raises, and every
downloader's content was compared with what was seeded; a run of which that is not true raises
`RunError` and gives no figures.
"""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import random
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
CONTENDER = Path(__file__).with_name("contender.py")


class RunError(Exception):
    """A contender failed, or did not do in time what it should."""


@dataclass(frozen=True)
class Content:
    """A file, its metainfo file and its size in bytes."""

    path: Path
    torrent: Path
    size: int


def make_content(folder: Path, size_mib: int, piece_length: int) -> Content:
    """Random content, the same each time; made anew only when it is not there yet."""
    import p2pfs

    name = f"content-{size_mib}-{piece_length}"
    path, torrent = folder / name, folder / f"{name}.torrent"
    if not torrent.exists():
        rng = random.Random(1)
        with path.open("wb") as file:
            for _ in range(size_mib):
                file.write(rng.randbytes(MIB))
            file.flush()
            os.fsync(file.fileno())
        torrent.write_bytes(p2pfs.make_torrent(path, piece_length=piece_length).to_bytes())
    return Content(path, torrent, size_mib * MIB)


@dataclass(frozen=True)
class End:
    """A contender: its client, and its upload limit in bytes a second."""

    client: str
    up_limit: int | None = None


@dataclass(frozen=True)
class Used:
    """What one process used between its being ready and the end of the run."""

    cpu: float
    memory_mib: float
    uploaded: int


@dataclass(frozen=True)
class Run:
    """`seconds`: from the first connecting to the last verified piece of the last downloader."""

    seconds: float
    size: int
    seeders: list[Used]
    loaders: list[Used]
    finished: list[float] = field(default_factory=list)
    """When each downloader was complete, in seconds since the start."""

    @property
    def rate(self) -> float:
        """Bytes a second that each downloader got."""
        return self.size / self.seconds

    @property
    def cpu(self) -> float:
        """Processor seconds of both ends."""
        return sum(end.cpu for end in [*self.seeders, *self.loaders])

    @property
    def copies(self) -> float:
        """Copies of the content that the seeders sent."""
        return sum(end.uploaded for end in self.seeders) / self.size


class _Process:
    def __init__(self, end: End, part: str, content: Content, place: Path) -> None:
        limit = ["--up-limit", str(end.up_limit)] if end.up_limit else []
        self.name = f"{end.client} ({part})"
        self.process = subprocess.Popen(
            [sys.executable, str(CONTENDER), end.client, part, content.torrent, place, *limit],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._rest = b""

    def tell(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())

    def hear(self, key: str, until: float) -> dict[str, Any]:
        """The next line, which must say `key`."""
        assert self.process.stdout is not None
        number = self.process.stdout.fileno()
        while b"\n" not in self._rest:
            left = until - time.monotonic()
            if left <= 0 or not select.select([number], [], [], left)[0]:
                raise RunError(f"{self.name} did not say {key!r} in time")
            data = os.read(number, 65536)
            if not data:
                raise RunError(f"{self.name} ended before it said {key!r}")
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        said: dict[str, Any] = json.loads(line)
        if key not in said:
            raise RunError(f"{self.name} said {said} instead of {key!r}")
        return said

    def finish(self) -> Used:
        assert self.process.stdin is not None
        self.process.stdin.close()
        said = self.hear("end", time.monotonic() + 60)
        try:
            self.process.wait(120)  # then everything is in its file
        except subprocess.TimeoutExpired:
            raise RunError(f"{self.name} does not end") from None
        return Used(said["cpu"], said["memory_mib"], said["uploaded"])


@contextlib.contextmanager
def _started() -> Iterator[list[_Process]]:
    running: list[_Process] = []
    try:
        yield running
    finally:
        for one in running:
            one.process.kill()
            one.process.wait()
            for pipe in (one.process.stdin, one.process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


@contextlib.contextmanager
def started_seeder(end: End, content: Content) -> Iterator[tuple[int, int]]:
    """The port and the process number of a seeder that runs while this is open."""
    with _started() as processes:
        process = _Process(end, "seed", content, content.path)
        processes.append(process)
        port = process.hear("port", time.monotonic() + 60)["port"]
        process.tell("[]\n")
        yield port, process.process.pid


def forget_cached(path: Path) -> None:
    """The kernel drops what it keeps of the file in memory."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run(
    content: Content,
    seeders: Sequence[End],
    loaders: Sequence[End],
    work: Path,
    *,
    cold: bool = False,
    limit: float = 900.0,
) -> Run:
    """One transfer from all `seeders` to all `loaders`, everybody connected to everybody.

    `cold`: the content is not in the page cache when it begins. Raises `RunError` when it is
    not done within `limit` seconds.
    """
    output = work / "output"
    shutil.rmtree(output, ignore_errors=True)
    with _started() as processes:
        for end in seeders:
            processes.append(_Process(end, "seed", content, content.path))
        for number, end in enumerate(loaders):
            processes.append(_Process(end, "load", content, output / str(number)))
        soon = time.monotonic() + 120
        ports = [one.hear("port", soon)["port"] for one in processes]
        if hasattr(os, "sync"):
            os.sync()  # nothing of earlier runs is being written meanwhile
        if cold:
            forget_cached(content.path)
        first = len(seeders)
        start = time.monotonic()
        for number in range(first, len(processes)):
            processes[number].tell(json.dumps(ports[:number]) + "\n")
        for one in processes[:first]:
            one.tell("[]\n")
        late = start + limit
        done = [one.hear("done", late)["done"] - start for one in processes[first:]]
        used = [one.finish() for one in processes]
    for number in range(len(loaders)):
        found = output / str(number) / content.path.name
        if not filecmp.cmp(content.path, found, shallow=False):
            raise RunError(f"{loaders[number].client} produced another content")
    shutil.rmtree(output)
    return Run(max(done), content.size, used[:first], used[first:], done)
