"""Announcing to trackers of ours, and to others that answer nonsense."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from p2pfs.errors import TrackerError
from p2pfs.formats.announce_http import (
    NEVER,
    AnnounceRequest,
    Event,
    PackedReply,
    PeerAddress,
    encode_failure,
    encode_reply,
)
from p2pfs.formats.announce_reply import MAX_PEERS
from p2pfs.formats.scrape_http import ScrapeEntry
from p2pfs.geometry import PeerId, TorrentId
from p2pfs.net.announce_client import AnnounceClient, RefusedError
from p2pfs.net.tracker_http import TrackerServer
from tests.support.rawhttp import raw_server, reply

TORRENT = TorrentId(bytes(range(20)))


def request(number: int = 1, event: Event = Event.STARTED, left: int = 5) -> AnnounceRequest:
    return AnnounceRequest(
        TORRENT, PeerId(b"%020d" % number), 1000 + number, left=left, event=event, key=b"\0\xff&="
    )


GOOD = encode_reply(PackedReply(interval=77, peers=b"\x0a\0\0\1\0\5"))


async def test_two_clients_find_each_other_through_our_tracker() -> None:
    client = AnnounceClient()
    async with TrackerServer(port=0) as tracker:
        await client.announce(tracker.url, request(1))
        found = await client.announce(tracker.url, request(2))
        await client.announce(tracker.url, request(1, Event.COMPLETED, 0))
        counts = await client.scrape(tracker.url, [TORRENT])
        stopped = await client.announce(tracker.url, request(1, Event.STOPPED))
        after = await client.announce(tracker.url, request(2, Event.NONE))

    assert found.peers == (PeerAddress("127.0.0.1", 1001),)
    assert found.interval == 300
    assert counts == {TORRENT: ScrapeEntry(1, 1, 1, 1)}
    assert (stopped.peers, after.peers) == ((), ())


async def test_a_thousand_announces_leave_nothing_behind() -> None:
    client = AnnounceClient()
    async with TrackerServer(port=0) as tracker:
        await asyncio.gather(*(client.announce(tracker.url, request(n)) for n in range(100)))

        assert tracker.store.peer_count == 100
        assert len(asyncio.all_tasks()) < 10


async def test_the_query_is_added_to_one_that_is_there() -> None:
    async with raw_server(reply(GOOD)) as server:
        await AnnounceClient().announce(
            f"http://127.0.0.1:{server.port}/announce?passkey=x%2fy#part", request()
        )

    line = server.requests[0].split(b"\r\n")[0]
    assert line.startswith(b"GET /announce?passkey=x%2fy&info_hash=%00%01%02")
    assert b"&key=%00%FF%26%3D" in line
    assert b"#" not in line


async def test_a_packed_reply_is_unpacked() -> None:
    packed = reply(gzip.compress(GOOD), headers="Content-Encoding: gzip\r\n")
    async with raw_server(packed) as server:
        found = await AnnounceClient().announce(
            f"http://127.0.0.1:{server.port}/announce", request()
        )

    assert found.interval == 77


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "503 Busy"])
async def test_a_refusal_is_told_with_its_reason_whatever_the_status(status: str) -> None:
    body = encode_failure("not \x1b[31mregistered\n", 120)
    async with raw_server(reply(body, status=status)) as server:
        with pytest.raises(RefusedError, match=r"refused: not \?\[31mregistered\?$") as caught:
            await AnnounceClient().announce(
                f"http://127.0.0.1:{server.port}/announce?passkey=secret", request()
            )

    assert caught.value.retry_in == 120
    assert "secret" not in str(caught.value)


async def test_never_is_a_very_long_time() -> None:
    async with raw_server(reply(encode_failure("gone", NEVER))) as server:
        with pytest.raises(RefusedError) as caught:
            await AnnounceClient().announce(f"http://127.0.0.1:{server.port}/announce", request())

    assert caught.value.retry_in == NEVER


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (reply(b"<html>hello</html>"), "something else than a tracker"),
        (reply(b"<html>no</html>", status="404 Not Found"), "HTTP status 404"),
        (reply(GOOD, status="500 Oops"), "HTTP status 500"),
        (reply(b""), "something else"),
        (reply(b"d8:intervali5e" + b"5:peers" + b"0" * 100 + b"e"), "something else"),
        (reply(b"l" * 100_000), "something else"),
        (reply(b"x" * 2_000_000), "larger than"),
        (b"junk\r\n\r\n", "did not answer"),
        (b"", "did not answer"),
    ],
)
async def test_nonsense_is_an_error_that_says_who_and_what_to_do(answer: bytes, why: str) -> None:
    async with raw_server(answer) as server:
        url = f"http://127.0.0.1:{server.port}/announce"
        with pytest.raises(TrackerError, match=why) as caught:
            await AnnounceClient().announce(url + "?passkey=secret", request())

    assert url in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_reply_with_a_hundred_thousand_peers_is_read_as_far_as_is_of_use() -> None:
    peers = b"".join(b"\x0a" + number.to_bytes(3, "big") + b"\0\5" for number in range(100_000))
    async with raw_server(reply(encode_reply(PackedReply(interval=60, peers=peers)))) as server:
        found = await AnnounceClient().announce(
            f"http://127.0.0.1:{server.port}/announce", request()
        )

    assert len(set(found.peers)) == MAX_PEERS


async def test_a_goodbye_does_not_wait_long() -> None:
    async def silent(head: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with raw_server(silent) as server:
        with pytest.raises(TrackerError, match=r"within 0\.05 s"):
            await AnnounceClient(stop_seconds=0.05).announce(
                f"http://127.0.0.1:{server.port}/announce", request(event=Event.STOPPED)
            )


async def test_a_tracker_that_is_not_there_is_an_error() -> None:
    async with raw_server(b"") as server:
        port = server.port

    with pytest.raises(TrackerError, match=r"nothing listens there.*check that it runs"):
        await AnnounceClient().announce(f"http://127.0.0.1:{port}/announce", request())


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("udp://127.0.0.1/announce", "names no host"),
        ("http://169.254.169.254/announce", "never asked"),
        ("http://127.0.0.1:1/api/delete", "only ask for /announce"),
        ("wss://tracker.example/", "only http and https"),
        ("nonsense", "only http and https"),
    ],
)
async def test_trackers_that_cannot_be_asked_are_errors(url: str, why: str) -> None:
    with pytest.raises(TrackerError, match=why):
        await AnnounceClient().announce(url, request())


async def test_an_announce_address_without_scrape_is_an_error() -> None:
    with pytest.raises(TrackerError, match="no scrape address"):
        await AnnounceClient().scrape("http://127.0.0.1:5/tracker", [TORRENT])


async def test_a_scrape_of_nonsense_is_an_error() -> None:
    async with raw_server(reply(b"nonsense")) as server:
        with pytest.raises(TrackerError, match="cannot scrape"):
            await AnnounceClient().scrape(f"http://127.0.0.1:{server.port}/announce", [TORRENT])
