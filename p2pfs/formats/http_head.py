"""Heads of HTTP requests (RFC 9112), as far as a plain GET needs them: bytes -> values.

Invariant: a head is read here only when it can mean one thing: a GET without a body, in
the form in which clients send it, and nothing after it. Everything else is left to a
general server, so that no two readers ever disagree about where a request ends.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

__all__ = ["PlainGet", "head_ends", "parse_plain_get"]


class PlainGet(NamedTuple):
    """A GET without a body: `path` and `query` are raw, still percent-encoded.

    `host` is the `Host` header, empty without one. `keep` says whether the client wants
    the connection to stay open.
    """

    path: bytes
    query: bytes
    host: bytes
    keep: bool


_LINE = re.compile(rb"GET (/[!-\"$->@-~\x80-\xff]*)(?:\?([!-\"$-~\x80-\xff]*))? HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t -~\x80-\xff]*)")
_NOT_PLAIN = frozenset([b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"trailer"])
_MAX_KEPT = 1024
"""Bytes of header lines that are worth remembering."""


def head_ends(data: bytes | bytearray) -> bool:
    """Whether the whole head of a request is in `data`, well-formed or not."""
    return b"\r\n\r\n" in data or b"\n\n" in data


def parse_plain_get(data: bytes) -> PlainGet | None:
    """The request in `data`, None when it is not a whole plain GET and nothing more."""
    line, _, lines = data.partition(b"\r\n")
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    about = _told(lines) if len(lines) <= _MAX_KEPT else _read(lines)
    if about is None:
        return None
    path, query, minor = match.groups()
    host, closes = about
    return PlainGet(path, query or b"", host, minor == b"1" and not closes)


def _read(lines: bytes) -> tuple[bytes, bool] | None:
    """What header lines say: the host, and whether the connection is to be closed.

    None unless they are whole, well-formed, and those of a plain GET.
    """
    if lines != b"\r\n" and not lines.endswith(b"\r\n\r\n"):
        return None
    host: bytes | None = None
    closes = False
    for field in lines[:-4].split(b"\r\n") if len(lines) > 2 else ():
        match = _FIELD.fullmatch(field)
        if match is None:
            return None
        name, value = match[1].lower(), match[2].strip(b" \t")
        if name in _NOT_PLAIN:
            return None
        if name == b"host":
            if host is not None:
                return None
            host = value
        elif name == b"connection":
            closes |= b"close" in [one.strip() for one in value.lower().split(b",")]
    return host or b"", closes


_told = lru_cache(maxsize=1024)(_read)
"""The same, remembered: a client sends the same lines with each of its announces."""
