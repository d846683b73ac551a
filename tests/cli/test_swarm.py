"""`seed`, `download` and `peer` as real processes."""

from __future__ import annotations

import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

NAME = "content.bin"
SIZE = 300_000
PIECES = 19


@pytest.fixture
def content(swarm: Any) -> bytes:
    data: bytes = swarm.content(NAME, SIZE)
    return data


def only_line(process: Any) -> str:
    """The one line on standard error."""
    assert len(process.errors) == 1, process.errors
    line: str = process.errors[0]
    assert line.startswith("p2pfs: ")
    return line


def test_a_download_by_name_says_exactly_where_it_went(swarm: Any, content: bytes) -> None:
    swarm.tracker()
    swarm.seed("-f", NAME)
    downloader = swarm.run("download", NAME, *swarm.where())
    assert downloader.wait() == 0
    assert downloader.lines[-1] == f"Successfully Downloaded {NAME} to output/{NAME}"
    assert (swarm.folder / "output" / NAME).read_bytes() == content
    assert "\x1b" not in "".join(downloader.lines)
    assert downloader.errors == []


def test_json_has_one_object_a_line_and_the_final_one_says_it(swarm: Any, content: bytes) -> None:
    swarm.tracker()
    swarm.seed("-f", NAME)
    downloader = swarm.run("download", "-f", NAME, "-o", "my files", "--json", *swarm.where())
    assert downloader.wait() == 0
    events = downloader.events()
    names = [event["event"] for event in events]
    assert names[0] == "ready"
    assert "progress" in names
    assert names[-2:] == ["complete", "final"]
    final = events[-1]
    assert final["ok"] is True
    assert final["exit_code"] == 0
    assert final["message"] == f"Successfully Downloaded {NAME} to my files/{NAME}"
    (torrent,) = final["torrents"]
    assert torrent["path"] == f"my files/{NAME}"
    assert torrent["pieces_done"] == torrent["pieces_total"] == PIECES
    assert sum(source["bytes_down"] for source in torrent["sources"]) >= SIZE
    assert (swarm.folder / "my files" / NAME).read_bytes() == content


def test_missing_pieces_are_named_and_the_rest_comes_with_another_seeder(
    swarm: Any, content: bytes
) -> None:
    swarm.tracker()
    swarm.seed("-f", NAME, "-m", "3", "7", "12-14")
    swarm.seed("-f", NAME, "-r2", "50%", "-m", "3,7")
    downloader = swarm.start("download", NAME, "--json", *swarm.where())
    missing = downloader.event("missing")
    assert missing["pieces"] == [3, 7, 12, 13, 14]
    assert missing["count"] == 5
    assert missing["asked"] == 2
    downloader.say("prog")
    swarm.seed("-f", NAME, "-r1", "2", "-r2", "15")
    assert downloader.wait() == 0
    assert (swarm.folder / "output" / NAME).read_bytes() == content


def test_the_console_is_obeyed_without_a_terminal(swarm: Any, content: bytes) -> None:
    swarm.tracker()
    swarm.seed("-f", NAME, "-m", "3")
    peer = swarm.start("peer", *swarm.where(), "-f", NAME)
    peer.line_with("Missing 1 of 19 pieces of content.bin (3): the one peer asked does not have it")
    peer.say("prog")
    peer.line_with(f"{NAME}: downloading 94.5 %, 18/{PIECES} pieces")
    peer.say("peers")
    peer.line_with(f" {PIECES - 1}/{PIECES} ")
    peer.say("  HELP ")
    peer.line_with("leave cleanly")
    peer.say("dance\x1b[2J")
    assert "\\x1b" in peer.line_with("unknown command")
    peer.say("exit")
    assert peer.wait() == 0
    assert "\x1b" not in "".join(peer.lines)


def test_the_end_of_input_is_not_exit(swarm: Any, content: bytes) -> None:
    swarm.tracker()
    swarm.seed("-f", NAME)
    peer = swarm.start("peer", *swarm.where(), "-f", NAME)
    peer.close_input()
    peer.line_with("Successfully Downloaded")
    assert peer.process.poll() is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
def test_signals_stop_cleanly_with_their_exit_codes(swarm: Any, content: bytes) -> None:
    tracker = swarm.tracker()
    seeder = swarm.seed("-f", NAME)
    peer = swarm.start("peer", *swarm.where(), "-f", NAME, "--json")
    peer.event("complete")
    for process, number, code in (
        (peer, signal.SIGINT, 130),
        (seeder, signal.SIGTERM, 143),
        (tracker, signal.SIGINT, 130),
    ):
        process.signal(number)
        assert process.wait() == code
        assert process.events()[-1]["event"] == "final"
        assert process.events()[-1]["exit_code"] == code
        assert process.errors == []


def test_a_download_that_is_left_early_fails_and_goes_on_later(swarm: Any, content: bytes) -> None:
    swarm.tracker()
    swarm.seed("-f", NAME, "-m", "3")
    downloader = swarm.start("download", NAME, "--json", *swarm.where())
    downloader.event("missing")
    downloader.say("exit")
    assert downloader.wait() == 1
    assert "the same command goes on from here" in only_line(downloader)
    assert "the same command goes on from here" in downloader.event("final")["error"]
    assert not (swarm.folder / "output" / NAME).exists()
    swarm.seed("-f", NAME, "-r1", "3", "-r2", "3")
    again = swarm.run("download", NAME, "--json", *swarm.where())
    assert again.wait() == 0
    assert again.event("final")["torrents"][0]["downloaded"] <= 2 * 16384
    assert (swarm.folder / "output" / NAME).read_bytes() == content


def test_ctrl_c_says_how_a_download_goes_on(swarm: Any, content: bytes) -> None:
    swarm.tracker()
    swarm.seed("-f", NAME, "-m", "3")
    downloader = swarm.start("download", NAME, *swarm.where())
    downloader.line_with("Missing 1 of")
    downloader.signal(signal.SIGINT)
    assert downloader.wait() == 130
    downloader.line_with("the same command goes on from here")
    assert downloader.errors == []


@pytest.mark.parametrize("command", ["seed", "download"])
def test_a_tracker_that_is_not_there_is_called_a_tracker(
    swarm: Any, content: bytes, command: str
) -> None:
    with socket.socket() as deaf:  # bound, but not listening
        deaf.bind(("127.0.0.1", 0))
        swarm.port = deaf.getsockname()[1]
        process = swarm.run(command, "-f", NAME, *swarm.where())
    assert process.wait() == 1
    assert f"cannot reach the tracker at 127.0.0.1:{swarm.port}" in only_line(process)
    assert "that the tracker runs there" in only_line(process)


def test_keep_seeding_stays_and_serves(swarm: Any, content: bytes) -> None:
    swarm.tracker()
    seeder = swarm.seed("-f", NAME)
    first = swarm.start("download", NAME, "--keep-seeding", "--json", "-o", "a", *swarm.where())
    first.event("complete")
    seeder.say("exit")
    assert seeder.wait() == 0
    second = swarm.run("download", NAME, "-o", "b", *swarm.where())
    assert second.wait() == 0
    first.say("exit")
    assert first.wait() == 0
    assert first.event("final")["torrents"][0]["uploaded"] >= SIZE


def test_a_folder_and_everything_in_seeds_can_be_shared(swarm: Any, content: bytes) -> None:
    folder = swarm.folder / "seeds" / "album"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"a" * 40_000)
    (folder / "deep" / "b.txt").write_bytes(b"b" * 5)
    (folder / "empty").write_bytes(b"")
    swarm.tracker()
    seeder = swarm.seed()
    assert "2 torrents" in seeder.event("ready")["torrents"]
    assert swarm.run("download", "album", NAME, *swarm.where()).wait() == 0
    output = swarm.folder / "output"
    assert (output / "album" / "deep" / "b.txt").read_bytes() == b"bbbbb"
    assert (output / "album" / "empty").read_bytes() == b""
    assert (output / NAME).read_bytes() == content


def test_the_kept_torrent_is_used_when_it_matches_and_made_anew_when_not(
    swarm: Any, content: bytes
) -> None:
    swarm.tracker()
    made = swarm.run("make-torrent", f"seeds/{NAME}", "-l", "32KiB", "-c", "by hand")
    assert made.wait() == 0
    kept = swarm.folder / "torrents" / f"{NAME}.torrent"
    before = kept.read_bytes()
    assert "of 10 pieces" in swarm.seed("-f", NAME).event("ready")["torrents"]
    assert kept.read_bytes() == before
    swarm.content(NAME, SIZE + 1)
    swarm.seed("-f", NAME).line_with("describes other content")
    assert kept.read_bytes() != before
    (aside,) = kept.parent.glob(f"{NAME}@????????.torrent")
    assert aside.read_bytes() == before


def test_a_torrent_file_serves_both_ends_without_a_catalogue(swarm: Any, content: bytes) -> None:
    swarm.tracker()
    url = f"http://127.0.0.1:{swarm.port}/announce"
    assert swarm.run("make-torrent", f"seeds/{NAME}", "-t", url, "-o", "x.torrent").wait() == 0
    seeder = swarm.start("seed", "-f", "x.torrent", "-p", "0", "--json")
    seeder.event("ready")
    assert swarm.run("download", "x.torrent", "-p", "0").wait() == 0
    assert (swarm.folder / "output" / NAME).read_bytes() == content


def test_two_torrents_of_one_content_are_both_seeded(swarm: Any, content: bytes) -> None:
    swarm.tracker()
    for file, *options in (
        ("p.torrent", "--private", "-l", "32KiB"),
        ("np.torrent", "-l", "64KiB"),
    ):
        assert swarm.run("make-torrent", f"seeds/{NAME}", "-o", file, *options).wait() == 0
    seeder = swarm.seed("-f", "p.torrent", "-f", "np.torrent", "-f", "p.torrent")
    assert seeder.event("ready")["torrents"] == "seeding 2 torrents"
    for file in ("p.torrent", "np.torrent"):
        assert swarm.run("download", file, "-o", file[:-8], *swarm.where()).wait() == 0
        assert (swarm.folder / file[:-8] / NAME).read_bytes() == content


def test_content_that_differs_from_its_torrent_is_not_offered(swarm: Any, content: bytes) -> None:
    swarm.tracker()
    assert swarm.run("make-torrent", f"seeds/{NAME}", "-o", "x.torrent").wait() == 0
    (swarm.folder / "seeds" / NAME).write_bytes(b"?" * 16384 + content[16384:])
    seeder = swarm.seed("-f", "x.torrent")
    told = seeder.line_with("differ")
    assert "1 of 19 pieces differs from the .torrent and is not offered" in told
    assert "seeding 18 of 19 pieces" in seeder.event("ready")["torrents"]
    (swarm.folder / "seeds" / NAME).write_bytes(b"?" * SIZE)
    wrong = swarm.run("seed", "-f", "x.torrent", *swarm.where())
    assert wrong.wait() == 1
    assert "is not the content" in only_line(wrong)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows closes no standard streams this way")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_may_be_closed(swarm: Any, content: bytes, closed: str) -> None:
    swarm.tracker()
    swarm.seed("-f", NAME)
    command = shlex.join([sys.executable, "-m", "p2pfs", "download", NAME, *swarm.where()])
    done = subprocess.run(
        ["sh", "-c", f"{command} {closed}"], cwd=swarm.folder, timeout=30, check=False
    )
    assert done.returncode == 0
    assert (swarm.folder / "output" / NAME).read_bytes() == content


def test_host_and_port_may_be_given_together(swarm: Any, content: bytes) -> None:
    swarm.tracker()
    process = swarm.start("seed", "-i", f"127.0.0.1:{swarm.port}", "-p", "0", "--json", "-f", NAME)
    process.event("ready")
    assert process.process.poll() is None


def test_a_tracker_that_is_not_there_is_named_with_what_to_do(swarm: Any, content: bytes) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        where = ("-i", "127.0.0.1", "-d", str(port), "-p", "0")
        for command in (("seed", "-f", NAME), ("download", "other.bin")):
            process = swarm.run(*command, *where)
            assert process.wait() == 1
            line = only_line(process)
            assert f"127.0.0.1:{port}" in line
            assert "-i" in line
    assert not (swarm.folder / "torrents").exists()  # found out before anything was hashed


def test_a_name_that_nobody_knows_is_named_with_what_was_tried(swarm: Any, content: bytes) -> None:
    swarm.tracker()
    download = swarm.run("download", "other.bin", *swarm.where(), "--json")
    assert download.wait() == 1
    assert "other.bin" in only_line(download)
    final = download.event("final")
    assert final["ok"] is False
    assert "other.bin" in final["error"]
    seed = swarm.run("seed", "-f", "other.bin", *swarm.where())
    assert seed.wait() == 1
    assert str(Path("seeds") / "other.bin") in only_line(seed)
    nobody = swarm.run("download", "other.bin", "-p", "0")
    assert nobody.wait() == 1
    assert "-i HOST" in only_line(nobody)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-m", "3", "19"), f"there is no piece 19: the torrent has {PIECES} pieces, 0 to 18"),
        (("-r1", "5", "-r2", "4"), f"the torrent has {PIECES} pieces"),
        (("-m", "0-18"), f"no piece is left to seed: the torrent has {PIECES} pieces"),
        (("--up-limit", "fast"), "'fast' is not a rate"),
        (("-i", "a b"), "not a host name"),
        (("-f", ""), "what to share is empty"),
    ],
)
def test_wrong_usage_exits_with_2(
    swarm: Any, content: bytes, options: tuple[str, ...], message: str
) -> None:
    swarm.tracker()
    process = swarm.run("seed", "-f", NAME, *swarm.where(), *options)
    assert process.wait() == 2
    assert message in only_line(process)


def test_piece_lists_are_for_seeders_and_a_tracker_must_be_known(
    swarm: Any, content: bytes
) -> None:
    peer = swarm.run("peer", "-i", "127.0.0.1", "-m", "3")
    assert peer.wait() == 2
    assert "-S" in only_line(peer)
    seed = swarm.run("seed", "-f", NAME, "-p", "0")
    assert seed.wait() == 2
    assert "-i HOST" in only_line(seed)


@pytest.mark.parametrize("private", [False, True])
def test_a_torrent_without_a_tracker_needs_one_where_the_local_network_is_not_asked(
    swarm: Any, content: bytes, private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("P2PFS_NO_LSD")
    more = ("--private",) if private else ()
    made = swarm.run("make-torrent", f"seeds/{NAME}", "-o", "x.torrent", *more)
    assert made.wait() == 0
    quiet = () if private else ("--no-lsd",)
    for command in (("seed", "-f", "x.torrent"), ("download", "x.torrent"), ("seed", "-f", NAME)):
        if private and NAME in command:
            continue
        process = swarm.run(*command, "-p", "0", *quiet)
        assert process.wait() == 2
        assert "names no tracker: say where one is with -i HOST" in only_line(process)


def test_the_next_free_port_of_five_is_taken_and_all_taken_is_said(
    swarm: Any, content: bytes
) -> None:
    swarm.tracker()
    sockets = []
    try:
        base = 0
        while len(sockets) < 5:
            for held in sockets:
                held.close()
            sockets = []
            probe = socket.socket()
            probe.bind(("127.0.0.1", 0))
            base = probe.getsockname()[1]
            sockets.append(probe)
            probe.listen()
            for port in range(base + 1, min(base + 5, 65536)):
                held = socket.socket()
                try:
                    held.bind(("127.0.0.1", port))
                    held.listen()
                except OSError:
                    held.close()
                    break
                sockets.append(held)
        where = ("-i", "127.0.0.1", "-d", str(swarm.port), "-p", str(base), "--bind", "127.0.0.1")
        full = swarm.run("seed", "-f", NAME, *where)
        assert full.wait() == 1
        line = only_line(full)
        assert str(base) in line
        assert str(base + 4) in line
        sockets.pop(2).close()
        seeder = swarm.start("seed", "-f", NAME, *where, "--json")
        assert seeder.event("ready")["addresses"] == [f"127.0.0.1:{base + 2}"]
    finally:
        for held in sockets:
            held.close()


# -- web seeds


@pytest.fixture
def web_server(swarm: Any) -> Iterator[str]:
    """The address of a plain web server that has `seeds/`."""
    (swarm.folder / "seeds").mkdir(exist_ok=True)
    command = [sys.executable, "-u", "-m", "http.server", "-b", "127.0.0.1", "0"]
    with subprocess.Popen(
        command, cwd=swarm.folder / "seeds", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        ready = process.stdout.readline().decode()
        yield ready[ready.index("(") + 1 : ready.index(")")]
        process.kill()


def with_web_seed(swarm: Any, url: str) -> str:
    made = swarm.run("make-torrent", f"seeds/{NAME}", "-w", url, "-o", "x.torrent")
    assert made.wait() == 0
    return "x.torrent"


def test_a_web_seed_does_without_a_tracker_and_is_named_among_the_sources(
    swarm: Any, content: bytes, web_server: str
) -> None:
    torrent = with_web_seed(swarm, web_server)
    command = ("download", torrent, "-p", "0", "--allow-private-web-seeds", "--json")
    downloader = swarm.run(*command)

    assert downloader.wait() == 0, downloader.lines
    (found,) = downloader.events()[-1]["torrents"]
    (source,) = found["sources"]
    assert source["client"] == "web seed"
    assert source["address"] in web_server
    assert source["bytes_down"] == SIZE
    assert (swarm.folder / "output" / NAME).read_bytes() == content


def test_a_web_seed_in_a_private_network_is_refused_with_the_way_out(
    swarm: Any, content: bytes, web_server: str
) -> None:
    torrent = with_web_seed(swarm, web_server)
    downloader = swarm.start("download", torrent, "-p", "0")

    said = downloader.line_with("web seed")
    assert "loopback address (127.0.0.1)" in said
    assert "--allow-private-web-seeds" in said
    downloader.say("exit")
    assert downloader.wait() == 1


def test_without_web_seeds_a_torrent_needs_a_tracker(swarm: Any, content: bytes) -> None:
    torrent = with_web_seed(swarm, "http://127.0.0.1:1/")
    downloader = swarm.run("download", torrent, "-p", "0", "--no-web-seeds")

    assert downloader.wait() != 0
    assert "names no tracker" in only_line(downloader)
