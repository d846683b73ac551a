"""Line charts: well-formed SVG in which everything lies where it can be seen."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import line_charts
import pytest
import svg
from line_charts import Chart, Row

SVG = "{http://www.w3.org/2000/svg}"
TIMES = Chart("Total time", "active nodes", "seconds", {"": [(2, 20.8), (4, 10.3), (16, 2.7)]})
RATES = Chart(
    "Throughput", "active nodes", "MB/s", {"": [(2, 4.0), (4, 8.1), (16, 31)]}, [(2, 4), (16, 32)]
)


def drawn(*rows: Row) -> ElementTree.Element:
    tree = line_charts.draw("Title & <more>", "dashed: the best", rows).tree
    return ElementTree.fromstring(ElementTree.tostring(tree.getroot()))


def texts(picture: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in picture.iter(f"{SVG}text")]


def test_axes_labels_values_and_titles_are_there() -> None:
    words = texts(drawn(Row("with a limit", [TIMES, RATES])))
    assert {"Title & <more>", "with a limit", "Total time", "Throughput"} <= {*words}
    assert words.count("active nodes") == 2
    assert {"seconds", "MB/s", "20.8", "10.3", "31.0", "dashed: the best"} <= {*words}
    assert {"2", "4", "16"} <= {*words}


def test_every_point_is_drawn_to_scale_inside_the_picture() -> None:
    picture = drawn(Row("one", [TIMES]), Row("two", [RATES]))
    _, _, width, height = map(float, picture.attrib["viewBox"].split())
    dots = [(float(e.attrib["cx"]), float(e.attrib["cy"])) for e in picture.iter(f"{SVG}circle")]
    assert len(dots) == 6
    assert all(0 < x < width and 0 < y < height for x, y in dots)
    times, rates = dots[:3], dots[3:]
    assert [y for _, y in times] == sorted(y for _, y in times)
    assert [y for _, y in rates] == sorted((y for _, y in rates), reverse=True)
    assert (times[2][0] - times[1][0]) / (times[1][0] - times[0][0]) == pytest.approx(6, rel=0.02)
    assert times[0][1] < times[2][1] < rates[2][1]


def test_the_best_that_can_be_is_dashed() -> None:
    picture = drawn(Row("one", [TIMES, RATES]))
    lines = list(picture.iter(f"{SVG}polyline"))
    assert ["stroke-dasharray" in line.attrib for line in lines] == [False, True, False]


def test_one_point_alone_can_be_drawn() -> None:
    assert "0.42" in texts(drawn(Row("one", [Chart("t", "x", "y", {"": [(1, 0.42)]})])))


@pytest.mark.parametrize("top", [0.0031, 0.7, 1, 9.99, 10, 33.6, 412, 123456])
def test_ticks_are_round_even_and_reach_the_top(top: float) -> None:
    found = svg.ticks(top)
    assert found[0] == 0
    assert top <= found[-1] * 1.000001
    assert 4 <= len(found) <= 8
    steps = [after - before for before, after in pairwise(found)]
    assert steps == pytest.approx([steps[0]] * len(steps))


def test_the_file_is_xml_that_says_its_encoding(tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    line_charts.save(path, "Größe", "", [Row("one", [TIMES])])
    assert path.read_bytes().startswith(b"<?xml version='1.0' encoding='utf-8'?>")
    assert ElementTree.parse(path).getroot().tag == f"{SVG}svg"


def test_several_lines_are_named_and_each_doubling_takes_the_same_space() -> None:
    lines = {"even": [(2, 1.05), (4, 1.1), (64, 1.2)], "uneven": [(2, 1.0), (4, 1.2), (64, 1.3)]}
    picture = drawn(Row("one", [Chart("t", "x", "y", lines, doubling=True, start=1.0)]))

    words = texts(picture)
    dots = [float(e.attrib["cx"]) for e in picture.iter(f"{SVG}circle")][:3]
    assert {"even", "uneven", "1.05", "1.30"} <= {*words}
    assert (dots[2] - dots[1]) / (dots[1] - dots[0]) == pytest.approx(4, rel=0.02)
