"""The sample files and the folders of the nodes: the same on every machine."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "make_data.py"


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


def folders(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )


def contents(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha1(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_every_folder_holds_the_same_known_files(tmp_path: Path) -> None:
    done = folders(tmp_path, "--peers", "3", "--files", "2", "--size", "40K")
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p1", "p2", "p3"]
    expected = {
        "data01.bin": "335693060b57955486b2891c906d8f9d595db580",
        "data02.bin": "fcea3444c437a2cb86c8633ff44d9feedb9851d0",
    }
    assert contents(tmp_path / "p1") == expected
    assert contents(tmp_path / "p2") == contents(tmp_path / "p3") == expected
    assert {p.stat().st_size for p in tmp_path.rglob("*.bin")} == {40 * 1024}


def test_what_is_wrong_in_a_folder_is_made_anew_and_the_rest_is_kept(tmp_path: Path) -> None:
    folders(tmp_path, "--peers", "2", "--files", "2", "--size", "2M")
    right = contents(tmp_path / "p1")
    kept = (tmp_path / "p1" / "data02.bin").stat().st_mtime_ns
    (tmp_path / "p1" / "data01.bin").write_bytes(bytes(2 * 1024 * 1024))
    (tmp_path / "p2" / "data02.bin").write_bytes(b"short")
    (tmp_path / "p2" / "mine.txt").write_text("mine")
    done = folders(tmp_path, "--peers", "2", "--files", "2", "--size", "2M")
    assert "p2 holds 1 more, left alone" in done.stdout
    assert contents(tmp_path / "p1") == right
    assert (tmp_path / "p1" / "data02.bin").stat().st_mtime_ns == kept
    assert (tmp_path / "p2" / "mine.txt").read_text() == "mine"
    (tmp_path / "p2" / "mine.txt").unlink()
    assert contents(tmp_path / "p2") == right


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--peers", "0"], "'0' is no whole number from 1 to 999"),
        (["--peers", "-3"], "'-3' is no whole number"),
        (["--peers", "two"], "'two' is no whole number"),
        (["--peers", "1000"], "'1000' is no whole number"),
        (["--files", "1.5"], "'1.5' is no whole number from 1 to 9,999"),
        (["--size", "0"], "'0' is less than one byte"),
        (["--size", "1MB"], "write it as 256KiB, 1MiB or plain bytes"),
        (["--size", "-1"], "is not a size"),
        (["--peers", "999", "--files", "9999", "--size", "1G"], "fewer folders"),
        (["seeds", "--peers", "2"], "they go with nothing else"),
    ],
)
def test_nonsense_is_refused_and_nothing_is_made(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = folders(tmp_path, *arguments)
    assert done.returncode != 0
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "p1").write_text("in the way")
    done = folders(tmp_path, "--peers", "1", "--files", "1", "--size", "1K")
    assert (done.returncode, done.stderr.splitlines()) == (1, ["make_data.py: p1: File exists"])


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_make_data_passes_its_variables_on() -> None:
    def command(*variables: str) -> list[str]:
        done = subprocess.run(
            ["make", "--no-print-directory", "-n", "-o", ".venv/.run", "data", *variables],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.replace("\\\n", " ").replace("'", "").split()[1:]

    script = "scripts/make_data.py"
    assert command() == [script, "seeds"]
    assert command("PEERS=16", "FILES=10", "SIZE=1M") == [
        *(script, "--peers", "16", "--files", "10", "--size", "1M")
    ]
    assert command("PEERS=0") == [script, "--peers", "0"]


@pytest.mark.skipif(shutil.which("git") is None, reason="no git on this machine")
def test_git_ignores_the_folders_and_nothing_of_the_package() -> None:
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", "p1/a", "p16/a", "p999/a", "config/a", "p2pfs/a.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 128:
        pytest.skip("not a git checkout")
    assert done.stdout.split() == ["p1/a", "p16/a", "p999/a", "config/a"]
