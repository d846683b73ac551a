"""A foreign client, libtorrent, in swarms with ours: both ways, with our tracker between."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.processes import Lab, Running

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libtorrent") is None, reason="libtorrent is not installed"
)

CLIENT = Path(__file__).with_name("foreign_client.py")
NAME = "content.bin"
ODD = 1_234_567
"""A length of no whole piece, and no whole block at its end."""


def foreign(lab: Lab, torrent: str, folder: str, *more: str) -> Running:
    """libtorrent, ready, with its content in `folder`."""
    (lab.folder / folder).mkdir(exist_ok=True)
    process = lab.start(sys.executable, str(CLIENT), torrent, folder, *more)
    process.event("ready")
    return process


@pytest.mark.parametrize("size", [1, ODD])
def test_libtorrent_downloads_a_file_from_our_seeder(lab: Lab, size: int) -> None:
    lab.tracker()
    data = lab.content(NAME, size)
    torrent = lab.torrent(f"seeds/{NAME}")
    seeder = lab.seed("-f", torrent)

    theirs = foreign(lab, torrent, "theirs")

    theirs.event("complete")
    assert lab.read(f"theirs/{NAME}") == data
    final = seeder.leave()
    assert final["torrents"][0]["uploaded"] == size
    assert "libtorrent" in final["torrents"][0]["sources"][0]["client"]


@pytest.mark.parametrize("level", [1, 2, 3], ids=["in the clear", "rc4", "either"])
def test_libtorrent_that_connects_in_disguise_alone_downloads_from_our_seeder(
    lab: Lab, level: int
) -> None:
    lab.tracker()
    data = lab.content(NAME, ODD)
    torrent = lab.torrent(f"seeds/{NAME}")
    lab.seed("-f", torrent)

    theirs = foreign(lab, torrent, "theirs", "--disguised", str(level))

    theirs.event("complete")
    assert lab.read(f"theirs/{NAME}") == data


@pytest.mark.parametrize("size", [1, ODD])
def test_our_downloader_takes_a_file_from_libtorrent(lab: Lab, size: int) -> None:
    lab.tracker()
    data = lab.content(NAME, size)
    torrent = lab.torrent(f"seeds/{NAME}")
    theirs = foreign(lab, torrent, "seeds")
    theirs.event("complete")

    ours = lab.download(torrent)

    assert ours.wait() == 0
    assert lab.read(f"output/{NAME}") == data
    (torrent_at_end,) = ours.last("final")["torrents"]
    assert torrent_at_end["downloaded"] == size
    assert torrent_at_end["hash_failures"] == 0


FILES = {"a.bin": 100_001, "deep/er/b.bin": 16_384, "empty": 0, "ünï ©/c.bin": 333_333, "z": 1}


def album(lab: Lab) -> dict[str, bytes]:
    return {name: lab.content(name, size, under="seeds/album") for name, size in FILES.items()}


def test_libtorrent_downloads_a_folder_from_our_seeder(lab: Lab) -> None:
    lab.tracker()
    files = album(lab)
    torrent = lab.torrent("seeds/album")
    lab.seed("-f", torrent)

    foreign(lab, torrent, "theirs").event("complete")

    assert {name: lab.read(f"theirs/album/{name}") for name in files} == files


def test_our_downloader_takes_a_folder_from_libtorrent(lab: Lab) -> None:
    lab.tracker()
    files = album(lab)
    torrent = lab.torrent("seeds/album")
    foreign(lab, torrent, "seeds").event("complete")

    assert lab.download(torrent).wait() == 0

    assert {name: lab.read(f"output/album/{name}") for name in files} == files


def test_libtorrent_downloads_from_our_partial_seeders(lab: Lab) -> None:
    lab.tracker()
    data = lab.content(NAME, ODD)
    torrent = lab.torrent(f"seeds/{NAME}")
    parts = [("-r2", "40%"), ("-r1", "30%", "-r2", "70%", "-m", "40"), ("-r1", "40", "-m", "41-44")]
    seeders = [lab.p2pfs("seed", *lab.where, "--json", "-f", torrent, *part) for part in parts]
    for seeder in seeders:
        seeder.event("ready")

    theirs = foreign(lab, torrent, "theirs")

    theirs.event("complete")
    assert lab.read(f"theirs/{NAME}") == data
    given = [seeder.leave()["torrents"][0]["uploaded"] for seeder in seeders]
    assert all(given)
    assert sum(given) <= ODD * 1.2


def test_a_libtorrent_leech_that_was_there_before_the_seeder_is_dialled_by_it(lab: Lab) -> None:
    lab.tracker()
    data = lab.content(NAME, ODD)
    torrent = lab.torrent(f"seeds/{NAME}")
    theirs = foreign(lab, torrent, "theirs")
    lab.await_scrape(torrent, complete=0, incomplete=1)

    lab.seed("-f", torrent)

    theirs.event("complete")
    assert lab.read(f"theirs/{NAME}") == data


def test_a_mixed_swarm_completes_and_everyone_uploads(
    lab: Lab, figures: Callable[[str], None]
) -> None:
    lab.tracker()
    size = 6_000_007
    data = lab.content(NAME, size)
    torrent = lab.torrent(f"seeds/{NAME}", "-l", "64KiB")
    theirs = [foreign(lab, torrent, f"theirs{number}") for number in range(2)]
    ours = [
        lab.download(torrent, "-o", f"ours{number}", "--keep-seeding", "--down-limit", "3M")
        for number in range(2)
    ]
    seeder = lab.seed("-f", torrent, "--up-limit", "3M")

    for process in (*theirs, *ours):
        process.event("complete")

    for folder in ("theirs0", "theirs1", "ours0", "ours1"):
        assert lab.read(f"{folder}/{NAME}") == data
    finals = [process.leave() for process in (seeder, *ours)]
    uploads = [final["torrents"][0]["uploaded"] for final in finals]
    uploads += [process.leave()["uploaded"] for process in theirs]
    copies = " ".join(f"{sent / size:.2f}" for sent in uploads)
    figures(f"copies sent by our seeder, our 2 leeches, 2 of libtorrent: {copies}")
    assert all(uploads), uploads
    assert uploads[0] < 3 * size
