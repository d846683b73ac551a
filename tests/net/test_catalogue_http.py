"""The routes of the catalogue: every request has an answer, and none of them hurts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from p2pfs.formats.announce_http import AnnounceRequest, Event, encode_query
from p2pfs.geometry import PeerId, TorrentId
from p2pfs.net.tracker_http import TrackerServer
from tests.support.metainfo import torrent
from tests.support.rawhttp import ask


@pytest.fixture
async def tracker() -> AsyncIterator[TrackerServer]:
    async with TrackerServer("127.0.0.1", 0) as server:
        yield server


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/torrents/", 200),
        ("HEAD", "/torrents", 200),
        ("GET", "/torrents?offset=x", 400),
        ("GET", "/torrents?limit=-1", 400),
        ("GET", "/torrents?limit=99999999999", 400),
        ("GET", "/torrents?offset=5&limit=0", 200),
        ("DELETE", "/torrents", 405),
        ("POST", "/torrents/name", 405),
        ("POST", "/torrents", 400),
        ("PUT", "/torrents", 405),
        ("GET", "/torrents/..%2f..%2fetc%2fpasswd", 404),
        ("GET", "/torrents/%ff%00.torrent", 404),
        ("GET", "/torrents/" + "x" * 5000, 404),
    ],
)
async def test_every_request_has_an_answer(
    tracker: TrackerServer, method: str, path: str, status: int
) -> None:
    answered, head, body = await ask(tracker.port, path, method=method)

    assert answered == status
    assert b"content-type: application/json" in head
    assert method == "HEAD" or isinstance(json.loads(body), dict)


async def test_pages_of_other_sites_cannot_publish(tracker: TrackerServer) -> None:
    status, _, body = await ask(
        tracker.port,
        "/torrents",
        method="POST",
        body=torrent("a"),
        headers="Host: here:1\r\nOrigin: http://there:1\r\n",
    )

    assert status == 403
    assert b"other sites" in body
    assert len(tracker.catalogue) == 0


async def test_a_torrent_is_sent_as_a_download_with_a_harmless_header(
    tracker: TrackerServer,
) -> None:
    entry, _ = tracker.catalogue.publish(torrent('a"b\u202e.html'), 0)

    _, head, _ = await ask(tracker.port, f"/torrents/{entry.torrent_id}")

    assert b"content-type: application/x-bittorrent" in head
    assert b"filename*=UTF-8''a%22b" in head
    assert b"nosniff" in head


async def test_a_new_torrent_is_created_and_an_old_one_is_known(tracker: TrackerServer) -> None:
    first = await ask(tracker.port, "/torrents", method="POST", body=torrent("a"))
    again = await ask(tracker.port, "/torrents", method="POST", body=torrent("a"))

    assert (first[0], again[0]) == (201, 200)
    assert json.loads(first[2])["name"] == "a"


async def call(
    tracker: TrackerServer, method: str, path: str, body: bytes = b"", headers: str = ""
) -> tuple[int, Any]:
    status, _, answer = await ask(tracker.port, path, method=method, body=body, headers=headers)
    return status, json.loads(answer)


async def publish(tracker: TrackerServer, *contents: bytes) -> list[str]:
    answers = [await call(tracker, "POST", "/torrents", one) for one in contents]
    assert {status for status, _ in answers} == {201}
    return [entry["info_hash"] for _, entry in answers]


async def announce(tracker: TrackerServer, info_hash: str, number: int, **fields: Any) -> None:
    request = AnnounceRequest(
        TorrentId(bytes.fromhex(info_hash)), PeerId(b"%020d" % number), 5000 + number, **fields
    )
    await ask(tracker.port, f"/announce?{encode_query(request)}")


async def test_an_entry_tells_what_it_is_and_who_has_it(tracker: TrackerServer) -> None:
    [info_hash] = await publish(tracker, torrent("2024/05/a.jpg"))
    await announce(tracker, info_hash, 1, left=0)
    await announce(tracker, info_hash, 2, left=1)
    await announce(tracker, info_hash, 3, left=0, event=Event.COMPLETED)

    _, answer = await call(tracker, "GET", "/torrents")

    [entry] = answer["torrents"]
    assert entry.pop("published") > 1_500_000_000
    assert answer["total"] == 1
    assert entry == {
        "name": "2024/05/a.jpg",
        "size": 1000,
        "info_hash": info_hash,
        "files": 1,
        "seeders": 2,
        "leechers": 1,
        "downloaded": 1,
        "live": True,
        "unconfirmed": False,
    }


async def test_names_that_nobody_has_are_listed_only_on_request(tracker: TrackerServer) -> None:
    one, two, _ = await publish(tracker, torrent("a1"), torrent("a2"), torrent("b"))
    await announce(tracker, one, 1, left=1)
    await announce(tracker, two, 1, left=1, event=Event.PAUSED)

    async def listed(query: str) -> list[str]:
        _, answer = await call(tracker, "GET", f"/torrents{query}")
        return [entry["name"] for entry in answer["torrents"]]

    assert await listed("") == ["a2"]
    assert await listed("?all=0") == ["a2"]
    assert await listed("?all=1") == ["a1", "a2", "b"]
    assert await listed("?all=1&pattern=A") == ["a1", "a2"]
    assert await listed("?all=1&pattern=?2&limit=5") == ["a2"]
    assert await listed("?all=1&limit=1&offset=2") == ["b"]
    await announce(tracker, two, 1, left=1, event=Event.STOPPED)
    assert await listed("") == []


async def test_an_unknown_name_is_answered_with_near_ones_that_somebody_has(
    tracker: TrackerServer,
) -> None:
    _, two = await publish(tracker, torrent("story_one.txt"), torrent("story_two.txt"))

    _, nobody_has_any = await call(tracker, "GET", "/torrents/story_on.txt")
    await announce(tracker, two, 1, left=0)
    _, somebody_has_two = await call(tracker, "GET", "/torrents/story_on.txt")

    assert nobody_has_any["near"] == ["story_one.txt", "story_two.txt"]
    assert somebody_has_two["near"] == ["story_two.txt"]


async def test_a_name_with_slashes_is_fetched_quoted_or_as_it_is(tracker: TrackerServer) -> None:
    data = torrent("2024/05/a.jpg")
    await publish(tracker, data)

    for path in ("2024/05/a.jpg", "2024%2F05%2fa.jpg", "2024/05/a.jpg.torrent", "2024"):
        status, head, body = await ask(tracker.port, f"/torrents/{path}")
        assert (status, body) == (200, data)
        assert b"''a.jpg.torrent" in head


async def test_a_name_that_ends_like_a_metainfo_file_is_found_either_way(
    tracker: TrackerServer,
) -> None:
    data = torrent("x.torrent")
    await publish(tracker, data)

    for path in ("x.torrent", "x.torrent.torrent"):
        assert (await ask(tracker.port, f"/torrents/{path}"))[2] == data


async def test_several_contents_of_one_name_are_told_apart(tracker: TrackerServer) -> None:
    one, two = await publish(tracker, torrent("a", 1), torrent("a", 2))
    await announce(tracker, two, 1, left=0)

    status, answer = await call(tracker, "GET", "/torrents/a.torrent")

    assert status == 409
    seeders = {entry["info_hash"]: entry["seeders"] for entry in answer["candidates"]}
    assert seeders == {one: 0, two: 1}
    assert (await ask(tracker.port, f"/torrents/a@{one[:6]}.torrent"))[2] == torrent("a", 1)
    assert (await call(tracker, "DELETE", f"/torrents/a@{one[:6]}"))[0] == 200
    assert (await ask(tracker.port, "/torrents/a.torrent"))[2] == torrent("a", 2)


async def test_what_was_published_anonymously_anybody_withdraws(tracker: TrackerServer) -> None:
    await publish(tracker, torrent("a"))

    status, entry = await call(tracker, "DELETE", "/torrents/a")

    assert (status, entry["name"]) == (200, "a")
    assert (await call(tracker, "DELETE", "/torrents/a"))[0] == 404
    assert (await call(tracker, "GET", "/torrents?all=1"))[1]["total"] == 0


async def test_a_token_withdraws_what_a_node_published() -> None:
    node = f"P2pfs-Node: 1\r\nP2pfs-Node-Key: {'0' * 32}\r\n"
    token = "Authorization: Bearer t\r\n"
    async with TrackerServer("127.0.0.1", 0, publish_token="t") as tracker:
        published = await call(tracker, "POST", "/torrents", torrent("a"), node + token)
        withdrawn = await call(tracker, "DELETE", "/torrents/a", headers=token)

    assert (published[0], withdrawn[0]) == (201, 200)


async def test_what_is_published_at_the_same_time_shares_commits(tmp_path: Path) -> None:
    contents = [torrent(f"f{number}") for number in range(200)]
    async with TrackerServer("127.0.0.1", 0, data_dir=tmp_path) as tracker:
        statements: list[str] = []
        tracker.catalogue.database._connection.set_trace_callback(statements.append)
        asked = iter(contents)

        async def worker() -> None:
            for one in asked:
                assert (await call(tracker, "POST", "/torrents", one))[0] == 201

        await asyncio.gather(*(worker() for _ in range(8)))
        tracker.catalogue.database._connection.set_trace_callback(None)

    assert statements.count("COMMIT") < 150
    async with TrackerServer("127.0.0.1", 0, data_dir=tmp_path) as again:
        assert len(again.catalogue) == 200


async def test_a_client_that_leaves_half_way_harms_nobody(tracker: TrackerServer) -> None:
    for _ in range(100):
        _, writer = await asyncio.open_connection("127.0.0.1", tracker.port)
        writer.write(b"POST /torrents HTTP/1.1\r\nHost: t\r\nContent-Length: 5000\r\n\r\nd4:")
        await writer.drain()
        writer.transport.abort()

    assert (await call(tracker, "POST", "/torrents", torrent("a")))[0] == 201
