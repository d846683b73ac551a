"""What a user can get wrong: an exit code, one line that says what to do, no traceback."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import Lab, no_traceback, one_error_line

pytestmark = pytest.mark.slow

NAME = "content.bin"


@pytest.mark.parametrize(
    "arguments",
    [
        ("fly",),
        ("verify", "t.torrent"),
        ("tracker", "-d", "70000"),
        ("download", "-i", "127.0.0.1"),
        ("download", NAME, "-i", "127.0.0.1", "--down-limit", "-5"),
        ("download", "../etc/passwd", "-i", "127.0.0.1"),
        ("seed", "-f", f"seeds/{NAME}", "-p", "0"),
        ("make-torrent", f"seeds/{NAME}", "-t", "nonsense"),
        ("show", "t.torrent", "--log-file", "no/such/folder/log"),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2_and_says_what_is_wrong(
    lab: Lab, arguments: tuple[str, ...]
) -> None:
    lab.content(NAME, 100_000)

    process = lab.run(*arguments)

    assert process.wait() == 2, str(process)
    assert process.errors
    no_traceback(process)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "none.torrent"), ["none.torrent"]),
        (("verify", f"seeds/{NAME}", f"seeds/{NAME}"), [NAME, "is not a .torrent file"]),
        (("make-torrent", "none"), ["none"]),
        (("download", "none", "-p", "0"), ["none", "-i HOST"]),
        (("download", NAME, "-i", "host.invalid", "-p", "0"), ["host.invalid"]),
        (("download", NAME, "-i", "127.0.0.1", "-d", "1", "-p", "0"), ["127.0.0.1:1"]),
        (("tracker", "--host", "192.0.2.1"), ["192.0.2.1"]),
        (("seed", "-i", "127.0.0.1", "--bind", "192.0.2.1"), ["192.0.2.1"]),
        (("download", NAME, "-i", "127.0.0.1", "--bind", "no address"), ["no address"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_exits_with_1_or_2_and_one_line(
    lab: Lab, arguments: tuple[str, ...], words: list[str]
) -> None:
    lab.content(NAME, 100_000)

    process = lab.run(*arguments)

    assert process.wait() in (1, 2), str(process)
    line = one_error_line(process)
    for word in words:
        assert word in line


@contextlib.contextmanager
def five_ports_taken() -> Iterator[list[socket.socket]]:
    """Five neighbouring ports of 127.0.0.1, listened on."""
    while True:
        first = random.randrange(20_000, 30_000)
        with contextlib.ExitStack() as stack:
            try:
                taken = [
                    stack.enter_context(socket.create_server(("127.0.0.1", first + n)))
                    for n in range(5)
                ]
            except OSError:
                continue
            yield taken
            return


def test_a_peer_takes_the_first_free_of_five_ports_and_says_when_none_is(lab: Lab) -> None:
    lab.tracker()
    lab.content(NAME, 100_000)
    with five_ports_taken() as taken:
        first = taken[0].getsockname()[1]
        here = ("-p", str(first), "--bind", "127.0.0.1", "-i", "127.0.0.1")
        arguments = ("seed", "-f", NAME, *here, "-d", str(lab.tracker_port))

        refused = lab.run(*arguments)
        assert refused.wait() == 1
        line = one_error_line(refused)
        assert str(first) in line
        assert str(first + 4) in line

        taken[3].close()
        accepted = lab.p2pfs(*arguments, "--json")
        assert accepted.event("ready")["port"] == first + 3


def test_a_taken_tracker_port_and_an_unknown_name_are_told_with_the_address(lab: Lab) -> None:
    lab.tracker()

    second = lab.run("tracker", "--host", "127.0.0.1", "-d", str(lab.tracker_port))
    unknown = lab.run("download", "unheard.of", *lab.where)

    assert second.wait() == unknown.wait() == 1
    assert str(lab.tracker_port) in one_error_line(second)
    line = one_error_line(unknown)
    assert "unheard.of" in line
    assert f"127.0.0.1:{lab.tracker_port}" in line


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_that_cannot_be_written_is_an_error(lab: Lab) -> None:
    lab.content(NAME, 100_000)
    torrent = lab.torrent(f"seeds/{NAME}")
    (lab.folder / "closed").mkdir(mode=0o555)
    process = lab.run("download", torrent, "-o", "closed", "-p", "0")
    assert process.wait() == 1
    assert "closed" in one_error_line(process)


def test_an_output_folder_that_is_a_file_is_an_error(lab: Lab) -> None:
    lab.content(NAME, 100_000)
    torrent = lab.torrent(f"seeds/{NAME}")
    process = lab.run("download", torrent, "-o", f"seeds/{NAME}", "-p", "0")
    assert process.wait() == 1
    assert NAME in one_error_line(process)


def test_a_download_onto_other_content_of_that_name_leaves_it_alone(lab: Lab) -> None:
    lab.content(NAME, 100_000)
    torrent = lab.torrent(f"seeds/{NAME}")
    mine = Path(lab.folder / "output" / NAME)
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    process = lab.run("download", torrent, "-p", "0")
    assert process.wait() == 1
    assert "move it away" in one_error_line(process)
    assert mine.read_bytes() == b"mine"
    assert list(mine.parent.iterdir()) == [mine]
