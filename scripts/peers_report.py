"""What the benchmark of the nodes measured: its figures, its table and its plot.

Invariant: a rate is bytes a second, a size bytes, a time seconds, until it is shown.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import line_charts

from p2pfs.cli.units import format_rate, format_size

NEEDED = {4: 1.8, 8: 3.2, 16: 5.5}
"""How many times the throughput of 2 nodes so many have to reach when uplinks are limited."""

JUDGED_FROM = 2.0
"""Seconds that the uplinks alone need: a shorter run says little, and is only reported."""


@dataclass(frozen=True)
class Run:
    """One measured download of all files; `gave`: bytes of each node that gave any, by port."""

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
            line_charts.Row(
                series.title,
                [
                    line_charts.Chart(
                        "Total time", "active nodes", "seconds", {"": times}, best_times
                    ),
                    line_charts.Chart(
                        "Throughput", "active nodes", "MB/s", {"": rates}, best_rates
                    ),
                ],
            )
        )
    note = "dashed: every uplink in full use"
    line_charts.save(path, "Downloading the same files from more and more nodes", note, rows)


def record(all_series: Sequence[Series], path: Path) -> None:
    found = [
        {**asdict(series), "runs": [{**asdict(run), "rate": run.rate} for run in series.runs]}
        for series in all_series
    ]
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
