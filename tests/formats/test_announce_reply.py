"""Replies of trackers: ours are canonical, those of others are read as far as they make sense."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.errors import FormatError
from p2pfs.formats import bencode
from p2pfs.formats.announce_reply import (
    DEFAULT_INTERVAL,
    NEVER,
    AnnounceReply,
    PackedReply,
    encode_failure,
    encode_reply,
    parse_reply,
)
from p2pfs.formats.endpoint import PeerAddress, pack_host
from p2pfs.geometry import PeerId


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


@given(
    st.builds(
        PackedReply,
        interval=st.integers(0, 2**31),
        min_interval=st.none() | st.integers(0, 2**31),
        complete=st.integers(0, 2**31),
        incomplete=st.integers(0, 2**31),
        downloaded=st.none() | st.integers(0, 2**31),
        peers=st.binary(max_size=30),
        peers6=st.binary(max_size=40),
        listed=st.none() | st.just([PeerAddress("1.2.3.4", 5)]),
        external_ip=st.sampled_from([b"", b"1234"]),
        tracker_id=st.none() | st.binary(max_size=5),
        warning=st.none() | st.text(max_size=5),
    )
)
@settings(max_examples=50)
def test_every_reply_is_canonical_bencode(answer: PackedReply) -> None:
    body = encode_reply(answer)

    assert bencode.encode(bencode.decode(body, strict_order=True)) == body


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
