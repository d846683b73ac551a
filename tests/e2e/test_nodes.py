"""Nodes and their index as processes of their own, when one of them dies or the disk is full."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import PATIENCE, Lab, Running, no_traceback, until

pytestmark = pytest.mark.slow

LONG_AGO = 1_600_000_000
SIZE = 4_000_000


class Room:
    """An index, and nodes p1, p2, ... around it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.port = 0

    def index(self, port: int = 0) -> Running:
        index = self.lab.p2pfs(
            *("index", "--host", "127.0.0.1", "-d", str(port), "--no-mdns", "--json")
        )
        self.port = index.event("ready")["port"]
        return index

    def place(self, number: int, **contents: bytes) -> Path:
        folder = self.lab.folder / f"p{number}"
        folder.mkdir(exist_ok=True)
        for name, data in contents.items():
            (folder / name).write_bytes(data)
            os.utime(folder / name, (LONG_AGO, LONG_AGO))
        return folder

    def node(self, number: int, *more: str, **contents: bytes) -> Running:
        """A node that serves these files."""
        self.place(number, **contents)
        node = self.lab.p2pfs(
            *("node", "--id", str(number), "--serve", "--json", "--quit-grace", "0", *more)
        )
        node.event("ready")
        return node

    def menu(self, number: int, *more: str) -> Running:
        self.place(number)
        return self.lab.p2pfs("node", "--id", str(number), "--quit-grace", "0", *more)

    def asked(self, path: str) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as reply:
            return json.loads(reply.read())

    def names(self, everything: bool = False) -> list[str]:
        found = self.asked(f"/torrents?all={int(everything)}")["torrents"]
        return [entry["name"] for entry in found]

    def confirmed(self) -> list[str]:
        return [node["id"] for node in self.asked("/nodes")["nodes"] if not node["unconfirmed"]]

    def saved_leases(self) -> int:
        """Of how many nodes the index would know after it was killed now."""
        for path in self.lab.folder.rglob("catalogue.sqlite"):
            with contextlib.closing(sqlite3.connect(path)) as database:
                return int(database.execute("SELECT count(*) FROM leases").fetchone()[0])
        return 0

    def get(self, name: str, *more: str) -> Running:
        return self.lab.p2pfs("get", name, "-o", "here", "--json", *more)


@pytest.fixture
def room(lab: Lab) -> Room:
    return Room(lab)


def half_done(download: Running) -> None:
    download.progress(lambda event: 0.2 * SIZE < event["bytes_done"] < 0.8 * SIZE)


def test_a_download_goes_on_without_the_index_and_nobody_registers_by_hand(room: Room) -> None:
    data = room.lab.random_bytes(SIZE)
    index = room.index()
    nodes = [room.node(number, "--up-limit", "1M", film=data) for number in (1, 2)]
    until(lambda: room.saved_leases() == 2, lambda: str(room.saved_leases()))
    download = room.get("film", "--keep-seeding")
    half_done(download)

    index.kill()
    download.event("complete")
    room.index(room.port)
    after_restart = room.asked("/torrents")["torrents"]
    until(
        lambda: room.confirmed() == ["1", "2"],
        lambda: str(room.asked("/nodes")),
    )

    assert room.lab.read("here/film") == data
    assert [(one["name"], one["unconfirmed"]) for one in after_restart] == [("film", True)]
    assert download.leave()["ok"]
    no_traceback(*nodes, download)


def test_a_download_goes_on_without_a_node_that_is_killed(room: Room) -> None:
    data = room.lab.random_bytes(SIZE)
    room.index()
    killed, stays = (room.node(number, "--up-limit", "1M", film=data) for number in (1, 2))
    download = room.get("film")
    half_done(download)

    killed.kill()
    code = download.wait()

    assert code == 0
    assert room.lab.read("here/film") == data
    no_traceback(stays, download)


def test_a_node_that_was_killed_starts_again_at_once_and_has_its_place(room: Room) -> None:
    data = room.lab.random_bytes(SIZE)
    room.index()
    first = room.node(1, film=data)
    first.kill()

    again = room.node(1)

    assert room.names() == ["film"]
    assert len(room.asked("/nodes")["nodes"]) == 1
    assert [event for event in again.events if event.get("state") == "checking"] == []
    assert again.leave()["ok"]
    assert room.names() == []


def test_a_node_follows_an_index_that_starts_again_on_another_port(room: Room) -> None:
    index = room.index()
    before = room.port
    node = room.node(1, film=b"film")

    index.signal(signal.SIGTERM)
    index.wait()
    node.event("index_lost")
    room.index()
    node.event("index_back")

    assert room.port != before
    assert room.names() == ["film"]
    no_traceback(node)


def test_a_file_that_changes_in_the_middle_of_a_download_harms_nobody(room: Room) -> None:
    data = room.lab.random_bytes(SIZE)
    room.index()
    changing, stays = (room.node(number, "--up-limit", "1M", film=data) for number in (1, 2))
    download = room.get("film")
    half_done(download)

    (room.lab.folder / "p1" / "film").write_bytes(room.lab.random_bytes(SIZE, "other"))
    code = download.wait()
    changing.event("changed")
    changing.event("shared", since=len(changing.lines) - 1)

    assert code == 0
    assert room.lab.read("here/film") == data
    no_traceback(changing, stays, download)


def test_a_file_that_is_deleted_in_the_middle_of_a_download_comes_from_the_others(
    room: Room,
) -> None:
    data = room.lab.random_bytes(SIZE)
    room.index()
    deleting = room.node(1, "--up-limit", "1M", film=data)
    stays = room.node(2, "--up-limit", "1M", film=data)
    download = room.get("film")
    half_done(download)

    (room.lab.folder / "p1" / "film").unlink()
    code = download.wait()
    deleting.event("withdrawn")

    assert code == 0
    assert room.lab.read("here/film") == data
    no_traceback(deleting, stays, download)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("a small file system needs root and mount")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True
    )
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_full_disk_is_told_and_what_the_node_has_stays_shared(
    room: Room, small_disk: Path
) -> None:
    film, notes = room.lab.random_bytes(SIZE), b"notes" * 1000
    room.index()
    room.node(1, film=film)
    (small_disk / "p2").mkdir()
    (small_disk / "p2" / "notes").write_bytes(notes)
    os.utime(small_disk / "p2" / "notes", (LONG_AGO, LONG_AGO))
    node = room.lab.p2pfs(
        *("node", "--id", "2", "--root", str(small_disk), "--quit-grace", "0"),
        *("-i", "127.0.0.1", "-d", str(room.port)),
    )
    node.line(lambda line: "ready" in line)

    node.say("download")
    node.say("film")
    node.line(lambda line: "the disk is full" in line)
    node.say("list")
    node.line(lambda line: line == "notes")
    fetched = room.get("notes")
    code = fetched.wait()
    node.say("quit")

    assert code == 0
    assert room.lab.read("here/notes") == notes
    assert node.wait() == 0
    no_traceback(node, fetched)
    assert not (small_disk / "p2" / "film").exists()
