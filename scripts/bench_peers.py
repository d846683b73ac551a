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
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from make_data import make_folders, names_of, size_of, whole
from peers_report import HEADER, Run, Series, plot, record, row
from processes import Process, ProcessError, Processes

from p2pfs.cli.units import parse_rate
from p2pfs.errors import UsageError

LOCAL = "127.0.0.1"
START_WITHIN = 120.0
DOWNLOAD_WITHIN = 120.0
"""Seconds that a download may take beyond what the uplinks allow."""

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
                node = source["address"].rpartition(":")[2]  # met at any address of this machine
                gave[node] = gave.get(node, 0) + source["bytes_down"]
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
            where = ("-i", LOCAL, "-d", port, "-p", 0, "--root", work, "--quit-grace", 0)
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
    # As Ctrl-C: the runner's handler cancels what runs, where a handler of the moment would
    # break off the start of a process half-way.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
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
