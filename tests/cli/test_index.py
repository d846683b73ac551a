"""`index` as a process: what it writes, what it says, and who may publish there."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from p2pfs.formats.config_file import parse

pytestmark = pytest.mark.slow

NAME = "content.bin"


def start(swarm: Any, *more: str) -> Any:
    """An index on any free port that is ready."""
    process = swarm.start("index", "-d", "0", "--no-mdns", "--json", *more)
    swarm.port = process.event("ready")["port"]
    return process


def written(swarm: Any, folder: str = "config") -> dict[str, str]:
    return parse((swarm.folder / folder / "server.config").read_text(encoding="utf-8"))


def reaches(host: str, port: int) -> bool:
    with socket.create_connection((host, port), 10):
        return True


posix_signals = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no SIGTERM to catch"
)


@posix_signals
def test_the_index_says_in_a_file_where_it_is_and_takes_it_back(swarm: Any) -> None:
    process = start(swarm)

    found = written(swarm)

    assert found["port"] == str(swarm.port)
    assert reaches(found["host"], swarm.port)
    assert f"-i {found['host']}:{swarm.port}" in process.event("note")["text"]
    process.signal(signal.SIGINT)
    assert process.wait() == 130
    assert not (swarm.folder / "config" / "server.config").exists()
    assert (swarm.folder / "config" / "catalogue.sqlite").exists()


def test_the_plain_lines_say_how_others_reach_it(swarm: Any) -> None:
    process = swarm.start(
        "index", "-d", "0", "--no-mdns", "--advertise", "203.0.113.7", "--config-dir", "here"
    )

    ready = process.line_with("p2pfs index ready on 0.0.0.0:")

    port = written(swarm, "here")["port"]
    assert f":{port}" in ready
    assert written(swarm, "here")["host"] == "203.0.113.7"
    assert ready.endswith(f", udp://203.0.113.7:{port}/announce")
    assert process.lines[0] == f"others reach this index with -i 203.0.113.7:{port}"


def test_an_index_on_one_address_names_that(swarm: Any) -> None:
    start(swarm, "--host", "127.0.0.1")

    assert written(swarm) == {"host": "127.0.0.1", "port": str(swarm.port)}


def test_udp_is_answered_under_the_same_port_unless_it_is_not_wanted(swarm: Any) -> None:
    both = start(swarm, "--host", "127.0.0.1").event("ready")
    alone = start(swarm, "--host", "127.0.0.1", "--no-udp", "--config-dir", "two").event("ready")

    assert both["udp"] == f"udp://127.0.0.1:{both['port']}/announce"
    assert "udp" not in alone


def test_what_is_shared_there_is_found_by_name_alone(swarm: Any) -> None:
    data = swarm.content(NAME, 100_000)
    start(swarm)
    swarm.seed("-f", NAME)
    listed = swarm.run("ls")
    fetched = swarm.run("get", NAME, "-o", "got")

    assert (listed.process.returncode, listed.lines) == (0, [NAME])
    assert fetched.process.returncode == 0, fetched.errors
    assert (swarm.folder / "got" / NAME).read_bytes() == data


def test_one_config_dir_has_one_index_at_a_time(swarm: Any) -> None:
    start(swarm)
    before = written(swarm)

    second = swarm.run("index", "-d", "0", "--no-mdns")

    assert second.wait() == 1
    (line,) = second.errors
    assert f"at {before['host']}:{before['port']}" in line
    assert "--config-dir" in line
    assert written(swarm) == before
    start(swarm, "--config-dir", "other")
    assert written(swarm, "other")["port"] != before["port"]


def test_after_a_crash_the_next_one_takes_over(swarm: Any) -> None:
    swarm.content(NAME, 1000)
    first = start(swarm)
    swarm.seed("-f", NAME)
    first.process.kill()
    first.wait()
    assert (swarm.folder / "config" / "server.config").exists()
    lost = swarm.run("ls")
    assert lost.process.returncode == 1
    assert "server.config says" in lost.errors[0]

    start(swarm)

    assert written(swarm)["port"] == str(swarm.port)
    assert swarm.run("ls", "--all").lines == [NAME]


@posix_signals
def test_a_file_that_another_wrote_in_the_meantime_stays(swarm: Any) -> None:
    process = start(swarm)
    path = swarm.folder / "config" / "server.config"
    path.write_text("host = 10.0.0.9\nport = 1\n", encoding="utf-8")

    process.signal(signal.SIGTERM)
    process.wait()

    assert "10.0.0.9" in path.read_text(encoding="utf-8")


def test_a_config_dir_that_cannot_be_one_is_an_error(swarm: Any) -> None:
    (swarm.folder / "taken").write_bytes(b"")
    process = swarm.run("index", "-d", "0", "--no-mdns", "--config-dir", "taken")

    assert process.process.returncode == 2
    assert "taken" in "".join(process.errors)


def test_a_port_that_is_taken_leaves_no_file(swarm: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = swarm.run("index", "--host", "127.0.0.1", "-d", port, "--no-mdns")

    assert process.process.returncode == 1
    assert "choose another port with -d" in process.errors[0]
    assert not (swarm.folder / "config" / "server.config").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--advertise", "nonsense"), "cannot advertise"),
        (("--publish-token", "a b"), "publish token"),
        (("--publish-token", ""), "publish token"),
        (("--interval", "0"), "interval"),
    ],
)
@pytest.mark.parametrize("command", ["index", "tracker"])
def test_wrong_values_are_refused(
    swarm: Any, command: str, options: tuple[str, ...], message: str
) -> None:
    more = ("--no-mdns",) if command == "index" else ()
    process = swarm.run(command, "-d", "0", *more, *options)

    assert process.process.returncode == 2
    (line,) = process.errors
    assert message in line


@pytest.mark.parametrize("command", ["index", "tracker"])
def test_where_publishing_takes_a_token_the_environment_may_hold_it(
    swarm: Any, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    swarm.content(NAME, 1000)
    more = ("--no-mdns",) if command == "index" else ()
    process = swarm.start(
        command, "--host", "127.0.0.1", "-d", "0", "--json", "--publish-token", "s3cret", *more
    )
    swarm.port = process.event("ready")["port"]
    refused = swarm.seed("-f", NAME)
    assert "not in the tracker's catalogue" in refused.line_with("catalogue")
    monkeypatch.setenv("P2PFS_TOKEN", "s3cret")
    taken = swarm.seed("-f", NAME)

    assert not any("catalogue" in line for line in taken.lines)
    assert swarm.run("ls", "-i", f"127.0.0.1:{swarm.port}").lines == [NAME]


def test_the_index_goes_by_the_names_it_was_given(swarm: Any) -> None:
    start(swarm, "--allow-host", "share.example", "--allow-host", "other.example")
    for name, status in (("share.example", 200), ("other.example", 200), ("evil.example", 421)):
        with socket.create_connection(("127.0.0.1", swarm.port), 10) as asker:
            asker.sendall(
                f"GET /torrents HTTP/1.1\r\nHost: {name}:1\r\nConnection: close\r\n\r\n".encode()
            )
            answer = asker.makefile("rb").readline()
        assert int(answer.split()[1]) == status, name


@posix_signals
def test_without_multicast_the_index_runs_all_the_same(swarm: Any, tmp_path: Path) -> None:
    process = swarm.start("index", "--host", "127.0.0.1", "-d", "0", "-v")

    process.line_with("p2pfs index ready on 127.0.0.1:")
    process.signal(signal.SIGTERM)

    assert process.wait() == 143
    assert not any("Traceback" in line for line in process.errors)
