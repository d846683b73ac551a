"""Headers of HTTP about parts of files, and about waiting."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfs.formats.http_range import (
    ContentRange,
    byte_range,
    parse_content_range,
    parse_retry_after,
)

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def test_a_range_names_its_first_and_its_last_byte():
    assert byte_range(0, 1) == "bytes=0-0"
    assert byte_range(16384, 16384) == "bytes=16384-32767"


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("bytes 0-0/1", ContentRange(0, 0, 1)),
        (" Bytes 5-9/10 ", ContentRange(5, 9, 10)),
        ("bytes 5-9/*", ContentRange(5, 9, None)),
        ("bytes */10", None),
        ("bytes 9-5/10", None),
        ("bytes 5-10/10", None),
        ("bytes=5-9/10", None),
        ("bytes +5-9/10", None),
        ("bytes 5-9/1_0", None),
        ("bytes ٥-9/10", None),
        ("bytes 5-" + "9" * 5000 + "/*", None),
        ("pages 5-9/10", None),
        ("", None),
    ],
)
def test_the_part_that_an_answer_claims_to_be_is_read_strictly(value, read):
    assert parse_content_range(value) == read


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Wed, 01 May 2024 12:01:30 GMT", 90.0),
        ("Wed, 01 May 2024 11:00:00 GMT", 0.0),
        ("-5", None),
        ("1e9", None),
        ("9" * 5000, None),
        ("soon", None),
        ("", None),
    ],
)
def test_when_to_ask_again_is_a_number_of_seconds_or_a_date(value, seconds):
    assert parse_retry_after(value, NOON) == seconds


@given(st.text(max_size=80))
def test_whatever_a_server_writes_is_understood_or_passed_over(value):
    parse_content_range(value)
    wait = parse_retry_after(value, NOON)
    assert wait is None or wait >= 0
