"""Case 16: every hostile torrent through the real commands, in a folder that is watched: as a
file, and by a magnet link whose metadata comes from a peer."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pfs.formats import metainfo
from tests.e2e.processes import Lab, no_traceback, one_error_line
from tests.formats.hostile_metainfos import CONTENT, HOSTILE, Hostile
from tests.support import fake_peer
from tests.support.fake_peer import FakePeer
from tests.support.fake_seeder import Account, FakeMetadata, fake_seeder

pytestmark = pytest.mark.torture

REFUSED = [case for case in HOSTILE if case.refused is not None]
MAPPED = [case for case in HOSTILE if case.refused is None]
INSIDE = "a/b/c/d"
"""The commands run so deep below what is watched."""

Snapshot = dict[str, str]


def snapshot(top: Path) -> Snapshot:
    """Every path below `top` with what it is, links not followed."""
    found = {}
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            path = Path(folder, name)
            if path.is_symlink():
                content = f"link to {path.readlink()}"
            elif path.is_dir():
                content = "folder"
            else:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(top))] = content
    return found


@pytest.fixture
def deep(lab: Lab) -> Lab:
    """A lab whose commands run in a folder some way down."""
    lab.top = lab.folder
    lab.folder = lab.folder / INSIDE
    lab.folder.mkdir(parents=True)
    (lab.top / "a" / "mine.txt").write_text("mine")
    (lab.folder / "x").write_text("mine too")
    return lab


@pytest.mark.parametrize("number", range(0, len(REFUSED), 8))
def test_a_hostile_torrent_is_refused_by_every_command_and_leaves_no_trace(
    number: int, deep: Lab, figures: Callable[[str], None]
) -> None:
    cases = REFUSED[number : number + 8]
    for place, case in enumerate(cases):
        (deep.folder / f"{place}.torrent").write_bytes(case.data)
    before = snapshot(deep.top)
    for place, case in enumerate(cases):
        name = f"{place}.torrent"
        for arguments in (
            ("show", name),
            ("verify", name, "x"),
            ("download", name, "-i", "127.0.0.1", "-d", "1", "-p", "0"),
        ):
            process = deep.run(*arguments)
            assert process.wait() == 1, f"{case.title}: {process}"
            line = one_error_line(process)
            told = case.refused if case.data.startswith(b"d") else "is not a .torrent file"
            assert told in line, f"{case.title}: {process}"
            assert name in line
            assert len(line) < 400
            assert process.lines == []
    assert snapshot(deep.top) == before
    figures(f"{len(cases)} torrents refused by show, verify and download")


GIVEN = [case for case in REFUSED if case.info]


@pytest.mark.parametrize("number", range(0, len(GIVEN), 8))
def test_hostile_metadata_from_a_peer_is_refused_and_leaves_no_trace(
    number: int, deep: Lab, figures: Callable[[str], None]
) -> None:
    cases = GIVEN[number : number + 8]
    before = snapshot(deep.top)
    for case in cases:
        assert case.info is not None
        info_hash = hashlib.sha1(case.info).digest()
        with FakePeer(info_hash, giving(case.info), reserved=fake_peer.EXTENSIONS) as peer:
            link = f"magnet:?xt=urn:btih:{info_hash.hex()}&x.pe=127.0.0.1:{peer.port}&dn=link"
            process = deep.run("download", link, "-p", "0", "--no-lsd")
        assert process.wait() == 1, f"{case.title}: {process}"
        line = one_error_line(process)
        assert str(case.refused) in line, f"{case.title}: {process}"
        assert "the torrent of the magnet link link cannot be used" in line
        assert len(line) < 400
        assert peer.trouble == []
    assert snapshot(deep.top) == before
    figures(f"{len(cases)} torrents refused whose metadata came from a peer")


def giving(metadata: bytes) -> Callable[[fake_peer.Wire], None]:
    """A peer that has the metadata of a torrent, and nothing of its content."""
    fake = FakeMetadata(metadata)

    def behave(wire: fake_peer.Wire) -> None:
        fake.introduce(wire)
        while (told := wire.take()) is not None:
            fake.take(wire, told)

    return behave


@pytest.mark.parametrize("by_magnet", [False, True], ids=["file", "magnet"])
@pytest.mark.parametrize("number", range(0, len(MAPPED), 8))
def test_an_odd_torrent_stays_inside_its_folder(
    number: int, by_magnet: bool, deep: Lab, figures: Callable[[str], None]
) -> None:
    (deep.folder / "torrents").mkdir()
    deep.tracker()
    completed = 0
    for place, case in enumerate(MAPPED[number : number + 8]):
        name = f"{place}.torrent"
        (deep.folder / name).write_bytes(case.data)
        for arguments in (("show", name), ("verify", name, "nothing"), ("show", name, "--json")):
            process = deep.run(*arguments)
            no_traceback(process)
            assert process.wait() == (1 if arguments[0] == "verify" else 0), str(process)
            assert all(line.isprintable() for line in [*process.lines, *process.errors])
        before = snapshot(deep.top)
        complete = downloads(deep, case, name, f"output{place}", by_magnet=by_magnet)
        completed += complete
        new = {path: was for path, was in snapshot(deep.top).items() if before.get(path) != was}
        root = f"{INSIDE}/output{place}"
        kept = {path for path in new if path.startswith(f"{INSIDE}/torrents/")}
        assert len(kept) == by_magnet, kept
        for path in kept:
            assert new.pop(path) not in ("folder", "link")
        for path, was in new.items():
            assert path == root or path.startswith(f"{root}/"), f"{case.title}: {path}"
            assert "link" not in was
        if complete:
            files = {path for path, was in new.items() if was != "folder"}
            assert len(files) == len(metainfo.parse(case.data).files), f"{case.title}: {files}"
    figures(f"{completed} torrents downloaded, others stopped; nothing outside their folders")


def downloads(deep: Lab, case: Hostile, name: str, output: str, *, by_magnet: bool) -> bool:
    """Download it from a peer that has the content of all of them; whether that was right."""
    found = metainfo.parse(case.data)
    content = CONTENT[: found.total_length].ljust(found.total_length, b"?")
    right = hashlib.sha1(content).digest() == found.pieces or not content

    def give(wire: fake_peer.Wire, block: tuple[int, int, int], data: bytes) -> None:
        wire.send(fake_peer.block(block[0], block[1], data))

    with fake_seeder(found, content, Account(), give) as seeder:
        seeder.announce(deep.announce_url)
        word = f"magnet:?xt=urn:btih:{found.torrent_id}" if by_magnet else name
        downloader = deep.p2pfs("download", word, *deep.where, "-o", output, "--json")
        downloader.event("ready")
        if right:
            assert downloader.wait() == 0, f"{case.title}: {downloader}"
        else:
            downloader.progress(lambda event: event["hash_failures"] > 0)
            assert downloader.leave()["exit_code"] == 1
    no_traceback(downloader)
    return right
