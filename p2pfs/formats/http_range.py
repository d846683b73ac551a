"""The headers of HTTP that say which part of a file an answer is, and when to ask again.

Invariant: what a server writes is a number within bounds, or nothing.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

__all__ = ["ContentRange", "byte_range", "parse_content_range", "parse_retry_after"]

_CONTENT_RANGE: Final = re.compile(
    r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.ASCII | re.IGNORECASE
)


class ContentRange(NamedTuple):
    """Bytes `first` to `last` (it included) of `total`, which may be unknown."""

    first: int
    last: int
    total: int | None


def byte_range(offset: int, length: int) -> str:
    """The value of `Range` that asks for `length` bytes (1 or more) from `offset` on."""
    return f"bytes={offset}-{offset + length - 1}"


def parse_content_range(value: str) -> ContentRange | None:
    """The value of `Content-Range`; None when it makes no sense."""
    match = _CONTENT_RANGE.fullmatch(value.strip())
    if match is None:
        return None
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    if last < first or (total is not None and last >= total):
        return None
    return ContentRange(first, last, total)


def parse_retry_after(value: str, now: datetime) -> float | None:
    """The seconds that `Retry-After` names, as a number or as a date; None without sense.

    `now` is the time of day, in UTC.
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) <= 9 else None
    from email.utils import parsedate_to_datetime

    try:
        date = parsedate_to_datetime(text[:64])
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    try:
        return max(0.0, (date - now).total_seconds())
    except OverflowError:
        return None
