"""Torrents that begin as a hash: real clients, real connections, and peers that lie."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from p2pfs.errors import FormatError, NetworkError, UsageError
from p2pfs.formats import bencode, extension, ut_metadata, wire
from p2pfs.formats.announce_http import Event, PeerAddress
from p2pfs.formats.extension import UT_METADATA, ExtendedHandshake
from p2pfs.formats.magnet import Magnet
from p2pfs.formats.metainfo import Metainfo, parse_info
from p2pfs.formats.ut_metadata import MAX_METADATA, PIECE_LENGTH, Data, Request
from p2pfs.geometry import TorrentId
from p2pfs.net.engine import Client
from p2pfs.net.metadata_fetch import MetadataFetch
from p2pfs.net.tracker_http import TrackerServer
from p2pfs.swarm import pex
from p2pfs.swarm.metadata_serving import MAX_REJECTED
from tests.formats.hostile_metainfos import HOSTILE, Hostile
from tests.support.announces import Book
from tests.support.swarm import KIB, LOCAL, HandMade, Sample, Swarm, at, done, make_sample
from tests.support.waiting import until

pytestmark = pytest.mark.loops("uvloop")
both_loops = pytest.mark.loops("uvloop", "asyncio")

OURS = 9
"""The id under which the peers made here are sent metadata messages."""


def magnet_of(sample: Sample, *sources: Client, **more: Any) -> Magnet:
    return Magnet(sample.metainfo.torrent_id, "link", peers=tuple(at(*sources)), **more)


async def fetched(fetch: MetadataFetch, seconds: float = 20) -> Metainfo:
    async with asyncio.timeout(seconds):
        return await fetch.wait()


@pytest.fixture
def large(tmp_path: Path) -> Sample:
    """Metadata of 13 pieces."""
    return make_sample(tmp_path / "shared", 10_000_000, piece_length=KIB)


@dataclass
class Giver:
    """A peer made by hand that dials a client and takes part in the exchange.

    It answers pieces of `metadata` as it was told to be able to, and keeps what it is sent.
    """

    hand: HandMade
    metadata: bytes
    size: int
    asked: list[int] = field(default_factory=list)
    introduced: dict[bytes, Any] = field(default_factory=dict)
    their_id: int = 0

    @classmethod
    async def dial(
        cls, client: Client, info_hash: bytes, metadata: bytes = b"", size: int | None = None
    ) -> Giver:
        hand = await HandMade.dial(client)
        reserved = bytes((0, 0, 0, 0, 0, 0x10, 0, 4))
        assert len(await hand.meet(info_hash, reserved=reserved)) == 68
        giver = cls(hand, metadata, len(metadata) if size is None else size)
        has = wire.HAVE_ALL if giver.size else wire.HAVE_NONE
        handshake = ExtendedHandshake(messages={UT_METADATA: OURS}, metadata_size=giver.size)
        await hand.send(wire.encode_extended(0, extension.encode(handshake)), has)
        return giver

    async def tell(self, payload: bytes) -> None:
        await self.hand.send(wire.encode_extended(self.their_id, payload))

    async def give(self, piece: int) -> None:
        part = self.metadata[piece * PIECE_LENGTH : (piece + 1) * PIECE_LENGTH]
        await self.tell(ut_metadata.encode_data(piece, self.size, part))

    async def hear(self) -> ut_metadata.Message | None:
        """The next message of the exchange; None at the end of the connection."""
        while (told := await self.hand.take(30)) is not None:
            if told.kind != wire.ID_EXTENDED:
                continue
            if told.body[0] == 0:
                introduced = bencode.decode(told.body[1:])
                assert isinstance(introduced, dict)
                self.introduced = introduced
                self.their_id = introduced[b"m"].get(UT_METADATA, 0)
            elif told.body[0] == OURS:
                message = ut_metadata.parse(told.body[1:])
                if isinstance(message, Request):
                    self.asked.append(message.piece)
                return message
        return None

    async def serve(self) -> None:
        """Give whatever is asked for, until the connection ends."""
        while (message := await self.hear()) is not None:
            if isinstance(message, Request) and self.metadata:
                await self.give(message.piece)


class Others:
    """Peers made by hand, at work in the background, gone at the end."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self._hands: list[HandMade] = []

    async def dial(
        self, client: Client, info_hash: bytes, metadata: bytes = b"", size: int | None = None
    ) -> Giver:
        giver = await Giver.dial(client, info_hash, metadata, size)
        self._hands.append(giver.hand)
        return giver

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self.tasks.append(asyncio.ensure_future(work))
        return self.tasks[-1]

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for hand in self._hands:
            await hand.close()


@pytest.fixture
async def others(nothing_left: None) -> AsyncIterator[Others]:
    made = Others()
    yield made
    await made.close()


# -- between clients of ours


@both_loops
async def test_a_magnet_that_names_a_peer_is_all_that_a_download_needs(
    swarm: Swarm, sample: Sample
) -> None:
    seeder, _ = await swarm.seed(sample)
    client = await swarm.client()

    async with asyncio.timeout(20):
        torrent = await client.download_magnet(magnet_of(sample, seeder), swarm.output())

    [path] = await done(torrent)
    assert sample.is_at(path)
    assert torrent.metainfo.info_bytes == sample.metainfo.info_bytes


@both_loops
async def test_the_connection_that_gave_the_metadata_gives_the_content_too(
    swarm: Swarm, sample: Sample
) -> None:
    seeder, seeded = await swarm.seed(sample)
    client = await swarm.client()
    fetch = client.fetch_metadata(magnet_of(sample, seeder))
    metainfo = await fetched(fetch)
    [connection] = fetch.exchange.connections.values()

    torrent = await client.download(metainfo, swarm.output())

    assert connection.peer in torrent.exchange.connections
    await done(torrent)
    assert seeded.progress().asked == torrent.progress().asked == 1
    assert torrent.peer_id == fetch.peer_id


async def test_a_seeder_that_cannot_be_dialled_gives_its_metadata_as_well(
    swarm: Swarm, sample: Sample
) -> None:
    _, seeded = await swarm.seed(sample)
    client = await swarm.client()
    fetch = client.fetch_metadata(magnet_of(sample))

    seeded.add_peers(at(client))

    torrent = await client.download(await fetched(fetch), swarm.output())
    await done(torrent)


async def test_metadata_of_many_pieces_comes_from_several_seeders(
    swarm: Swarm, large: Sample
) -> None:
    seeders = [(await swarm.seed(large))[0] for _ in range(3)]
    client = await swarm.client()
    fetch = client.fetch_metadata(magnet_of(large, *seeders))

    metainfo = await fetched(fetch)

    assert metainfo.pieces == large.metainfo.pieces
    assert fetch.progress().bytes_done == len(metainfo.info_bytes)


async def test_a_peer_may_be_named_instead_of_addressed(swarm: Swarm, sample: Sample) -> None:
    seeder, _ = await swarm.seed(sample)
    client = await swarm.client()

    fetch = client.fetch_metadata(
        Magnet(sample.metainfo.torrent_id, peers=(("localhost", seeder.port),))
    )

    assert (await fetched(fetch)).pieces == sample.metainfo.pieces


async def test_whoever_has_just_got_the_metadata_gives_it_on(swarm: Swarm, sample: Sample) -> None:
    seeder, _ = await swarm.seed(sample)
    first, second = await swarm.client(), await swarm.client()
    waiting = second.fetch_metadata(magnet_of(sample, first))
    fetch = first.fetch_metadata(magnet_of(sample))
    await until(lambda: len(fetch.exchange.connections) == 1)

    fetch.add_peers(at(seeder))
    await first.download(await fetched(fetch), swarm.output())

    torrent = await second.download(await fetched(waiting), swarm.output())
    await done(torrent)


async def test_content_that_is_there_is_not_fetched_again(swarm: Swarm, sample: Sample) -> None:
    seeder, _ = await swarm.seed(sample)
    _, before = await swarm.download(sample, seeder)
    [path] = await done(before)
    await before.close()
    client = await swarm.client()

    async with asyncio.timeout(20):
        torrent = await client.download_magnet(magnet_of(sample, seeder), path.parent)

    await done(torrent)
    assert torrent.progress().downloaded == 0


async def test_a_download_half_done_goes_on_and_tells_the_peer_what_it_has(
    swarm: Swarm, sample: Sample
) -> None:
    some, _ = await swarm.seed(sample, *range(10))
    _, before = await swarm.download(sample, some)
    await until(lambda: before.progress().pieces_done == 10)
    folder = before.path.parent
    await before.close()
    seeder, _ = await swarm.seed(sample)
    client = await swarm.client()

    async with asyncio.timeout(20):
        torrent = await client.download_magnet(magnet_of(sample, seeder), folder)

    await done(torrent)
    assert torrent.progress().downloaded == 9 * 16 * KIB - (19 * 16 * KIB - 300_000)


async def test_peers_are_exchanged_before_the_metadata_is_there(
    swarm: Swarm, large: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pex, "FIRST_AFTER", 0.0)
    seeder, _ = await swarm.seed(large)
    between, slow = await swarm.download(large, seeder, down_limit=20_000)
    await until(lambda: slow.progress().peers == 1)
    client = await swarm.client()

    fetch = client.fetch_metadata(magnet_of(large, between))

    await until(lambda: len(fetch.exchange.connections) == 2)


# -- the tracker


async def test_a_magnet_that_names_a_tracker_is_all_that_a_download_needs(
    tracker_runtime: None, swarm: Swarm, sample: Sample
) -> None:
    async with TrackerServer(LOCAL, 0) as tracker:
        url = f"http://{LOCAL}:{tracker.port}/announce"
        seeder = await swarm.client()
        await seeder.seed(sample.metainfo, sample.path, trackers=[url])
        client = await swarm.client()

        async with asyncio.timeout(20):
            torrent = await client.download_magnet(
                magnet_of(sample, trackers=(url,)), swarm.output()
            )

        [path] = await done(torrent)
        assert sample.is_at(path)
        assert torrent.metainfo.trackers == ((url,),)


async def test_the_tracker_sees_one_peer_that_starts_with_something_left(
    swarm: Swarm, sample: Sample
) -> None:
    seeder, _ = await swarm.seed(sample)
    client = await swarm.client()
    book = Book.of(client)
    fetch = client.fetch_metadata(magnet_of(sample, seeder, trackers=("http://t/announce",)))
    await until(lambda: len(book.requests) == 1)
    torrent = await client.download(await fetched(fetch), swarm.output())
    await done(torrent)
    await until(lambda: len(book.requests) == 2)
    await torrent.close()

    assert [one.event for one in book.requests] == [Event.STARTED, Event.COMPLETED, Event.STOPPED]
    assert len({one.peer_id for one in book.requests}) == 1
    assert book.requests[0].left > 0
    assert [one.left for one in book.requests[1:]] == [0, 0]


async def test_content_that_was_complete_all_the_time_is_not_told_as_a_download(
    swarm: Swarm, sample: Sample
) -> None:
    seeder, _ = await swarm.seed(sample)
    client = await swarm.client()
    book = Book.of(client)
    fetch = client.fetch_metadata(magnet_of(sample, seeder, trackers=("http://t/announce",)))
    torrent = await client.seed(await fetched(fetch), sample.path, verify=False)
    await torrent.close()

    assert [one.event for one in book.requests] == [Event.STARTED, Event.STOPPED]


async def test_a_fetch_that_is_given_up_leaves_the_tracker(swarm: Swarm, sample: Sample) -> None:
    client = await swarm.client()
    book = Book.of(client)
    fetch = client.fetch_metadata(magnet_of(sample, trackers=("http://t/announce",)))
    await until(lambda: len(book.requests) == 1)

    await fetch.close()

    assert [one.event for one in book.requests] == [Event.STARTED, Event.STOPPED]
    with pytest.raises(NetworkError, match="closed before its metadata was there"):
        await fetch.wait()
    assert client.find_exchange(sample.info_hash) is None


# -- what is refused


async def test_a_torrent_is_open_once(swarm: Swarm, sample: Sample) -> None:
    client, _ = await swarm.seed(sample)
    other = await swarm.client()
    other.fetch_metadata(magnet_of(sample))

    for one in (client, other):
        with pytest.raises(UsageError, match="open in this client already"):
            one.fetch_metadata(magnet_of(sample))


async def test_closing_the_client_ends_a_fetch(swarm: Swarm, sample: Sample) -> None:
    client = await swarm.client()
    fetch = client.fetch_metadata(magnet_of(sample, trackers=("http://127.0.0.1:1/announce",)))
    waiting = asyncio.ensure_future(fetch.wait())
    await asyncio.sleep(0)

    await client.close()

    with pytest.raises(NetworkError):
        await waiting


@pytest.mark.parametrize("case", [case for case in HOSTILE if case.refused and case.info], ids=str)
async def test_hostile_metadata_is_refused_whatever_its_hash_says(
    case: Hostile, swarm: Swarm, others: Others
) -> None:
    assert case.info is not None
    before = sorted(swarm.folder.rglob("*"))
    client = await swarm.client()
    torrent_id = TorrentId(hashlib.sha1(case.info).digest())
    fetch = client.fetch_metadata(Magnet(torrent_id))
    giver = await others.dial(client, torrent_id.v1, case.info)
    others.start(giver.serve())

    with pytest.raises(FormatError) as refused:
        await fetched(fetch)

    assert str(case.refused) in str(refused.value)
    assert sorted(swarm.folder.rglob("*")) == before


# -- peers that lie


async def begin_lying(others: Others, client: Client, sample: Sample, kinds: Sequence[str]) -> None:
    size = len(sample.metainfo.info_bytes)
    junk = random.Random(1).randbytes
    for kind in kinds:
        made = {
            "wrong hash": (junk(size), size),
            "wrong size": (junk(100), 100),
            "huge size": (b"", 2**31),
            "largest size": (b"", MAX_METADATA),
            "never answers": (b"", size),
            "wrong length": (b"x", size),
        }.get(kind, (b"", size))
        others.start(behave(kind, await others.dial(client, sample.info_hash, *made)))


async def behave(kind: str, giver: Giver) -> None:
    if kind not in ("junk", "not a dictionary", "endless", "unknown types"):
        return await giver.serve()
    while await giver.hear() is not None:
        if kind == "junk":
            await giver.tell(b"junk")
        elif kind == "not a dictionary":
            await giver.tell(b"le")
        elif kind == "unknown types":
            await giver.tell(b"d8:msg_typei9e5:piecei0ee")
        else:
            for _ in range(1000):
                await giver.tell(ut_metadata.encode_data(0, giver.size, bytes(PIECE_LENGTH)))
    return None


KINDS = [
    "wrong hash",
    "wrong size",
    "huge size",
    "largest size",
    "never answers",
    "wrong length",
    "junk",
    "not a dictionary",
    "unknown types",
    "endless",
]


@pytest.mark.parametrize("kind", KINDS)
async def test_one_honest_peer_is_enough_beside(
    kind: str, swarm: Swarm, large: Sample, others: Others
) -> None:
    seeder, _ = await swarm.seed(large)
    client = await swarm.client()
    fetch = client.fetch_metadata(magnet_of(large))
    await begin_lying(others, client, large, [kind, kind])

    fetch.add_peers(at(seeder))

    assert (await fetched(fetch, 60)).info_bytes == large.metainfo.info_bytes


@pytest.mark.slow
async def test_all_of_them_together_do_not_keep_the_honest_one_from_being_heard(
    swarm: Swarm, large: Sample, others: Others
) -> None:
    seeder, _ = await swarm.seed(large)
    client = await swarm.client()
    fetch = client.fetch_metadata(magnet_of(large, seeder))
    await begin_lying(others, client, large, KINDS * 2)

    torrent = await client.download(await fetched(fetch, 60), swarm.output())

    await done(torrent, seconds=120)


async def test_who_gave_wrong_metadata_is_banned_and_told_of(
    swarm: Swarm, sample: Sample, others: Others
) -> None:
    seeder, _ = await swarm.seed(sample)
    client = await swarm.client()
    fetch = client.fetch_metadata(magnet_of(sample))
    liar = await others.dial(client, sample.info_hash, bytes(500))
    await liar.serve()
    assert "1 gave wrong metadata" in fetch.progress().tried

    fetch.add_peers(at(seeder))
    torrent = await client.download(await fetched(fetch), swarm.output())

    again = await HandMade.dial(client)
    again.peer_id = liar.hand.peer_id
    await again.meet(sample.info_hash)
    assert await again.ended() == b""
    await done(torrent)


async def test_nobody_who_has_it_is_explained(others: Others, swarm: Swarm, sample: Sample) -> None:
    client = await swarm.client()
    fetch = client.fetch_metadata(
        Magnet(sample.metainfo.torrent_id, peers=((LOCAL, 1), ("nowhere.invalid", 7)))
    )
    await until(lambda: "127.0.0.1:1: Connection refused" in fetch.progress().tried)
    await until(lambda: "nowhere.invalid:7: " in fetch.progress().tried)
    assert "Errno" not in fetch.progress().tried

    assert fetch.progress().tried.startswith("no tracker; 2 addresses of peers known; ")
    await others.dial(client, sample.info_hash, b"", MAX_METADATA * 3)
    await until(lambda: "peers speak of 30 MB" in fetch.progress().tried)
    assert "1 peer met" in fetch.progress().tried


@both_loops
async def test_what_cannot_be_a_name_is_explained(swarm: Swarm, sample: Sample) -> None:
    client = await swarm.client()
    fetch = client.fetch_metadata(Magnet(sample.metainfo.torrent_id, peers=(("a..b", 1),)))

    fetch.add_peers([("x" * 70 + ".org", 1)])
    fetch.found_peers([PeerAddress("c..d", 1)])

    for name in ("a..b:1: ", "x" * 70 + ".org:1: ", "c..d:1: "):
        await until(lambda: name in fetch.progress().tried)  # noqa: B023


# -- what we give


async def test_our_seeders_give_their_metadata_to_whoever_asks(
    others: Others, swarm: Swarm, sample: Sample
) -> None:
    client, _ = await swarm.seed(sample)
    giver = await others.dial(client, sample.info_hash)
    hearing = asyncio.ensure_future(giver.hear())
    await until(lambda: giver.their_id)

    await giver.tell(ut_metadata.encode_request(0))

    info = sample.metainfo.info_bytes
    assert await hearing == Data(0, len(info), info)
    assert giver.introduced[b"metadata_size"] == len(info)


async def test_all_of_it_goes_out_twice_and_no_more(
    others: Others, swarm: Swarm, large: Sample
) -> None:
    client, _ = await swarm.seed(large)
    info = large.metainfo.info_bytes
    count = ut_metadata.pieces_of(len(info)).piece_count
    giver = await others.dial(client, large.info_hash)
    hearing = asyncio.ensure_future(giver.hear())
    await until(lambda: giver.their_id)

    for _ in range(3):
        for piece in range(count):
            await giver.tell(ut_metadata.encode_request(piece))
    answers = [await hearing] + [await giver.hear() for _ in range(3 * count - 1)]

    data = [one for one in answers if isinstance(one, Data)]
    assert sum(len(one.data) for one in data) == 2 * len(info)
    assert b"".join(one.data for one in data[:count]) == info
    assert len(answers) - len(data) == count


async def test_metadata_counts_for_the_limit_of_what_is_sent(
    others: Others, swarm: Swarm, large: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await swarm.client(up_limit=1_000_000)
    counted: list[int] = []
    sent = client.up_limit.sent
    monkeypatch.setattr(client.up_limit, "sent", lambda size: (counted.append(size), sent(size)))
    await client.seed(large.metainfo, large.path)
    giver = await others.dial(client, large.info_hash)
    hearing = asyncio.ensure_future(giver.hear())
    await until(lambda: giver.their_id)
    count = ut_metadata.pieces_of(len(large.metainfo.info_bytes)).piece_count

    for piece in range(count):
        await giver.tell(ut_metadata.encode_request(piece))
    answers = [await hearing] + [await giver.hear() for _ in range(count - 1)]

    assert all(isinstance(one, Data) for one in answers)
    assert sum(counted) == len(large.metainfo.info_bytes)


async def test_who_goes_on_asking_for_what_is_not_there_is_closed(
    others: Others, swarm: Swarm, sample: Sample
) -> None:
    client = await swarm.client()
    fetch = client.fetch_metadata(magnet_of(sample))
    giver = await others.dial(client, sample.info_hash)
    hearing = asyncio.ensure_future(giver.hear())
    await until(lambda: giver.their_id)

    for _ in range(MAX_REJECTED + 1):
        await giver.tell(ut_metadata.encode_request(0))

    await until(lambda: fetch.progress().peers == 0)
    hearing.cancel()


async def test_nothing_is_given_before_the_metadata_is_there(
    others: Others, swarm: Swarm, sample: Sample
) -> None:
    client = await swarm.client()
    client.fetch_metadata(magnet_of(sample))
    giver = await others.dial(client, sample.info_hash)
    hearing = asyncio.ensure_future(giver.hear())
    await until(lambda: giver.their_id)

    await giver.tell(ut_metadata.encode_request(0))

    answers = [await hearing, await giver.hear()]
    assert ut_metadata.Reject(0) in answers
    assert b"metadata_size" not in giver.introduced


async def test_the_metadata_of_a_private_torrent_is_not_given(
    others: Others, swarm: Swarm, sample: Sample
) -> None:
    info = bencode.decode(sample.metainfo.info_bytes)
    assert isinstance(info, dict)
    private = parse_info(bencode.encode({**info, b"private": 1}))
    client = await swarm.client()
    await client.seed(private, sample.path, verify=False)
    giver = await others.dial(client, private.torrent_id.v1)
    others.start(giver.serve())
    await until(lambda: giver.introduced)

    assert UT_METADATA not in giver.introduced[b"m"]
    assert b"metadata_size" not in giver.introduced


async def test_a_torrent_that_turns_out_to_be_private_begins_anew_with_its_trackers(
    swarm: Swarm, sample: Sample, others: Others
) -> None:
    info = bencode.decode(sample.metainfo.info_bytes)
    assert isinstance(info, dict)
    private = bencode.encode({**info, b"private": 1})
    torrent_id = parse_info(private).torrent_id
    client = await swarm.client()
    book = Book.of(client)
    fetch = client.fetch_metadata(
        Magnet(torrent_id, trackers=("http://t/announce",)), trackers=["http://mine/announce"]
    )
    giver = await others.dial(client, torrent_id.v1, private)
    others.start(giver.serve())

    torrent = await client.download(await fetched(fetch), swarm.output())

    assert torrent.progress().peers == 0
    assert torrent.peer_id != fetch.peer_id
    await until(lambda: [one.event for one in book.requests][1:] == [Event.STOPPED, Event.STARTED])
    assert torrent.metainfo.trackers == (("http://t/announce",),)


async def test_metainfo_from_a_link_is_the_one_of_the_file(swarm: Swarm, sample: Sample) -> None:
    seeder, _ = await swarm.seed(sample)
    client = await swarm.client()
    fetch = client.fetch_metadata(
        magnet_of(sample, seeder, trackers=("http://a/",), web_seeds=("http://w/",))
    )

    metainfo = await fetched(fetch)

    expected = replace(sample.metainfo, trackers=(("http://a/",),), web_seeds=("http://w/",))
    assert replace(metainfo, created_by=None, comment=None) == replace(
        expected, created_by=None, comment=None, creation_date=metainfo.creation_date
    )
