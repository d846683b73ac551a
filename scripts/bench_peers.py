"""How downloads get faster with more nodes: the benchmark of the index.

    python scripts/bench_peers.py [--nodes 2,4,8,16] [--files 10] [--sizes 8M] [--limit 2M]
                                  [--out results] [--quick]

An index, and nodes that all hold the same files, as real processes on this machine. For
each number of nodes one more process, `p2pfs get`, fetches all files from them into a fresh
folder. Each size is measured twice: with every node's uplink limited, as in a network where
the uplinks are what is scarce, and without a limit, which shows what this machine can move.
The time runs from the first download's beginning to the last one's completion; starting
processes, hashing and registering do not count. Every byte of every file is checked.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import peers_plot
from make_data import make_folders, names_of, size_of, whole
from processes import Process, ProcessError, Processes

from p2pfs.cli.units import format_rate, format_size, parse_rate
from p2pfs.errors import UsageError

LOCAL = "127.0.0.1"
START_WITHIN = 120.0
DOWNLOAD_WITHIN = 120.0
"""Seconds that a download may take beyond what the uplinks allow."""

NEEDED = {4: 1.8, 8: 3.2, 16: 5.5}
"""How many times the throughput of 2 nodes so many have to reach when uplinks are limited."""

JUDGED_FROM = 2.0
"""Seconds that the uplinks alone need: a shorter run says little, and is only reported."""


@dataclass(frozen=True)
class Run:
    """One measured download of all files; `gave`: bytes from each node that gave any."""

    nodes: int
    seconds: float
    size: int
    gave: dict[str, int]
    wasted: int

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.size / self.seconds


@dataclass(frozen=True)
class Series:
    """Runs with the same files and limit (bytes a second, None: no limit)."""

    files: int
    size: int
    limit: int | None
    runs: list[Run] = field(default_factory=list)

    @property
    def title(self) -> str:
        limit = f"every node's uplink limited to {format_rate(self.limit)}" if self.limit else ""
        return f"{self.files} files of {format_size(self.size)}, {limit or 'no limit'}"

    @property
    def total(self) -> int:
        return self.files * self.size

    def ratio(self, run: Run) -> float | None:
        """Throughput over that of 2 nodes; None when those were not measured."""
        base = next((run.rate for run in self.runs if run.nodes == 2), None)
        return None if base is None else run.rate / base

    def bound(self, nodes: float) -> float:
        """Seconds that the uplinks alone need."""
        assert self.limit is not None
        return self.total / (self.limit * nodes)

    def needed(self, run: Run) -> float | None:
        """The ratio that the run has to reach, when it is one that is judged."""
        if not self.limit or self.ratio(run) is None or self.bound(run.nodes) < JUDGED_FROM:
            return None
        return NEEDED.get(run.nodes)

    def missed(self) -> list[str]:
        """What fell short, in words."""
        return [
            f"{run.nodes} nodes: {self.ratio(run):.2f} times the throughput of 2, not {needed}"
            for run in self.runs
            if (needed := self.needed(run)) is not None and (self.ratio(run) or 0) < needed
        ]


# -- measuring ----------------------------------------------------------------------------


def registered(port: int) -> list[dict]:
    """The nodes that the index knows."""
    with urllib.request.urlopen(f"http://{LOCAL}:{port}/nodes", timeout=10) as reply:
        return json.load(reply)["nodes"]


async def all_registered(port: int, nodes: int, files: int) -> None:
    """Wait until so many nodes share so many files each."""
    deadline = time.monotonic() + START_WITHIN
    while True:
        found = await asyncio.to_thread(registered, port)
        if len(found) == nodes and all(node["files"] == files for node in found):
            return
        if time.monotonic() > deadline:
            raise ProcessError(
                f"not all of {nodes} nodes share {files} files after {START_WITHIN:.0f} s: "
                + ", ".join(f"{node['id']} has {node['files']}" for node in found)
            )
        await asyncio.sleep(0.05)


async def fetch_all(processes: Processes, port: int, series: Series, nodes: int, to: Path) -> Run:
    """One more process downloads all files."""
    names = names_of(series.files)
    get = await processes.start(f"get{nodes}", "get", *names, "-i", LOCAL, "-d", port, "-o", to)
    within = DOWNLOAD_WITHIN + (2 * series.bound(nodes) if series.limit else 0)
    final = await get.says("final", within)
    await get.ended(30)
    gave: dict[str, int] = {}
    for torrent in final["torrents"]:
        for source in torrent["sources"]:
            if source["bytes_down"]:
                address = source["address"]
                gave[address] = gave.get(address, 0) + source["bytes_down"]
    wasted = sum(torrent["wasted"] for torrent in final["torrents"])
    return Run(nodes, duration(get, names), series.total, gave, wasted)


def duration(get: Process, names: Sequence[str]) -> float:
    """Seconds from the first download's beginning to the last one's completion."""
    complete = {event["name"]: event for event in get.found("complete")}
    if set(complete) != set(names):
        raise ProcessError(f"not every download told of its completion: {sorted(complete)}")
    begun = min(event["at"] - event["seconds"] for event in complete.values())
    return max(event["at"] for event in complete.values()) - begun


def check(folder: Path, known: dict[str, str]) -> None:
    """Every byte of every file is right, and there is nothing else."""
    arrived = {}
    for path in folder.iterdir():
        if not path.name.startswith("."):
            with path.open("rb") as file:
                arrived[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    if arrived != known:
        wrong = sorted(name for name, digest in known.items() if arrived.get(name) != digest)
        raise ProcessError(f"what arrived is not what is shared: {wrong or sorted(arrived)}")


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def link_folders(first: Path, nodes: int) -> None:
    """The folders of the other nodes, with the same files; a link each where that works."""
    for number in range(2, nodes + 1):
        folder = first.parent / f"p{number}"
        folder.mkdir()
        for path in first.iterdir():
            try:
                os.link(path, folder / path.name)
            except OSError:
                shutil.copyfile(path, folder / path.name)


async def measure(
    work: Path, series: Series, counts: Sequence[int], tell: Callable[[Run], None]
) -> None:
    """A run for each number of nodes, ascending; more nodes join those that run already."""
    first = make_folders(work, 1, series.files, series.size)[0]
    known = digests(first)
    link_folders(first, counts[-1])
    async with Processes(work) as processes:
        index = await processes.start(
            *("index", "index", "--bind", LOCAL, "-d", 0, "--no-mdns"),
            *("--config-dir", work / "config"),
        )
        port = (await index.says("ready", START_WITHIN))["port"]
        limit = ("--up-limit", series.limit) if series.limit else ()
        running = 0
        for nodes in counts:
            where = ("-i", LOCAL, "-d", port, "-p", 0, "--root", work)
            started = [
                await processes.start(
                    f"node{number}", "node", "--id", number, "--serve", *where, *limit
                )
                for number in range(running + 1, nodes + 1)
            ]
            running = nodes
            for node in started:
                await node.says("ready", START_WITHIN)
            await all_registered(port, nodes, series.files)
            output = work / f"output{nodes}"
            run = await fetch_all(processes, port, series, nodes, output)
            await asyncio.to_thread(check, output, known)
            shutil.rmtree(output)
            tell(run)


# -- showing ------------------------------------------------------------------------------

HEADER = (
    f"{'nodes':>5} {'total time':>11} {'throughput':>12} {'to 2 nodes':>11} {'needed':>7} "
    f"{'of the uplinks':>15}   from"
)


def row(series: Series, run: Run) -> str:
    ratio, needed = series.ratio(run), series.needed(run)
    share = series.bound(run.nodes) / run.seconds if series.limit else None
    cells = [
        f"{run.nodes:>5}",
        f"{run.seconds:>9.2f} s",
        f"{run.rate / 1e6:>7.1f} MB/s",
        f"{'' if ratio is None else f'{ratio:.2f}':>11}",
        f"{'' if needed is None else f'{needed:.1f}':>7}",
        f"{'' if share is None else f'{share:.0%}':>15}",
        "  " + parts(run),
    ]
    return " ".join(cells)


def parts(run: Run) -> str:
    """How many nodes gave, and how much the least and the most of them."""
    if not run.gave:
        return "nobody"
    least, most = min(run.gave.values()) / 1e6, max(run.gave.values()) / 1e6
    return f"{len(run.gave)} nodes, {least:.1f} to {most:.1f} MB each"


def plot(all_series: Sequence[Series], path: Path) -> None:
    rows = []
    for series in all_series:
        times = [(run.nodes, run.seconds) for run in series.runs]
        rates = [(run.nodes, run.rate / 1e6) for run in series.runs]
        first, last = times[0][0], times[-1][0]
        steps = [first + (last - first) * step / 50 for step in range(51)] if series.limit else []
        best_times = [(x, series.bound(x)) for x in steps]
        best_rates = [(x, series.total / series.bound(x) / 1e6) for x in steps]
        rows.append(
            peers_plot.Row(
                series.title,
                [
                    peers_plot.Chart("Total time", "active nodes", "seconds", times, best_times),
                    peers_plot.Chart("Throughput", "active nodes", "MB/s", rates, best_rates),
                ],
            )
        )
    note = "dashed: every uplink in full use"
    peers_plot.save(path, "Downloading the same files from more and more nodes", note, rows)


def record(all_series: Sequence[Series], path: Path) -> None:
    found = [
        {**asdict(series), "runs": [{**asdict(run), "rate": run.rate} for run in series.runs]}
        for series in all_series
    ]
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def add(series: Series, run: Run) -> None:
    series.runs.append(run)
    print(row(series, run), flush=True)


async def bench(options: argparse.Namespace) -> list[Series]:
    """Measure every series, and say so as it goes."""
    limits = [options.limit, None] if options.limit else [None]
    done = []
    for size in options.sizes:
        for limit in limits:
            series = Series(options.files, size, limit)
            print(f"{series.title}\n{HEADER}", flush=True)
            with tempfile.TemporaryDirectory(prefix="p2pfs-peers-") as folder:
                await measure(Path(folder), series, options.nodes, partial(add, series))
            print()
            done.append(series)
    return done


# -- arguments ----------------------------------------------------------------------------


def counts_of(text: str) -> list[int]:
    one = whole(1, 64)
    return sorted({one(part.strip()) for part in text.split(",")})


def sizes_of(text: str) -> list[int]:
    return [size_of(part.strip()) for part in text.split(",")]


def rate_of(text: str) -> int | None:
    try:
        return parse_rate(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="test-peers", description="How downloads get faster with more nodes."
    )
    option = parser.add_argument
    option("--nodes", type=counts_of, help="numbers of active nodes (2,4,8,16)")
    option("--files", type=whole(1, 1000), help="files that all of them hold (10)")
    option("--sizes", type=sizes_of, help="of each file; several with commas (8M)")
    option(
        "--limit", type=rate_of, default="2M", help="of each node's uplink; 0: only without (2M)"
    )
    option(
        "--out", type=Path, default=Path("results"), help="where the plot and figures go (results)"
    )
    option("--quick", action="store_true", help="2 and 4 nodes, 3 files of 512K: does it work?")
    options = parser.parse_args(words)
    options.nodes = options.nodes or ([2, 4] if options.quick else [2, 4, 8, 16])
    options.files = options.files or (3 if options.quick else 10)
    options.sizes = options.sizes or [512 * 1024 if options.quick else 8 * 1024 * 1024]
    return options


def main(words: Sequence[str]) -> int:
    options = arguments(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        done = asyncio.run(bench(options))
        record(done, options.out / "peers.json")
        plot(done, options.out / "peers.svg")
    except KeyboardInterrupt:
        print("stopped; everything that was started has ended", file=sys.stderr)
        return 130
    except (ProcessError, OSError) as error:
        print(f"test-peers: {error}", file=sys.stderr)
        return 1
    print(f"every byte of every file is right; plot: {options.out / 'peers.svg'}")
    missed = [text for series in done for text in series.missed()]
    for text in missed:
        print(f"test-peers: {text}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
