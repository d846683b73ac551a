"""The wire between our downloader and a libtorrent seeder, read along by a relay."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from record_session import FENCE, NAMES, PAGE, SIZE, lines, record

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libtorrent") is None, reason="libtorrent is not installed"
)


def test_a_session_with_libtorrent_is_recorded_message_by_message(tmp_path):
    heard = record(tmp_path)

    names = {way: [text.partition(":")[0] for w, text in heard if w == way] for way in ("->", "<-")}
    assert names["->"][0] == names["<-"][0] == "handshake"
    assert "extended" in names["->"]
    assert "extended" in names["<-"]
    assert "interested" in names["->"]
    assert names["->"].count("request") >= SIZE // 16384
    assert names["<-"].count("piece") >= SIZE // 16384
    assert {*names["->"], *names["<-"]} <= {"handshake", *NAMES.values()}
    ours = next(text for way, text in heard if way == "->" and text.startswith("extended"))
    assert "1:piPORTe" in ours


def test_what_is_repeated_is_counted_and_each_kind_is_explained_once():
    heard = [("->", "request"), ("->", "request"), ("<-", "piece"), ("->", "request")]

    first, second, third = lines(heard)

    assert first.startswith("-> request x 2   # ")
    assert second.startswith("<- piece   # ")
    assert third == "-> request"


def test_the_page_shows_a_recorded_session():
    shown = PAGE.read_text(encoding="utf-8").partition(FENCE)[2].partition("```")[0]

    assert shown.startswith("-> handshake: ")
    assert "<- piece" in shown
