"""The tracker on its port, spoken to as clients do."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from p2pfs.errors import ListenError, UsageError
from p2pfs.formats.announce_http import (
    AnnounceReply,
    AnnounceRequest,
    PeerAddress,
    encode_query,
    parse_reply,
)
from p2pfs.formats.metainfo import FileEntry, build
from p2pfs.formats.scrape_http import ScrapeEntry, encode_scrape_query, parse_scrape
from p2pfs.geometry import PeerId, TorrentId
from p2pfs.net import index_keeping
from p2pfs.net.listener import bind_port
from p2pfs.net.tracker_http import TrackerServer
from tests.support.rawhttp import ask

TORRENT = TorrentId(bytes(range(100, 110)) + b"\x00\xff&=%+# ?a")


@pytest.fixture
async def tracker() -> AsyncIterator[TrackerServer]:
    async with TrackerServer(port=0, rng=random.Random(1)) as server:
        yield server


def query(number: int = 1, extra: str = "", **fields: Any) -> str:
    values: dict[str, Any] = {"port": 1000 + number, "left": 1, "key": b"%d" % number} | fields
    request = AnnounceRequest(TORRENT, PeerId(b"%020d" % number), **values)
    return f"/announce?{encode_query(request)}{extra}"


async def announce(
    tracker: TrackerServer, number: int = 1, *, host: str = "127.0.0.1", **fields: Any
) -> AnnounceReply:
    status, _, body = await ask(tracker.port, query(number, **fields), host=host)
    assert status == 200
    return parse_reply(body)


async def test_peers_find_each_other(tracker: TrackerServer) -> None:
    first = await announce(tracker, 1)
    second = await announce(tracker, 2)

    assert first.peers == ()
    assert second.peers == (PeerAddress("127.0.0.1", 1001),)
    assert (second.interval, second.min_interval) == (300, 30)
    assert (second.complete, second.incomplete) == (0, 2)
    assert second.external_ip == "127.0.0.1"


async def test_an_address_that_the_client_claims_is_ignored(tracker: TrackerServer) -> None:
    await announce(tracker, 1, extra="&ip=9.9.9.9&ipv4=9.9.9.9:5&ipv6=2001:db8::1")

    assert (await announce(tracker, 2)).peers == (PeerAddress("127.0.0.1", 1001),)


async def test_forwarding_headers_are_ignored(tracker: TrackerServer) -> None:
    await ask(tracker.port, query(1), headers="X-Forwarded-For: 9.9.9.9\r\nX-Real-IP: 9.9.9.9\r\n")

    assert (await announce(tracker, 2)).peers == (PeerAddress("127.0.0.1", 1001),)


async def test_both_families_are_served_on_one_port(tracker: TrackerServer) -> None:
    if len(tracker.addresses) < 2:
        pytest.skip("no IPv6 here")
    await announce(tracker, 1, host="::1")
    await announce(tracker, 2)

    assert {port for _, port in tracker.addresses} == {tracker.port}
    assert set((await announce(tracker, 3, host="::1")).peers) == {
        PeerAddress("::1", 1001),
        PeerAddress("127.0.0.1", 1002),
    }


async def test_a_peer_that_does_not_listen_is_answered_but_not_listed(
    tracker: TrackerServer,
) -> None:
    await announce(tracker, 1)

    assert (await announce(tracker, 2, port=0)).peers == (PeerAddress("127.0.0.1", 1001),)
    assert (await announce(tracker, 3)).peers == (PeerAddress("127.0.0.1", 1001),)


async def test_who_wants_dictionaries_gets_them(tracker: TrackerServer) -> None:
    await announce(tracker, 1)

    reply = await announce(tracker, 2, compact=False)

    assert reply.peers == (PeerAddress("127.0.0.1", 1001, PeerId(b"%020d" % 1)),)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/announce", "info_hash is missing"),
        ("/announce?info_hash=abc", "port is missing|left is missing"),
        ("/announce?info_hash=abc&peer_id=x&port=1&left=0", "info_hash has 3 bytes"),
        (query(port=1) + "&port=99999", "twice"),
        (query() + "&x=" + "y" * 20_000, "longer than"),
    ],
)
async def test_whatever_is_wrong_is_told_as_a_failure_reason(
    tracker: TrackerServer, target: str, reason: str
) -> None:
    import re

    status, _, body = await ask(tracker.port, target)

    failure = parse_reply(body).failure
    assert status == 200
    assert failure is not None
    assert re.search(reason if "missing" not in reason else "missing", failure)


@pytest.mark.parametrize(
    "target",
    [
        query(2),
        query(2, compact=False),
        query(2, port=0, left=0),
        query(2, extra="&numwant=x"),
        query(2, extra="&x=" + "y" * 20_000),
        "/announce",
        "/announce?",
        "/scrape",
        "/scrape?" + encode_scrape_query([TORRENT]),
        "/scrape?info_hash=x",
    ],
)
async def test_the_answer_is_the_same_whatever_way_the_request_takes(target: str) -> None:
    answers = []
    for headers in ("", "Content-Length: 0\r\n"):
        async with TrackerServer(port=0, rng=random.Random(1)) as tracker:
            known = await announce(tracker, 1)
            status, head, body = await ask(tracker.port, target, headers=headers)
            body = body.replace(known.tracker_id or b"", b"")
            lines = head.lower().split(b"\r\n")[1:]
            own = (b"date:", b"server:", b"connection:", b"content-length:")
            answers.append((status, {one for one in lines if not one.startswith(own)}, body))

    assert answers[0] == answers[1]


@pytest.mark.parametrize("path", ["/announce", "/scrape"])
@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "DELETE"])
async def test_only_get_announces(tracker: TrackerServer, path: str, method: str) -> None:
    target = query().replace("/announce", path)

    status, head, _ = await ask(tracker.port, target, method=method)

    assert status == 405
    assert b"allow: GET" in head
    assert tracker.store.peer_count == 0


async def test_several_torrents_are_scraped_at_once(tracker: TrackerServer) -> None:
    await announce(tracker, 1, left=0)
    await announce(tracker, 2)
    unknown = TorrentId(b"u" * 20)

    _, _, body = await ask(tracker.port, "/scrape?" + encode_scrape_query([TORRENT, unknown]))

    assert parse_scrape(body) == {TORRENT: ScrapeEntry(1, 1, 0, 1)}


async def test_a_scrape_for_everything_is_refused(tracker: TrackerServer) -> None:
    _, _, body = await ask(tracker.port, "/scrape")

    assert "at least one info_hash" in str(parse_reply(body).failure)


async def test_other_paths_say_what_is_here(tracker: TrackerServer) -> None:
    status, _, body = await ask(tracker.port, "/nothing")

    assert status == 404
    assert b"/announce" in body


async def test_its_health_can_be_asked(tracker: TrackerServer) -> None:
    await announce(tracker)

    status, _, body = await ask(tracker.port, "/health")

    assert status == 200
    assert json.loads(body)["status"] == "ok"
    assert (json.loads(body)["peers"], json.loads(body)["torrents"]) == (1, 1)


async def test_silent_peers_are_swept_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_keeping, "SWEEP_EVERY", 0.005)
    now = 1000.0
    swept = asyncio.Event()
    async with TrackerServer(port=0, clock=lambda: now) as tracker:
        expire = tracker.store.expire

        def watched(*arguments: Any) -> int:
            dropped = expire(*arguments)
            if dropped:
                swept.set()
            return dropped

        monkeypatch.setattr(tracker.store, "expire", watched)
        await announce(tracker)
        now += 661
        await asyncio.wait_for(swept.wait(), 5)

    assert tracker.store.peer_count == 0


async def test_a_closed_tracker_serves_only_its_catalogue() -> None:
    data = build(
        name="x",
        files=[FileEntry(("x",), 1)],
        multi_file=False,
        piece_length=16384,
        pieces=bytes(20),
    )
    async with TrackerServer(port=0, closed=True) as tracker:
        refused = await announce(tracker)
        tracker.catalogue.publish(data.to_bytes(), 0)
        request = AnnounceRequest(data.torrent_id, PeerId(b"p" * 20), 1)
        _, _, body = await ask(tracker.port, f"/announce?{encode_query(request)}")

    assert "published" in str(refused.failure)
    assert parse_reply(body).failure is None


async def test_an_explicit_address_is_listened_on_alone() -> None:
    async with TrackerServer("127.0.0.1", 0) as tracker:
        assert tracker.addresses == [("127.0.0.1", tracker.port)]
        assert tracker.url == f"http://127.0.0.1:{tracker.port}/announce"


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
async def test_any_address_means_both_families(host: str) -> None:
    async with TrackerServer(host, 0) as tracker:
        assert tracker.addresses[0] == ("0.0.0.0", tracker.port)
        assert tracker.port > 0
        assert (await announce(tracker)).failure is None


async def test_a_port_that_is_taken_is_an_error_that_says_what_to_do() -> None:
    taken = bind_port("127.0.0.1", 0)
    port = taken[0].getsockname()[1]
    tracker = TrackerServer("127.0.0.1", port)

    with pytest.raises(ListenError, match=f"port {port} of 127.0.0.1: .*another port with -d"):
        await tracker.start()

    await tracker.close()
    taken[0].close()


async def test_a_host_that_is_not_here_is_an_error() -> None:
    tracker = TrackerServer("nowhere.invalid", 0)

    with pytest.raises(ListenError, match=r"nowhere\.invalid"):
        await tracker.start()

    await tracker.close()


@pytest.mark.parametrize("options", [{"port": 65536}, {"port": -1}, {"interval": 0}])
def test_values_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        TrackerServer(**options)


async def test_a_tracker_may_be_closed_twice_and_started_again_on_its_port(
    tmp_path: Path,
) -> None:
    first = TrackerServer("127.0.0.1", 0, data_dir=tmp_path)
    await first.start()
    port = first.port
    await first.close()
    await first.close()

    async with TrackerServer("127.0.0.1", port, data_dir=tmp_path) as second:
        assert second.port == port
        assert (await announce(second)).failure is None


# -- peers on the tracker's own machine, seen from elsewhere


def outside_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


async def test_a_loopback_peer_is_handed_out_under_the_address_of_the_machine(
    tracker: TrackerServer,
) -> None:
    ours = outside_address()
    if ours.startswith("127."):
        pytest.skip("this machine has no other address than loopback")
    await announce(tracker, 1)

    assert (await announce(tracker, 2, host=ours)).peers == (PeerAddress(ours, 1001),)


async def test_a_restarted_tracker_can_be_told_by_its_id(tracker: TrackerServer) -> None:
    first, second = await announce(tracker, 1), await announce(tracker, 1, tracker_id=b"echoed")
    async with TrackerServer(port=0) as restarted:
        third = await announce(restarted, 1)

    assert first.tracker_id is not None
    assert first.tracker_id.isalnum()
    assert first.tracker_id == second.tracker_id != third.tracker_id


async def test_announces_are_answered_whatever_name_the_tracker_was_asked_by(
    tracker: TrackerServer,
) -> None:
    headers = "Host: tracker.example.com\r\n"

    assert (await ask(tracker.port, query(1), headers=headers))[0] == 200
    assert (await ask(tracker.port, "/health", headers=headers))[0] == 200
    assert (await ask(tracker.port, "/torrents", headers=headers))[0] == 421
    async with TrackerServer(port=0, allow_hosts=["tracker.example.com"]) as allowing:
        assert (await ask(allowing.port, "/torrents", headers=headers))[0] == 200
