"""Asking UDP trackers: ours, and others that lose, mix up and make up what they send."""

from __future__ import annotations

import asyncio
import random
from itertools import count, islice
from typing import Any

import pytest

from p2pfs.errors import NetworkError, TrackerError
from p2pfs.formats import announce_udp as udp
from p2pfs.formats.announce_http import (
    AnnounceReply,
    AnnounceRequest,
    Event,
    PackedReply,
    PeerAddress,
    encode_reply,
)
from p2pfs.formats.scrape_http import ScrapeEntry
from p2pfs.geometry import PeerId, TorrentId
from p2pfs.net import udp_announcer
from p2pfs.net.announce_client import AnnounceClient, RefusedError
from p2pfs.net.announcer import Announcer
from p2pfs.net.tracker_http import TrackerServer
from p2pfs.net.udp_announcer import UdpAnnouncer, waits
from p2pfs.swarm.announcing import Tiers
from tests.support.datagrams import FAKE_ID, FakeTracker, Reaction, well_behaved
from tests.support.rawhttp import raw_server, reply

pytestmark = [
    pytest.mark.loops("asyncio", "uvloop"),
    pytest.mark.usefixtures("tracker_runtime", "nothing_left"),
]

TORRENT = TorrentId(bytes(range(20)))
GOOD = (PeerAddress("10.0.0.1", 5),)


def request(number: int = 1, **fields: Any) -> AnnounceRequest:
    values: dict[str, Any] = {"left": 5, "event": Event.STARTED, "key": b"%08X" % number} | fields
    return AnnounceRequest(TORRENT, PeerId(b"%020d" % number), 1000 + number, **values)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions are sent again almost at once."""
    monkeypatch.setattr(udp_announcer, "FIRST_WAIT", 0.02)


# -- at our tracker


async def test_two_clients_find_each_other_through_our_udp_tracker() -> None:
    client = AnnounceClient()
    async with TrackerServer(port=0) as tracker:
        url = tracker.udp_url
        assert url is not None
        await client.announce(url, request(1))
        found = await client.announce(url, request(2))
        await client.announce(url, request(1, event=Event.COMPLETED, left=0))
        counts = await client.scrape(url, [TORRENT, TorrentId(b"?" * 20)])
        stopped = await client.announce(url, request(1, event=Event.STOPPED, numwant=0))
        after = await client.announce(url, request(2))

    assert found.peers == (PeerAddress("127.0.0.1", 1001),)
    assert found.interval == 300
    assert counts == {TORRENT: ScrapeEntry(1, 1, 1), TorrentId(b"?" * 20): ScrapeEntry(0, 0, 0)}
    assert (stopped.peers, after.peers) == ((), ())


async def test_ipv6_is_spoken_as_well() -> None:
    client = AnnounceClient()
    async with TrackerServer(port=0) as tracker:
        if len(tracker.addresses) < 2:
            pytest.skip("no IPv6 here")
        url = f"udp://[::1]:{tracker.port}/announce"
        await client.announce(url, request(1))

        assert (await client.announce(url, request(2))).peers == (PeerAddress("::1", 1001),)


@pytest.fixture
def two_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that has an address of either family."""

    async def resolve(host: str, *_: object, **__: object) -> list[tuple[str, int]]:
        return [("::1", 10), ("::2", 10), ("127.0.0.1", 2)]

    monkeypatch.setattr(udp_announcer, "resolve", resolve)


@pytest.mark.usefixtures("two_families")
async def test_a_tracker_with_both_families_is_told_by_both_and_counts_one_peer() -> None:
    client = AnnounceClient()
    async with TrackerServer(port=0) as tracker:
        if len(tracker.addresses) < 2:
            pytest.skip("no IPv6 here")
        url = f"udp://tracker.example:{tracker.port}/announce"
        await client.announce(url, request(1))
        found = await client.announce(url, request(2))

    assert set(found.peers) == {PeerAddress("::1", 1001), PeerAddress("127.0.0.1", 1001)}
    assert found.incomplete == 2


@pytest.mark.usefixtures("two_families")
async def test_one_family_is_enough() -> None:
    async with FakeTracker(well_behaved) as tracker:
        found = await AnnounceClient().announce(f"udp://tracker.example:{tracker.port}", request())

    assert found.peers == GOOD


# -- what counts as an answer


def after(*before: bytes) -> Reaction:
    """Sends these to everything, with its transaction where it says TIDT, and then the truth."""

    def react(tracker: FakeTracker, data: bytes) -> list[bytes]:
        false = [one.replace(b"TIDT", data[12:16]) for one in before]
        return [*false, *well_behaved(tracker, data)]

    return react


@pytest.mark.parametrize(
    "false",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\0xxxx" + bytes(100),
        b"\0\0\0\1xxxx" + bytes(100),
        b"\0\0\0\3xxxxno",
        b"\0\0\0\2TIDT" + bytes(12),
        b"\0\0\0\4TIDT" + bytes(100),
        b"\xff\xff\xff\xffTIDT",
        random.Random(1).randbytes(1400),
    ],
)
async def test_what_has_another_transaction_or_action_is_no_answer(false: bytes) -> None:
    async with FakeTracker(after(false, false)) as tracker:
        found = await AnnounceClient().announce(tracker.url, request())

    assert found == AnnounceReply(interval=77, peers=GOOD, complete=1, incomplete=0)


async def test_what_another_address_sends_is_no_answer() -> None:
    loop = asyncio.get_running_loop()
    intruder, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    false = PackedReply(interval=1, peers=b"\x09\x09\x09\x09\0\x09")

    def react(tracker: FakeTracker, data: bytes) -> list[bytes]:
        (asker,) = tracker.sources
        intruder.sendto(udp.encode_announce_reply(data[12:16], false, ipv6=False), asker)
        intruder.sendto(udp.encode_connect_reply(data[12:16], b"!" * 8), asker)
        return well_behaved(tracker, data)

    async with FakeTracker(react) as tracker:
        found = await AnnounceClient().announce(tracker.url, request())
    intruder.close()

    assert found.peers == GOOD
    assert tracker.heard[1][:8] == FAKE_ID


@pytest.mark.parametrize("cut", [8, 19])
async def test_an_answer_that_is_too_short_is_told_as_nonsense(cut: int) -> None:
    def react(tracker: FakeTracker, data: bytes) -> list[bytes]:
        replies = well_behaved(tracker, data)
        return replies if data[8:12] == b"\0\0\0\0" else [one[:cut] for one in replies]

    async with FakeTracker(react) as tracker:
        with pytest.raises(TrackerError, match=r"something else than a tracker.*20 bytes"):
            await AnnounceClient().announce(tracker.url + "?passkey=secret", request())


async def test_a_refusal_is_told_with_its_reason() -> None:
    def react(tracker: FakeTracker, data: bytes) -> list[bytes]:
        if data[8:12] == b"\0\0\0\0":
            return well_behaved(tracker, data)
        return [udp.encode_error(data[12:16], "not \x1b[31mregistered\n")]

    async with FakeTracker(react) as tracker:
        with pytest.raises(RefusedError, match=r"refused: not \?\[31mregistered\?$"):
            await AnnounceClient().announce(tracker.url, request())
        with pytest.raises(TrackerError, match=r"cannot scrape .*registered"):
            await AnnounceClient().scrape(tracker.url, [TORRENT])


# -- connection ids and repetition


async def test_a_connection_id_serves_for_several_questions() -> None:
    client = AnnounceClient()
    async with FakeTracker(well_behaved) as tracker:
        await client.announce(tracker.url, request(1))
        await client.announce(tracker.url, request(2))
        await client.scrape(tracker.url, [TORRENT])

    assert tracker.actions == [0, 1, 1, 2]
    assert {data[:8] for data in tracker.heard[1:]} == {FAKE_ID}
    assert len({data[12:16] for data in tracker.heard}) == 4


@pytest.mark.loops("asyncio")
async def test_a_connection_id_is_not_used_when_a_minute_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    client = AnnounceClient()
    async with FakeTracker(well_behaved) as tracker:
        await client.announce(tracker.url, request())
        now = loop.time
        monkeypatch.setattr(loop, "time", lambda: now() + 60.0, raising=False)
        await client.announce(tracker.url, request())

    assert tracker.actions == [0, 1, 0, 1]


async def test_the_waits_double_from_15_seconds_on_eight_times() -> None:
    assert list(islice(waits(), 11)) == [15 * 2**n for n in range(9)] + [3840, 3840]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("lost", [1, 2, 3])
async def test_what_is_lost_is_asked_again(lost: int) -> None:
    number = count()

    def react(tracker: FakeTracker, data: bytes) -> list[bytes]:
        return [] if next(number) < lost else well_behaved(tracker, data)

    async with FakeTracker(react) as tracker:
        found = await AnnounceClient().announce(tracker.url, request())

    assert found.peers == GOOD
    assert tracker.actions == [0] * (lost + 1) + [1]


@pytest.mark.usefixtures("impatient")
async def test_an_announce_that_is_lost_is_asked_again_with_a_new_connection_id() -> None:
    lost: list[bytes] = []

    def react(tracker: FakeTracker, data: bytes) -> list[bytes]:
        if data[8:12] == b"\0\0\0\1" and not lost:
            lost.append(data)
            return []
        return well_behaved(tracker, data)

    async with FakeTracker(react) as tracker:
        await AnnounceClient().announce(tracker.url, request())

    assert tracker.actions == [0, 1, 0, 1]
    assert tracker.heard[3] == lost[0]  # the same transaction, so that either answer will do


@pytest.mark.usefixtures("impatient")
async def test_a_tracker_that_lost_its_secret_is_found_again() -> None:
    client = AnnounceClient()
    async with TrackerServer("127.0.0.1", 0) as tracker:
        url, port = tracker.udp_url, tracker.port
        assert url is not None
        await client.announce(url, request(1))
    async with TrackerServer("127.0.0.1", port) as tracker:
        await client.announce(url, request(1))

        assert tracker.store.peer_count == 1


async def test_a_refusal_of_an_old_connection_id_is_met_with_a_new_one() -> None:
    ids = count(1)
    issued: list[bytes] = []
    current = [0]

    def react(tracker: FakeTracker, data: bytes) -> list[bytes]:
        if data[8:12] == b"\0\0\0\0":
            issued.append(next(ids).to_bytes(8, "big"))
            return [udp.encode_connect_reply(data[12:16], issued[-1])]
        if int.from_bytes(data[:8], "big") <= current[0]:
            return [udp.encode_error(data[12:16], "connection id mismatch")]
        return well_behaved(tracker, data)

    client = AnnounceClient()
    async with FakeTracker(react) as tracker:
        await client.announce(tracker.url, request())
        current[0] = 1
        await client.announce(tracker.url, request())

    assert tracker.actions == [0, 1, 1, 0, 1]


# -- trackers that do not answer


async def test_a_udp_tracker_that_is_not_there_is_told_at_once() -> None:
    async with FakeTracker(well_behaved) as tracker:
        url = tracker.url

    with pytest.raises(TrackerError, match=r"nothing listens there.*check that it runs"):
        await AnnounceClient(seconds=3600).announce(url, request())


async def test_a_silent_tracker_is_given_up_and_has_less_time_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(udp_announcer, "FIRST_WAIT", 0.07)
    monkeypatch.setattr(udp_announcer, "PATIENCE", 0.12)
    monkeypatch.setattr(udp_announcer, "SHORT_PATIENCE", 0.05)
    silent = True

    def react(tracker: FakeTracker, data: bytes) -> list[bytes]:
        return [] if silent else well_behaved(tracker, data)

    client = UdpAnnouncer()
    async with FakeTracker(react) as tracker:

        async def announce() -> AnnounceReply:
            return await client.announce(tracker.url, request(), trusted=True, seconds=3600)

        with pytest.raises(NetworkError, match=r"no answer within 0\.12 s"):
            await announce()
        assert len(tracker.heard) == 2
        with pytest.raises(NetworkError, match=r"no answer within 0\.05 s"):
            await announce()
        assert len(tracker.heard) == 3
        silent = False
        assert (await announce()).peers == GOOD
        silent = True
        with pytest.raises(NetworkError, match=r"no answer within 0\.12 s"):
            await announce()


async def test_a_goodbye_over_udp_does_not_wait_long() -> None:
    async with FakeTracker(lambda *_: []) as tracker:
        with pytest.raises(TrackerError, match=r"within 0\.05 s"):
            await AnnounceClient(seconds=3600, stop_seconds=0.05).announce(
                tracker.url, request(event=Event.STOPPED)
            )


async def test_the_next_tier_is_asked_when_a_udp_tracker_is_silent() -> None:
    found: list[PeerAddress] = []
    http = reply(encode_reply(PackedReply(interval=900, peers=b"\x0a\0\0\2\0\6")))
    async with FakeTracker(lambda *_: []) as silent, raw_server(http) as server:
        urls = [silent.url, f"http://127.0.0.1:{server.port}/announce"]
        news = asyncio.Event()
        announcer = Announcer(
            AnnounceClient(seconds=0.1),
            Tiers([[url] for url in urls], random.Random(1)),
            frozenset(urls),
            torrent_id=TORRENT,
            peer_id=PeerId(b"x" * 20),
            port=1,
            key=b"00000001",
            complete=False,
            partial_seed=False,
            totals=lambda: (0, 0, 1),
            found=lambda peers: (found.extend(peers), news.set())[1],  # type: ignore[func-returns-value]
            returned=lambda: None,
            rng=random.Random(1),
        )
        announcer.start()
        async with asyncio.timeout(20):
            await news.wait()
        await announcer.stop()

    assert found == [PeerAddress("10.0.0.2", 6)]
    assert silent.actions[0] == 0


# -- URLs


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("", b""),
        ("/announce", b"\x02\x09/announce"),
        ("/announce?auth=0%2f1#part", b"\x02\x17/announce?auth=0%2f1"),
    ],
)
async def test_what_follows_the_port_is_told_to_the_tracker(rest: str, said: bytes) -> None:
    said = said[:1] + bytes([len(said) - 2]) + said[2:] if said else said
    async with FakeTracker(well_behaved) as tracker:
        await AnnounceClient().announce(f"UDP://127.0.0.1:{tracker.port}{rest}", request())

    assert tracker.heard[1][98:] == said
    assert len(tracker.heard[0]) == 16


async def test_only_so_many_torrents_go_into_one_scrape() -> None:
    torrents = [TorrentId(n.to_bytes(20, "big")) for n in range(150)]
    async with FakeTracker(well_behaved) as tracker:
        found = await AnnounceClient().scrape(tracker.url, [*torrents, *torrents])

    assert found == dict.fromkeys(torrents, ScrapeEntry(complete=1, downloaded=3, incomplete=2))
    assert [len(data) for data in tracker.heard] == [16, 16 + 74 * 20, 16 + 74 * 20, 16 + 2 * 20]


@pytest.mark.parametrize(
    ("url", "trusted", "why"),
    [
        ("udp://169.254.169.254:80/announce", True, "never asked"),
        ("udp://127.0.0.1:1/api/delete", False, "only ask for /announce"),
        ("udp://10.0.0.1:1/x", False, "only ask for /announce"),
        ("udp://xn--bcher-kva.example:1", False, "not trusted"),
        ("udp://127.0.0.1/announce", True, "names no host"),
        ("udp://:80/announce", True, "names no host"),
        ("udp://host:99999/", True, "names no host"),
        ("udp://[::1/", True, "names no host"),
        ("udp://nowhere.invalid:80/announce", True, "cannot be resolved"),
    ],
)
async def test_udp_trackers_that_cannot_be_asked_are_errors(
    url: str, trusted: bool, why: str
) -> None:
    with pytest.raises(TrackerError, match=why):
        await AnnounceClient().announce(url, request(), trusted=trusted)


async def test_where_local_trackers_are_not_allowed_udp_is_no_way_round() -> None:
    async with FakeTracker(well_behaved) as tracker:
        with pytest.raises(TrackerError, match="is not asked for a URL from outside"):
            await AnnounceClient(local=False).announce(tracker.url, request())

        assert tracker.heard == []
