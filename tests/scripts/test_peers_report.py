"""The figures of the benchmark of the nodes: ratios, what is judged, the table, the files."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import peers_report
from peers_report import Run, Series

MIB = 1024 * 1024


def series(limit: int | None, **seconds: float) -> Series:
    """10 files of 8 MiB; `n4=10.4`: from 4 nodes it took 10.4 s."""
    found = Series(10, 8 * MIB, limit)
    for name, taken in seconds.items():
        gave = {f"127.0.0.1:{port}": 1_000_000 for port in range(int(name[1:]))}
        found.runs.append(Run(int(name[1:]), taken, found.total, gave, 0))
    return found


def test_the_ratio_is_that_of_the_throughputs() -> None:
    measured = series(2_000_000, n2=20.0, n4=10.0, n16=2.5)
    assert [measured.ratio(run) for run in measured.runs] == [1, 2, 8]
    assert measured.runs[0].rate == 10 * 8 * MIB / 20


def test_too_little_growth_is_told() -> None:
    assert series(2_000_000, n2=20.8, n4=10.5, n8=5.5, n16=3.0).missed() == []
    assert series(2_000_000, n2=20.8, n4=12.0, n8=5.5, n16=4.0).missed() == [
        "4 nodes: 1.73 times the throughput of 2, not 1.8",
        "16 nodes: 5.20 times the throughput of 2, not 5.5",
    ]


def test_only_long_runs_with_limited_uplinks_are_judged() -> None:
    unlimited = series(None, n2=1.0, n4=1.0)
    quick = Series(3, 512 * 1024, 2_000_000, unlimited.runs)
    alone = series(2_000_000, n4=100.0)
    assert [s.missed() for s in (unlimited, quick, alone)] == [[], [], []]


def test_a_row_says_how_well_the_uplinks_were_used_and_who_gave() -> None:
    measured = series(2_000_000, n2=21.0, n4=10.5)
    line = peers_report.row(measured, measured.runs[1])
    shown = "4 10.50 s 8.0 MB/s 2.00 1.8 100% 4 nodes, 1.0 to 1.0 MB each"
    assert " ".join(line.split()) == shown
    headings, cells = peers_report.HEADER, line
    for heading, cell in (("total time", "10.50 s"), ("needed", "1.8"), ("of the uplinks", "100%")):
        assert headings.index(heading) + len(heading) == cells.index(cell) + len(cell)


def test_figures_and_plot_are_written(tmp_path: Path) -> None:
    both = [series(2_000_000, n2=20.0, n4=10.0), series(None, n2=1.0, n4=0.5)]
    peers_report.record(both, tmp_path / "peers.json")
    peers_report.plot(both, tmp_path / "peers.svg")
    found = json.loads((tmp_path / "peers.json").read_text())
    assert [[run["nodes"] for run in one["runs"]] for one in found] == [[2, 4], [2, 4]]
    assert found[0]["runs"][1]["rate"] == 10 * 8 * MIB / 10
    svg = ElementTree.parse(tmp_path / "peers.svg").getroot()
    dashed = [e for e in svg.iter() if "stroke-dasharray" in e.attrib]
    assert len(dashed) == 2  # with a limit only
