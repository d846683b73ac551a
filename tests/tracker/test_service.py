"""The tracker's answers, whatever way the question came."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from p2pfs.errors import TrackerError, UsageError
from p2pfs.formats.announce_http import AnnounceRequest, Event, PackedReply, PeerAddress
from p2pfs.formats.endpoint import pack_host
from p2pfs.formats.scrape_http import ScrapeEntry
from p2pfs.geometry import PeerId, TorrentId
from p2pfs.tracker.leases import LEASE_PREFIX
from p2pfs.tracker.peer_store import MemoryPeerStore, PeerKind, SwarmPeer
from p2pfs.tracker.service import MAX_NUMWANT, TrackerService, lifetime_for

TORRENT = TorrentId(b"t" * 20)


def make(**options: object) -> TrackerService:
    return TrackerService(MemoryPeerStore(660, rng=random.Random(1)), **options)  # type: ignore[arg-type]


def ask(
    service: TrackerService,
    number: int,
    source: str = "",
    reached_at: Callable[[], str | None] = lambda: None,
    **fields: object,
) -> PackedReply:
    values: dict[str, object] = {"port": 1000 + number, "left": 1, "key": b"%d" % number} | fields
    request = AnnounceRequest(TORRENT, PeerId(b"%020d" % number), **values)  # type: ignore[arg-type]
    return service.announce(request, source or f"10.0.0.{number}", 0.0, reached_at)


def test_an_answer_has_intervals_counts_and_the_address_of_the_asker() -> None:
    service = make(interval=120)

    reply = ask(service, 1, left=0)

    assert (reply.interval, reply.min_interval) == (120, 30)
    assert (reply.complete, reply.incomplete, reply.downloaded) == (1, 0, 0)
    assert reply.external_ip == pack_host("10.0.0.1")


def test_the_minimum_interval_is_never_above_the_interval() -> None:
    assert make(interval=10).min_interval == 10
    assert make(interval=10, min_interval=5).min_interval == 5


@pytest.mark.parametrize("interval", [0, -1, 100_000])
def test_intervals_out_of_range_are_refused(interval: int) -> None:
    with pytest.raises(UsageError, match="outside 1"):
        make(interval=interval)


def test_peers_live_two_intervals_and_never_less_than_eleven_minutes() -> None:
    assert lifetime_for(10) == 660
    assert lifetime_for(1800) == 3600


def test_peers_are_packed_by_family() -> None:
    service = make()
    ask(service, 1)
    ask(service, 2, "2001:db8::2")

    reply = ask(service, 3)

    assert reply.peers == pack_host("10.0.0.1") + (1001).to_bytes(2)
    assert reply.peers6 == pack_host("2001:db8::2") + (1002).to_bytes(2)


def test_an_ipv4_source_inside_ipv6_is_ipv4() -> None:
    service = make()
    ask(service, 1, "::ffff:10.0.0.1")

    assert ask(service, 2).peers == pack_host("10.0.0.1") + (1001).to_bytes(2)


@pytest.mark.parametrize(
    ("numwant", "expected"), [(None, 50), (0, 0), (7, 7), (10**18, MAX_NUMWANT)]
)
def test_numwant_has_a_default_and_a_cap(numwant: int | None, expected: int) -> None:
    service = make()
    for number in range(250):
        ask(service, number, f"10.0.1.{number}", numwant=0)

    assert len(ask(service, 251, "10.0.2.1", numwant=numwant).peers) == 6 * expected


def test_a_paused_peer_is_a_partial_seed_unless_it_has_everything() -> None:
    service = make()
    ask(service, 1, event=Event.PAUSED)
    ask(service, 2, event=Event.PAUSED, left=0)
    ask(service, 3)

    assert service.scrape([TORRENT]) == {TORRENT: ScrapeEntry(1, 2, 0, 1)}
    assert ask(service, 4, event=Event.PAUSED).peers == pack_host("10.0.0.3") + (1003).to_bytes(2)


ARIA2 = PeerId(b"A2-1-36-0-0123456789")


@pytest.mark.parametrize(
    ("peer_id", "event", "told"),
    [
        (ARIA2, Event.STARTED, True),
        (ARIA2, Event.NONE, False),
        (PeerId(b"-LT2110-012345678901"), Event.STARTED, False),
    ],
    ids=["aria2 starts", "aria2 goes on", "another starts"],
)
def test_who_may_say_nothing_is_left_because_it_lacks_the_metadata_is_told_of_seeds(
    peer_id: PeerId, event: Event, told: bool
) -> None:
    service = make()
    ask(service, 1, left=0)
    request = AnnounceRequest(TORRENT, peer_id, 7, left=0, event=event)

    reply = service.announce(request, "10.0.0.9", 0.0)

    assert bool(reply.peers) == told
    assert reply.complete == 2


def test_a_stopped_peer_gets_no_peers_and_is_not_handed_out() -> None:
    service = make()
    ask(service, 1)
    ask(service, 2)

    reply = ask(service, 1, event=Event.STOPPED)

    assert (reply.peers, reply.incomplete) == (b"", 1)
    assert ask(service, 2).peers == b""


def test_an_unknown_peer_may_stop() -> None:
    assert ask(make(), 1, event=Event.STOPPED).incomplete == 0


def test_a_finished_download_is_counted() -> None:
    service = make()
    ask(service, 1)
    ask(service, 1, event=Event.COMPLETED, left=0)

    assert service.scrape([TORRENT])[TORRENT].downloaded == 1


def test_who_wants_no_compact_answer_gets_dictionaries() -> None:
    service = make()
    ask(service, 1)

    with_ids = ask(service, 2, compact=False)
    without = ask(service, 2, compact=False, no_peer_id=True)

    assert with_ids.listed == [PeerAddress("10.0.0.1", 1001, PeerId(b"%020d" % 1))]
    assert without.listed == [PeerAddress("10.0.0.1", 1001)]


def test_a_closed_tracker_refuses_what_it_does_not_know() -> None:
    service = make(allowed=lambda torrent: False)

    with pytest.raises(TrackerError, match="only the torrents published"):
        ask(service, 1)


def test_a_scrape_leaves_out_what_is_unknown() -> None:
    assert make().scrape([TORRENT]) == {}


# -- peers on the tracker's own machine


def test_a_loopback_peer_is_handed_to_its_own_machine_as_it_is() -> None:
    service = make()
    ask(service, 1, "127.0.0.1")

    assert ask(service, 2, "127.0.0.9").peers == pack_host("127.0.0.1") + (1001).to_bytes(2)
    assert ask(service, 3, "::1").peers[:6] in {
        pack_host("127.0.0.1") + (1001).to_bytes(2),
        pack_host("127.0.0.9") + (1002).to_bytes(2),
    }


@pytest.mark.parametrize("source", ["127.0.0.1", "::1"])
def test_a_loopback_peer_is_handed_to_others_where_they_reached_the_tracker(source: str) -> None:
    service = make()
    ask(service, 1, source)

    reply = ask(service, 2, reached_at=lambda: "192.168.1.5")

    assert reply.peers == pack_host("192.168.1.5") + (1001).to_bytes(2)
    assert reply.peers6 == b""


def test_an_advertised_address_goes_before() -> None:
    service = make(advertise=["192.168.9.9", "2001:db8::9"])
    ask(service, 1, "127.0.0.1")

    assert ask(service, 2).peers == pack_host("192.168.9.9") + (1001).to_bytes(2)
    assert ask(service, 3, "2001:db8::3").peers6 == pack_host("2001:db8::9") + (1001).to_bytes(2)


def test_a_loopback_peer_that_others_cannot_reach_is_left_out() -> None:
    service = make()
    ask(service, 1, "127.0.0.1")
    ask(service, 3)

    assert ask(service, 2).peers == pack_host("10.0.0.3") + (1003).to_bytes(2)
    assert ask(service, 2, compact=False).listed == [
        PeerAddress("10.0.0.3", 1003, PeerId(b"%020d" % 3))
    ]


def test_what_is_no_address_cannot_be_advertised() -> None:
    with pytest.raises(UsageError, match="advertise"):
        make(advertise=["example.org"])


def test_every_reply_names_the_tracker_that_gave_it() -> None:
    assert ask(make(tracker_id=b"abc"), 1).tracker_id == b"abc"
    assert ask(make(), 1).tracker_id is None


@pytest.mark.parametrize(
    ("advertise", "host", "asker", "expected"),
    [
        ([], "127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ([], "127.0.0.1", "10.0.0.9", "10.0.0.1"),
        ([], "::1", "10.0.0.9", "10.0.0.1"),
        (["192.0.2.1"], "127.0.0.1", "10.0.0.9", "192.0.2.1"),
        (["192.0.2.1"], "127.0.0.1", "::1", "127.0.0.1"),
        (["192.0.2.1"], "10.0.0.5", "10.0.0.9", "10.0.0.5"),
    ],
)
def test_who_is_behind_loopback_is_named_as_the_asker_reaches_this_machine(
    advertise: list[str], host: str, asker: str, expected: str
) -> None:
    service = make(advertise=advertise)

    assert service.host_for(pack_host(host), asker, lambda: "10.0.0.1") == expected
    if expected == "10.0.0.1":
        assert service.host_for(pack_host(host), asker, lambda: None) == host


def test_a_lease_is_handed_out_without_the_id_that_its_client_does_not_have() -> None:
    store = MemoryPeerStore(660, rng=random.Random(1))
    seed = SwarmPeer(LEASE_PREFIX + bytes(12), b"k", pack_host("10.0.0.7"), 7)
    store.announce(TORRENT, seed, PeerKind.SEED, now=0.0, numwant=0)

    reply = ask(TrackerService(store), 1, compact=False)

    assert reply.listed == [PeerAddress("10.0.0.7", 7)]
