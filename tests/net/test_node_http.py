"""Nodes at the index: they register, renew and leave, and are seeds of what they name."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from p2pfs.formats.announce_http import AnnounceReply, AnnounceRequest, encode_query, parse_reply
from p2pfs.geometry import PeerId, TorrentId
from p2pfs.net.tracker_http import TrackerServer
from tests.support.metainfo import torrent
from tests.support.rawhttp import ask

KEY = "0123456789abcdef" * 2
OTHER_KEY = "f" * 32
PROOF = f"P2pfs-Node: 1\r\nP2pfs-Node-Key: {KEY}\r\n"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def tracker(clock: Clock) -> AsyncIterator[TrackerServer]:
    async with TrackerServer("127.0.0.1", 0, clock=clock) as server:
        yield server


async def call(
    tracker: TrackerServer, method: str, path: str, body: bytes = b"", headers: str = ""
) -> tuple[int, Any]:
    status, _, answer = await ask(tracker.port, path, method=method, body=body, headers=headers)
    return status, json.loads(answer)


async def register(
    tracker: TrackerServer,
    *torrents: TorrentId | str,
    node: str = "1",
    key: str = KEY,
    port: object = 5000,
) -> tuple[int, Any]:
    body = {"key": key, "port": port, "torrents": [str(one) for one in torrents]}
    return await call(tracker, "PUT", f"/nodes/{node}", json.dumps(body).encode())


async def publish(tracker: TrackerServer, name: str, headers: str = "") -> TorrentId:
    status, answer = await call(tracker, "POST", "/torrents", torrent(name), headers)
    assert status in (200, 201)
    return TorrentId(bytes.fromhex(answer["info_hash"]))


async def listed(tracker: TrackerServer) -> dict[str, int]:
    _, answer = await call(tracker, "GET", "/torrents")
    return {one["name"]: one["seeders"] for one in answer["torrents"]}


async def announce(tracker: TrackerServer, torrent_id: TorrentId) -> AnnounceReply:
    request = AnnounceRequest(torrent_id, PeerId(b"p" * 20), 1, left=1, key=b"k")
    _, _, body = await ask(tracker.port, f"/announce?{encode_query(request)}")
    return parse_reply(body)


async def test_a_node_is_a_seed_of_what_it_registers(tracker: TrackerServer) -> None:
    one, two = await publish(tracker, "one"), await publish(tracker, "two")
    unknown = TorrentId(b"u" * 20)

    status, answer = await register(tracker, one, two, unknown)

    assert status == 201
    assert answer == {
        "id": "1",
        "host": "127.0.0.1",
        "port": 5000,
        "lease": 30,
        "renew_every": 10,
        "unknown": [str(unknown)],
    }
    assert await listed(tracker) == {"one": 1, "two": 1}
    assert [(one.host, one.port) for one in (await announce(tracker, one)).peers] == [
        ("127.0.0.1", 5000)
    ]


async def test_what_leaves_the_list_leaves_the_swarm(tracker: TrackerServer) -> None:
    one, two = await publish(tracker, "one"), await publish(tracker, "two")
    await register(tracker, one)

    status, _ = await register(tracker, two)

    assert status == 200
    assert await listed(tracker) == {"two": 1}
    assert (await announce(tracker, one)).peers == ()


async def test_a_node_that_is_not_renewed_is_gone_after_its_lease(
    tracker: TrackerServer, clock: Clock
) -> None:
    one = await publish(tracker, "one")
    await register(tracker, one)
    clock.now += 29
    renewed = await call(tracker, "POST", "/nodes/1/renew", headers=PROOF)
    clock.now += 29
    tracker.presence.expire(clock.now)
    still = await listed(tracker)
    clock.now += 1
    tracker.presence.expire(clock.now)
    tracker.presence.work(10)

    assert renewed == (200, {"lease": 30, "renew_every": 10})
    assert still == {"one": 1}
    assert await listed(tracker) == {}
    assert (await call(tracker, "POST", "/nodes/1/renew", headers=PROOF))[0] == 404
    assert (await call(tracker, "GET", "/nodes"))[1] == {"nodes": []}


async def test_a_node_that_leaves_is_gone_at_once(tracker: TrackerServer) -> None:
    one = await publish(tracker, "one")
    await register(tracker, one)

    assert (await call(tracker, "DELETE", "/nodes/1", headers=PROOF))[0] == 200
    assert await listed(tracker) == {}
    assert (await call(tracker, "DELETE", "/nodes/1", headers=PROOF))[0] == 404


async def test_another_node_cannot_have_the_same_id_while_the_first_lives(
    tracker: TrackerServer, clock: Clock
) -> None:
    await register(tracker)
    clock.now += 4

    status, answer = await register(tracker, key=OTHER_KEY, port=6000)

    assert status == 409
    assert "127.0.0.1:5000, heard 4 s ago" in answer["error"]
    assert "free in 26 s" in answer["error"]
    assert (answer["heard"], answer["free_in"]) == (4.0, 26.0)
    clock.now += 26
    assert (await register(tracker, key=OTHER_KEY, port=6000))[0] == 201


@pytest.mark.parametrize(
    "headers", ["", PROOF.replace(KEY, OTHER_KEY), PROOF.replace(": 1", ": 2")]
)
async def test_only_who_knows_the_key_renews_or_ends_a_lease(
    tracker: TrackerServer, headers: str
) -> None:
    await register(tracker)

    assert (await call(tracker, "POST", "/nodes/1/renew", headers=headers))[0] == 403
    assert (await call(tracker, "DELETE", "/nodes/1", headers=headers))[0] == 403
    assert len(tracker.presence.leases) == 1


async def test_the_nodes_and_their_files_are_listed(tracker: TrackerServer) -> None:
    one = await publish(tracker, "b")
    two = await publish(tracker, "a")
    await register(tracker, one, two, node="10")
    await register(tracker, node="2")

    _, answer = await call(tracker, "GET", "/nodes")
    _, node = await call(tracker, "GET", "/nodes/10")

    assert [(one["id"], one["files"]) for one in answer["nodes"]] == [("2", 0), ("10", 2)]
    assert node["torrents"] == [
        {"name": "a", "size": 1000, "info_hash": str(two)},
        {"name": "b", "size": 1000, "info_hash": str(one)},
    ]


async def test_after_a_restart_nodes_are_shown_unconfirmed_until_they_are_heard(
    tmp_path: Path,
) -> None:
    async with TrackerServer("127.0.0.1", 0, data_dir=tmp_path) as first:
        one = await publish(first, "one")
        await register(first, one)
    async with TrackerServer("127.0.0.1", 0, data_dir=tmp_path) as second:
        _, before = await call(second, "GET", "/torrents")
        peers = (await announce(second, one)).peers
        renewed = await call(second, "POST", "/nodes/1/renew", headers=PROOF)
        _, after = await call(second, "GET", "/torrents")

    assert [(one["seeders"], one["unconfirmed"]) for one in before["torrents"]] == [(1, True)]
    assert [(one.host, one.port) for one in peers] == [("127.0.0.1", 5000)]
    assert renewed[0] == 200
    assert [(one["seeders"], one["unconfirmed"]) for one in after["torrents"]] == [(1, False)]
