"""The fast extension (BEP 6) between libtorrent and us: what each end says, and rejects."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from p2pfs.net.engine import Client, Torrent
from p2pfs.storage.creating import make_metainfo
from tests.e2e.processes import Lab, Running, laboratory
from tests.support.relay import Passage, Relay
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libtorrent") is None, reason="libtorrent is not installed"
)

FOREIGN = Path(__file__).with_name("foreign_client.py")
NAME = "content.bin"
PIECE = 16384
SIZE = 128 * PIECE - 1
"""Enough pieces that some are given to the choked."""
LOCAL = "127.0.0.1"
FAST = "FAST extension"
REQUEST, CANCEL, REJECT = 6, 8, 16


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """With content, and a torrent of it without a tracker."""
    with laboratory(tmp_path) as made:
        made.content(NAME, SIZE)
        metainfo = make_metainfo(tmp_path / "seeds" / NAME, piece_length=PIECE)
        (tmp_path / "t.torrent").write_bytes(metainfo.to_bytes())
        (tmp_path / "theirs").mkdir()
        yield made


def foreign(lab: Lab, folder: str, *more: str) -> Running:
    """libtorrent, ready, with its content in `folder`; what it says and hears is logged."""
    process = lab.start(sys.executable, str(FOREIGN), "t.torrent", folder, "--log", *more)
    process.progress(lambda event: event["state"] in {"downloading", "seeding"})
    return process


def port_of(theirs: Running) -> int:
    return int(theirs.last("ready")["port"])


def log(theirs: Running, way: str) -> list[str]:
    """Messages that libtorrent sent (`==>`) or got (`<==`), without the blocks."""
    texts = [event["text"] for event in theirs.events if event["event"] == "log"]
    return [text.removeprefix(f"{way} ") for text in texts if text.startswith(way)]


def names(lines: list[str]) -> set[str]:
    return {line.split()[0] for line in lines}


class Heard(Passage):
    """Every message on the one connection, which we made, as kind and body."""

    def __init__(self) -> None:
        super().__init__()
        self.ours: list[tuple[int, bytes]] = []
        self.theirs: list[tuple[int, bytes]] = []

    def from_downloader(self, kind: int, body: bytes) -> None:
        self.ours.append((kind, body))

    def from_seeder(self, kind: int, body: bytes) -> None:
        self.theirs.append((kind, body))


def bodies(messages: list[tuple[int, bytes]], wanted: int) -> list[bytes]:
    return [body for kind, body in messages if kind == wanted]


async def dial(torrent: Torrent, relay: Relay) -> Heard:
    """The connection of `torrent` through the relay."""
    torrent.add_peers([(LOCAL, relay.port)])
    passage = await asyncio.to_thread(relay.passage, 0)
    assert isinstance(passage, Heard)
    return passage


async def test_our_downloader_and_a_seeder_of_libtorrent_agree_on_the_fast_extension(
    lab: Lab,
) -> None:
    theirs = foreign(lab, "seeds", "--up-limit", "1000000")
    async with Client(bind=LOCAL) as client:
        metainfo = lab.metainfo("t.torrent")
        torrent = await client.download(metainfo, lab.folder / "output")
        torrent.add_peers([(LOCAL, port_of(theirs))])
        await until(lambda: torrent.exchange.transfer.peers)
        session = torrent.exchange.transfer.peers[0].session
        await until(lambda: session.peer_has.complete)
        assert session.fast
        await asyncio.wait_for(torrent.wait(), 60)
    theirs.leave()

    got, sent = log(theirs, "<=="), log(theirs, "==>")
    assert any(line.startswith("EXTENSIONS") and FAST in line for line in got)
    assert "HAVE_NONE" in names(got)
    assert {"HAVE_ALL", "ALLOWED_FAST"} <= names(sent)
    assert "BITFIELD" not in names(got) | names(sent)
    assert lab.read(f"output/{NAME}") == lab.read(f"seeds/{NAME}")


async def test_our_seeder_and_a_leech_of_libtorrent_agree_on_the_fast_extension(lab: Lab) -> None:
    theirs = foreign(lab, "theirs")
    async with Client(bind=LOCAL) as client:
        torrent = await client.seed(lab.metainfo("t.torrent"), lab.folder / "seeds" / NAME)
        torrent.add_peers([(LOCAL, port_of(theirs))])
        await asyncio.to_thread(theirs.event, "complete")
    theirs.leave()

    got, sent = log(theirs, "<=="), log(theirs, "==>")
    assert any(line.startswith("EXTENSIONS") and FAST in line for line in got)
    assert {"HAVE_ALL", "ALLOWED_FAST"} <= names(got)
    assert "HAVE_NONE" in names(sent)
    assert "BITFIELD" not in names(got) | names(sent)
    assert lab.read(f"theirs/{NAME}") == lab.read(f"seeds/{NAME}")


async def test_what_libtorrent_rejects_because_we_cancelled_it_ends_nothing(lab: Lab) -> None:
    theirs = foreign(lab, "seeds", "--up-limit", "500000")
    with closing(Relay(port_of(theirs), Heard)) as relay:
        async with Client(bind=LOCAL) as client:
            torrent = await client.download(lab.metainfo("t.torrent"), lab.folder / "output")
            passage = await dial(torrent, relay)
            for eighth in range(6):
                await until(lambda n=eighth: torrent.progress().downloaded > n * SIZE / 8, 30)
                [peer] = torrent.exchange.transfer.peers
                torrent.exchange.suspend()
                await until(lambda peer=peer: not peer.session._taken_back, 30)
                torrent.exchange.writing_works()
            await asyncio.wait_for(torrent.wait(), 60)

    rejected = bodies(passage.theirs, REJECT)
    assert rejected
    assert set(rejected) <= set(bodies(passage.ours, CANCEL))
    assert len(relay.passages) == 1
    assert lab.read(f"output/{NAME}") == lab.read(f"seeds/{NAME}")


async def test_what_we_reject_because_we_choke_libtorrent_asks_for_again(lab: Lab) -> None:
    theirs = foreign(lab, "theirs")
    with closing(Relay(port_of(theirs), Heard)) as relay:
        async with Client(bind=LOCAL, up_limit=1_000_000) as client:
            torrent = await client.seed(lab.metainfo("t.torrent"), lab.folder / "seeds" / NAME)
            passage = await dial(torrent, relay)
            exchange = torrent.exchange
            for total in (1, SIZE // 4):
                await until(lambda total=total: torrent.progress().uploaded >= total, 30)
                [peer] = exchange.transfer.peers
                await until(lambda peer=peer: peer.uploads)
                exchange.transfer.serving._choke(peer)
                exchange.transfer.serving._fill = True  # the slot is free: given away again
                exchange.settle()
            await asyncio.to_thread(theirs.event, "complete")

    rejected = bodies(passage.ours, REJECT)
    asked = bodies(passage.theirs, REQUEST)
    assert rejected
    assert all(asked.count(block) > rejected.count(block) for block in rejected)
    assert len(relay.passages) == 1
    assert lab.read(f"theirs/{NAME}") == lab.read(f"seeds/{NAME}")
