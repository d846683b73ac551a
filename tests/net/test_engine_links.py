"""From the fetch of a magnet link to its torrent, whatever else happens at that moment."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from p2pfs.errors import NetworkError, UsageError
from p2pfs.formats import bencode
from p2pfs.formats.announce_http import Event
from p2pfs.formats.magnet import Magnet
from p2pfs.formats.metainfo import Metainfo, parse_info
from p2pfs.net.dialler import Dialler
from p2pfs.net.engine import Client, Torrent
from p2pfs.net.metadata_fetch import MetadataFetch
from tests.support.announces import Book
from tests.support.swarm import Sample, Swarm
from tests.support.waiting import until

pytestmark = pytest.mark.loops("uvloop")

LINKED = "http://linked/announce"
CHOSEN = "http://chosen/announce"


@pytest.fixture
def private(sample: Sample) -> Metainfo:
    """The sample as a torrent that only its own trackers may know."""
    info = bencode.decode(sample.metainfo.info_bytes)
    assert isinstance(info, dict)
    return parse_info(bencode.encode({**info, b"private": 1}))


async def announced(client: Client, metainfo: Metainfo) -> tuple[Book, MetadataFetch]:
    """A fetch that a tracker knows of, which is in no hurry to hear of its end."""
    book = Book.of(client, patient=True)
    fetch = client.fetch_metadata(Magnet(metainfo.torrent_id, trackers=(LINKED,)))
    await until(lambda: book.asked == [(LINKED, Event.STARTED)])
    return book, fetch


async def begun(
    client: Client, metainfo: Metainfo, output: Path
) -> tuple[Book, asyncio.Task[Torrent]]:
    """A download of a private torrent that waits for the end of the fetch before it."""
    book, _ = await announced(client, metainfo)
    download = asyncio.create_task(client.download(metainfo, output))
    await until(lambda: book.asked[1:] == [(LINKED, Event.STOPPED)])
    return book, download


async def test_a_client_that_closes_meanwhile_runs_nothing(swarm: Swarm, private: Metainfo) -> None:
    client = await swarm.client()
    book, download = await begun(client, private, swarm.output())

    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0)
    book.farewell.set()
    await closing

    with pytest.raises(NetworkError, match="the client is closed"):
        await download
    assert client.torrents == []
    assert len(book.asked) == 2


async def test_a_download_that_is_cancelled_meanwhile_can_be_begun_again(
    swarm: Swarm, private: Metainfo
) -> None:
    client, output = await swarm.client(), swarm.output()
    book, download = await begun(client, private, output)

    download.cancel()
    await asyncio.wait([download])
    book.farewell.set()

    torrent = await client.download(private, output)
    assert download.cancelled()
    assert client.torrents == [torrent]


async def test_a_place_that_is_taken_meanwhile_stays_with_who_has_it(
    swarm: Swarm, sample: Sample, private: Metainfo
) -> None:
    client, output = await swarm.client(), swarm.output()
    book, download = await begun(client, private, output)

    torrent = await client.download(sample.metainfo, output)
    book.farewell.set()

    with pytest.raises(UsageError, match="another torrent is being downloaded to"):
        await download
    assert client.torrents == [torrent]


async def test_a_fetch_that_is_just_ending_is_not_taken_over(swarm: Swarm, sample: Sample) -> None:
    client = await swarm.client()
    book, fetch = await announced(client, sample.metainfo)
    ending = asyncio.create_task(fetch.close())
    await until(lambda: book.asked[1:] == [(LINKED, Event.STOPPED)])

    download = asyncio.create_task(
        client.download(sample.metainfo, swarm.output(), trackers=[CHOSEN])
    )
    await asyncio.sleep(0)
    assert client._stores._checks
    await until(lambda: not client._stores._checks)
    book.farewell.set()
    await ending

    torrent = await download
    await until(lambda: book.asked[2:] == [(CHOSEN, Event.STARTED)])
    assert torrent.peer_id != fetch.peer_id


async def test_a_download_that_is_cancelled_while_it_takes_over_does_not_run(
    swarm: Swarm, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, output = await swarm.client(), swarm.output()
    book, _ = await announced(client, sample.metainfo)
    book.farewell.set()
    taken_over = asyncio.Event()
    close = Dialler.close

    async def closing(dialler: Dialler) -> None:
        taken_over.set()
        await close(dialler)

    monkeypatch.setattr(Dialler, "close", closing)
    download = asyncio.create_task(client.download(sample.metainfo, output))
    await taken_over.wait()
    assert len(client.torrents) == 1

    download.cancel()
    await asyncio.wait([download])

    assert download.cancelled()
    assert client.torrents == []
    assert book.asked[1:] == [(LINKED, Event.STOPPED)]
    torrent = await client.download(sample.metainfo, output)
    assert client.torrents == [torrent]


async def test_the_trackers_of_a_torrent_are_asked_although_its_link_named_none(
    swarm: Swarm, sample: Sample
) -> None:
    client = await swarm.client()
    book = Book.of(client)
    fetch = client.fetch_metadata(Magnet(sample.metainfo.torrent_id))
    assert fetch.progress().tracker == "no tracker"
    named = replace(sample.metainfo, trackers=(("http://named/announce",),))

    torrent = await client.download(named, swarm.output(), trackers=[CHOSEN])

    await until(lambda: book.asked == [(CHOSEN, Event.STARTED)])
    assert book.trusted == {CHOSEN}
    assert torrent.announcer._tiers.in_order() == [CHOSEN, "http://named/announce"]
