"""`make-torrent`, `show` and `verify`, run in this process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pfs.cli import content, main
from p2pfs.cli.torrent_files import kept_torrent
from p2pfs.formats.metainfo import parse

Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Run:
    """Runs a command line in an empty folder: exit code, lines out, lines of errors."""
    monkeypatch.chdir(tmp_path)

    def run_line(*arguments: str) -> tuple[int, list[str], list[str]]:
        with pytest.raises(SystemExit) as ending:
            main(arguments)
        captured = capsys.readouterr()
        code = ending.value.code
        assert code is None or isinstance(code, int)
        return code or 0, captured.out.splitlines(), captured.err.splitlines()

    return run_line


def make_tree(folder: Path) -> None:
    (folder / "deep").mkdir(parents=True)
    (folder / "b.bin").write_bytes(b"b" * 40_000)
    (folder / "a.bin").write_bytes(b"a" * 10)
    (folder / "deep" / "c.bin").write_bytes(b"c" * 30_000)
    (folder / "empty").write_bytes(b"")


def test_a_folder_becomes_a_torrent_of_its_name(run: Run, tmp_path: Path) -> None:
    make_tree(tmp_path / "album")
    code, out, err = run("make-torrent", "album", "-t", "http://a/announce", "-c", "hello")
    assert (code, err) == (0, [])
    metainfo = parse((tmp_path / "torrents" / "album.torrent").read_bytes())
    assert out[0] == f"{Path('torrents/album.torrent')}: 68.4 KiB in 4 files, 5 pieces of 16.0 KiB"
    assert out[1] == f"info hash {metainfo.torrent_id}"
    assert [file.path for file in metainfo.files] == [
        ("a.bin",),
        ("b.bin",),
        ("deep", "c.bin"),
        ("empty",),
    ]
    assert metainfo.trackers == (("http://a/announce",),)
    assert metainfo.comment == "hello"
    assert metainfo.creation_date is None


def test_the_same_content_gives_the_same_bytes(run: Run, tmp_path: Path) -> None:
    for place in ("one", "two"):
        make_tree(tmp_path / place / "album")
        assert run("make-torrent", f"{place}/album", "-o", f"{place}.torrent")[0] == 0
    assert (tmp_path / "one.torrent").read_bytes() == (tmp_path / "two.torrent").read_bytes()


def test_a_torrent_is_overwritten_only_by_force(run: Run, tmp_path: Path) -> None:
    make_tree(tmp_path / "album")
    target = tmp_path / "x.torrent"
    target.write_bytes(b"precious")
    code, _, err = run("make-torrent", "album", "-o", "x.torrent")
    assert code == 1
    assert err == [
        "p2pfs: x.torrent exists already: --force overwrites it, -o chooses another name"
    ]
    assert target.read_bytes() == b"precious"
    assert run("make-torrent", "album", "-o", "x.torrent", "--force")[0] == 0
    assert parse(target.read_bytes()).name == "album"
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_neither_nothing_nor_the_content_itself_is_written_to(run: Run, tmp_path: Path) -> None:
    make_tree(tmp_path / "album")
    code, _, err = run("make-torrent", "")
    assert (code, err) == (2, ["p2pfs: the name of what to share is empty"])
    for path in ("album", "album/a.bin"):
        code, _, err = run("make-torrent", path, "-o", "album/a.bin", "--force")
        assert code == 1
        assert "is part of what is shared" in err[0]
    assert (tmp_path / "album" / "a.bin").read_bytes() == b"a" * 10


@pytest.mark.parametrize("there", [True, False], ids=["there", "to be made"])
def test_a_folder_as_output_gets_the_torrent_under_its_name(
    run: Run, tmp_path: Path, there: bool
) -> None:
    make_tree(tmp_path / "album")
    if there:
        (tmp_path / "out").mkdir()
    assert run("make-torrent", "album", "-o", "out" if there else "out/")[0] == 0
    assert parse((tmp_path / "out" / "album.torrent").read_bytes()).name == "album"


def test_a_folder_in_the_place_of_the_torrent_is_named(run: Run, tmp_path: Path) -> None:
    make_tree(tmp_path / "album")
    (tmp_path / "torrents" / "album.torrent").mkdir(parents=True)
    code, _, err = run("make-torrent", "album", "--force")
    assert code == 1
    assert err == ["p2pfs: torrents/album.torrent is a folder: -o chooses another name"]


def test_a_device_stays_in_its_place(run: Run, tmp_path: Path) -> None:
    make_tree(tmp_path / "album")
    os.mkfifo(tmp_path / "device")
    code, _, err = run("make-torrent", "album", "-o", "device", "--force")
    assert code == 1
    assert err == ["p2pfs: device is no regular file: -o chooses another name"]
    assert (tmp_path / "device").is_fifo()


def test_links_that_lead_in_a_circle_are_left_out_or_replaced(run: Run, tmp_path: Path) -> None:
    make_tree(tmp_path / "album")
    (tmp_path / "album" / "self").symlink_to("self")
    (tmp_path / "circle").symlink_to("circle")
    code, out, _ = run("make-torrent", "album", "-o", "circle", "--force")
    assert code == 0
    assert out[0] == "left out, because it is a link or no regular file: self"
    assert parse((tmp_path / "circle").read_bytes()).name == "album"


def test_the_root_has_no_name_and_a_dot_has_that_of_its_folder(run: Run, tmp_path: Path) -> None:
    code, _, err = run("make-torrent", "/")
    assert (code, err) == (1, ["p2pfs: / has no name to share it under"])
    make_tree(tmp_path / "album")
    for place in (".", "album/deep/.."):
        assert run("make-torrent", place)[0] == 0
    assert {path.stem for path in (tmp_path / "torrents").iterdir()} == {tmp_path.name, "album"}


@pytest.mark.parametrize("output", [(), ("-o", "kept/x.torrent")], ids=["default", "chosen"])
def test_a_torrent_is_no_part_of_the_folder_that_it_describes(
    run: Run, tmp_path: Path, output: tuple[str, ...]
) -> None:
    make_tree(tmp_path)
    assert run("make-torrent", ".", *output)[0] == 0
    (target,) = tmp_path.glob("*/*.torrent")
    before = target.read_bytes()
    code, out, _ = run("make-torrent", ".", "--force", *output)
    assert code == 0
    left_out = target.relative_to(tmp_path).as_posix()
    assert out[0] == f"left out, because it is what this command writes: {left_out}"
    assert target.read_bytes() == before


def test_who_shares_a_folder_with_its_torrent_in_it_finds_it_as_it_was_described(
    run: Run, tmp_path: Path
) -> None:
    make_tree(tmp_path)
    assert run("make-torrent", ".")[0] == 0
    described = content.metainfo_for(content.Shared(Path()))
    assert described.note is None
    assert described.metainfo.to_bytes() == kept_torrent(Path()).read_bytes()


def test_the_piece_length_is_a_power_of_two(run: Run, tmp_path: Path) -> None:
    make_tree(tmp_path / "album")
    assert run("make-torrent", "album", "-l", "64KiB")[0] == 0
    metainfo = parse((tmp_path / "torrents" / "album.torrent").read_bytes())
    assert metainfo.geometry.piece_length == 65536
    for size in ("17K", "8K", "32M", "1MB", "x"):
        code, _, err = run("make-torrent", "album", "-l", size, "-o", "y.torrent")
        assert code == 2
        assert len(err) == 1


def test_links_are_left_out_and_named(run: Run, tmp_path: Path) -> None:
    make_tree(tmp_path / "album")
    try:
        (tmp_path / "album" / "link").symlink_to("a.bin")
    except OSError:
        pytest.skip("links cannot be made here")
    code, out, _ = run("make-torrent", "album")
    assert code == 0
    assert out[0].endswith("no regular file: link")


@pytest.mark.parametrize(
    "url", ["not a url", "ftp://x/announce", "http://x/\x1b[2J", "http://", "http://x:99999/a"]
)
def test_what_is_no_url_is_refused(run: Run, tmp_path: Path, url: str) -> None:
    make_tree(tmp_path / "album")
    code, _, err = run("make-torrent", "album", "-t", url)
    assert code == 2
    assert "\x1b" not in err[0]


def test_a_web_seed_is_a_web_server(run: Run, tmp_path: Path) -> None:
    make_tree(tmp_path / "album")
    code, _, err = run("make-torrent", "album", "-w", "udp://host:9/x")
    assert code == 2
    assert "is not a URL such as http://host/folder/" in err[0]


def test_show_describes_a_torrent_for_people_and_programs(run: Run, tmp_path: Path) -> None:
    make_tree(tmp_path / "album")
    run("make-torrent", "album", "-t", "http://a/announce", "-w", "http://w/album", "--private")
    code, out, _ = run("show", "torrents/album.torrent")
    assert code == 0
    assert "private    yes" in out
    assert "tracker    http://a/announce" in out
    assert any(line.endswith("deep/c.bin") for line in out)
    code, out, _ = run("show", "torrents/album.torrent", "--json")
    described = json.loads(out[-1])
    assert described["event"] == "final"
    assert described["bytes"] == 70_010
    assert described["web_seeds"] == ["http://w/album"]
    assert described["files"][3] == {
        "number": 4,
        "path": "empty",
        "bytes": 0,
        "executable": False,
        "hidden": False,
    }


def test_verify_finds_what_differs(run: Run, tmp_path: Path) -> None:
    make_tree(tmp_path / "album")
    run("make-torrent", "album")
    code, out, err = run("verify", "torrents/album.torrent", "album")
    assert (code, out, err) == (0, ["album: all 5 pieces right"], [])
    with (tmp_path / "album" / "b.bin").open("r+b") as file:
        file.seek(20_000)
        file.write(b"X")
    code, out, err = run("verify", "torrents/album.torrent", "album")
    assert code == 1
    assert out == ["differs or is missing: b.bin"]
    assert err == ["p2pfs: album: 1 of 5 pieces differs (1)"]
    code, out, _ = run("verify", "torrents/album.torrent", "album", "--json")
    final = json.loads(out[-1])
    assert code == final["exit_code"] == 1
    assert final["bad"] == [1]
    assert final["damaged_files"] == ["b.bin"]


def test_verify_counts_one_piece_as_one(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"a" * 10)
    assert run("make-torrent", "a.bin")[0] == 0
    (tmp_path / "a.bin").write_bytes(b"b" * 10)
    line = ("verify", "torrents/a.bin.torrent", "a.bin")
    _, _, err = run(*line)
    assert err == ["p2pfs: a.bin: 1 of 1 piece differs (0)"]
    _, out, _ = run(*line, "--json")
    assert json.loads(out[-1])["error"] == "1 of 1 piece differs"


def test_verify_does_not_blame_a_file_for_its_neighbour_that_is_not_there(
    run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    for name, size in (("a", 40_000), ("b", 40_000), ("c", 40_000), ("d", 40_000)):
        (folder / name).write_bytes(name.encode() * size)
    run("make-torrent", "some", "-l", "16KiB", "-o", "some.torrent")
    (folder / "b").unlink()
    (folder / "d").write_bytes(b"d" * 39_999 + b"?")

    code, out, _ = run("verify", "some.torrent", "some")
    assert code == 1
    assert out == [
        "differs or is missing: b",
        "differs or is missing: d",
        "cannot be verified without its neighbours: a",
        "cannot be verified without its neighbours: c",
    ]
    final = json.loads(run("verify", "some.torrent", "some", "--json")[1][-1])
    assert (final["damaged_files"], final["unsure_files"]) == (["b", "d"], ["a", "c"])


def test_a_file_that_is_no_torrent_is_one_clear_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.torrent").write_bytes(b"d4:infod4:name")
    for command in (("show", "x.torrent"), ("verify", "x.torrent", "."), ("show", "none.torrent")):
        code, _, err = run(*command)
        assert code == 1
        assert len(err) == 1
        assert err[0].startswith("p2pfs: ")
        assert command[1] in err[0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x0eh\xa3 no torrent", "is not a .torrent file: it does not begin as one does"),
        (b"", "is not a .torrent file: it is empty"),
        (b"d4:infode", "is not a usable .torrent file: byte "),
    ],
    ids=["other bytes", "nothing", "a broken one"],
)
def test_what_is_wrong_with_a_torrent_is_said_in_words(
    run: Run, tmp_path: Path, data: bytes, reason: str
) -> None:
    (tmp_path / "x.torrent").write_bytes(data)
    _, _, err = run("show", "x.torrent")
    assert err[0].startswith(f"p2pfs: x.torrent {reason}")


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be made on Windows")
def test_a_name_with_control_characters_is_refused_without_printing_them(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "a\x1b[2Jb").write_bytes(b"data")
    code, out, err = run("make-torrent", "a\x1b[2Jb")
    assert code == 1
    assert "\x1b" not in "".join(out + err)
