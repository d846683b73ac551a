"""Announces over HTTP: the query of a client, the reply of a tracker."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.errors import FormatError
from p2pfs.formats.announce_http import (
    MAX_QUERY,
    AnnounceRequest,
    Event,
    encode_query,
    parse_query,
)
from p2pfs.geometry import PeerId, TorrentId

REQUEST = AnnounceRequest(
    TorrentId(bytes(range(236, 256))),
    PeerId(b"-PF0001-" + bytes(12)),
    6881,
    uploaded=1,
    downloaded=2,
    left=3,
    event=Event.STARTED,
    numwant=50,
    key=b"\x01&=\xff",
    tracker_id=b"a b",
)
QUERY = encode_query(REQUEST).encode()
requests = st.builds(
    AnnounceRequest,
    torrent_id=st.binary(min_size=20, max_size=20).map(TorrentId),
    peer_id=st.binary(min_size=20, max_size=20).map(PeerId),
    port=st.integers(0, 65535),
    uploaded=st.integers(0, 2**63 - 1),
    downloaded=st.integers(0, 2**63 - 1),
    left=st.integers(0, 2**63 - 1),
    event=st.sampled_from(Event),
    numwant=st.none() | st.integers(0, 10**6),
    compact=st.booleans(),
    no_peer_id=st.booleans(),
    key=st.none() | st.binary(max_size=20),
    tracker_id=st.none() | st.binary(max_size=20),
    ip=st.none(),
)


def without(name: bytes) -> bytes:
    return b"&".join(part for part in QUERY.split(b"&") if not part.startswith(name + b"="))


@given(requests)
@settings(max_examples=100)
def test_a_query_is_read_back(request: AnnounceRequest) -> None:
    assert parse_query(encode_query(request)) == request


def test_the_source_address_is_the_one_the_server_saw_and_never_the_one_claimed() -> None:
    request = parse_query(QUERY + b"&ip=9.9.9.9&ipv4=9.9.9.9", "1.2.3.4")

    assert request == REQUEST._replace(ip="1.2.3.4")


def test_raw_bytes_of_an_info_hash_need_no_quoting_where_http_allows_them() -> None:
    query = QUERY.replace(b"info_hash=" + b"".join(b"%%%02X" % n for n in range(236, 256)), b"")

    request = parse_query(b"info_hash=abcdefghij+/*~!'()%00%ff&" + query)

    assert request.torrent_id.v1 == b"abcdefghij+/*~!'()\x00\xff"


@pytest.mark.parametrize(
    "extra", [b"", b"&", b"&&", b"&x", b"&x=", b"&=", b"&=x", b"&x=y=z", b"&" + b"x=y&" * 100]
)
def test_what_else_stands_in_a_query_changes_nothing(extra: bytes) -> None:
    assert parse_query(QUERY + extra) == REQUEST
    assert parse_query(extra[1:] + b"&" + QUERY) == REQUEST


@pytest.mark.parametrize("extra", [b"&left", b"&left=", b"&left&x=y", b"&left=5=5"])
def test_a_second_value_is_refused_whatever_it_looks_like(extra: bytes) -> None:
    with pytest.raises(FormatError, match="left is given twice"):
        parse_query(QUERY + extra)


@pytest.mark.parametrize("name", [b"info_hash", b"peer_id", b"port", b"left"])
def test_a_missing_parameter_is_named(name: bytes) -> None:
    with pytest.raises(FormatError, match=name.decode()):
        parse_query(without(name))


@pytest.mark.parametrize("name", [b"uploaded", b"downloaded", b"event", b"compact", b"key"])
def test_the_others_may_be_missing(name: bytes) -> None:
    assert parse_query(without(name)).port == 6881


def test_left_may_be_missing_when_the_client_stops() -> None:
    query = without(b"left").replace(b"event=started", b"event=stopped")

    assert parse_query(query).event is Event.STOPPED


@pytest.mark.parametrize("length", [0, 19, 21, 40])
@pytest.mark.parametrize("name", [b"info_hash", b"peer_id"])
def test_an_identity_of_another_length_is_refused(name: bytes, length: int) -> None:
    with pytest.raises(FormatError, match=f"{name.decode()} has {length} bytes"):
        parse_query(without(name) + b"&" + name + b"=" + b"x" * length)


@pytest.mark.parametrize(
    "value",
    [b"", b"x", b"-1", b"+1", b"1.0", b"0x1", b" 1", b"1_0", "٣".encode(), b"65536", b"9" * 30],
)
def test_a_port_that_is_none_is_refused(value: bytes) -> None:
    with pytest.raises(FormatError, match="port"):
        parse_query(without(b"port") + b"&port=" + value)


def test_port_0_is_read() -> None:
    assert parse_query(without(b"port") + b"&port=0").port == 0


def test_an_unknown_amount_left_as_some_clients_write_it_is_capped() -> None:
    query = without(b"left") + b"&left=18446744073709551615"

    assert parse_query(query).left == 2**63 - 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"-1", None), (b"-99999", None), (b"0", 0), (b"30", 30), (b"99999999999", 99999999999)],
)
def test_a_negative_numwant_leaves_the_choice_to_the_tracker(
    value: bytes, expected: int | None
) -> None:
    assert parse_query(without(b"numwant") + b"&numwant=" + value).numwant == expected


def test_a_numwant_that_is_no_number_is_refused() -> None:
    with pytest.raises(FormatError, match="numwant"):
        parse_query(without(b"numwant") + b"&numwant=many")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"started", Event.STARTED),
        (b"completed", Event.COMPLETED),
        (b"stopped", Event.STOPPED),
        (b"paused", Event.PAUSED),
        (b"", Event.NONE),
        (b"empty", Event.NONE),
        (b"dancing", Event.NONE),
    ],
)
def test_events_are_known_by_name(value: bytes, expected: Event) -> None:
    assert parse_query(without(b"event") + b"&event=" + value).event is expected


def test_a_parameter_twice_is_refused_unless_it_says_the_same() -> None:
    assert parse_query(QUERY + b"&port=6881").port == 6881
    with pytest.raises(FormatError, match="port is given twice"):
        parse_query(QUERY + b"&port=6882")


def test_a_huge_query_is_refused() -> None:
    with pytest.raises(FormatError, match="longer than"):
        parse_query(QUERY + b"&x=" + b"x" * MAX_QUERY)


@given(st.binary(max_size=300) | st.text(max_size=300))
@settings(max_examples=100)
def test_any_query_raises_only_the_declared_error(query: bytes | str) -> None:
    with contextlib.suppress(FormatError):
        parse_query(query)


@given(st.integers(0, len(QUERY)), st.binary(max_size=5))
@settings(max_examples=100)
def test_a_damaged_query_raises_only_the_declared_error(place: int, junk: bytes) -> None:
    with contextlib.suppress(FormatError):
        parse_query(QUERY[:place] + junk + QUERY[place:])
