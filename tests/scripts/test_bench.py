"""`scripts/bench`: its table, what it keeps, and a quick run of it with real processes."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of the benchmark, which is a program with modules beside it."""
    monkeypatch.syspath_prepend(str(BENCH))
    before = set(sys.modules)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCH)):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("key", "value", "verdict"),
    [
        ("1", 1.69, "missed"),
        ("1", 1.7, "reached"),
        ("1", 2.2, "aim"),
        ("6", 1.26, "missed"),
        ("6", 1.25, "reached"),
        ("6", 1.0, "aim"),
        ("16b", 0.8, "reached"),
    ],
)
def test_a_figure_reaches_what_was_asked_for_or_misses_it(
    bench: Any, key: str, value: float, verdict: str
) -> None:
    assert bench("targets").target(key).verdict(value) == verdict


def test_a_ratio_is_the_median_of_the_pairs(bench: Any) -> None:
    found = bench("results").ratios("1", [10, 30, 20], [10, 10, 10], "MB/s")

    assert found.value == 2.0
    assert found.spread == (1.0, 3.0)
    assert found.verdict == "reached"


@pytest.mark.parametrize(
    ("told", "bytes_kept"),
    [
        ("MemTotal:  9000000 kB\nMemAvailable:    3000 kB\nCached: 7 kB\n", 2000 * 1024),
        ("MemAvailable: 900000000 kB\n", 16 * 1024**3),
        ("MemTotal: 9000000 kB\n", 0),
    ],
    ids=["some", "much", "unknown"],
)
def test_memory_is_kept_as_far_as_it_is_available(bench: Any, told: str, bytes_kept: int) -> None:
    assert bench("memory").enough(told) == bytes_kept


def test_memory_is_kept_by_a_process_that_ends_with_it(bench: Any) -> None:
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if not children.exists():
        pytest.skip("this system does not tell a process's children")
    before = children.read_text().split()

    with bench("memory").kept(8 * 1024 * 1024):
        (holder,) = set(children.read_text().split()) - set(before)
        assert "memory.py" in Path(f"/proc/{holder}/cmdline").read_text()

    assert not Path(f"/proc/{holder}").exists()


def test_results_of_several_goes_are_kept_together(bench: Any, tmp_path: Path) -> None:
    results = bench("results")
    kept = tmp_path / "new" / "bench.json"

    results.save(kept, [results.Result("1", [1.0]), results.Result("2", [1.0])])
    results.save(kept, [results.Result("2", [3.0], [6.0], [2.0], "MB/s", "a note")])

    found = results.load(kept)
    assert {key: one.value for key, one in found.items()} == {"1": 1.0, "2": 3.0}
    assert found["2"].note == "a note"


def test_the_table_has_every_row_and_says_which_were_not_run(bench: Any) -> None:
    results, targets = bench("results"), bench("targets")

    shown = bench("report").table({"6": results.Result("6", [1.1], [1.1], [2.0], "x the bound")})

    lines = shown.splitlines()
    assert len(lines) == 1 + len(targets.TARGETS)
    by_key = {line.split()[0]: line for line in lines}
    assert by_key["6"].endswith("reached")
    assert by_key["1"].endswith("not run")


def test_the_picture_puts_rows_of_all_units_on_one_axis(bench: Any) -> None:
    bars, targets, result = bench("bars"), bench("targets"), bench("results").Result
    found = {
        "1": result("1", [3.4], [680.0], [200.0], "MB/s"),
        "6": result("6", [2.5], [2.5], [2.0], "x the bound"),
        "14a": result("14a", [50.0], [50.0]),
    }

    drawn = bars.draw(found, "a machine").tree.getroot()

    words = {element.text for element in drawn.iter("text")}
    colours = [element.attrib["fill"] for element in drawn.iter("rect")][1:4]
    assert {"1", "6", "14a", "3.40 x  (must 1.7)", "50.0 us  (must 50)", "a machine"} <= words
    assert colours == [bars.COLOURS[verdict] for verdict in ("aim", "missed", "reached")]
    assert bars.better(targets.target("1"), 3.4) == 2.0
    assert bars.better(targets.target("6"), 2.5) == 0.5
    assert bars.reference(targets.target("1"), found["1"]) == 1.0
    assert bars.reference(targets.target("6"), found["6"]) == 2.0
    assert bars.reference(targets.target("14a"), found["14a"]) is None


def test_table_and_picture_go_into_the_page(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, result = bench("report"), bench("results").Result
    monkeypatch.setattr(report, "DOCS", tmp_path)
    page = tmp_path / "benchmarks.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", encoding="utf-8")

    report.write({"6": result("6", [1.03], [1.03], [2.0], "x the bound", "a note")}, "a machine")

    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert f"]({report.PICTURE})" in text
    assert (tmp_path / report.PICTURE).exists()


def test_no_swarm_is_faster_than_what_leaves_the_seeder_and_all_uplinks(
    bench: Any, tmp_path: Path
) -> None:
    bound = bench("swarms").bound
    content = bench("contest").Content(tmp_path / "a", tmp_path / "a.torrent", 8_000_000)

    assert bound(content, 4_000_000, [4_000_000] * 8) == 2.0
    assert bound(content, 4_000_000, [1_000_000] * 8) == pytest.approx(64 / 12)


def test_a_quick_run_measures_and_shows(tmp_path: Path) -> None:
    pytest.importorskip("libtorrent")
    done = subprocess.run(
        [sys.executable, BENCH, "--quick", "--out", tmp_path, "--dir", tmp_path, "1"],
        capture_output=True,
        text=True,
        timeout=240,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert all("not run" not in rows[key] for key in ("1", "4"))
    assert "not run" in rows["6"]
    assert (tmp_path / "bench-quick.json").exists()


def test_an_unknown_row_is_an_error_that_names_the_rows() -> None:
    done = subprocess.run([sys.executable, BENCH, "99"], capture_output=True, text=True, timeout=60)

    assert done.returncode == 2
    assert "there is no row 99; there are 1, 2, 3" in done.stderr
