"""Nodes on real folders, with a real index between them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from p2pfs.errors import CatalogueError, StorageError, UsageError
from p2pfs.net import folder_watch, lease
from p2pfs.net import node as node_module
from p2pfs.net.engine import Client
from p2pfs.net.index_client import AmbiguousError, IndexClient, NodeTaken, UnknownError
from p2pfs.net.node import Node, NodeEvent
from p2pfs.net.tracker_http import TrackerServer
from p2pfs.storage.creating import make_metainfo
from p2pfs.storage.files import Files
from p2pfs.storage.hash_cache import HashCache
from p2pfs.storage.sharing import FileSource, FolderSource, Settling, Source, TreeSource
from p2pfs.tracker.peer_store import Counts
from tests.support.swarm import LOCAL
from tests.support.waiting import eventually, until

pytestmark = pytest.mark.usefixtures("tracker_runtime")

LONG_AGO = 1_600_000_000


class Class:
    """An index, and nodes that share folders p1, p2, ..."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: dict[str, list[NodeEvent]] = {}
        self.caches: dict[int, HashCache] = {}
        self.index: TrackerServer
        self.now = 0.0
        self._stack = AsyncExitStack()
        self._nodes: list[Node] = []

    async def open_index(self, port: int = 0, **options: Any) -> TrackerServer:
        self.index = TrackerServer(LOCAL, port, **options)
        await self.index.start()
        return self.index

    @property
    def base(self) -> str:
        return self.index.url.removesuffix("/announce")

    def place(self, number: int, content: dict[str, bytes] | None = None) -> Path:
        """The folder of a node, with files that nobody has written to for long."""
        folder = self.folder / f"p{number}"
        folder.mkdir(exist_ok=True)
        for name, data in (content or {}).items():
            self.write(folder / name, data)
        return folder

    def write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (LONG_AGO, LONG_AGO))

    async def node(
        self,
        number: int,
        content: dict[str, bytes] | None = None,
        *,
        sources: list[Source] | None = None,
        base: str | None = None,
        key: str | None = None,
        **options: Any,
    ) -> Node:
        folder = self.place(number, content)
        client = await self._stack.enter_async_context(Client(bind=LOCAL))
        cache = HashCache(self.folder / f"p{number}.sqlite", exclusive=True)
        self._stack.callback(cache.close)
        self.caches[number] = cache
        index = IndexClient(base or self.base, node=(str(number), key or cache.secret("key")))
        await self._stack.enter_async_context(index)
        told = self.events.setdefault(str(number), [])
        node = Node(
            client,
            index,
            [FolderSource(folder)] if sources is None else sources,
            cache=cache,
            on_event=told.append,
            **options,
        )
        self._stack.push_async_callback(node.close)
        await node.start()
        return node

    async def names(self, **options: Any) -> list[str]:
        return [one.name for one in await IndexClient(self.base).list(**options)]

    async def seeders(self, name: str) -> int:
        listed = await IndexClient(self.base).list(everything=True)
        return next((one.seeders for one in listed if one.name == name), -1)

    def told(self, number: int, kind: str) -> list[str]:
        return [event.name for event in self.events[str(number)] if event.kind == kind]

    async def leave(self) -> None:
        """Close every node."""
        await self._stack.aclose()

    async def close(self) -> None:
        await self.leave()
        await self.index.close()


@pytest.fixture
async def room(
    tmp_path: Path, nothing_left: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Class]:
    monkeypatch.setattr(node_module, "Settling", lambda: Settling(0.2))
    monkeypatch.setattr(folder_watch, "SLOW_UNWATCHED", 0.2)
    monkeypatch.setattr(lease, "RETRY_EVERY", 0.1)
    monkeypatch.setattr(lease, "GATHER", 0.01)
    made = Class(tmp_path)
    await made.open_index()
    yield made
    await made.close()


async def test_every_file_of_a_folder_is_listed_and_fetched_by_another_node(room: Class) -> None:
    content = {"notes.txt": b"notes" * 50_000, "2024/05/a.jpg": b"picture" * 9, "empty": b""}
    await room.node(1, content)
    second = await room.node(2)

    listed = await room.names()
    for name in listed:
        await (await second.fetch(name)).wait()

    assert listed == sorted(content)
    for name, data in content.items():
        assert (room.folder / "p2" / name).read_bytes() == data
    await until(lambda: [file.name for file in second.files()] == sorted(content))


async def test_what_was_fetched_is_shared_and_outlives_its_first_owner(room: Class) -> None:
    first = await room.node(1, {"notes.txt": b"notes"})
    second = await room.node(2)
    await (await second.fetch("notes.txt")).wait()
    await until(lambda: room.told(2, "complete") == ["notes.txt"])
    await eventually(lambda: room.seeders("notes.txt"), 2)

    await first.close()
    third = await room.node(3)
    path = await (await third.fetch("notes.txt")).wait()

    assert path.read_bytes() == b"notes"


async def test_a_download_is_counted_once_and_its_swarm_has_each_node_once(room: Class) -> None:
    await room.node(1, {"notes.txt": b"notes"})
    second = await room.node(2)

    await (await second.fetch("notes.txt")).wait()
    await until(lambda: room.told(2, "complete") == ["notes.txt"])
    await eventually(lambda: room.seeders("notes.txt"), 2)

    (entry,) = await IndexClient(room.base).list()
    assert (entry.seeders, entry.leechers, entry.downloaded) == (2, 0, 1)


async def test_a_file_that_is_added_is_shared_and_one_that_is_removed_is_not(room: Class) -> None:
    node = await room.node(1, {"notes.txt": b"notes"})

    room.write(room.folder / "p1" / "new.txt", b"new")
    await eventually(room.names, ["new.txt", "notes.txt"])
    (room.folder / "p1" / "notes.txt").unlink()
    await eventually(room.names, ["new.txt"])

    await eventually(lambda: room.names(everything=True), ["new.txt"])
    assert room.told(1, "withdrawn") == ["notes.txt"]
    assert [file.name for file in node.files()] == ["new.txt"]


async def test_a_file_that_changes_is_shared_as_it_is_now(room: Class) -> None:
    await room.node(1, {"notes.txt": b"notes"})
    second = await room.node(2)

    room.write(room.folder / "p1" / "notes.txt", b"other notes")
    await until(lambda: room.told(1, "shared") == ["notes.txt", "notes.txt"])
    await eventually(lambda: room.seeders("notes.txt"), 1)
    (entry,) = await IndexClient(room.base).list(everything=True)
    path = await (await second.fetch("notes.txt")).wait()

    assert room.told(1, "changed") == ["notes.txt"]
    assert entry.size == 11
    assert path.read_bytes() == b"other notes"


async def test_a_file_is_not_shared_while_somebody_writes_to_it(
    room: Class, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    settling = Settling(2.0)
    seen: list[tuple[float, int]] = []

    class Watched(Settling):
        def ready(self, items: Any, now: float, wall: float) -> Any:
            if "growing.bin" in items:
                seen.append((clock[0], items["growing.bin"].size))
            return settling.ready(items, clock[0], wall)[0], 0.02

    monkeypatch.setattr(node_module, "Settling", Watched)
    node = await room.node(1, {"notes.txt": b"notes"})
    for size in range(4, 24, 4):
        with (room.folder / "p1" / "growing.bin").open("ab") as file:
            file.write(b"more")
        clock[0] += 1.9
        await until(partial(seen.__contains__, (clock[0], size)))
    shared_meanwhile = room.told(1, "shared")

    clock[0] += 2.0
    await until(lambda: "growing.bin" in [file.name for file in node.files()])

    assert shared_meanwhile == ["notes.txt"]
    assert node.files()[0].size == 20


async def test_deleted_files_leave_the_disk_and_the_index(room: Class) -> None:
    node = await room.node(1, {"a b.txt": b"a", "sub/c.txt": b"c", "stays.txt": b"s"})

    outcome = await node.delete(["a b.txt", "nothing", "../p2/x", "sub/c.txt"])

    assert outcome["a b.txt"] is None
    assert outcome["sub/c.txt"] is None
    assert "no file" in (outcome["nothing"] or "")
    assert "no file" in (outcome["../p2/x"] or "")
    assert [path.name for path in (room.folder / "p1").rglob("*") if path.is_file()] == [
        "stays.txt"
    ]
    assert await room.names(everything=True) == ["stays.txt"]


async def test_what_another_node_has_too_stays_listed_when_one_deletes_it(room: Class) -> None:
    first = await room.node(1, {"notes.txt": b"notes"})
    await room.node(2, {"notes.txt": b"notes"})
    before = await room.seeders("notes.txt")

    await first.delete(["notes.txt"])

    assert before == 2
    assert await room.seeders("notes.txt") == 1
    assert (room.folder / "p2" / "notes.txt").read_bytes() == b"notes"


async def test_different_contents_of_one_name_are_both_kept_and_told_apart(room: Class) -> None:
    await room.node(1, {"notes.txt": b"ours"})
    await room.node(2, {"notes.txt": b"theirs!"})
    third = await room.node(3)

    with pytest.raises(AmbiguousError) as raised:
        await third.fetch("notes.txt")
    candidates = {one.size: one for one in raised.value.candidates}
    path = await (await third.fetch(f"notes.txt@{candidates[7].info_hash[:8]}")).wait()

    assert {size: one.seeders for size, one in candidates.items()} == {4: 1, 7: 1}
    assert path.read_bytes() == b"theirs!"


@pytest.mark.parametrize("change", ["edited", "removed"])
async def test_what_changed_while_a_node_was_away_is_taken_back_by_it(
    room: Class, change: str
) -> None:
    first = await room.node(1, {"notes.txt": b"ours", "stays.txt": b"s"})
    await room.node(2, {"stays.txt": b"s"})
    await first.close()
    room.caches[1].close()
    if change == "edited":
        room.write(room.folder / "p1" / "notes.txt", b"ours, edited")
    else:
        (room.folder / "p1" / "notes.txt").unlink()

    await room.node(1)

    await eventually(
        partial(room.names, everything=True),
        ["notes.txt", "stays.txt"] if change == "edited" else ["stays.txt"],
    )
    assert await room.seeders("stays.txt") == 2


async def test_a_name_that_nobody_shares_is_an_error_with_those_that_are_near(room: Class) -> None:
    await room.node(1, {"lesson.pdf": b"1"})
    second = await room.node(2)

    with pytest.raises(UnknownError) as raised:
        await second.fetch("leson.pdf")

    assert raised.value.near == ("lesson.pdf",)


async def test_what_is_here_is_not_fetched_again_nor_replaced(room: Class) -> None:
    await room.node(1, {"same.txt": b"same", "other.txt": b"one"})
    second = await room.node(2, {"same.txt": b"same"})
    room.place(2)
    (room.folder / "p2" / "other.txt").write_bytes(b"unshared so far")

    with pytest.raises(UsageError, match="here already"):
        await second.fetch("same.txt")
    with pytest.raises(StorageError, match=r"move it away|here already"):
        await second.fetch("other.txt")

    assert (room.folder / "p2" / "other.txt").read_bytes() == b"unshared so far"


async def test_a_second_node_of_the_same_id_is_refused(room: Class) -> None:
    await room.node(1, {"notes.txt": b"notes"})

    client = Client(bind=LOCAL)
    async with client:
        twin = Node(
            client,
            IndexClient(room.base, node=("1", "ab" * 16)),
            [FolderSource(room.place(2))],
            cache=HashCache(),
        )
        with pytest.raises(NodeTaken, match="1"):
            await twin.start()
        await twin.close()

    assert await room.seeders("notes.txt") == 1


async def test_a_node_starts_without_an_index_and_registers_when_it_comes(room: Class) -> None:
    port = room.index.port
    base = room.base
    await room.index.close()

    node = await room.node(1, {"notes.txt": b"notes"}, base=base)
    lost = node.index_problem
    await room.open_index(port)

    await eventually(room.names, ["notes.txt"])
    assert str(port) in lost
    assert [event.kind for event in room.events["1"]].count("index_lost") == 1
    await until(lambda: "index_back" in [event.kind for event in room.events["1"]])


async def test_a_node_registers_again_at_an_index_that_forgot_everything(
    room: Class, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room.node(1, {"notes.txt": b"notes"})
    second = await room.node(2)
    port = room.index.port
    await room.index.close()

    room.write(room.folder / "p1" / "new.txt", b"new")
    await until(lambda: "index_lost" in [event.kind for event in room.events["1"]])
    await room.open_index(port)

    await eventually(room.names, ["new.txt", "notes.txt"])
    assert await (await second.fetch("new.txt")).wait()


async def test_a_restart_hashes_nothing_again(room: Class) -> None:
    hashed: list[int] = []
    content = {f"{number}.txt": b"%d" % number for number in range(5)}
    first = await room.node(1, content, hashing=lambda name, done, total: hashed.append(done))
    before = len(hashed)
    await first.close()
    room.caches[1].close()

    second = await room.node(1, hashing=lambda name, done, total: hashed.append(done))

    assert before >= 5
    assert len(hashed) == before
    assert len(second.files()) == 5
    assert await room.names() == sorted(content)


async def test_leaving_does_not_wait_for_a_file_that_is_being_hashed(room: Class) -> None:
    begun, hashed = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hashing(name: str, done: int, total: int) -> None:
        loop.call_soon_threadsafe(begun.set)
        hashed.wait(20)

    starting = asyncio.ensure_future(room.node(1, {"large.bin": bytes(5_000_000)}, hashing=hashing))
    await begun.wait()
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    closing = asyncio.ensure_future(room.leave())
    await asyncio.sleep(0)
    hashed.set()
    await closing

    assert room.told(1, "shared") == []


async def test_a_folder_shared_as_one_arrives_as_a_tree(room: Class) -> None:
    folder = room.place(1, {"a.txt": b"a", "deep/b.txt": b"b"})
    await room.node(1, sources=[TreeSource(folder)])
    second = await room.node(2)

    names = await room.names()
    await (await second.fetch("p1")).wait()
    await until(lambda: room.told(2, "complete") == ["p1"])

    assert names == ["p1"]
    assert (room.folder / "p2" / "p1" / "deep" / "b.txt").read_bytes() == b"b"
    await eventually(lambda: room.seeders("p1"), 2)


async def test_single_files_are_shared_from_where_they_are(room: Class) -> None:
    folder = room.place(1, {"a.txt": b"a", "private.txt": b"p"})
    node = await room.node(1, sources=[FileSource(folder / "a.txt")])

    assert await room.names() == ["a.txt"]
    with pytest.raises(UsageError, match="folder"):
        await node.fetch("a.txt")


async def test_a_file_that_cannot_be_shared_is_told_once_and_the_others_are_shared(
    room: Class,
) -> None:
    (room.place(1, {"notes.txt": b"notes"}) / "evil\x1b[31m").write_bytes(b"x")

    node = await room.node(1)
    room.write(room.folder / "p1" / "more.txt", b"more")
    await until(lambda: len(node.files()) == 2)

    assert room.told(1, "problem") == ["evil\x1b[31m"]


async def test_a_file_that_may_not_be_read_any_more_is_told_and_withdrawn_until_it_may(
    room: Class, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await room.node(1, {"notes.txt": b"notes", "stays.txt": b"s"})
    locked = True
    monkeypatch.setattr(
        Files, "sys_may_read", lambda self, name, fd: not (locked and name == "notes.txt")
    )

    (room.folder / "p1" / "notes.txt").chmod(0o000)
    await eventually(room.names, ["stays.txt"])
    locked = False
    (room.folder / "p1" / "notes.txt").chmod(0o644)
    await eventually(room.names, ["notes.txt", "stays.txt"])

    assert room.told(1, "problem") == ["notes.txt"]
    assert len(node.files()) == 2


async def test_files_written_just_before_the_start_are_shared_when_it_returns(
    room: Class,
) -> None:
    (room.place(1) / "new.txt").write_bytes(b"new")

    node = await room.node(1)

    assert [file.name for file in node.files()] == ["new.txt"]
    assert await room.names() == ["new.txt"]


@pytest.mark.slow
async def test_two_thousand_files_are_shared(room: Class) -> None:
    content = {f"file-{number:04}.txt": b"%d" % number for number in range(2000)}
    node = await room.node(1, content)
    second = await room.node(2)

    listed = await room.names()
    path = await (await second.fetch("file-1234.txt")).wait()

    assert listed == sorted(content)
    assert len(node.files()) == 2000
    assert path.read_bytes() == b"1234"


async def test_it_is_known_who_downloads_from_a_node_and_leaving_waits_for_them(
    room: Class,
) -> None:
    content = {"large.bin": os.urandom(2_000_000)}
    folder = room.place(1, content)
    async with Client(bind=LOCAL, up_limit=500_000) as slow:
        node = Node(
            slow,
            IndexClient(room.base, node=("1", "ab" * 16)),
            [FolderSource(folder)],
            cache=HashCache(),
        )
        await node.start()
        second = await room.node(2)
        torrent = await second.fetch("large.bin")
        await until(lambda: bool(node.taken_from_here()))
        told: list[int] = []

        await node.finish_serving(0.0, lambda takings, left: told.append(len(takings)))

        assert 1 in told
        assert torrent.progress().bytes_done == 2_000_000
        assert node.taken_from_here() == []
        await node.close()


async def test_a_private_torrent_stays_with_its_own_tracker(room: Class) -> None:
    path = room.place(1, {"secret.txt": b"secret" * 9000}) / "secret.txt"
    async with TrackerServer(LOCAL, 0) as own, Client(bind=LOCAL) as client:
        metainfo = make_metainfo(path, private=True, trackers=[[own.url]])
        await client.seed(metainfo, path)
        await IndexClient(room.base).publish(metainfo.to_bytes())
        node = await room.node(2, {"public.txt": b"public"})

        await (await node.fetch("secret.txt")).wait()
        await until(lambda: room.told(2, "complete"))
        await until(lambda: (own.store.counts(metainfo.torrent_id) or Counts()).complete == 2)

        assert await room.seeders("public.txt") == 1
        assert await room.seeders("secret.txt") == 0
        assert {file.name for file in node.files()} == {"public.txt", "secret.txt"}
        await room.leave()


async def test_a_node_that_leaves_is_no_longer_counted(room: Class) -> None:
    node = await room.node(1, {"notes.txt": b"notes"})

    await node.close()

    assert await room.names() == []
    assert await room.names(everything=True) == ["notes.txt"]


async def test_a_download_that_fails_is_told_and_can_be_tried_again(room: Class) -> None:
    first = await room.node(1, {"notes.txt": os.urandom(500_000)})
    second = await room.node(2)
    await first.close()

    with pytest.raises(CatalogueError):
        await second.fetch("no such name")
    torrent = await second.fetch("notes.txt")
    await torrent.close()
    await until(lambda: not second._fetching)
    again = await second.fetch("notes.txt")
    await again.close()

    assert list((room.folder / "p2").iterdir()) == [] or all(
        path.name.startswith(".") for path in (room.folder / "p2").iterdir()
    )
