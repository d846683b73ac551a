"""The tracker over UDP, spoken to as clients do, and as those do who mean it no good."""

from __future__ import annotations

import os
import random
import stat
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.errors import ListenError
from p2pfs.formats import announce_udp as udp
from p2pfs.formats.announce_http import AnnounceRequest, Event, PeerAddress, encode_query
from p2pfs.formats.endpoint import pack_host
from p2pfs.formats.metainfo import FileEntry, build
from p2pfs.formats.scrape_http import ScrapeEntry
from p2pfs.geometry import PeerId, TorrentId
from p2pfs.net.listener import bind_beside, bind_port
from p2pfs.net.tracker_http import TrackerServer
from p2pfs.net.tracker_udp import UdpTracker, kept_secret
from p2pfs.tracker.connection_id import SECRET_LENGTH
from p2pfs.tracker.peer_store import MemoryPeerStore
from p2pfs.tracker.service import TrackerService
from tests.support.datagrams import Asker
from tests.support.rawhttp import ask

pytestmark = [
    pytest.mark.loops("asyncio", "uvloop"),
    pytest.mark.usefixtures("tracker_runtime", "nothing_left"),
]

TORRENT = TorrentId(bytes(range(100, 120)))
TID = b"\x01\x02\x03\x04"


def request(number: int = 1, **fields: Any) -> AnnounceRequest:
    values: dict[str, Any] = {"port": 1000 + number, "left": 1, "key": b"%08X" % number} | fields
    return AnnounceRequest(TORRENT, PeerId(b"%020d" % number), **values)


@pytest.fixture
async def tracker() -> AsyncIterator[TrackerServer]:
    async with TrackerServer(port=0, rng=random.Random(1)) as server:
        yield server


@pytest.fixture
async def asker(tracker: TrackerServer) -> AsyncIterator[Asker]:
    with Asker(tracker.port) as made:
        yield made


async def test_peers_find_each_other_over_udp(asker: Asker) -> None:
    first = await asker.announce(request(1, event=Event.STARTED))
    second = await asker.announce(request(2, left=0))

    assert first.peers == ()
    assert second.peers == (PeerAddress("127.0.0.1", 1001),)
    assert (second.interval, second.complete, second.incomplete) == (300, 1, 1)


async def test_http_and_udp_are_two_faces_of_one_tracker(
    tracker: TrackerServer, asker: Asker
) -> None:
    query = f"/announce?{encode_query(request(1))}"
    await ask(tracker.port, query)

    assert (await asker.announce(request(2))).peers == (PeerAddress("127.0.0.1", 1001),)
    both = await asker.announce(request(1))
    assert both.incomplete == 2  # whoever announces over both is one peer
    await asker.announce(request(1, event=Event.STOPPED))
    assert (await asker.announce(request(2))).incomplete == 1


async def test_both_families_are_answered_under_the_port_of_http(tracker: TrackerServer) -> None:
    if len(tracker.addresses) < 2:
        pytest.skip("no IPv6 here")
    with Asker(tracker.port) as v4, Asker(tracker.port, "::1") as v6:
        await v4.announce(request(1))
        await v6.announce(request(2))

        third = await v6.announce(request(3))
        fourth = await v4.announce(request(4))

    assert third.peers == (PeerAddress("::1", 1002),)
    assert third.incomplete == 3
    assert fourth.peers == (PeerAddress("127.0.0.1", 1001),)


async def test_a_reply_comes_from_the_address_that_was_asked(tracker: TrackerServer) -> None:
    if sys.platform != "linux":
        pytest.skip("this system does not say which address was asked, or has only one")
    with Asker(tracker.port, "127.0.0.77") as asker:  # connected: hears nobody else
        assert (await asker.announce(request())).incomplete == 1


async def test_the_address_in_the_announce_is_never_listed(asker: Asker) -> None:
    claim = bytearray(udp.encode_announce(await asker.connection_id(), TID, request(1)))
    claim[84:88] = bytes([9, 9, 9, 9])

    await asker.ask(bytes(claim))

    assert (await asker.announce(request(2))).peers == (PeerAddress("127.0.0.1", 1001),)


async def test_options_after_an_announce_change_nothing(asker: Asker) -> None:
    announce = udp.encode_announce(await asker.connection_id(), TID, request(1))

    replies = [
        await asker.ask(announce + options)
        for options in (b"", b"\x02\x09/announce\0", b"\x02\xff/lie", b"\xff" * 900)
    ]

    assert set(replies) == {replies[0]}
    assert replies[0][:8] == b"\0\0\0\1" + TID


async def test_several_torrents_are_scraped_at_once_in_their_order(asker: Asker) -> None:
    await asker.announce(request(1, left=0))
    await asker.announce(request(2))
    unknown = [TorrentId(bytes([n]) * 20) for n in range(73)]

    counts = await asker.scrape(*unknown, TORRENT)

    assert counts == [ScrapeEntry(0, 0, 0)] * 73 + [ScrapeEntry(1, 1, 0)]


async def test_what_is_asked_wrongly_by_a_proved_address_is_told(asker: Asker) -> None:
    connection_id = await asker.connection_id()
    short = udp.encode_announce(connection_id, TID, request())[:97]
    many = udp.encode_scrape(connection_id, TID, [TORRENT] * 75)

    for wrong, why in ((short, "98 bytes"), (many, "1 to 74")):
        reply = await asker.ask(wrong)
        assert udp.parse_reply_header(reply) == (udp.Action.ERROR, TID)
        assert why in udp.parse_error(reply)


async def test_a_closed_tracker_refuses_what_it_does_not_have(tmp_path: Path) -> None:
    meta = build(
        name="known",
        files=[FileEntry(("known",), 5)],
        multi_file=False,
        piece_length=16384,
        pieces=bytes(20),
    )
    async with TrackerServer(port=0, closed=True) as tracker:
        await ask(tracker.port, "/torrents", method="POST", body=meta.to_bytes())
        with Asker(tracker.port) as asker:
            connection_id = await asker.connection_id()
            refusal = await asker.ask(udp.encode_announce(connection_id, TID, request()))
            known = AnnounceRequest(meta.torrent_id, PeerId(b"x" * 20), 5)

            assert udp.parse_reply_header(refusal) == (udp.Action.ERROR, TID)
            assert "only the torrents published" in udp.parse_error(refusal)
            assert (await asker.announce(known)).complete == 1


async def test_an_unproved_address_gets_no_more_than_it_sent(
    asker: Asker, tracker: TrackerServer
) -> None:
    announce = udp.encode_announce(bytes(8), TID, request())
    scrape = udp.encode_scrape(b"\xff" * 8, TID, [TORRENT])

    assert await asker.is_ignored(
        announce, scrape, udp.encode_announce(udp.CONNECT, TID, request())
    )
    assert await asker.is_ignored(b"", b"x", udp.CONNECT, udp.encode_connect(TID)[:15])
    assert await asker.is_ignored(*(bytes([n]) * 16 for n in range(256)))
    assert len(await asker.ask(udp.encode_connect(TID) + bytes(500))) == 16
    assert tracker.store.peer_count == 0


async def test_an_id_of_another_address_is_answered_with_silence(tracker: TrackerServer) -> None:
    if sys.platform != "linux":
        pytest.skip("this system has one loopback address")
    with Asker(tracker.port) as one, Asker(tracker.port, source="127.0.0.9") as other:
        stolen = await one.connection_id()

        assert await other.is_ignored(udp.encode_announce(stolen, TID, request()))
    assert tracker.store.peer_count == 0


async def test_an_action_that_nobody_knows_is_ignored(asker: Asker) -> None:
    connection_id = await asker.connection_id()

    for action in (0, 3, 4, 2**32 - 1):
        made = udp.REQUEST_HEADER.pack(connection_id, action, TID) + bytes(82)
        assert await asker.is_ignored(made)


async def test_ids_are_good_after_a_restart_where_there_is_a_data_dir(tmp_path: Path) -> None:
    async with TrackerServer(port=0, data_dir=tmp_path) as tracker:
        with Asker(tracker.port) as asker:
            connection_id = await asker.connection_id()
    async with TrackerServer(port=0, data_dir=tmp_path) as tracker:
        with Asker(tracker.port) as asker:
            reply = await asker.ask(udp.encode_announce(connection_id, TID, request()))
    async with TrackerServer(port=0) as tracker:
        with Asker(tracker.port) as asker:
            assert await asker.is_ignored(udp.encode_announce(connection_id, TID, request()))

    assert udp.parse_reply_header(reply) == (udp.Action.ANNOUNCE, TID)


async def test_without_udp_only_http_is_answered() -> None:
    async with TrackerServer("127.0.0.1", 0, udp=False) as tracker:
        assert tracker.udp_url is None
        with Asker(tracker.port) as asker, pytest.raises(ConnectionRefusedError):
            await asker.ask(udp.encode_connect(TID))


async def test_a_udp_port_that_is_taken_is_told_with_what_to_do() -> None:
    held = bind_port("127.0.0.1", 0)
    taken = bind_beside(held)
    port = taken[0].getsockname()[1]
    held[0].close()
    try:
        with pytest.raises(ListenError, match=rf"UDP port {port}.*-d.*--no-udp"):
            await TrackerServer("127.0.0.1", port).start()
        async with TrackerServer("127.0.0.1", port, udp=False) as tracker:
            assert tracker.port == port
    finally:
        taken[0].close()


# -- decisions, without a network


def loopback_seen_from(asker: str, ours: bytes, advertise: list[str]) -> str:
    """How a peer that announced over loopback is handed to `asker`, who asked at `ours`."""
    service = TrackerService(MemoryPeerStore(900), advertise=advertise)
    service.announce(request(1), "127.0.0.1", 0.0)
    tracker = UdpTracker(service, bytes(32), clock=lambda: 0.0, wall=lambda: 0.0)
    connection_id = udp.parse_connect_reply(tracker.answer(udp.encode_connect(TID), asker, ours))
    reply = tracker.answer(udp.encode_announce(connection_id, TID, request(2)), asker, ours)
    return " ".join(f"{peer.host}:{peer.port}" for peer in udp.parse_announce_reply(reply, 4).peers)


async def test_peers_of_this_machine_are_handed_out_under_the_address_that_was_asked() -> None:
    ours = pack_host("192.0.2.10")

    assert loopback_seen_from("192.0.2.99", ours, []) == "192.0.2.10:1001"
    assert loopback_seen_from("192.0.2.99", ours, ["203.0.113.7"]) == "203.0.113.7:1001"
    assert loopback_seen_from("127.0.0.1", ours, ["203.0.113.7"]) == "127.0.0.1:1001"


async def test_where_that_cannot_be_told_the_route_to_the_asker_decides() -> None:
    from p2pfs.net.own_address import route_to

    asker = "192.0.2.99"
    expected = route_to(asker)

    assert loopback_seen_from(asker, b"", []) == (f"{expected}:1001" if expected else "")


class LongWay(TrackerService):
    """Knows no short way."""

    def renew(self, *_: object, **__: object) -> None:
        return None


announces = st.lists(
    st.tuples(
        st.sampled_from(["127.0.0.1", "192.0.2.99", "192.0.2.98", "2001:db8::9", "::1"]),
        st.integers(0, 5),  # which peer
        st.integers(0, 1),  # which torrent
        st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4, 9]),  # event
        st.sampled_from([0, 1, 1]),  # left
        st.sampled_from([-1, 0, 1, 7, 50, 2**31 - 1]),  # numwant
        st.sampled_from([0, 5, 5]),  # key
        st.sampled_from([0, 6881, 6881]),  # port
    ),
    max_size=60,
)


@given(announces)
@settings(max_examples=100, deadline=None)
async def test_the_short_way_of_who_was_here_before_answers_as_the_long_one(
    steps: list[tuple[str, int, int, int, int, int, int, int]],
) -> None:
    torrents = [TorrentId(bytes([number]) * 20) for number in range(2)]
    now = 0.0
    services = [
        make(MemoryPeerStore(900, rng=random.Random(3))) for make in (TrackerService, LongWay)
    ]
    trackers = [
        UdpTracker(service, bytes(32), clock=lambda: now, wall=lambda: now) for service in services
    ]
    for host, number, torrent, event, left, numwant, key, port in steps:
        now += 1.0
        answers = []
        for tracker in trackers:
            connect = tracker.answer(udp.encode_connect(TID), host, b"")
            connection_id = udp.parse_connect_reply(connect)
            announce = udp.REQUEST_HEADER.pack(connection_id, udp.Action.ANNOUNCE, TID)
            announce += torrents[torrent].v1 + b"%020d" % number + struct.pack(">QQQ", 0, left, 0)
            announce += struct.pack(">IIIiH", event, 0, key, numwant, port and port + number)
            answers.append(tracker.answer(announce, host, pack_host("192.0.2.10")))

        assert answers[0] == answers[1] != b""
        assert services[0].scrape(torrents) == services[1].scrape(torrents)


async def test_a_torrent_that_was_withdrawn_is_refused_to_who_was_here_before() -> None:
    allowed = {TORRENT}
    service = TrackerService(MemoryPeerStore(900), allowed=allowed.__contains__)
    tracker = UdpTracker(service, bytes(32), clock=lambda: 0.0, wall=lambda: 0.0)
    connect = tracker.answer(udp.encode_connect(TID), "10.0.0.1", b"")
    announce = udp.encode_announce(udp.parse_connect_reply(connect), TID, request())
    before = tracker.answer(announce, "10.0.0.1", b"")
    allowed.clear()

    after = tracker.answer(announce, "10.0.0.1", b"")

    assert udp.parse_reply_header(before) == (udp.Action.ANNOUNCE, TID)
    assert udp.parse_reply_header(after) == (udp.Action.ERROR, TID)


async def test_a_key_of_zeros_is_told_from_none() -> None:
    service = TrackerService(MemoryPeerStore(900))
    tracker = UdpTracker(service, bytes(32), clock=lambda: 0.0, wall=lambda: 0.0)
    service.announce(request(1, key=b"00000000"), "10.0.0.1", 0.0)  # as HTTP can say it
    connect = tracker.answer(udp.encode_connect(TID), "10.0.0.6", b"")
    thief = udp.encode_announce(udp.parse_connect_reply(connect), TID, request(1, key=None))

    tracker.answer(thief, "10.0.0.6", b"")

    assert service.announce(request(2), "10.0.0.2", 0.0).incomplete == 3


async def test_who_was_here_before_is_heard_also_by_the_short_way() -> None:
    now = 0.0
    store = MemoryPeerStore(100)
    tracker = UdpTracker(TrackerService(store), bytes(32), clock=lambda: now, wall=lambda: 0.0)
    connect = tracker.answer(udp.encode_connect(TID), "10.0.0.1", b"")
    announce = udp.encode_announce(udp.parse_connect_reply(connect), TID, request())

    tracker.answer(announce, "10.0.0.1", b"")
    now = 90.0
    tracker.answer(announce, "10.0.0.1", b"")

    assert store.expire(189.0, 10) == 0
    assert store.expire(191.0, 10) == 1


async def test_an_id_is_refused_when_two_minutes_are_over() -> None:
    now = 1_000_000.0
    tracker = UdpTracker(
        TrackerService(MemoryPeerStore(900)), bytes(32), clock=lambda: 0.0, wall=lambda: now
    )
    connection_id = udp.parse_connect_reply(
        tracker.answer(udp.encode_connect(TID), "10.0.0.1", b"")
    )
    announce = udp.encode_announce(connection_id, TID, request())

    answered = []
    for passed in (0, 60, 120.5):
        now = 1_000_000.0 + passed
        answered.append(bool(tracker.answer(announce, "10.0.0.1", b"")))

    assert answered == [True, True, False]


def secret_in(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


async def test_the_secret_is_kept_for_nobody_else_to_read(tmp_path: Path) -> None:
    secret = kept_secret(tmp_path)

    assert len(secret) == SECRET_LENGTH
    assert kept_secret(tmp_path) == secret
    assert kept_secret(None) != secret
    if os.name == "posix":
        assert stat.S_IMODE(secret_in(tmp_path).stat().st_mode) == 0o600


async def test_a_secret_that_is_damaged_or_cannot_be_kept_is_a_new_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = kept_secret(tmp_path)
    file = secret_in(tmp_path)
    file.write_bytes(b"short")

    fresh = kept_secret(tmp_path)
    elsewhere = kept_secret(file / "not a folder")

    assert len({secret, fresh, elsewhere}) == 3
    assert kept_secret(tmp_path) == fresh
    assert "cannot keep" in caplog.text
