"""Leaving by a signal: the exit code, the state that is saved, the tracker that is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.e2e.processes import P2PFS, Lab, Running, no_traceback

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"),
]

NAME = "content.bin"
PIECE = 16_384
SIZE = 160 * PIECE + 17

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


def stops(process: Running, number: int, code: int) -> None:
    """`process` ends in order on the signal, without a word of complaint."""
    process.signal(number)
    assert process.wait() == code, str(process)
    final = process.last("final")
    assert (final["exit_code"], final["ok"], final["error"]) == (code, False, None)
    assert process.errors == []


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_download_stopped_by_a_signal_tells_the_tracker_and_goes_on_later(
    lab: Lab, number: int, code: int
) -> None:
    lab.tracker()
    data = lab.content(NAME, SIZE)
    torrent = lab.torrent(f"seeds/{NAME}")
    seeder = lab.seed("-f", torrent, "--up-limit", "2M")
    downloader = lab.download(torrent)
    downloader.progress(lambda event: event["pieces_done"] > 20)
    lab.await_scrape(torrent, complete=1, incomplete=1)

    stops(downloader, number, code)

    assert lab.scrape(torrent).incomplete == 0
    (before,) = downloader.last("final")["torrents"]
    assert 20 < before["pieces_done"] < 161
    again = lab.download(torrent)
    first = again.progress(lambda event: True)
    assert first["pieces_done"] >= before["pieces_done"]
    assert again.wait() == 0
    assert lab.read(f"output/{NAME}") == data
    (after,) = again.last("final")["torrents"]
    assert after["downloaded"] <= SIZE - before["bytes_done"]
    assert seeder.ask()["uploaded"] >= SIZE


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_seeder_and_a_tracker_stopped_by_a_signal_can_come_back(
    lab: Lab, number: int, code: int
) -> None:
    tracker = lab.tracker("--data-dir", "kept")
    data = lab.content(NAME, SIZE)
    seeder = lab.seed("-f", NAME)
    torrent = f"torrents/{NAME}.torrent"
    lab.await_scrape(torrent, complete=1, incomplete=0)

    stops(seeder, number, code)
    entry = lab.scrape(torrent)
    stops(tracker, number, code)

    assert (entry.complete, entry.incomplete) == (0, 0)
    lab.tracker("--data-dir", "kept")
    (lab.folder / torrent).unlink()
    downloader = lab.download(NAME)
    lab.seed("-f", NAME)
    assert downloader.wait() == 0
    assert lab.read(f"output/{NAME}") == data


def test_a_second_ctrl_c_does_not_wait_for_anybody(lab: Lab) -> None:
    tracker = lab.tracker()
    lab.content(NAME, SIZE)
    torrent = lab.torrent(f"seeds/{NAME}")
    seeder = lab.seed("-f", torrent, "-v", "--log-file", "log")
    lab.await_scrape(torrent, complete=1, incomplete=0)
    tracker.signal(signal.SIGSTOP)
    try:
        seeder.signal(signal.SIGINT)
        while "stopping: signal" not in (lab.folder / "log").read_text():
            time.sleep(0.01)
        start = time.monotonic()
        seeder.signal(signal.SIGINT)
        assert seeder.wait() == 130
        assert time.monotonic() - start < 2.5, "the goodbye alone may take 3 s"
    finally:
        tracker.signal(signal.SIGCONT)
    no_traceback(seeder)


@pytest.mark.parametrize(
    "loaded", ["typer", "p2pfs.cli.swarm", "p2pfs.cli.session", "p2pfs.net.engine"]
)
def test_ctrl_c_while_a_command_is_still_loading_has_its_final_object(loaded: str) -> None:
    script = f"""
import signal, sys
from p2pfs.cli import main

class Interrupting:
    def find_spec(self, name, *_):
        if name == {loaded!r}:
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
link = "magnet:?xt=urn:btih:{"01" * 20}&x.pe=a:1"
main(["download", link, "-p", "0", "--bind", "127.0.0.1", "--json"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)

    assert done.returncode == 130
    assert done.stderr == b""
    final = json.loads(done.stdout.splitlines()[-1])
    assert (final["event"], final["ok"], final["exit_code"]) == ("final", False, 130)


@pytest.mark.parametrize("command", ["seed", "make-torrent"])
def test_ctrl_c_ends_the_hashing_of_a_large_file(lab: Lab, command: str) -> None:
    lab.tracker()
    (lab.folder / "seeds").mkdir()
    with (lab.folder / "seeds" / NAME).open("wb") as file:
        file.truncate(64 << 30)
    arguments = ("-f", NAME, *lab.where) if command == "seed" else (f"seeds/{NAME}",)
    process = lab.p2pfs(command, *arguments, "--json")
    process.event("progress", lambda event: event["state"] == "checking")

    process.signal(signal.SIGINT)

    assert process.wait() == 130
    assert process.last("final")["exit_code"] == 130
    no_traceback(process)
    assert process.errors == []
    assert not (lab.folder / "torrents" / f"{NAME}.torrent").exists()


@pytest.mark.parametrize("as_json", [True, False])
def test_a_download_whose_reader_went_away_ends_in_order(lab: Lab, as_json: bool) -> None:
    lab.tracker()
    lab.content(NAME, SIZE)
    torrent = lab.torrent(f"seeds/{NAME}")
    lab.seed("-f", torrent, "--up-limit", "500k")
    outlet, inlet = os.pipe()
    more = ("--json",) if as_json else ()
    downloader = subprocess.Popen(
        [*P2PFS, "download", torrent, *lab.where, *more],
        cwd=lab.folder,
        stdin=subprocess.DEVNULL,
        stdout=inlet,
        stderr=subprocess.PIPE,
    )
    os.close(inlet)
    with os.fdopen(outlet, "rb") as reader:
        assert b"ready" in reader.readline()
        lab.await_scrape(torrent, complete=1, incomplete=1)

    _, errors = downloader.communicate(timeout=60)

    assert errors == b""
    assert downloader.returncode == 1
    assert lab.scrape(torrent).incomplete == 0


@pytest.mark.parametrize("command", ["show", "verify", "make-torrent", "--help"])
def test_a_reader_that_never_listens_gets_no_traceback(lab: Lab, command: str) -> None:
    lab.content(NAME, SIZE)
    assert lab.run("make-torrent", f"seeds/{NAME}", "-o", "t.torrent").wait() == 0
    arguments = {
        "show": ("t.torrent",),
        "verify": ("t.torrent", f"seeds/{NAME}"),
        "make-torrent": (f"seeds/{NAME}", "-o", "other.torrent"),
    }
    outlet, inlet = os.pipe()
    os.close(outlet)
    done = subprocess.run(
        [*P2PFS, command, *arguments.get(command, ())],
        cwd=lab.folder,
        stdin=subprocess.DEVNULL,
        stdout=inlet,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(inlet)
    assert done.stderr == b""
    assert done.returncode == 1
