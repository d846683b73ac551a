"""Rates and sizes as people write and read them.

Invariant: a rate counts decimal units (k = 1,000 bytes a second), a size binary ones
(K = KiB = 1,024 bytes); every value in the program is plain bytes or bytes a second.
"""

from __future__ import annotations

import re

from p2pfs.errors import UsageError

__all__ = [
    "format_duration",
    "format_rate",
    "format_size",
    "parse_rate",
    "parse_size",
    "rate_option",
]

_NUMBER = r"(?P<whole>[0-9]{1,15})(?:\.(?P<part>[0-9]{1,9}))?"
_RATE = re.compile(_NUMBER + r"\s*(?P<unit>[kKmMgG]?)[bB]?(?:/s)?", re.ASCII)
_SIZE = re.compile(_NUMBER + r"\s*(?:(?P<unit>[kKmMgG])(?:i?[bB]?)|[bB])?", re.ASCII)
_DECIMAL_SIZE = re.compile(r".*[kKmMgG][bB]", re.DOTALL)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3}


def _scaled(match: re.Match[str], base: int) -> int:
    part = match["part"] or ""
    factor: int = base ** _POWERS[(match["unit"] or "").lower()]
    scale: int = 10 ** len(part)
    return int(match["whole"] + part) * factor // scale


def parse_rate(text: str) -> int | None:
    """Bytes a second from `500k`, `2M`, `1.5MB/s` or plain bytes; None for 0 (no limit).

    Raises `UsageError` for anything else, and for a rate above 0 but below 1 byte a second.
    """
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a rate: write bytes a second as 500k, 2M or 1.5M")
    rate = _scaled(match, 1000)
    if rate == 0 and int(match["whole"] + (match["part"] or "")) != 0:
        raise UsageError(f"{text!r} is less than one byte a second")
    return rate or None


def rate_option(text: str | None) -> int | None:
    """The rate of an option that may be missing: bytes a second, None for no limit."""
    return None if text is None else parse_rate(text)


def parse_size(text: str) -> int:
    """Bytes from `256KiB`, `256K`, `1MiB`, `1.5G` or plain bytes (at least 1).

    Raises `UsageError` for anything else; `MB` is refused, because it is read both ways.
    """
    stripped = text.strip()
    match = _SIZE.fullmatch(stripped)
    if match is None or _DECIMAL_SIZE.fullmatch(stripped):
        raise UsageError(f"{text!r} is not a size: write it as 256KiB, 1MiB or plain bytes")
    size = _scaled(match, 1024)
    if size < 1:
        raise UsageError(f"{text!r} is less than one byte")
    return size


def _with_unit(value: float, base: int, units: tuple[str, ...]) -> str:
    power = 0
    while value >= base - 0.5 and power < len(units) - 1:
        value /= base
        power += 1
    digits = 0 if power == 0 or value >= 100 else 1
    return f"{value:.{digits}f} {units[power]}"


def format_size(count: float) -> str:
    """`512 B`, `20.0 KiB`, `8.1 MiB`."""
    return _with_unit(count, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def format_rate(rate: float) -> str:
    """`0 B/s`, `3.1 MB/s`: decimal, as rates are given."""
    return _with_unit(rate, 1000, ("B/s", "kB/s", "MB/s", "GB/s"))


def format_duration(seconds: float | None) -> str:
    """`7 s`, `3:05`, `1:00:12`; `--` when unknown."""
    if seconds is None or not 0 <= seconds < 1e8:
        return "--"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
