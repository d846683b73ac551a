"""Foreign clients, each driven the same way: start it on a torrent, learn that it is done.

Invariant: a client keeps everything that it writes inside the folder of its lab, listens
where it is told to, and meets others through the trackers of its torrent alone.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.e2e.processes import Lab, Running  # noqa: E402

LIBTORRENT = ROOT / "tests/e2e/foreign_client.py"


@dataclass(frozen=True)
class Task:
    """One torrent for one client: `source` is a .torrent or a magnet link."""

    lab: Lab
    source: str
    content: Path
    """The folder in which the torrent's own folder is, or will be."""

    @property
    def state(self) -> Path:
        """What the client keeps for itself."""
        return self.lab.folder / "state"

    @property
    def done(self) -> Path:
        """A file that is there once the client has said that it is complete."""
        return self.state / "done"

    def script(self) -> Path:
        """A program for clients that run one when a download is complete."""
        path = self.state / "finished.sh"
        path.write_text(f"#!/bin/sh\ntouch '{self.done}'\n")
        path.chmod(0o755)
        return path


class ForeignClient(ABC):
    """How to run one client; its processes belong to the lab of the task."""

    name: str
    program: str
    package: str
    """What Debian calls it."""
    loopback = True
    """Whether it talks to peers at 127.0.0.1."""
    setting = ""
    """What is set in it beyond what keeps a run of the matrix to itself, and why."""

    def version(self) -> str | None:
        """What it calls itself; None when it is not installed."""
        if shutil.which(self.program) is None:
            return None
        return self.number(run(self.program, "--version"))

    def number(self, said: str) -> str:
        found = re.search(r"\d+\.[\d.]*\d", said)
        return found[0] if found else "of unknown version"

    @abstractmethod
    def argv(self, task: Task, seeds: bool) -> list[str]:
        """The command, its settings written."""

    def start(self, task: Task, *, seeds: bool) -> Running:
        task.state.mkdir()
        task.content.mkdir(exist_ok=True)
        return task.lab.start(
            *self.argv(task, seeds), HOME=str(task.state), TERM="xterm", LC_ALL="C.UTF-8"
        )

    def is_done(self, task: Task, process: Running) -> bool:
        """Whether it says that the download is complete."""
        return task.done.exists()

    def log(self, task: Task) -> str:
        """What it wrote about itself beside its output."""
        files = sorted(task.state.rglob("*.log"))
        return "\n".join(
            f"{file.name}:\n{file.read_text(errors='replace')[-2000:]}" for file in files
        )


class Libtorrent(ForeignClient):
    name = "libtorrent"
    package = "libtorrent, from the package index of Python"

    def version(self) -> str | None:
        if importlib.util.find_spec("libtorrent") is None:
            return None
        return run(sys.executable, "-c", "import libtorrent; print(libtorrent.__version__)")

    def argv(self, task: Task, seeds: bool) -> list[str]:
        return [
            *(sys.executable, str(LIBTORRENT), task.source, str(task.content)),
            *("--listen", task.lab.address),
        ]

    def is_done(self, task: Task, process: Running) -> bool:
        return any('"event": "complete"' in line for line in list(process.lines))


class Aria2(ForeignClient):
    """Its trackers over UDP are a part of its DHT, which is on and knows nobody."""

    name = package = "aria2"
    program = "aria2c"

    def argv(self, task: Task, seeds: bool) -> list[str]:
        tcp, udp = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
        return [
            *("aria2c", "--no-conf=true", f"--dir={task.content}", f"--listen-port={tcp}"),
            *("--enable-dht=true", f"--dht-listen-port={udp}"),
            *(f"--dht-file-path={task.state / 'dht.dat'}", "--enable-dht6=false"),
            *("--bt-enable-lpd=false", "--enable-peer-exchange=false", "--file-allocation=none"),
            *("--show-console-readout=false", f"--log={task.state / 'aria2.log'}"),
            "--log-level=info",
            *(("--check-integrity=true", "--seed-ratio=0.0") if seeds else ("--seed-time=0",)),
            task.source,
        ]

    def is_done(self, task: Task, process: Running) -> bool:
        return not process.alive and process.wait() == 0


class Transmission(ForeignClient):
    name = "Transmission"
    program = package = "transmission-cli"
    loopback = False
    setting = (
        "`utp-enabled` is false: 3.00 tries uTP first, and once that is refused it leaves a peer "
        "alone for 15 minutes before it comes by TCP, unless the peer comes to it meanwhile"
    )

    def version(self) -> str | None:
        if shutil.which(self.program) is None:
            return None
        return self.number(run(self.program, "--version"))

    def argv(self, task: Task, seeds: bool) -> list[str]:
        config = task.state / "config"
        config.mkdir()
        (config / "settings.json").write_text(json.dumps({"utp-enabled": False}))
        return [
            *("transmission-cli", "-g", str(config), "-w", str(task.content)),
            *("-M", "-U", "-D", "-f", str(task.script())),
            task.source,
        ]


class QBittorrent(ForeignClient):
    name = "qBittorrent"
    program = package = "qbittorrent-nox"
    loopback = False

    SETTINGS = """\
[LegalNotice]
Accepted=true

[BitTorrent]
Session\\DHTEnabled=false
Session\\LSDEnabled=false
Session\\PeXEnabled=false

[AutoRun]
enabled=true
program={script}

[Application]
FileLogger\\Enabled=true
FileLogger\\Path={state}/logs
"""

    def argv(self, task: Task, seeds: bool) -> list[str]:
        config = task.state / "qBittorrent/config"
        config.mkdir(parents=True)
        settings = self.SETTINGS.format(script=task.script(), state=task.state)
        (config / "qBittorrent.conf").write_text(settings)
        return [
            *("qbittorrent-nox", f"--profile={task.state}", f"--save-path={task.content}"),
            *("--add-paused=false", task.source),
        ]


class Rtorrent(ForeignClient):
    name = program = package = "rtorrent"
    loopback = False

    SETTINGS = """\
session.path.set = {state}/session
directory.default.set = {content}
network.port_range.set = 6890-6999
dht.mode.set = disable
protocol.pex.set = no
log.open_file = "log", "{state}/rtorrent.log"
log.add_output = "info", "log"
log.add_output = "tracker_debug", "log"
method.set_key = event.download.finished, done, "execute.nothrow={script}"
load.start_verbose = "{source}"
system.daemon.set = true
"""

    def version(self) -> str | None:
        return self.number(run(self.program, "-h")) if shutil.which(self.program) else None

    def argv(self, task: Task, seeds: bool) -> list[str]:
        (task.state / "session").mkdir()
        source = task.source
        if not source.startswith("magnet:"):
            source = str(task.lab.folder / source)
        path = task.state / "rtorrent.rc"
        path.write_text(
            self.SETTINGS.format(
                state=task.state, content=task.content, source=source, script=task.script()
            )
        )
        return ["rtorrent", "-n", "-o", f"import={path}"]


CLIENTS: tuple[ForeignClient, ...] = (
    Libtorrent(), Aria2(), Transmission(), QBittorrent(), Rtorrent(),
)  # fmt: skip


def run(*argv: str) -> str:
    """What a command says, on whichever output, without caring for its exit code."""
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, check=False
    )
    return done.stdout.strip()


def free_port(kind: int) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
