"""The simulated curve: small swarms, the bound they are held against, and its picture."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import bench_curve
import pytest
from bench_curve import UPLINK, Point


def test_a_small_swarm_comes_close_to_what_its_links_need() -> None:
    point = bench_curve.simulate(4, "even", pieces=16)

    assert point.bound == pytest.approx(16 * bench_curve.BLOCKS * 16384 / UPLINK)
    assert 1.0 <= point.over <= 1.3
    assert 1.0 <= point.copies <= 1.3


def test_the_same_seed_gives_the_same_curve() -> None:
    once, again = (bench_curve.simulate(3, "uneven", pieces=8) for _ in range(2))

    assert once == again


def test_points_of_several_goes_are_kept_and_drawn_together(tmp_path: Path) -> None:
    kept, picture = tmp_path / "new" / "curve.json", tmp_path / "curve.svg"
    points = [Point(2, "even", 10.0, 10.0, 1.0), Point(8, "even", 11.2, 10.0, 1.1)]

    bench_curve.save(kept, points)
    bench_curve.save(kept, [*bench_curve.load(kept).values(), Point(8, "uneven", 13.0, 10.0, 1.4)])
    bench_curve.plot(bench_curve.load(kept), picture)

    words = {element.text for element in ElementTree.parse(picture).getroot().iter()}
    assert {"even uplinks", "uneven uplinks", "1.00", "1.12", "1.30"} <= words
