"""One seeder, one downloader (rows 1 to 5 and 17): speed, processor time, memory."""

from __future__ import annotations

from contest import MIB, End, Run
from results import Result, ratios
from rows import LIBTORRENTS, Bench

__all__ = ["cold", "from_eight", "from_theirs", "ours_only", "to_theirs"]

SIZE_MIB = 1024


def _one(bench: Bench, seeder: str, loader: str, *, cold: bool = False) -> Run:
    content = bench.content(SIZE_MIB, MIB)
    return bench.transfer(f"{seeder} > {loader}", content, [End(seeder)], [End(loader)], cold=cold)


def _best(bench: Bench) -> str:
    _one(bench, "p2pfs", "p2pfs")  # everything is warm after that
    return bench.better(lambda name: _one(bench, name, name))


def ours_only(bench: Bench) -> list[Result]:
    best = _best(bench)
    ours, theirs = [], []
    for _ in range(bench.pairs):
        ours.append(_one(bench, "p2pfs", "p2pfs"))
        theirs.append(_one(bench, best, best))
    return [
        ratios("1", _rates(ours), _rates(theirs), "MB/s", LIBTORRENTS[best]),
        ratios("4", _cpu(ours), _cpu(theirs), "CPU s per GiB", LIBTORRENTS[best]),
    ]


def from_theirs(bench: Bench) -> list[Result]:
    best = _best(bench)
    ours, theirs = [], []
    for _ in range(bench.pairs):
        ours.append(_one(bench, best, "p2pfs"))
        theirs.append(_one(bench, best, best))
    return [ratios("2", _rates(ours), _rates(theirs), "MB/s", LIBTORRENTS[best])]


def to_theirs(bench: Bench) -> list[Result]:
    best = _best(bench)
    ours, theirs = [], []
    for _ in range(bench.pairs):
        ours.append(_one(bench, "p2pfs", best))
        theirs.append(_one(bench, best, best))
    return [ratios("3", _rates(ours), _rates(theirs), "MB/s", LIBTORRENTS[best])]


def from_eight(bench: Bench) -> list[Result]:
    """The peak memory of one that downloads from eight at once."""
    content = bench.content(SIZE_MIB, MIB)
    ours, theirs = [], []
    for _ in range(bench.pairs):
        for name, found in (("p2pfs", ours), ("libtorrent", theirs)):
            run = bench.transfer(f"8 x {name} > {name}", content, [End(name)] * 8, [End(name)])
            found.append(run.loaders[0].memory_mib)
    return [Result("5", ours, ours, theirs, "MiB", LIBTORRENTS["libtorrent"])]


def cold(bench: Bench) -> list[Result]:
    """The seeder's file is not in memory when it begins."""
    best = bench.better(lambda name: _one(bench, name, name, cold=True))
    ours, theirs = [], []
    for _ in range(bench.pairs):
        ours.append(_one(bench, "p2pfs", "p2pfs", cold=True))
        theirs.append(_one(bench, best, best, cold=True))
    return [ratios("17", _rates(ours), _rates(theirs), "MB/s", LIBTORRENTS[best])]


def _rates(runs: list[Run]) -> list[float]:
    return [run.rate / 1e6 for run in runs]


def _cpu(runs: list[Run]) -> list[float]:
    return [run.cpu / (run.size / 2**30) for run in runs]
