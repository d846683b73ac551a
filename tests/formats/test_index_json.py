"""Answers of an index: read into values, or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfs.errors import FormatError
from p2pfs.formats.index_json import (
    Listed,
    NodeInfo,
    Registered,
    parse_candidates,
    parse_entry,
    parse_lease,
    parse_listing,
    parse_nodes,
    parse_object,
)

ENTRY: dict[str, Any] = {
    "name": "2024/ä.jpg",
    "size": 5,
    "info_hash": "AB" * 20,
    "published": 1_700_000_000,
    "files": 1,
    "seeders": 2,
    "leechers": 3,
    "downloaded": 4,
    "live": True,
    "unconfirmed": False,
}
NODE: dict[str, Any] = {
    "id": "1",
    "host": "10.0.0.7",
    "port": 9000,
    "files": 10,
    "since": 1_700_000_000,
    "unconfirmed": True,
}
LEASE: dict[str, Any] = {
    "id": "1",
    "host": "10.0.0.7",
    "port": 9000,
    "lease": 30,
    "renew_every": 10.5,
    "unknown": ["CD" * 20],
}
LISTED = Listed("2024/ä.jpg", 5, "ab" * 20, 1_700_000_000, 2, 3, 4, 1, True, False)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def test_entries_nodes_and_leases_become_values() -> None:
    assert parse_entry(encoded(ENTRY)) == LISTED
    assert parse_listing(encoded({"torrents": [ENTRY], "total": 7})) == ([LISTED], 7)
    assert parse_candidates({"candidates": [ENTRY]}) == [LISTED]
    assert parse_nodes(encoded({"nodes": [NODE]})) == [NodeInfo(**NODE)]
    assert parse_lease(encoded(LEASE)) == Registered(30.0, 10.5, ("cd" * 20,))


@pytest.mark.parametrize("name", ENTRY)
@given(value=JSON)
def test_a_wrong_field_is_refused_or_read_as_its_kind(name: str, value: object) -> None:
    try:
        entry = parse_entry(encoded(ENTRY | {name: value}))
    except FormatError:
        return
    assert type(getattr(entry, name)) is type(getattr(LISTED, name))


@given(JSON)
def test_any_json_is_read_or_refused(value: object) -> None:
    body = encoded(value)
    for parse in (parse_object, parse_entry, parse_listing, parse_nodes, parse_lease):
        try:
            parse(body)
        except FormatError:
            continue


@given(st.binary())
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        parse_listing(body)
    except FormatError:
        return


@pytest.mark.parametrize(
    "change",
    [
        {"lease": 0},
        {"lease": -1},
        {"lease": True},
        {"lease": 1e9},
        {"lease": float("nan")},
        {"renew_every": "10"},
        {"renew_every": None},
        {"unknown": None},
        {"unknown": ["x"]},
        {"unknown": [5]},
    ],
)
def test_a_lease_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        parse_lease(encoded(LEASE | change))


@pytest.mark.parametrize("name", ["id", "host", "port", "files", "since", "unconfirmed"])
def test_a_node_lacks_nothing(name: str) -> None:
    with pytest.raises(FormatError):
        parse_nodes(encoded({"nodes": [NODE | {name: None}]}))


@pytest.mark.parametrize("total", [None, "1", 1.5, True, -1])
def test_a_page_says_how_many_there_are(total: object) -> None:
    with pytest.raises(FormatError, match="total"):
        parse_listing(encoded({"torrents": [], "total": total}))


def test_a_name_beyond_all_bounds_is_refused() -> None:
    with pytest.raises(FormatError, match="name"):
        parse_entry(encoded(ENTRY | {"name": "x" * 10_000}))


def test_an_error_with_senseless_candidates_has_none() -> None:
    assert parse_candidates({"candidates": ["a@0000"]}) == []
    assert parse_candidates({}) == []


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(FormatError, match="not JSON"):
        parse_object(b"[" * 100_000)
