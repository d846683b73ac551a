"""One cell of the matrix: a foreign client and ours, a tracker between, one torrent.

Invariant: a cell is done only when every byte of every file is the same on both sides; all
that was started for it has ended when it is left, and a failure tells what everyone said.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from interop_clients import ForeignClient, Task

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.e2e.processes import Lab, Running, laboratory, until
from tests.support.namespaces import two_machines, why_not
from tests.support.opentracker import OpenTracker

NAME = "album"
SHARES = {"one.bin": 0.55, "deep/er/two ünï ©.bin": 0.3, "deep/three.bin": 0.1499, "four": 0.0001}
"""The files of the content, and how much of it each is."""

PATIENCE = 40.0
"""Seconds that a cell may take until the content has arrived."""

OURS = "p2pfs"


class NotRun(Exception):
    """A cell cannot be tried here; the message says why."""


@dataclass(frozen=True)
class Cell:
    """`seeds`: the foreign client has the content and we fetch it; else the other way round."""

    seeds: bool
    magnet: bool
    scheme: str
    """Of the tracker: http or udp."""


ALL = tuple(
    Cell(seeds, magnet, scheme)
    for seeds in (True, False)
    for magnet in (False, True)
    for scheme in ("http", "udp")
)


# -- content ------------------------------------------------------------------------------


def make_content(folder: Path, size: int) -> Path:
    """`size` random bytes in several files, no file of whole pieces; the folder of them."""
    rng = random.Random("p2pfs interop")
    left = size
    for number, (name, share) in enumerate(SHARES.items()):
        length = left if number == len(SHARES) - 1 else int(size * share)
        left -= length
        path = folder / NAME / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            while length:
                length -= file.write(rng.randbytes(min(length, 1 << 20)))
    return folder / NAME


def tree(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file, by its path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = digest
    return found


def same(expected: Path, arrived: Path) -> None:
    want, got = tree(expected), tree(arrived)
    wrong = sorted(name for name in want.keys() | got.keys() if want.get(name) != got.get(name))
    assert not wrong, f"differ: {', '.join(wrong)}"


# -- places -------------------------------------------------------------------------------


@contextlib.contextmanager
def two_labs(folder: Path, *, loopback: bool) -> Iterator[tuple[Lab, Lab]]:
    """Our side and theirs; two machines, or one when that is good enough and all there is."""
    if not loopback:
        reason = why_not()
        if reason is not None:
            raise NotRun(f"refuses peers at 127.0.0.1, and {reason}")
        with two_machines(folder) as machines:
            yield machines
        return
    sides = [folder / side for side in "ab"]
    for side in sides:
        side.mkdir()
    with laboratory(sides[0]) as ours, laboratory(sides[1]) as theirs:
        yield ours, theirs


def described(lab: Lab, content: Path, url: str, name: str = "t.torrent") -> str:
    """A .torrent of the content with this tracker."""
    made = lab.run("make-torrent", str(content), "-o", name, "-t", url)
    assert made.wait() == 0, str(made)
    return name


def linked(lab: Lab, torrent: str) -> str:
    """Its magnet link, as our command writes it."""
    made = lab.run("magnet", torrent)
    if made.wait() != 0 and any("No such command" in line for line in made.errors):
        raise NotRun("p2pfs knows no magnet links")
    assert made.wait() == 0, str(made)
    return next(line for line in made.lines if line.startswith("magnet:"))


def seeder_is_known(lab: Lab, torrent: str, seeder: Running) -> None:
    """Until the tracker counts one seeder; it has no other way to say so."""

    def known() -> bool:
        assert seeder.alive, "the seeder ended early"
        asked = lab.run("scrape", torrent, "--json")
        asked.end()
        lab.running.remove(asked)
        return any(event.get("seeders") == 1 for event in asked.events)

    until(known, lambda: "the seeder does not announce itself", patience=PATIENCE / 2)


# -- a cell -------------------------------------------------------------------------------


def run_cell(
    client: ForeignClient, cell: Cell, content: Path, folder: Path, *, loopback: bool
) -> float:
    """Run it; seconds from the downloader's start to its end.

    Raises NotRun, or AssertionError with all that was said.
    """
    if client.version() is None:
        raise NotRun(f"not installed ({client.package})")
    with two_labs(folder, loopback=loopback) as (ours, theirs):
        try:
            tracker = ours.tracker()
            url = f"{cell.scheme}://{ours.address}:{ours.tracker_port}/announce"
            torrent = described(ours, content, url)
            source = linked(ours, torrent) if cell.magnet else torrent
            if cell.seeds:
                return fetch(client, torrent, source, content, ours, theirs)
            return give(client, torrent, source, content, ours, theirs)
        except AssertionError as error:
            said = "\n".join(str(process) for process in (*ours.running, *theirs.running))
            log = client.log(Task(theirs, "", theirs.folder))
            raise AssertionError(f"{error}\n{said}\n{log}") from None
        finally:
            tracker.end()


def fetch(
    client: ForeignClient, torrent: str, source: str, content: Path, ours: Lab, theirs: Lab
) -> float:
    """They have it, we download it."""
    place = theirs.folder / "content"
    shutil.copytree(content, place / NAME)
    shutil.copy(ours.folder / torrent, theirs.folder)
    seeder_is_known(ours, torrent, client.start(Task(theirs, torrent, place), seeds=True))

    start = time.monotonic()
    download = ours.p2pfs("download", source, "-p", "0", "--json")
    until(lambda: not download.alive, lambda: "our download does not end", patience=PATIENCE)
    seconds = time.monotonic() - start

    assert download.wait() == 0, "our download failed"
    same(content, ours.folder / "output" / NAME)
    return seconds


def give(
    client: ForeignClient, torrent: str, source: str, content: Path, ours: Lab, theirs: Lab
) -> float:
    """We have it, they download it."""
    shutil.copytree(content, ours.folder / "seeds" / NAME)
    shutil.copy(ours.folder / torrent, theirs.folder)
    seeder = ours.p2pfs("seed", "-f", torrent, "-p", "0", "--json", "-v")
    seeder.event("ready")
    seeder_is_known(ours, torrent, seeder)

    start = time.monotonic()
    task = Task(theirs, source, theirs.folder / "content")
    process = client.start(task, seeds=False)

    def finished() -> bool:
        done = client.is_done(task, process)
        assert done or process.alive, f"{client.name} ended early"
        return done

    until(finished, lambda: f"{client.name} is not complete", patience=PATIENCE)
    seconds = time.monotonic() - start

    same(content, task.content / NAME)
    assert seeder.leave()["torrents"][0]["uploaded"] >= sum(
        path.stat().st_size for path in content.rglob("*") if path.is_file()
    )
    return seconds


def run_opentracker(scheme: str, content: Path, folder: Path) -> float:
    """Both ends ours, the tracker foreign; seconds as in `run_cell`."""
    with laboratory(folder) as lab:
        draft = described(lab, content, "http://127.0.0.1:1/announce", "draft.torrent")
        try:
            tracker = OpenTracker(folder, lab.metainfo(draft).torrent_id)
        except OSError as error:
            raise NotRun(str(error)) from None
        try:
            torrent = described(lab, content, tracker.url(scheme))
            shutil.copytree(content, folder / "seeds" / NAME)
            seeder = lab.p2pfs("seed", "-f", torrent, "-p", "0", "--json")
            seeder.event("ready")
            seeder_is_known(lab, torrent, seeder)
            start = time.monotonic()
            download = lab.p2pfs("download", torrent, "-p", "0", "--json")
            assert download.wait() == 0, str(download)
            same(content, folder / "output" / NAME)
            return time.monotonic() - start
        finally:
            tracker.close()
