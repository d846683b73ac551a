"""Peer exchange: whom a peer is told about and when, and what is believed of what it tells."""

from __future__ import annotations

import random

import pytest

from p2pfs.errors import WireError
from p2pfs.formats import bencode, extension, wire
from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.extension import UT_PEX, ExtendedHandshake
from p2pfs.formats.ut_pex import REACHABLE, WANTS_NOTHING, PexMessage, encode, parse
from p2pfs.geometry import BLOCK_LENGTH, Geometry
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.pex import EVERY, FEW, FIRST_AFTER, LOOK_EVERY, MAX_BELIEVED, MOST, PeerExchange
from p2pfs.swarm.session import Session
from tests.swarm.link import output

PIECES = 4
GEOMETRY = Geometry(PIECES * BLOCK_LENGTH, BLOCK_LENGTH)
LISTENER = ExtendedHandshake(messages={UT_PEX: 9})


def public(number: int) -> str:
    return f"8.{number >> 16}.{number >> 8 & 255}.{number & 255}"


class Torrent:
    """A `PeerExchange`, its peers, and the clock."""

    def __init__(self) -> None:
        self.pex = PeerExchange()
        self.peers: list[Peer] = []
        self.now = 0.0

    def peer(
        self,
        host: str = "",
        *,
        port: int = 6881,
        listens: bool = True,
        outgoing: bool = True,
        says: ExtendedHandshake = LISTENER,
        seed: bool = False,
    ) -> Peer:
        """One more peer, which understands the messages; `listens`: its port is known."""
        session = Session(GEOMETRY, self.now, extended=True)
        session.receive_data(wire.encode_extended(0, extension.encode(says)), self.now)
        if seed:
            session.receive_data(wire.encode_bitfield(Bitfield.full(PIECES).to_bytes()), self.now)
        address = (host or public(len(self.peers) + 1), port)
        peer = Peer(session, address, b"%020d" % len(self.peers), self.now, outgoing=outgoing)
        peer.listens_at = address if listens else None
        self.peers.append(peer)
        self.pex.joined(peer, self.now)
        return peer

    def many(self, count: int) -> list[Peer]:
        return [self.peer() for _ in range(count)]

    def leave(self, *peers: Peer) -> None:
        for peer in peers:
            self.peers.remove(peer)
            self.pex.left(peer)

    def after(self, seconds: float) -> None:
        self.now += seconds
        self.pex.tick(self.peers, self.now)

    def told(self, peer: Peer) -> list[PexMessage]:
        """What has gone out to a peer since this was asked last."""
        messages = []
        data = output(peer.session, self.now)
        while data:
            length = int.from_bytes(data[:4], "big")
            assert data[4:6] == b"\x14\x09", "an extended message under the peer's own number"
            messages.append(parse(data[6 : 4 + length]))
            assert data[6 : 4 + length] == encode(messages[-1]), "nothing that `parse` left out"
            data = data[4 + length :]
        return messages

    def hears(self, peer: Peer, message: PexMessage, *, finished: bool = False) -> list[object]:
        return list(self.pex.receive(peer, encode(message), self.now, finished=finished))


def addresses(*peers: Peer) -> set[tuple[str, int]]:
    return {peer.address for peer in peers}


# -- telling


def test_a_new_peer_is_soon_told_of_all_others():
    torrent = Torrent()
    one, two, three = torrent.many(3)
    torrent.after(FIRST_AFTER - 1)
    assert torrent.told(one) == []

    torrent.after(1)

    (message,) = torrent.told(one)
    assert message.added.keys() == addresses(two, three)
    assert message.dropped == ()
    assert len(torrent.told(two)) == len(torrent.told(three)) == 1


def test_nobody_is_told_anything_while_there_is_nobody_else():
    torrent = Torrent()
    alone = torrent.peer()

    for _ in range(100):
        torrent.after(1)

    assert torrent.told(alone) == []


def test_who_comes_later_is_told_within_seconds_to_those_who_heard_nothing_yet():
    torrent = Torrent()
    one = torrent.peer()
    torrent.after(FIRST_AFTER)
    two = torrent.peer()

    torrent.after(LOOK_EVERY)

    assert [message.added.keys() for message in torrent.told(one)] == [addresses(two)]


def test_a_peer_is_told_at_most_once_a_minute_and_only_what_changed():
    torrent = Torrent()
    one, two = torrent.many(2)
    torrent.after(FIRST_AFTER)
    assert len(torrent.told(one)) == 1
    three = torrent.peer()
    torrent.leave(two)

    for _ in range(59):
        torrent.after(1)
    assert torrent.told(one) == []
    torrent.after(1)

    assert torrent.told(one) == [PexMessage({three.address: REACHABLE}, (two.address,))]
    for _ in range(300):
        torrent.after(1)
    assert torrent.told(one) == []


def test_who_left_and_came_back_between_two_messages_is_not_mentioned():
    torrent = Torrent()
    one, two = torrent.many(2)
    torrent.after(FIRST_AFTER)
    torrent.told(one)
    torrent.leave(two)
    torrent.after(1)
    torrent.peer(two.address[0])

    torrent.after(EVERY)

    assert torrent.told(one) == []


def test_fifty_at_most_are_added_at_a_time_and_the_rest_the_next_time():
    torrent = Torrent()
    one, *others = torrent.many(2 * MOST + 11)

    counts = []
    for _ in range(4):
        torrent.after(EVERY)
        counts += [len(message.added) for message in torrent.told(one)]

    assert counts == [MOST, MOST, 10]
    torrent.leave(*others)
    gone = []
    for _ in range(4):
        torrent.after(EVERY)
        gone += [message.dropped for message in torrent.told(one)]
    assert [len(dropped) for dropped in gone] == [MOST, MOST, 10]
    assert {address for dropped in gone for address in dropped} == addresses(*others)


def test_only_what_was_added_is_dropped():
    torrent = Torrent()
    one = torrent.peer()
    brief = torrent.peer()
    torrent.leave(brief)

    torrent.after(EVERY)

    assert torrent.told(one) == []


def test_a_peer_whose_port_is_not_known_is_not_mentioned():
    torrent = Torrent()
    one = torrent.peer()
    silent = torrent.peer(listens=False, outgoing=False)
    torrent.after(EVERY)
    assert torrent.told(one) == []

    silent.listens_at = (silent.address[0], 7777)
    torrent.after(LOOK_EVERY)

    assert torrent.told(one) == [PexMessage({(silent.address[0], 7777): 0})]


def test_a_peer_that_does_not_understand_is_told_nothing():
    torrent = Torrent()
    deaf = torrent.peer(says=ExtendedHandshake())
    torrent.peer()

    torrent.after(EVERY)

    assert torrent.told(deaf) == []


def test_the_flags_say_who_wants_nothing_and_whom_we_reached():
    torrent = Torrent()
    one = torrent.peer()
    seed = torrent.peer(seed=True)
    partial = torrent.peer(says=ExtendedHandshake(upload_only=True), outgoing=False)

    torrent.after(EVERY)

    (message,) = torrent.told(one)
    assert message.added == {
        seed.address: WANTS_NOTHING | REACHABLE,
        partial.address: WANTS_NOTHING,
    }


def test_seeds_are_not_told_of_seeds():
    torrent = Torrent()
    seed, other = torrent.peer(seed=True), torrent.peer(seed=True)
    leech = torrent.peer()

    torrent.after(EVERY)

    assert [message.added.keys() for message in torrent.told(seed)] == [addresses(leech)]
    assert [message.added.keys() for message in torrent.told(leech)] == [addresses(seed, other)]


def test_both_families_are_in_one_message():
    torrent = Torrent()
    one, four, six = torrent.peer(), torrent.peer(), torrent.peer("2600::6")

    torrent.after(EVERY)

    assert torrent.told(one) == [PexMessage({four.address: REACHABLE, six.address: REACHABLE})]


def test_no_address_goes_to_a_peer_that_is_farther_away_than_it():
    torrent = Torrent()
    here, lan, away = torrent.peer("127.0.0.1"), torrent.peer("192.168.1.7"), torrent.peer()
    link, lan6 = torrent.peer("fe80::1"), torrent.peer("fd00::7")
    named = torrent.peer("peer.example")

    torrent.after(EVERY)

    told = {peer: torrent.told(peer) for peer in torrent.peers}
    heard = {peer: set(*(one.added for one in messages)) for peer, messages in told.items()}
    assert heard[here] == addresses(lan, away, lan6)
    assert heard[lan] == addresses(away, lan6)
    assert heard[link] == addresses(lan, away, lan6)
    assert heard[away] == set()
    assert heard[named] == addresses(away)


def test_a_seed_that_we_leave_because_we_are_one_is_named_once_and_dropped_the_next_time():
    torrent = Torrent()
    leech = torrent.peer()
    seed = torrent.peer(seed=True)
    torrent.pex.parted(seed, torrent.now)
    torrent.leave(seed)

    torrent.after(FIRST_AFTER)
    assert torrent.told(leech) == [PexMessage({seed.address: WANTS_NOTHING | REACHABLE})]
    torrent.after(EVERY)
    assert torrent.told(leech) == [PexMessage({}, (seed.address,))]
    torrent.after(EVERY)
    assert torrent.told(leech) == []


def test_of_those_whom_we_left_the_last_are_named_and_not_for_long():
    torrent = Torrent()
    seeds = [torrent.peer(seed=True) for _ in range(FEW + 5)]
    for seed in seeds:
        torrent.pex.parted(seed, torrent.now)
        torrent.leave(seed)
    leech = torrent.peer()

    torrent.after(FIRST_AFTER)
    assert [message.added.keys() for message in torrent.told(leech)] == [addresses(*seeds[5:])]
    torrent.now += 3600
    late = torrent.peer()
    torrent.after(FIRST_AFTER)
    assert [message.added.keys() for message in torrent.told(late)] == [addresses(leech)]


def test_while_we_know_enough_who_left_is_not_named():
    torrent = Torrent()
    seed = torrent.peer(seed=True)
    torrent.pex.parted(seed, torrent.now)
    torrent.leave(seed)
    leeches = torrent.many(FEW + 1)

    torrent.after(FIRST_AFTER)

    (message,) = torrent.told(leeches[0])
    assert message.added.keys() == addresses(*leeches[1:])


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_no_rule_of_the_messages_is_broken(seed: int):
    """A listener that believes every message knows, in the end, whom we are connected to."""
    rng = random.Random(seed)
    torrent = Torrent()
    listener = torrent.peer()
    believed: set[tuple[str, int]] = set()
    last = -EVERY

    for step in range(2000):
        if step < 1500 and rng.random() < 0.3:
            if len(torrent.peers) > 1 and rng.random() < 0.5:
                gone = rng.choice(torrent.peers[1:])
                if rng.random() < 0.5:
                    torrent.pex.parted(gone, torrent.now)
                torrent.leave(gone)
            else:
                torrent.peer(public(rng.randrange(300)))
        torrent.after(1)
        for message in torrent.told(listener):
            assert torrent.now - last >= EVERY
            last = torrent.now
            assert message != PexMessage()
            assert len(message.added) <= MOST >= len(message.dropped)
            assert set(message.dropped) <= believed
            assert not message.added.keys() & believed
            believed = (believed - set(message.dropped)) | message.added.keys()

    assert believed == addresses(*torrent.peers) - {listener.address}


# -- being told


def test_what_a_peer_tells_is_heard_once_until_it_drops_it():
    torrent = Torrent()
    one = torrent.peer()
    news = PexMessage({("9.9.9.9", 1): 0, ("2600::9", 2): 0})

    assert torrent.hears(one, news) == [("9.9.9.9", 1), ("2600::9", 2)]
    assert torrent.hears(one, news) == []
    assert torrent.hears(one, PexMessage(dropped=(("9.9.9.9", 1),))) == []
    assert torrent.hears(one, news) == [("9.9.9.9", 1)]


def test_whoever_has_everything_hears_of_no_seeds():
    torrent = Torrent()
    one = torrent.peer()
    news = PexMessage({("9.9.9.9", 1): WANTS_NOTHING, ("9.9.9.8", 1): 0})

    assert torrent.hears(one, news, finished=True) == [("9.9.9.8", 1)]


@pytest.mark.parametrize(
    ("teller", "believed"),
    [
        ("8.8.8.8", ["9.9.9.9"]),
        ("peer.example", ["9.9.9.9"]),
        ("192.168.1.7", ["9.9.9.9", "192.168.1.8", "fd00::8"]),
        ("fe80::1", ["9.9.9.9", "192.168.1.8", "fd00::8"]),
        ("127.0.0.1", ["9.9.9.9", "192.168.1.8", "127.0.0.1", "fd00::8", "::1"]),
    ],
)
def test_local_addresses_are_believed_only_of_local_peers(teller: str, believed: list[str]):
    torrent = Torrent()
    hosts = ("9.9.9.9", "192.168.1.8", "127.0.0.1", "169.254.169.254", "fd00::8", "::1", "fe80::2")
    news = PexMessage({(host, 6881): 0 for host in hosts})

    heard = torrent.hears(torrent.peer(teller), news)

    assert {host for host, _ in heard} == set(believed)


def test_of_a_public_host_one_port_is_believed_and_of_a_classroom_all():
    torrent = Torrent()
    teller = torrent.peer("10.0.0.1")
    public_ports = {("9.9.9.9", port): 0 for port in range(1, 9)}
    private_ports = {("10.0.0.2", port): 0 for port in range(1, 9)}

    assert torrent.hears(teller, PexMessage(public_ports)) == [("9.9.9.9", 1)]
    assert torrent.hears(teller, PexMessage(private_ports)) == list(private_ports)


def test_one_peer_can_name_only_so_many_that_it_has_not_dropped():
    torrent = Torrent()
    one = torrent.peer()
    first = {(public(n), 1): 0 for n in range(1000, 1050)}
    second = {(public(n), 1): 0 for n in range(2000, 2050)}

    assert len(torrent.hears(one, PexMessage(first))) == MAX_BELIEVED
    assert torrent.hears(one, PexMessage(second)) == []
    assert len(torrent.hears(torrent.peer(), PexMessage(second))) == MAX_BELIEVED
    assert len(torrent.hears(one, PexMessage(second, tuple(first)[:7]))) == 7


def test_the_seventh_message_in_a_minute_ends_the_connection():
    torrent = Torrent()
    one = torrent.peer()
    for _ in range(6):
        torrent.hears(one, PexMessage())
    torrent.now += EVERY - 1

    with pytest.raises(WireError, match="6 peer exchanges a minute"):
        torrent.hears(one, PexMessage())


def test_six_messages_every_minute_are_borne():
    torrent = Torrent()
    one = torrent.peer()

    for _ in range(100):
        torrent.hears(one, PexMessage())
        torrent.now += EVERY / 6


def test_a_message_that_is_none_ends_the_connection():
    torrent = Torrent()

    with pytest.raises(WireError):
        torrent.pex.receive(torrent.peer(), bencode.encode([]), 0.0, finished=False)


def test_a_peer_that_has_left_is_not_listened_to():
    torrent = Torrent()
    one = torrent.peer()
    torrent.leave(one)

    assert torrent.hears(one, PexMessage({("9.9.9.9", 1): 0})) == []
