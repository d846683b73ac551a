"""Real processes of the real commands, each with its events as they come, always ended.

A `Lab` is a folder with processes in it. Every wait is for something that a process says,
and gives up after `PATIENCE` seconds with all that was said so far.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from p2pfs.formats import metainfo, scrape_http
from p2pfs.formats.scrape_http import ScrapeEntry

PATIENCE = 60.0
"""Seconds until a test gives up on something that should have happened."""

P2PFS = (sys.executable, "-m", "p2pfs")

Event = dict[str, Any]


class Running:
    """A process; its lines on both outputs are collected as they come."""

    def __init__(self, argv: Sequence[str], folder: Path, **environment: str) -> None:
        self.argv = tuple(argv)
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            self.argv,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )
        outputs = ((self._process.stdout, self.lines), (self._process.stderr, self.errors))
        self._readers = [
            threading.Thread(target=self._collect, args=output, daemon=True) for output in outputs
        ]
        for reader in self._readers:
            reader.start()

    def _collect(self, pipe: BinaryIO, into: list[str]) -> None:
        with contextlib.suppress(ValueError):  # closed by `close_output`
            for line in pipe:
                with self._changed:
                    into.append(line.decode("utf-8", "replace").rstrip("\r\n"))
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def __str__(self) -> str:
        said = "\n  ".join([*self.lines[-12:], *self.errors[-30:]])
        return f"{' '.join(self.argv[1:])}\n  {said}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    # -- what it says

    def line(self, wanted: Callable[[str], bool], *, since: int = 0) -> str:
        """The first line that is `wanted`, from line number `since` on, as soon as there is one."""
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            while True:
                for line in self.lines[since:]:
                    if wanted(line):
                        return line
                since = len(self.lines)
                assert self._readers[0].is_alive(), f"ended without it: {self}"
                assert time.monotonic() < deadline, f"not in time: {self}"
                self._changed.wait(0.2)

    def event(
        self, name: str, wanted: Callable[[Event], bool] | None = None, *, since: int = 0
    ) -> Event:
        """The first event called `name` that is `wanted`, as soon as there is one."""
        found: list[Event] = []

        def matches(line: str) -> bool:
            event = json.loads(line)
            if event["event"] != name or (wanted is not None and not wanted(event)):
                return False
            found.append(event)
            return True

        self.line(matches, since=since)
        return found[0]

    def progress(self, wanted: Callable[[Event], bool], *, since: int = 0) -> Event:
        """The first progress event that is `wanted`, those about hashing left out."""
        return self.event(
            "progress", lambda event: event["state"] != "checking" and wanted(event), since=since
        )

    @property
    def events(self) -> list[Event]:
        """All events so far; every line has to be one."""
        return [json.loads(line) for line in list(self.lines)]

    def last(self, name: str = "progress") -> Event:
        """The latest event called `name`."""
        return next(event for event in reversed(self.events) if event["event"] == name)

    # -- what is done to it

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def ask(self, word: str = "prog", answer: str = "progress") -> Event:
        """Type `word`; the first event of the kind `answer` after that."""
        since = len(self.lines)
        self.say(word)
        return self.event(answer, since=since)

    def close_input(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is dead."""
        self._process.kill()
        self.wait()

    def wait(self) -> int:
        """The exit code, with all output collected."""
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"does not end: {self}") from None
        for reader in self._readers:
            reader.join(PATIENCE)
        return code

    def leave(self) -> Event:
        """Type `exit`, wait for its end, and return the final event."""
        self.say("exit")
        self.wait()
        return self.last("final")

    def end(self) -> None:
        """Whatever its state: no process and no pipe is left."""
        if self.alive:
            self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    # -- what it costs

    def cpu_seconds(self) -> float:
        """Processor time it has used (Linux)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_peak(self) -> int:
        """The most memory it has had, in bytes (Linux)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024


class Lab:
    """A folder in which commands run, at `address`; `tracker_port` is the last one (1 before)."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self.folder = folder
        self.address = address
        self.running: list[Running] = []
        self.tracker_port = 1

    def close(self) -> None:
        for process in reversed(self.running):
            process.end()

    # -- content

    def random_bytes(self, size: int, seed: object = 0) -> bytes:
        """The same for the same seed; of any size without taking long."""
        return random.Random(f"p2pfs {seed}").randbytes(size)

    def content(self, name: str, size: int, *, seed: object = 0, under: str = "seeds") -> bytes:
        """A file to share, of random bytes."""
        data = self.random_bytes(size, (name, seed))
        path = self.folder / under / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return data

    def read(self, path: str) -> bytes:
        return (self.folder / path).read_bytes()

    def sha256(self, path: str) -> str:
        with (self.folder / path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    # -- processes

    def start(self, *argv: str, **environment: str) -> Running:
        """Start any program."""
        process = Running(argv, self.folder, **environment)
        self.running.append(process)
        return process

    def p2pfs(self, *arguments: str) -> Running:
        """Start a command of ours."""
        return self.start(*P2PFS, *arguments)

    def run(self, *arguments: str) -> Running:
        """A command of ours, from its start to its end, without input."""
        process = self.p2pfs(*arguments)
        process.close_input()
        process.wait()
        return process

    def tracker(self, *more: str) -> Running:
        process = self.p2pfs("tracker", "--host", self.address, "-d", "0", "--json", *more)
        self.tracker_port = process.event("ready")["port"]
        return process

    @property
    def announce_url(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.tracker_port}/announce"

    @property
    def where(self) -> tuple[str, ...]:
        """The options that name the tracker, and any free port to listen on."""
        return ("-i", self.address, "-d", str(self.tracker_port), "-p", "0")

    def torrent(self, path: str, *more: str, output: str = "t.torrent") -> str:
        """Make a .torrent of `path` that names the tracker; its own path."""
        made = self.run("make-torrent", path, "-o", output, "-t", self.announce_url, *more)
        assert made.wait() == 0, str(made)
        return output

    def metainfo(self, torrent: str) -> metainfo.Metainfo:
        return metainfo.parse(self.read(torrent))

    def scrape(self, torrent: str) -> ScrapeEntry:
        """How many peers of a .torrent the tracker knows."""
        torrent_id = self.metainfo(torrent).torrent_id
        query = scrape_http.encode_scrape_query([torrent_id])
        url = f"{scrape_http.scrape_url(self.announce_url)}?{query}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as reply:
            found = scrape_http.parse_scrape(reply.read())
        return found.get(torrent_id, ScrapeEntry(0, 0, 0))

    def await_scrape(self, torrent: str, *, complete: int, incomplete: int) -> None:
        """Until the tracker knows so many seeders and leechers; it has no other way to say so."""

        def reached() -> bool:
            entry = self.scrape(torrent)
            return (entry.complete, entry.incomplete) == (complete, incomplete)

        until(reached, lambda: f"the tracker says {self.scrape(torrent)}")

    def seed(self, *more: str) -> Running:
        """A seeder that is ready."""
        process = self.p2pfs("seed", *self.where, "--json", *more)
        process.event("ready")
        return process

    def download(self, *more: str) -> Running:
        """A downloader that is ready."""
        process = self.p2pfs("download", *self.where, "--json", *more)
        process.event("ready")
        return process


def until(
    happened: Callable[[], bool],
    otherwise: Callable[[], str] = lambda: "",
    *,
    patience: float = PATIENCE,
) -> None:
    """Ask again and again: only for what cannot be waited for."""
    deadline = time.monotonic() + patience
    while not happened():
        assert time.monotonic() < deadline, f"not in time: {otherwise()}"
        time.sleep(0.02)


@contextlib.contextmanager
def laboratory(folder: Path) -> Iterator[Lab]:
    """A lab whose processes are gone afterwards, whatever happens."""
    lab = Lab(folder)
    try:
        yield lab
    finally:
        lab.close()


def no_traceback(*processes: Running) -> None:
    """None of them has shown the inside of the program."""
    for process in processes:
        said = "\n".join([*process.lines, *process.errors])
        assert "Traceback" not in said, str(process)
        assert "internal error" not in said, str(process)


def one_error_line(process: Running) -> str:
    """The one line that a failed command writes to standard error."""
    no_traceback(process)
    assert len(process.errors) == 1, str(process)
    assert process.errors[0].startswith("p2pfs: "), str(process)
    return process.errors[0]
