"""Bencode (BEP 3): what is read, what is refused, and what it costs."""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from dataclasses import replace

import bencodepy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.errors import BencodeError
from p2pfs.formats.bencode import (
    METAINFO_LIMITS,
    REPLY_LIMITS,
    WIRE_LIMITS,
    Limits,
    decode,
    decode_prefix,
    decode_with_span,
    encode,
)

values = st.recursive(
    st.binary(max_size=12) | st.integers(-(10**20) + 1, 10**20 - 1),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)
# Bytes that are nearly bencode find more than bytes that are not.
nearly = st.lists(
    st.sampled_from(
        [b"d", b"l", b"e", b"i", b"0", b"1", b"-", b":", b"i1e", b"1:a", b"1:b", b"0:", b"4:info"]
    ),
    max_size=24,
).map(b"".join)

GOOD = [
    (b"i0e", 0),
    (b"i-1e", -1),
    (b"i18446744073709551615e", 2**64 - 1),
    (b"0:", b""),
    (b"3:abc", b"abc"),
    (b"le", []),
    (b"de", {}),
    (b"l1:ai2ee", [b"a", 2]),
    (b"d1:ad1:blee1:ci3ee", {b"a": {b"b": []}, b"c": 3}),
    (b"ld1:ai1eed1:ai2eee", [{b"a": 1}, {b"a": 2}]),
]

BAD = [
    (b"", "ends too early"),
    (b"i-0e", "not an integer"),
    (b"i03e", "not an integer"),
    (b"ie", "not an integer"),
    (b"i-e", "not an integer"),
    (b"i+3e", "not an integer"),
    (b"i 3e", "not an integer"),
    (b"i3 e", "not an integer"),
    (b"i1_0e", "not an integer"),
    (b"i3\ne", "not an integer"),
    (b"i0x1e", "not an integer"),
    (b"i1.0e", "not an integer"),
    ("i\u0663e".encode(), "not an integer"),
    (b"i-03e", "not an integer"),
    (b"i" + b"9" * 21 + b"e", "not an integer of at most 20 digits"),
    (b"i" + b"9" * 100_000 + b"e", "not an integer of at most 20 digits"),
    (b"i3", "not an integer"),
    (b"03:abc", "length of a string"),
    (b"00:", "length of a string"),
    (b"-1:a", "length of a string"),
    (b"+3:abc", "length of a string"),
    (b"1_0:abcdefghij", "length of a string"),
    (b"3 :abc", "length of a string"),
    (b"9999999999999999999:a", "length of a string"),
    (b"9999999999:a", "only 1 are left"),
    (b"4:abc", "a string of 4 bytes, but only 3 are left"),
    (b"3", "length of a string"),
    (b"e", "an end without a beginning"),
    (b"l", "ends too early"),
    (b"d", "ends too early"),
    (b"d1:a", "ends too early"),
    (b"d1:ae", "a key without a value"),
    (b"di1e1:ae", "a key that is not a string"),
    (b"dlei1ee", "a key that is not a string"),
    (b"d1:ai1e1:ai2ee", "the key 'a' comes twice"),
    (b"d1:ai1e1:bi1e1:ai2ee", "the key 'a' comes twice"),
    (b"ld1:ai1e1:ai2eee", "the key 'a' comes twice"),
    (b"x", "begins no value"),
    (b"l?e", "begins no value"),
    (b"i1ei2e", "3 bytes follow the end"),
    (b"le\n", "1 bytes follow the end"),
    (b"\xef\xbb\xbfde", "begins no value"),
]


@pytest.mark.parametrize(("data", "value"), GOOD)
def test_good_values_are_read(data, value):
    assert decode(data) == value
    assert decode(bytearray(data)) == decode(memoryview(data)) == value
    assert decode(data, strict_order=True) == value
    assert encode(value) == data


@pytest.mark.parametrize(("data", "value"), GOOD)
def test_every_shorter_beginning_of_a_value_is_refused(data, value):
    for stop in range(len(data)):
        with pytest.raises(BencodeError):
            decode(data[:stop])


@pytest.mark.parametrize(("data", "value"), GOOD)
def test_bytes_after_the_value_are_refused_or_located(data, value):
    for rest in (b"\0", b"e", b"i1e", data, b"\xff" * 100):
        with pytest.raises(BencodeError, match=f"{len(rest)} bytes follow"):
            decode(data + rest)
        assert decode_prefix(data + rest, WIRE_LIMITS) == (value, len(data))


@pytest.mark.parametrize(("data", "reason"), BAD)
def test_what_is_not_bencode_is_refused_with_the_reason(data, reason):
    with pytest.raises(BencodeError) as caught:
        decode(data)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 150
    assert str(caught.value).isprintable()


def test_the_reason_names_the_byte():
    with pytest.raises(BencodeError, match="byte 6: "):
        decode(b"l3:abci03ee")


def test_keys_out_of_order_are_read_unless_order_is_asked_for():
    data = b"d1:bi1e1:ai2ee"

    assert decode(data) == {b"a": 2, b"b": 1}
    with pytest.raises(BencodeError, match="not in order"):
        decode(data, strict_order=True)


def test_keys_are_written_in_the_order_of_their_raw_bytes():
    written = encode({"é".encode(): 1, b"name.utf-8": 2, b"name": 3, b"Z": 4, b"": 5})

    assert written == b"d0:i5e1:Zi4e4:namei3e10:name.utf-8i2e2:\xc3\xa9i1ee"


@pytest.mark.parametrize(
    "value",
    [
        "text",
        True,
        [False],
        None,
        1.0,
        {"key": 1},
        {1: 1},
        {b"a": {b"b": "text"}},
        bytearray(b"a"),
        10**20,
        -(10**20),
        {1, 2},
    ],
)
def test_what_could_not_be_read_back_is_not_written(value):
    with pytest.raises(BencodeError):
        encode(value)


def test_an_integer_too_long_for_python_to_print_is_not_written():
    with pytest.raises(BencodeError, match="20 digits"):
        encode([10**5000])


def test_a_value_that_holds_itself_is_refused():
    loop: list[object] = []
    loop += [loop, loop]

    with pytest.raises(BencodeError, match="nested deeper"):
        encode(loop)


def test_tuples_are_written_as_lists():
    assert encode((b"a", (1,))) == b"l1:ali1eee"


@pytest.mark.parametrize(
    ("data", "span"),
    [
        (b"d4:infod1:bi1e1:ai2ee1:zi3ee", b"d1:bi1e1:ai2ee"),
        (b"d4:infodee", b"de"),
        (b"d1:ai1e4:infoi-7ee", b"i-7e"),
        (b"d1:zle4:info3:abc1:ad4:infoi1eee", b"3:abc"),
        (b"d4:infoll1:eeee", b"ll1:eee"),
        (b"d1:a4:info4:infole1:bdee", b"le"),
    ],
)
def test_the_span_is_the_raw_value_of_the_key_of_the_root(data, span):
    value, where = decode_with_span(data, b"info")

    assert where is not None
    assert data[where[0] : where[1]] == span
    assert value[b"info"] == decode(span)


def test_a_key_further_down_or_a_value_like_it_has_no_span():
    assert decode_with_span(b"d1:ad4:infoi1eee", b"info")[1] is None
    assert decode_with_span(b"d1:a4:infoe", b"info")[1] is None
    assert decode_with_span(b"de", b"info") == ({}, None)


@pytest.mark.parametrize("data", [b"le", b"i1e", b"4:info", b"l4:infoi1ee"])
def test_a_span_is_only_taken_from_a_dictionary(data):
    with pytest.raises(BencodeError, match="not a dictionary"):
        decode_with_span(data, b"info")


def test_nesting_is_allowed_up_to_the_limit_and_refused_beyond():
    for limits in (METAINFO_LIMITS, REPLY_LIMITS, WIRE_LIMITS):
        depth = limits.max_depth
        assert decode(b"l" * depth + b"e" * depth, limits) is not None
        with pytest.raises(BencodeError, match=f"byte {depth}: nested deeper than {depth}"):
            decode(b"l" * (depth + 1) + b"e" * (depth + 1), limits)
        with pytest.raises(BencodeError, match="nested deeper"):
            decode(b"d1:a" * 100_000, limits)


def test_bytes_and_tokens_are_capped():
    limits = Limits(max_bytes=20, max_depth=4, max_tokens=5)

    assert decode(b"l" + b"0:" * 3 + b"e", limits) == [b""] * 3
    with pytest.raises(BencodeError, match="more than 5 values"):
        decode(b"l" + b"0:" * 4 + b"e", limits)
    with pytest.raises(BencodeError, match="21 bytes are more than the 20"):
        decode(b"18:" + bytes(18), limits)


LARGE = {
    "empty strings": b"l" + b"0:" * 500_000 + b"e",
    "keys": b"d" + b"".join(b"7:%07d0:" % n for n in range(100_000)) + b"e",
    "a length": b"1" * 1_000_000,
    "an integer": b"i" + b"1" * 1_000_000,
    "empty lists": b"l" + b"le" * 500_000,
    "integers": b"l" + b"i1e" * 300_000,
    "nested lists": b"l" * 1_000_000,
    "lengths": b"l" + b"1:" * 400_000,
    "strings beyond the end": b"l" + b"999999:" * 140_000,
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_megabyte_of_anything_takes_about_a_second_at_most(kind):
    start = time.thread_time()

    with contextlib.suppress(BencodeError):
        decode(LARGE[kind])
    assert time.thread_time() - start < 5


@pytest.mark.parametrize("unit", [b"d0:lee", b"d2:ip7:1.2.3.44:porti1ee", b"l1:ae"])
def test_the_largest_tracker_reply_takes_at_most_16_mib(unit):
    share = 16  # the bound is linear: a sixteenth of the reply in a sixteenth of the memory
    limits = replace(
        REPLY_LIMITS,
        max_bytes=REPLY_LIMITS.max_bytes // share,
        max_tokens=REPLY_LIMITS.max_tokens // share,
    )
    data = b"l" + unit * ((limits.max_bytes - 2) // len(unit)) + b"e"

    tracemalloc.start()
    with contextlib.suppress(BencodeError):
        decode(data, limits)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 1024 * 1024 // share


@given(values)
def test_what_is_written_is_read_back(value):
    written = encode(value)

    assert decode(written, strict_order=True) == value
    assert written == bencodepy.encode(value)
    assert decode_prefix(written + b"rest") == (value, len(written))


@given(values, st.data())
def test_one_byte_changed_gives_a_value_or_the_declared_error(value, data):
    written = bytearray(encode(value))
    written[data.draw(st.integers(0, len(written) - 1))] = data.draw(st.integers(0, 255))
    try:
        changed = decode(written)
    except BencodeError:
        return
    assert decode(encode(changed)) == changed


@settings(max_examples=300)
@given(nearly | st.binary(max_size=40))
def test_any_bytes_give_a_value_or_the_declared_error(data):
    try:
        value = decode(data)
    except BencodeError:
        return
    assert len(encode(value)) == len(data)


@settings(max_examples=200)
@given(nearly)
def test_a_span_found_in_any_bytes_decodes_to_the_value(data):
    try:
        root, span = decode_with_span(data, b"info")
    except BencodeError:
        return
    assert (span is not None) == (b"info" in root)
    if span is not None:
        assert decode(data[slice(*span)]) == root[b"info"]
