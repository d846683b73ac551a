"""Rates and sizes as people write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfs.cli.units import format_duration, format_rate, format_size, parse_rate, parse_size
from p2pfs.errors import UsageError


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("500", 500),
        ("500k", 500_000),
        ("2M", 2_000_000),
        ("1.5M", 1_500_000),
        ("1G", 10**9),
        ("3MB/s", 3_000_000),
        ("3 mb/s", 3_000_000),
        ("0.5k", 500),
        ("0", None),
        ("0M", None),
    ],
)
def test_rates_are_decimal(text: str, rate: int | None) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16384", 16384),
        ("16K", 16384),
        ("16KiB", 16384),
        ("16kib", 16384),
        ("1MiB", 2**20),
        ("1M", 2**20),
        ("0.5MiB", 2**19),
        ("2GiB", 2**31),
        ("512B", 512),
    ],
)
def test_sizes_are_binary(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1_0", "+3", "1e6", "3T", "٣k", "1.k", "k", "0.1"])
def test_what_is_not_a_rate_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_rate(text)


@pytest.mark.parametrize("text", ["", "0", "x", "-1", "1MB", "1kB", "3T", "1e6", "0.1"])
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


@given(st.text(max_size=12))
@settings(max_examples=100)
def test_any_text_is_a_number_or_a_usage_error(text: str) -> None:
    for parse in (parse_rate, parse_size):
        try:
            value = parse(text)
        except UsageError:
            continue
        assert value is None or value > 0


def test_figures_are_written_with_their_unit() -> None:
    assert format_size(0) == "0 B"
    assert format_size(1023) == "1023 B"
    assert format_size(20 * 1024) == "20.0 KiB"
    assert format_size(8.1 * 2**20) == "8.1 MiB"
    assert format_size(2**50) == "1024 TiB"
    assert format_rate(0) == "0 B/s"
    assert format_rate(999.9) == "1.0 kB/s"
    assert format_rate(3_140_000) == "3.1 MB/s"
    assert format_rate(650_000_000) == "650 MB/s"
    assert format_duration(None) == "--"
    assert format_duration(float("inf")) == "--"
    assert format_duration(6.6) == "7 s"
    assert format_duration(185) == "3:05"
    assert format_duration(3612) == "1:00:12"
