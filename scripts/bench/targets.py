"""What is measured, against what, and how far it has to come.

A figure is a ratio to a reference that ran in the same minutes, or an absolute figure where
what counts is a size: memory, seconds that people wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["TARGETS", "Target", "target"]


@dataclass(frozen=True)
class Target:
    """`must`, `aim`: bounds in `unit`, lower ones when `more`, else upper ones."""

    key: str
    work: str
    reference: str
    unit: str
    must: float | None
    aim: float | None = None
    more: bool = False

    def verdict(self, value: float) -> str:
        """`aim` or `reached`, `missed`, or empty where nothing was asked for."""
        if self.must is None:
            return ""
        if self.aim is not None and self._meets(value, self.aim):
            return "aim"
        return "reached" if self._meets(value, self.must) else "missed"

    def _meets(self, value: float, bound: float) -> bool:
        return value >= bound if self.more else value <= bound


LT: Final = "libtorrent"
TARGETS: Final = (
    Target("1", "1 GiB, p2pfs to p2pfs: throughput", f"{LT} to itself", "x", 1.7, 2.2, more=True),
    Target("2", "1 GiB, libtorrent to p2pfs: throughput", f"{LT} to itself", "x", 1.0, 1.15, True),
    Target("3", "1 GiB, p2pfs to libtorrent: throughput", f"{LT} to itself", "x", 1.05, 1.25, True),
    Target("4", "CPU seconds of both ends, p2pfs to p2pfs", f"{LT} to itself", "x", 0.65, 0.5),
    Target("5", "1 GiB from 8 peers: peak memory", f"{LT} from 8 of its own", "MiB", 80, 50),
    Target("6", "64 MiB to 8, uplinks 4 MB/s: time", "the bound of the links", "x", 1.25, 1.08),
    Target("7", "the same: copies that the seeder sent", "one copy", "x", 1.15, 1.02),
    Target("8a", "64 MiB to 32, uplinks 1 MB/s: time", "the bound of the links", "x", 1.4, 1.15),
    Target("8b", "64 MiB to 8, half at 1 MB/s: time", "the bound of the links", "x", 1.4, 1.15),
    Target("8c", "64 MiB to 8, 4 are libtorrent: time", "the bound of the links", "x", 1.4, 1.15),
    Target("8d", "8a, p2pfs over libtorrent: time", f"{LT} only", "x", 1.0),
    Target("8e", "8b, p2pfs over libtorrent: time", f"{LT} only", "x", 1.0),
    Target("8f", "8c, p2pfs seeding over libtorrent: time", f"{LT} only", "x", 1.0),
    Target("9", "256 MiB, 1 to 4, no limit: speed", f"{LT} to itself", "x", 1.5, 2.0, more=True),
    Target("10a", "make-torrent, 8 GiB: speed", "mktorrent -t 2", "x", 1.0, 1.2, more=True),
    Target("10b", "make-torrent, 8 GiB: speed", "torf", "x", 1.3, None, more=True),
    Target("10c", "make-torrent, 20,000 files: speed", "mktorrent -t 2", "x", 1.0, 1.2, more=True),
    Target("10d", "make-torrent, 20,000 files: speed", "torf", "x", 1.3, None, more=True),
    Target("11", "HTTP announces a second", "opentracker", "x", 0.55, 0.7, more=True),
    Target("12", "UDP announces a second", "opentracker", "x", 0.4, 0.7, more=True),
    Target("13a", "1,000,000 peers in 10,000 swarms: memory", "-", "MiB", 400, 200),
    Target("13b", "p99 of an announce while they expire", "-", "ms", 20, 5),
    Target("14a", "a pick, 100,000 pieces, 200 peers", "-", "us", 50, 10),
    Target("14b", "a have, the same torrent", "-", "us", 5, 1),
    Target("15a", "500 idle peers: CPU of the seeder", LT, "%", 3, 1),
    Target("15b", "500 idle peers: memory of the seeder", LT, "MiB", 60, 40),
    Target("16a", "resume of 10 GiB with its record", "-", "s", 1),
    Target("16b", "recheck of 10 GiB without it: speed", "hashing alone", "x", 0.8, more=True),
    Target("17", "1, the file not in memory: throughput", f"{LT} to itself", "x", 1.0, more=True),
)


def target(key: str) -> Target:
    """Raises `KeyError` for an unknown key."""
    return _BY_KEY[key]


_BY_KEY: Final = {one.key: one for one in TARGETS}
