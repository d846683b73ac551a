"""Small cells of the matrix with foreign clients, over loopback; `make interop` runs all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from interop_cells import Cell, NotRun, make_content, run_cell, tree
from interop_clients import CLIENTS
from interop_report import Outcome, Row, page

pytestmark = pytest.mark.slow

SIZE = 1_500_007
SMALL = pytest.mark.parametrize(
    ("client", "magnet", "scheme"),
    [
        pytest.param(client, magnet, scheme, id=f"{client.name} {'magnet' if magnet else scheme}")
        for client in CLIENTS
        if client.loopback
        for magnet, scheme in [(False, "http"), (True, "udp")]
        if magnet or client.name != "libtorrent"  # more with that one: test_libtorrent.py
    ],
)


def run(tmp_path: Path, client, cell: Cell) -> None:
    place = tmp_path / "cell"
    place.mkdir()
    try:
        run_cell(client, cell, make_content(tmp_path, SIZE), place, loopback=True)
    except NotRun as reason:
        pytest.skip(str(reason))


@SMALL
def test_a_foreign_client_seeds_several_files_to_us(tmp_path, client, magnet, scheme):
    run(tmp_path, client, Cell(seeds=True, magnet=magnet, scheme=scheme))


@SMALL
def test_a_foreign_client_downloads_several_files_from_us(tmp_path, client, magnet, scheme):
    run(tmp_path, client, Cell(seeds=False, magnet=magnet, scheme=scheme))


def test_the_content_of_the_matrix_has_the_size_that_was_asked_for(tmp_path):
    folder = make_content(tmp_path, SIZE)

    assert len(tree(folder)) == 4
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) == SIZE


def test_the_page_tells_each_reason_once_below_its_tables():
    row = Row("aria2", "1.36.0")
    row.outcomes = {"a": Outcome(1.25), "b": Outcome(not_run="no | rights")}
    other = Row("rtorrent", None, setting="this is off")
    other.outcomes = {"a": Outcome(not_run="no | rights"), "b": Outcome(failed="x")}

    section = ("They seed", {"a": "one", "b": "two"}, [row, other])
    text = page(64, "", [section, section])

    assert "| aria2 1.36.0 | yes, 1.2 s | not run (1) |" in text
    assert "| rtorrent | not run (1) | failed (2) |" in text
    assert text.count("In rtorrent this is off.\n") == 1
    assert text.endswith("(1) no \\| rights\n\n(2) x\n")
