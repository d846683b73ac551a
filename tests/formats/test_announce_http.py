"""Announces over HTTP: the query of a client, the reply of a tracker."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.errors import FormatError
from p2pfs.formats import bencode
from p2pfs.formats.announce_http import (
    DEFAULT_INTERVAL,
    MAX_QUERY,
    NEVER,
    AnnounceReply,
    AnnounceRequest,
    Event,
    PackedReply,
    PeerAddress,
    encode_failure,
    encode_query,
    encode_reply,
    parse_query,
    parse_reply,
)
from p2pfs.formats.endpoint import pack_host
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
)


def without(name: bytes) -> bytes:
    return b"&".join(part for part in QUERY.split(b"&") if not part.startswith(name + b"="))


# -- the query


@given(requests)
@settings(max_examples=100)
def test_a_query_is_read_back(request: AnnounceRequest) -> None:
    assert parse_query(encode_query(request)) == request


def test_the_source_address_is_the_one_the_server_saw_and_never_the_one_claimed() -> None:
    request = parse_query(QUERY + b"&ip=9.9.9.9&ipv4=9.9.9.9", "1.2.3.4")

    assert request == replace(REQUEST, ip="1.2.3.4")


def test_raw_bytes_of_an_info_hash_need_no_quoting_where_http_allows_them() -> None:
    query = QUERY.replace(b"info_hash=" + b"".join(b"%%%02X" % n for n in range(236, 256)), b"")

    request = parse_query(b"info_hash=abcdefghij+/*~!'()%00%ff&" + query)

    assert request.torrent_id.v1 == b"abcdefghij+/*~!'()\x00\xff"


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


# -- the reply


def test_a_packed_reply_is_read_back() -> None:
    body = encode_reply(
        PackedReply(
            interval=300,
            min_interval=30,
            complete=1,
            incomplete=2,
            downloaded=3,
            peers=b"\1\2\3\4\0\5",
            peers6=pack_host("2001:db8::1") + b"\0\6",
            external_ip=b"\5\6\7\x08",
            tracker_id=b"id",
            warning="take care",
        )
    )

    assert parse_reply(body) == AnnounceReply(
        interval=300,
        min_interval=30,
        peers=(PeerAddress("1.2.3.4", 5), PeerAddress("2001:db8::1", 6)),
        complete=1,
        incomplete=2,
        downloaded=3,
        warning="take care",
        tracker_id=b"id",
        external_ip="5.6.7.8",
    )


def test_a_reply_in_dictionary_form_is_read_back() -> None:
    peers = (
        PeerAddress("1.2.3.4", 5, PeerId(b"p" * 20)),
        PeerAddress("2001:db8::1", 6),
    )

    body = encode_reply(PackedReply(interval=300, listed=peers))

    assert parse_reply(body).peers == peers
    assert isinstance(bencode.decode(body)[b"peers"], list)  # type: ignore[call-overload, index]


def test_dictionary_peers_may_have_names_or_nonsense() -> None:
    entries = [
        {b"ip": b"peer.example.org", b"port": 1},
        {b"ip": b"::ffff:1.2.3.4", b"port": 2, b"peer id": b"short"},
        {b"ip": b"::1", b"port": 0},
        {b"ip": b"1.2.3.4", b"port": 70000},
        {b"ip": b"1.2.3.4", b"port": -1},
        {b"ip": b"0.0.0.0", b"port": 5},
        {b"ip": b"255.255.255.255", b"port": 5},
        {b"ip": b"1.2.3", b"port": 5},
        {b"ip": b"-x\x1b[0m", b"port": 5},
        {b"ip": b"a" * 5000, b"port": 5},
        {b"ip": 5, b"port": 5},
        {b"port": 5},
        b"text",
        7,
    ]

    reply = parse_reply(bencode.encode({b"interval": 9, b"peers": entries}))  # type: ignore[dict-item]

    assert reply.peers == (PeerAddress("peer.example.org", 1), PeerAddress("1.2.3.4", 2))


def test_a_peer_that_comes_twice_is_kept_once() -> None:
    assert len(parse_reply(b"d5:peers12:\1\2\3\4\0\5\1\2\3\4\0\5e").peers) == 1


def test_a_packed_list_of_the_wrong_length_gives_its_whole_peers() -> None:
    assert parse_reply(b"d5:peers8:\1\2\3\4\0\5\1\2e").peers == (PeerAddress("1.2.3.4", 5),)


def test_keys_in_the_wrong_order_are_accepted() -> None:
    reply = parse_reply(b"d5:peers0:8:intervali60e8:completei4ee")

    assert (reply.interval, reply.complete) == (60, 4)


@pytest.mark.parametrize("value", [b"i-1e", b"i0e", b"3:abc", b"le"])
def test_a_senseless_interval_becomes_the_default(value: bytes) -> None:
    assert parse_reply(b"d8:interval" + value + b"5:peers0:e").interval == DEFAULT_INTERVAL


def test_a_huge_interval_stays_a_number() -> None:
    assert parse_reply(b"d8:intervali99999999999999999999e5:peers0:e").interval == 2**63 - 1


def test_a_failure_beats_everything_else() -> None:
    reply = parse_reply(b"d14:failure reason2:no8:intervali60e5:peers6:\1\2\3\4\0\5e")

    assert reply == AnnounceReply(failure="no")


@pytest.mark.parametrize(("seconds", "told"), [(None, None), (90, 120), (NEVER, NEVER), (0, 0)])
def test_a_failure_says_when_to_come_back(seconds: int | None, told: int | None) -> None:
    assert parse_reply(encode_failure("busy", seconds)) == AnnounceReply(
        failure="busy", retry_in=told
    )


@pytest.mark.parametrize(
    ("value", "expected"), [(b"1:5", 300), (b"i5e", 300), (b"1:x", None), (b"i-5e", None)]
)
def test_the_time_to_come_back_is_read_in_either_form(value: bytes, expected: int | None) -> None:
    reply = parse_reply(b"d14:failure reason1:x8:retry in" + value + b"e")

    assert reply.retry_in == expected


def test_a_failure_that_is_no_text_is_still_a_failure() -> None:
    assert parse_reply(b"d14:failure reasoni5ee").failure == "no reason given"


@pytest.mark.parametrize("body", [b"", b"i1e", b"le", b"<html>", b"d", b"d5:peers0:eX", b"x" * 100])
def test_what_is_no_reply_is_refused(body: bytes) -> None:
    with pytest.raises(FormatError):
        parse_reply(body)


@given(
    st.binary(max_size=200)
    | st.dictionaries(
        st.sampled_from([b"peers", b"peers6", b"interval", b"external ip", b"failure reason"]),
        st.binary(max_size=40) | st.integers(-(2**70), 2**63) | st.lists(st.integers(0, 9)),
    ).map(lambda value: bencode.encode(value) if fits(value) else b"de")
)
@settings(max_examples=150)
def test_any_reply_raises_only_the_declared_error(body: bytes) -> None:
    with contextlib.suppress(FormatError):
        parse_reply(body)


def fits(value: dict[bytes, object]) -> bool:
    return all(not isinstance(each, int) or abs(each) < 10**19 for each in value.values())


def test_a_reply_cut_short_anywhere_is_refused() -> None:
    body = encode_reply(PackedReply(interval=300, peers=b"\1\2\3\4\0\5", warning="x"))

    for length in range(len(body)):
        with pytest.raises(FormatError):
            parse_reply(body[:length])
