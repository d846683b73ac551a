"""Downloads that begin with a magnet link: what is told meanwhile, and what is known already."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from p2pfs.cli import fetching
from p2pfs.cli.fetching import MagnetDownloads
from p2pfs.cli.screen import PlainScreen
from p2pfs.cli.session import Session
from p2pfs.cli.torrent_files import keep_fetched
from p2pfs.errors import NetworkError, P2pfsError, UsageError
from p2pfs.formats import magnet
from p2pfs.net.engine import Client
from p2pfs.storage.creating import make_metainfo
from tests.support.swarm import LOCAL, Sample, at, done, make_sample
from tests.support.waiting import until

GONE = f"magnet:?xt=urn:btih:{'01' * 20}&dn=gone&x.pe=127.0.0.1:1"


class Paper(PlainScreen):
    """A screen that keeps its lines."""

    def __init__(self) -> None:
        super().__init__("download")
        self.lines: list[str] = []

    def write(self, text: str) -> None:
        self.lines += text.splitlines()

    def said(self, text: str) -> list[str]:
        return [line for line in self.lines if text in line]


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return make_sample(tmp_path / "shared")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which `torrents/` is."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def link_to(sample: Sample, peers: Sequence[tuple[str, int]] = (), **more: object) -> str:
    found = magnet.link_of(sample.metainfo, peers=peers)
    return magnet.encode(replace(found, **more))


async def test_a_link_that_nobody_answers_is_gone_on_with_and_explained_less_and_less_often(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_EXPLAIN_AFTER", 0.1)
    monkeypatch.setattr(fetching, "_TELL_EVERY", 0.01)
    screen = Paper()
    async with Client(bind=LOCAL) as client:
        downloads = MagnetDownloads(screen, [GONE], here / "output")
        work = asyncio.ensure_future(downloads.start(client, downloads.magnets[0]))

        await until(lambda: len(screen.said("trying on: ")) > 2)

        assert not work.done()
        assert downloads.status() == "gone: looking for a peer with the metadata, no tracker"
        assert "127.0.0.1:1: Connection refused" in downloads.report()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    told = screen.said("trying on: ")
    assert told[-1].startswith("nobody gave the metadata of gone in 0 s, trying on: no tracker; ")
    assert "127.0.0.1:1: Connection refused" in told[-1]
    assert not any(os.scandir(here))


async def test_whoever_sets_a_time_is_told_when_it_is_over(here: Path) -> None:
    async with Client(bind=LOCAL) as client:
        downloads = MagnetDownloads(Paper(), [GONE], here / "output", patience=0.1)

        with pytest.raises(
            NetworkError, match="nobody gave the metadata of gone in 0 s: no tracker"
        ):
            await downloads.start(client, downloads.magnets[0])


def test_a_link_with_nobody_to_ask_needs_the_local_network() -> None:
    named = GONE.partition("&x.pe")[0]
    with pytest.raises(UsageError, match=r"names neither a tracker .* nor a peer: say where .*\)$"):
        MagnetDownloads(Paper(), [named], Path("output"))
    assert MagnetDownloads(Paper(), [named], Path("output"), local=True).magnets


async def test_what_a_shell_left_of_a_link_is_told_from_a_whole_one(here: Path) -> None:
    bare, screen = GONE.partition("&")[0], Paper()
    with pytest.raises(UsageError, match="put it into quotes"):
        MagnetDownloads(screen, [bare], Path("output"))

    async with Client(bind=LOCAL) as client:
        downloads = MagnetDownloads(screen, [bare], here / "output", local=True, patience=0.1)
        with pytest.raises(NetworkError):
            await downloads.start(client, downloads.magnets[0])

    assert len(screen.said("put it into quotes")) == 1


async def test_metadata_that_was_fetched_is_kept_and_found_the_next_time(
    here: Path, sample: Sample
) -> None:
    async with Client(bind=LOCAL) as seeder:
        await seeder.seed(sample.metainfo, sample.path)
        for output in ("first", "second"):
            screen = Paper()
            async with Client(bind=LOCAL) as client:
                downloads = MagnetDownloads(screen, [link_to(sample, at(seeder))], here / output)
                torrent = await downloads.start(client, downloads.magnets[0])
                (path,) = await done(torrent)
                assert sample.is_at(path)
            kept = screen.said("the metadata of story.bin is ")
            told = "kept in" if output == "first" else "in"
            assert kept == [f"the metadata of story.bin is {told} torrents/story.bin.torrent"]
            assert bool(screen.said("fetching metadata")) == (output == "first")


async def test_what_a_link_names_is_added_to_what_is_known(here: Path, sample: Sample) -> None:
    ours = replace(sample.metainfo, trackers=(("http://own.example/announce",),))
    keep_fetched(ours)
    link = link_to(sample, trackers=("http://127.0.0.1:1/announce",))
    async with Client(bind=LOCAL) as client:
        downloads = MagnetDownloads(Paper(), [link], here / "output")
        torrent = await downloads.start(client, downloads.magnets[0])

        assert torrent.metainfo.trackers == (
            ("http://own.example/announce",),
            ("http://127.0.0.1:1/announce",),
        )


async def test_a_private_torrent_that_is_known_hears_nothing_of_the_link(
    here: Path, tmp_path: Path
) -> None:
    sample = make_sample(tmp_path / "shared")
    private = make_metainfo(sample.path, private=True, trackers=[["http://127.0.0.1:1/announce"]])
    sample = replace(sample, metainfo=private)
    keep_fetched(private)
    link = link_to(sample, [(LOCAL, 1)], trackers=("http://other.example/announce",))
    async with Client(bind=LOCAL) as client:
        downloads = MagnetDownloads(Paper(), [link], here / "output")
        torrent = await downloads.start(client, downloads.magnets[0])

        assert torrent.metainfo.trackers == private.trackers


async def test_metadata_that_is_at_hand_leaves_the_choice_of_files_to_the_link(
    here: Path, tmp_path: Path
) -> None:
    sample = make_sample(tmp_path / "album", {"a": 50_000, "b": 50_000})
    async with Client(bind=LOCAL) as seeder, Client(bind=LOCAL) as client:
        await seeder.seed(sample.metainfo, sample.path)
        link = link_to(sample, at(seeder), selected=((1, 1),))
        downloads = MagnetDownloads(Paper(), [link], here / "output")

        torrent = await downloads.start(client, downloads.magnets[0], sample.metainfo)

        assert [file.wanted for file in torrent.files()] == [False, True]
        (top,) = await done(torrent)
        assert [entry.name for entry in os.scandir(top)] == ["b"]


async def test_a_link_that_fails_is_told_and_the_others_go_on(
    here: Path, tmp_path: Path, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_sample(tmp_path / "other", name="other.bin", seed=2)
    screen = Paper()
    async with Client(bind=LOCAL) as seeder, Client(bind=LOCAL) as client:
        for one in (sample, other):
            await seeder.seed(one.metainfo, one.path)
        links = [link_to(other, at(seeder), selected=((7, 7),)), link_to(sample, at(seeder))]
        downloads = MagnetDownloads(screen, links, here / "output")
        session = Session(
            screen, output=here / "output", stay=False, feed=downloads.feed(client), listen=False
        )

        assert await session.run() == 0

        assert sample.is_at(here / "output" / "story.bin")
        assert "p2pfs: other.bin: the magnet link selects none of" in capsys.readouterr().err
        with pytest.raises(P2pfsError, match=r"1 of 2 could not be fetched: other\.bin$"):
            downloads.raise_failures()


async def test_when_no_link_can_be_downloaded_that_is_the_end(here: Path, sample: Sample) -> None:
    async with Client(bind=LOCAL) as seeder, Client(bind=LOCAL) as client:
        await seeder.seed(sample.metainfo, sample.path)
        unusable = link_to(sample, at(seeder), selected=((7, 7),))  # its metadata is kept
        for links, patience, said in (
            ([unusable], 0.0, "selects none of"),
            ([unusable, GONE], 0.1, "2 of 2 could not be fetched"),
        ):
            downloads = MagnetDownloads(Paper(), links, here / "output", patience=patience)
            session = Session(
                Paper(), output=here, stay=True, feed=downloads.feed(client), listen=False
            )
            with pytest.raises(P2pfsError, match=said):
                await session.run()
