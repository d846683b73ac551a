"""What each row of the table has at hand."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from contest import Content, End, Run, make_content, run
from results import Result

__all__ = ["Bench", "Row", "Skipped"]

LIBTORRENTS = {"libtorrent": "default settings", "libtorrent-hp": "high_performance_seed"}


class Skipped(Exception):
    """The row cannot be measured here, and why."""


@dataclass
class Bench:
    """`pairs`: alternating runs of ours and theirs; `scale`: 1, or less for a quick look."""

    folder: Path
    pairs: int = 5
    scale: float = 1.0

    def say(self, text: str) -> None:
        print(f"  {text}", flush=True)

    def content(self, size_mib: int, piece_length: int) -> Content:
        return make_content(self.folder, max(4, round(size_mib * self.scale)), piece_length)

    def transfer(
        self, name: str, content: Content, seeders: Sequence[End], loaders: Sequence[End],
        *, cold: bool = False,
    ) -> Run:  # fmt: skip
        """One run, told in a line."""
        done = run(content, seeders, loaders, self.folder, cold=cold)
        memory = max(end.memory_mib for end in done.loaders)
        self.say(
            f"{name:34} {done.seconds:7.2f} s  {done.rate / 1e6:6.0f} MB/s  "
            f"{done.cpu:6.2f} CPU s  {memory:4.0f} MiB  {done.copies:.3f} copies"
        )
        return done

    def better(self, measure: Callable[[str], Run]) -> str:
        """Which of libtorrent's settings is the faster; both are tried once."""
        seconds = {name: measure(name).seconds for name in LIBTORRENTS}
        best = min(seconds, key=lambda name: seconds[name])
        self.say(f"libtorrent with: {LIBTORRENTS[best]}")
        return best


Row = Callable[[Bench], list[Result]]


def machine() -> str:
    """This machine in a line: processor, cores, memory, system, Python."""
    model = "processor unknown"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1] for line in info.read_text().splitlines() if "model name" in line
        ]
        model = names[0].strip() if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = ".".join(map(str, sys.version_info[:3]))
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {sys.platform}, Python {python}"
