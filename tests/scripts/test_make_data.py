"""The sample files: the same on every machine."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_data.py"


def make(folder: Path, *names: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), *names],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_text_is_the_same_everywhere(tmp_path: Path) -> None:
    make(tmp_path, "0short_story.txt", "1short_story_10x.txt")
    digests = {p.name: hashlib.sha1(p.read_bytes()).hexdigest() for p in tmp_path.iterdir()}
    assert digests == {
        "0short_story.txt": "41ec0e7dfaa7983e882a0676487b4aed65246a53",
        "1short_story_10x.txt": "fe5de52de016d768f2d2ef4a1129793214072426",
    }


def test_every_line_differs(tmp_path: Path) -> None:
    make(tmp_path, "1short_story_10x.txt")
    lines = (tmp_path / "1short_story_10x.txt").read_text(encoding="ascii").splitlines()
    assert len(lines) == len(set(lines)) > 1000


def test_what_is_there_already_is_kept(tmp_path: Path) -> None:
    assert make(tmp_path, "0short_story.txt").startswith("made")
    before = (tmp_path / "0short_story.txt").stat()
    assert make(tmp_path, "0short_story.txt").startswith("kept")
    assert (tmp_path / "0short_story.txt").stat().st_mtime_ns == before.st_mtime_ns


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), "other.txt"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "0short_story.txt" in done.stderr
