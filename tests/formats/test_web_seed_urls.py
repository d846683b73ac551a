"""Where a web seed has the files of a torrent (BEP 19)."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfs.formats.web_seed_urls import file_url, web_seed_name


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("http://host/file.iso", "http://host/file.iso"),
        ("http://host/pub/", "http://host/pub/a%20b.iso"),
        ("http://host", "http://host/a%20b.iso"),
        ("https://user:pass@host:8080/x/", "https://user:pass@host:8080/x/a%20b.iso"),
        ("http://host/get?file=7", "http://host/get?file=7"),
        ("http://host/pub/?key=7", "http://host/pub/a%20b.iso?key=7"),
        ("http://host/pub/#part", "http://host/pub/a%20b.iso"),
        ("http://host/ü%20x", "http://host/%C3%BC%20x"),
    ],
)
def test_the_url_of_one_file_is_that_file_and_a_slash_at_its_end_adds_the_name(url, where):
    assert file_url(url, "a b.iso", None) == where


@pytest.mark.parametrize("url", ["http://host/pub", "http://host/pub/"])
def test_a_file_of_many_lies_below_the_name_each_part_encoded(url):
    where = file_url(url, "an album", ("disc #1", "50% über?.ogg"))

    assert where == "http://host/pub/an%20album/disc%20%231/50%25%20%C3%BCber%3F.ogg"


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=2, max_size=4))
def test_no_name_reaches_beyond_its_own_part_of_the_path(names):
    where = file_url("http://host/pub/?key=7", names[0], names[1:])

    parts = urlsplit(where)
    assert where.isascii()
    assert (parts.netloc, parts.query, parts.fragment) == ("host", "key=7", "")
    assert [unquote(part) for part in parts.path.split("/")[2:]] == names


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://Host/x", "host"),
        ("https://user:secret@host:81/", "host:81"),
        ("http://[::1]:8000/x", "[::1]:8000"),
        ("ftp://host/x", None),
        ("file:///etc/passwd", None),
        ("http:///x", None),
        ("http://[broken/x", None),
        ("http://host:0/", None),
        ("http://host:99999/", None),
    ],
)
def test_a_web_seed_is_called_by_its_host_and_only_http_is_one(url, name):
    assert web_seed_name(url) == name
