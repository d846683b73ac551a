"""Case 17: links planted where a download is going to write, before it starts and while it runs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from p2pfs.storage.places import hidden_name
from tests.e2e.processes import Lab, no_traceback, one_error_line

pytestmark = [
    pytest.mark.torture,
    pytest.mark.skipif(os.name == "nt", reason="links need rights there"),
]

PRECIOUS = b"precious"
TREE = {"a.bin": 300_000, "deep/b.bin": 900_000, "deep/er/c.bin": 900_000}


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder of the user with a file in it, to which the links lead."""
    folder = tmp_path / "victim"
    (folder / "er").mkdir(parents=True)
    for name in ("file", "b.bin", "er/c.bin"):
        (folder / name).write_bytes(PRECIOUS)
    return folder


def is_unharmed(victim: Path) -> bool:
    files = {str(path.relative_to(victim)) for path in victim.rglob("*") if path.is_file()}
    return files == {"file", "b.bin", "er/c.bin"} and all(
        (victim / name).read_bytes() == PRECIOUS for name in files
    )


def tree(lab: Lab) -> str:
    """A seeder of a folder, slow enough to get in its way; the .torrent."""
    for path, size in TREE.items():
        lab.content(f"thing/{path}", size)
    torrent = lab.torrent("seeds/thing", "-l", "64KiB")
    lab.seed("-f", torrent, "--up-limit", "1M")
    return torrent


@pytest.mark.parametrize("where", ["the name", "the part", "the record"])
def test_a_link_in_the_place_of_a_file_is_refused(lab: Lab, victim: Path, where: str) -> None:
    lab.tracker()
    lab.content("story.bin", 100_000)
    torrent = lab.torrent("seeds/story.bin")
    lab.seed("-f", torrent)
    metainfo = lab.metainfo(torrent)
    names = {
        "the name": "story.bin",
        "the part": hidden_name(metainfo, "part"),
        "the record": hidden_name(metainfo, "resume"),
    }
    output = lab.folder / "output"
    output.mkdir()
    planted = output / names[where]
    planted.symlink_to(victim / "file")

    leecher = lab.download(torrent) if where == "the part" else lab.run(
        "download", *lab.where, torrent
    )  # fmt: skip

    if where == "the part":  # it is written to when the first piece comes
        told = leecher.progress(lambda event: event["error"])["error"]
        assert "symbolic link" in told
        assert leecher.leave()["exit_code"] != 0
    else:
        assert leecher.wait() != 0
        assert "link" in one_error_line(leecher) or "regular file" in one_error_line(leecher)
    assert planted.is_symlink()
    assert is_unharmed(victim)
    no_traceback(leecher)


@pytest.mark.parametrize("where", ["the name", "the part"])
def test_a_link_in_the_place_of_a_folder_is_refused(lab: Lab, victim: Path, where: str) -> None:
    lab.tracker()
    torrent = tree(lab)
    name = "thing" if where == "the name" else hidden_name(lab.metainfo(torrent), "part")
    (lab.folder / "output").mkdir()
    (lab.folder / "output" / name).symlink_to(victim)

    leecher = lab.run("download", *lab.where, torrent)

    assert leecher.wait() != 0
    assert name in one_error_line(leecher)
    assert is_unharmed(victim)


@pytest.mark.parametrize("what", ["deep", "deep/er", "deep/b.bin"])
def test_what_is_swapped_for_a_link_meanwhile_leads_nowhere(
    lab: Lab, victim: Path, what: str
) -> None:
    lab.tracker()
    torrent = tree(lab)
    leecher = lab.download(torrent)
    leecher.progress(lambda event: event["pieces_done"] >= 6)
    making = lab.folder / "output" / hidden_name(lab.metainfo(torrent), "part")
    swapped = making / what
    aside = lab.folder / "aside"
    swapped.parent.mkdir(parents=True, exist_ok=True)
    if swapped.exists():
        swapped.rename(aside)
    goal = victim / Path(what).relative_to("deep") if what != "deep" else victim
    swapped.symlink_to(goal)

    told = leecher.progress(lambda event: event["error"])["error"]
    leecher.signal(signal.SIGTERM)
    assert leecher.wait() != 0

    assert any(words in told for words in ("another program", "link", "not a regular file")), told
    assert not os.path.lexists(lab.folder / "output" / "thing")
    assert is_unharmed(victim)
    swapped.unlink()
    if aside.exists():
        aside.rename(swapped)
    again = lab.download(torrent)
    assert again.wait() == 0, str(again)
    for path in TREE:
        assert lab.sha256(f"output/thing/{path}") == lab.sha256(f"seeds/thing/{path}")
    assert is_unharmed(victim)
    no_traceback(leecher, again)
