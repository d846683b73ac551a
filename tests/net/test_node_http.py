"""Nodes at the index: they register, renew and leave, and are seeds of what they name."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from p2pfs.formats.announce_http import AnnounceReply, AnnounceRequest, encode_query, parse_reply
from p2pfs.geometry import PeerId, TorrentId
from p2pfs.net import index_keeping
from p2pfs.net.own_address import reachable_address
from p2pfs.net.tracker_http import TrackerServer
from tests.support.metainfo import torrent
from tests.support.rawhttp import ask
from tests.support.waiting import until

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


async def announce(
    tracker: TrackerServer, torrent_id: TorrentId, *, left: int = 1
) -> AnnounceReply:
    request = AnnounceRequest(torrent_id, PeerId(b"p" * 20), 1, left=left, key=b"k")
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


async def test_after_a_restart_a_lease_that_is_not_heard_goes(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_keeping, "SWEEP_EVERY", 0.005)
    async with TrackerServer("127.0.0.1", 0, data_dir=tmp_path, clock=clock) as first:
        await register(first, await publish(first, "one"))
    async with TrackerServer("127.0.0.1", 0, data_dir=tmp_path, clock=clock) as second:
        clock.now += 59
        [node] = (await call(second, "GET", "/nodes"))[1]["nodes"]
        clock.now += 1
        await until(lambda: not len(second.presence.leases))
        after = await call(second, "GET", "/torrents")

    assert node["unconfirmed"]
    assert after[1]["torrents"] == []


async def test_a_node_withdraws_only_what_nobody_else_shares(tracker: TrackerServer) -> None:
    other = PROOF.replace(": 1", ": 2").replace(KEY, OTHER_KEY)
    one = await publish(tracker, "one", PROOF)
    await register(tracker, one, node="2", key=OTHER_KEY)

    statuses = [
        (await call(tracker, "DELETE", "/torrents/one", headers=headers))[0]
        for headers in ("", other, PROOF, PROOF, other)
    ]

    # the first node's part goes to the second, which serves it
    assert statuses == [403, 403, 403, 403, 200]


async def test_a_node_behind_loopback_is_shown_as_the_asker_reaches_this_machine(
    tracker: TrackerServer,
) -> None:
    ours = reachable_address()
    if ours.startswith("127."):
        pytest.skip("this machine has no other address than loopback")
    async with TrackerServer(port=0) as everywhere:
        await register(everywhere)
        hosts = {}
        for host in ("127.0.0.1", ours):
            _, _, body = await ask(everywhere.port, "/nodes/1", host=host)
            hosts[host] = json.loads(body)["host"]
            headers = f"Host: {host}\r\n"
            body = json.dumps({"key": OTHER_KEY, "port": 1, "torrents": []}).encode()
            _, _, refused = await ask(
                everywhere.port, "/nodes/1", method="PUT", body=body, headers=headers, host=host
            )
            assert f"{host}:5000" in json.loads(refused)["error"]

    assert hosts == {"127.0.0.1": "127.0.0.1", ours: ours}


async def test_a_node_with_thousands_of_files_registers_in_one_request(
    tracker: TrackerServer,
) -> None:
    torrents = [TorrentId(number.to_bytes(20)) for number in range(5000)]

    _, first = await register(tracker, *torrents)
    counts = tracker.store.peer_count
    _, second = await register(tracker, *torrents[:-1])

    assert (len(first["unknown"]), len(second["unknown"])) == (5000, 4999)
    assert first["unknown"][:2] == ["0" * 40, "0" * 39 + "1"]
    assert (counts, tracker.store.peer_count) == (5000, 4999)


async def test_registrations_at_the_same_time_add_up(tracker: TrackerServer) -> None:
    torrents = [TorrentId(number.to_bytes(20)) for number in range(3000)]
    keys = [f"{number:032}" for number in range(4)]

    await asyncio.gather(
        *(
            register(tracker, *torrents[step * 500 :], node=str(number), key=key)
            for step in range(3)
            for number, key in enumerate(keys)
        )
    )

    held = sum(len(lease.torrents) for lease in tracker.presence.leases)
    assert tracker.store.peer_count == held
    for number, key in enumerate(keys):
        proof = PROOF.replace(": 1", f": {number}").replace(KEY, key)
        assert (await call(tracker, "DELETE", f"/nodes/{number}", headers=proof))[0] == 200
    assert tracker.store.peer_count == 0


async def test_what_an_index_knew_survives_its_being_killed(tmp_path: Path) -> None:
    script = """if True:
        import asyncio, sys
        from p2pfs.net.tracker_http import TrackerServer
        async def main():
            async with TrackerServer("127.0.0.1", 0, data_dir=sys.argv[1]) as tracker:
                print(tracker.port, flush=True)
                await asyncio.Event().wait()
        asyncio.run(main())
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        running = SimpleNamespace(port=int(await process.stdout.readline()))
        one = await publish(running, "one", PROOF)  # type: ignore[arg-type]
        await register(running, one)  # type: ignore[arg-type]
        await announce(running, one, left=0)  # type: ignore[arg-type]
        await until(lambda: saved(tmp_path) == (1, 1))
    finally:
        process.kill()
        await process.wait()

    async with TrackerServer("127.0.0.1", 0, data_dir=tmp_path) as again:
        [entry] = (await call(again, "GET", "/torrents"))[1]["torrents"]

    assert (entry["seeders"], entry["live"], entry["unconfirmed"]) == (2, True, True)


def saved(folder: Path) -> tuple[int, int]:
    """How many leases, and swarms with peers, the database of an index has."""
    with contextlib.closing(sqlite3.connect(folder / "catalogue.sqlite")) as database:
        [leases] = database.execute("SELECT COUNT(*) FROM leases").fetchone()
        [swarms] = database.execute("SELECT COUNT(*) FROM swarms").fetchone()
        return leases, swarms
