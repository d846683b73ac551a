"""`share` on one side and `get` on the other, with nothing between them but a host."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from p2pfs.cli.share import command_elsewhere, sources_of, where_option
from p2pfs.errors import StorageError
from p2pfs.net.own_address import reached_at
from p2pfs.storage.sharing import FileSource, FolderSource, TreeSource

pytestmark = pytest.mark.slow

LONG_AGO = 1_600_000_000
SIZE = 200_000


@pytest.fixture
def files(swarm: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Content below `album/`, and one file beside it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(swarm.folder / "cache"))
    monkeypatch.delenv("P2PFS_INDEX", raising=False)
    names = ("album/one.jpg", "album/2024/two words.jpg", "album/2024/05/three.jpg", "note.txt")
    contents = {}
    for number, name in enumerate(names):
        path = swarm.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        contents[name] = bytes((i * 3 + number) % 256 for i in range(SIZE))
        path.write_bytes(contents[name])
        os.utime(path, (LONG_AGO, LONG_AGO))
    return contents


def start(swarm: Any, *arguments: str) -> Any:
    """A `share` with an index of its own on this machine, where no other test's is."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return swarm.start(*("share", *arguments, "-d", str(port), "--bind", "127.0.0.1", "--no-mdns"))


def run_elsewhere(swarm: Any, line: str, *more: str) -> Any:
    """The line that `share` printed, typed on another machine: this one, by its own name."""
    program, *words = shlex.split(line)
    assert program == "p2pfs"
    words[words.index("-i") + 1] = words[words.index("-i") + 1].replace(
        reached_at(None), "127.0.0.1"
    )
    return swarm.run(*words, *more)


def content_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_one_file_is_shared_with_one_line_to_type_elsewhere(
    swarm: Any, files: dict[str, bytes]
) -> None:
    sharer = start(swarm, "note.txt")
    line = sharer.line_with("p2pfs get note.txt -i ")

    got = run_elsewhere(swarm, line, "-o", "out")
    sharer.say("exit")

    assert got.wait() == 0, got.errors
    assert content_below(swarm.folder / "out") == {"note.txt": files["note.txt"]}
    assert sharer.wait() == 0
    assert sharer.errors == []
    assert sharer.lines[0].startswith("p2pfs share ready on 127.0.0.1:")
    assert "sharing 1 file with the index at 127.0.0.1:" in sharer.lines[0]
    assert sharer.lines[-1].startswith("note.txt: sent 195 KiB (1.00 copies) to 1 peer")
    assert "\x1b" not in "".join(sharer.lines)


def test_a_folder_is_shared_file_by_file_and_keeps_its_tree(
    swarm: Any, files: dict[str, bytes]
) -> None:
    sharer = start(swarm, "album", "note.txt")
    line = sharer.line_with('p2pfs get "*" -i ')

    got = run_elsewhere(swarm, line, "-o", "out")
    index = line.split()[-1].replace(reached_at(None), "127.0.0.1")
    part = swarm.run("get", "2024", "-i", index, "-o", "part")
    listed = swarm.run("ls", "-i", index)

    expected = {name.removeprefix("album/"): data for name, data in files.items()}
    assert got.wait() == 0, got.errors
    assert content_below(swarm.folder / "out") == expected
    assert listed.lines == sorted(expected)
    assert part.wait() == 0, part.errors
    assert set(content_below(swarm.folder / "part")) == {
        "2024/two words.jpg",
        "2024/05/three.jpg",
    }


def test_a_folder_as_one_is_one_name(swarm: Any, files: dict[str, bytes]) -> None:
    sharer = start(swarm, "album", "--as-one")
    line = sharer.line_with("p2pfs get album -i ")

    got = run_elsewhere(swarm, line, "-o", "out")

    assert got.wait() == 0, got.errors
    assert got.lines[-1] == "Successfully Downloaded album to out/album"
    assert content_below(swarm.folder / "out") == {
        name: data for name, data in files.items() if name.startswith("album/")
    }


def test_files_that_come_or_change_while_it_runs_are_shared_too(
    swarm: Any, files: dict[str, bytes]
) -> None:
    sharer = start(swarm, "album")
    line = sharer.line_with("p2pfs get")
    (swarm.folder / "album" / "later.txt").write_bytes(b"later")
    sharer.line_with("shared: later.txt")

    got = run_elsewhere(swarm, line, "-o", "out")

    assert got.wait() == 0, got.errors
    assert content_below(swarm.folder / "out")["later.txt"] == b"later"


def test_a_file_that_was_written_just_now_is_in_the_line(
    swarm: Any, files: dict[str, bytes]
) -> None:
    (swarm.folder / "fresh.txt").write_bytes(b"fresh")

    sharer = start(swarm, "fresh.txt", "--json")

    ready = sharer.event("ready")
    assert ready["files"] == 1
    assert ready["command"].startswith("p2pfs get fresh.txt -i ")
    assert (ready["role"], ready["index"][:17]) == ("share", "http://127.0.0.1:")
    sharer.say("exit")
    assert sharer.wait() == 0
    assert sharer.events()[-1]["event"] == "final"


def test_an_index_that_is_named_is_used(swarm: Any, files: dict[str, bytes]) -> None:
    swarm.tracker()
    where = ("-i", f"127.0.0.1:{swarm.port}")
    sharer = swarm.start("share", "note.txt", "album", *where)
    sharer.line_with("p2pfs get 2024/05/three.jpg")
    listed = swarm.run("ls", *where)
    sharer.signal(signal.SIGINT)

    assert sharer.wait() == 130
    assert listed.lines == sorted(name.removeprefix("album/") for name in files)
    assert swarm.run("ls", *where).lines == []


def test_the_next_free_port_is_taken_for_the_index(swarm: Any, files: dict[str, bytes]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        sharer = swarm.start(
            *("share", "note.txt", "-d", str(port), "--bind", "127.0.0.1", "--no-mdns", "--json")
        )
        index = sharer.event("ready")["index"]

    assert index.startswith("http://127.0.0.1:")
    assert index != f"http://127.0.0.1:{port}"


def test_what_was_hashed_is_remembered(swarm: Any, files: dict[str, bytes]) -> None:
    for expected in (True, False):
        sharer = start(swarm, "album", "--json")
        sharer.event("ready")
        sharer.say("exit")
        assert sharer.wait() == 0
        checking = [one for one in sharer.events() if one.get("state") == "checking"]
        assert bool(checking) is expected


def test_prog_and_peers_are_answered(swarm: Any, files: dict[str, bytes]) -> None:
    sharer = start(swarm, "note.txt", "--up-limit", "50k")
    line = sharer.line_with("p2pfs get")
    _, *words = shlex.split(line)
    words[-1] = words[-1].replace(reached_at(None), "127.0.0.1")
    taker = swarm.start(*words, "-o", "out")
    taker.line_with("note.txt: downloading")

    sharer.say("prog")
    sharer.say("peers")

    sharer.line_with("sharing 1 file, 1 download from here")
    sharer.line_with("note.txt: seeding 100.0 %")
    sharer.line_with("note.txt   ")


def test_what_is_not_there_cannot_be_shared(swarm: Any, files: dict[str, bytes]) -> None:
    nothing = start(swarm, "nix.txt")

    assert nothing.wait() == 1
    assert nothing.errors == ["p2pfs: cannot open nix.txt: No such file or directory"]


@pytest.mark.parametrize(
    "name", ["-e.txt", "it's", 'a "b" $c', "a`b`!", "=a,b", "~", "a*", "a\u00a0b", "#a;b&c"]
)
def test_the_line_to_type_runs_in_a_shell(swarm: Any, files: dict[str, bytes], name: str) -> None:
    path = swarm.folder / name
    path.write_bytes(name.encode())
    os.utime(path, (LONG_AGO, LONG_AGO))
    bin_folder = swarm.folder / "bin"
    bin_folder.mkdir()
    (bin_folder / "p2pfs").write_text(f'#!/bin/sh\nexec {sys.executable} -m p2pfs "$@"\n')
    (bin_folder / "p2pfs").chmod(0o755)
    more = ("--bind", "127.0.0.1", "--advertise", "127.0.0.1", "--no-mdns", "-d", "0")
    sharer = swarm.start("share", *more, "--", name)
    line = sharer.line_with("p2pfs get")
    out = swarm.folder / "out"
    out.mkdir()

    done = subprocess.run(
        ["bash", "-c", line],
        cwd=out,
        env={**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"},
        capture_output=True,
        check=False,
    )

    assert done.returncode == 0, (line, done.stderr)
    assert content_below(out) == {name: name.encode()}


def test_a_port_of_0_is_any_free_one(swarm: Any, files: dict[str, bytes]) -> None:
    sharer = swarm.start("share", "note.txt", "-d", "0", "--bind", "127.0.0.1", "--no-mdns")

    assert "note.txt -i" in sharer.line_with("p2pfs get")
    wrong = swarm.run("share", "note.txt", "-d", "0", "-i", "127.0.0.1")
    assert wrong.wait() == 2
    assert "1 to 65535" in wrong.errors[0]


def test_a_place_that_is_named_twice_is_shared_once(swarm: Any, files: dict[str, bytes]) -> None:
    (swarm.folder / "link").symlink_to(swarm.folder)

    sharer = start(swarm, "link/album", "album/one.jpg", "./album/one.jpg", "album")

    assert "sharing 3 files" in sharer.line_with("ready on")
    sharer.say("exit")
    assert sharer.wait() == 0
    assert not any("problem" in line for line in sharer.lines)


def test_what_is_no_file_at_all_is_an_error(swarm: Any, files: dict[str, bytes]) -> None:
    nothing = start(swarm, "/dev/null")

    assert nothing.wait() == 1
    assert nothing.errors == [
        "p2pfs: there is nothing to share: /dev/null: it is a link or no regular file"
    ]
    assert nothing.lines == []
    sharer = start(swarm, "/dev/null", "note.txt")
    sharer.line_with("problem: /dev/null: it is a link or no regular file")
    assert "sharing 1 file" in sharer.line_with("ready on")


def test_each_path_is_a_source_of_its_kind(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"a")

    kinds = [type(one) for one in sources_of([file, tmp_path], as_one=False)]
    as_one = [type(one) for one in sources_of([file, tmp_path], as_one=True)]

    assert kinds == [FileSource, FolderSource]
    assert as_one == [FileSource, TreeSource]
    with pytest.raises(StorageError, match="cannot open"):
        sources_of([tmp_path / "nix"], as_one=False)


def test_the_line_to_type_names_few_files_and_many_by_a_pattern() -> None:
    where = "-i 10.0.0.5"

    assert command_elsewhere(["a b.txt"], where, alone=True) == 'p2pfs get "a b.txt" -i 10.0.0.5'
    assert command_elsewhere(["a", "b"], where, alone=True) == 'p2pfs get "*" -i 10.0.0.5'
    assert command_elsewhere(["a", "b"], where, alone=False) == "p2pfs get a b -i 10.0.0.5"
    assert command_elsewhere(list("abcdefg"), where, alone=False) == "p2pfs ls -i 10.0.0.5"
    assert command_elsewhere([], where, alone=True) == "p2pfs ls -i 10.0.0.5"
    assert command_elsewhere(["-x"], where, alone=True) == "p2pfs get -i 10.0.0.5 -- -x"
    assert "\x1b" not in command_elsewhere(["a\x1b[2J"], where, alone=True)


@pytest.mark.parametrize(
    ("base", "option"),
    [
        ("http://10.0.0.5:9999", "-i 10.0.0.5"),
        ("http://10.0.0.5:7070", "-i 10.0.0.5:7070"),
        ("http://127.0.0.1:9999", "-i 192.0.2.9"),
        ("http://[fd00::5]:9999", "-i fd00::5"),
        ("http://[fd00::5]:7070", '-i "[fd00::5]:7070"'),
        ("https://index.example", "-i https://index.example"),
        ("http://index.example:80/sub", "-i http://index.example:80/sub"),
    ],
)
def test_the_option_to_type_elsewhere_names_no_loopback_address(base: str, option: str) -> None:
    assert where_option(base, "192.0.2.9") == option
