"""Announces over HTTP (BEP 3, 7, 21, 23): query strings <-> values; and the door to replies.

Invariant: the query of a request is handled as bytes, because an info hash is 20 raw
bytes, and whatever breaks the rules is a `FormatError`. Unknown parameters are ignored;
`ip` is one of them, since anybody could put anybody's address there.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from p2pfs.errors import FormatError
from p2pfs.formats.announce_reply import (
    DEFAULT_INTERVAL,
    NEVER,
    AnnounceReply,
    PackedReply,
    encode_failure,
    encode_reply,
    parse_reply,
)
from p2pfs.formats.endpoint import PeerAddress
from p2pfs.geometry import PeerId, TorrentId

__all__ = [
    "DEFAULT_INTERVAL",
    "MAX_QUERY",
    "NEVER",
    "AnnounceReply",
    "AnnounceRequest",
    "Event",
    "PackedReply",
    "PeerAddress",
    "encode_failure",
    "encode_query",
    "encode_reply",
    "parse_query",
    "parse_reply",
]

MAX_QUERY = 16 * 1024
"""Bytes of a query that are looked at; a longer one is refused."""

_MAX_COUNT = 2**63 - 1  # a number of 19 digits may be more
_MAX_DIGITS = 20
_OTHERS = bytes(set(range(256)) - set(b"=&"))
_REGULAR = b"=&" * 64
"""What is left of a query in which each parameter has a value, without `_OTHERS`."""


class Event(enum.Enum):
    """Why a client announces (BEP 3; `PAUSED` is a partial seed, BEP 21)."""

    NONE = ""
    STARTED = "started"
    COMPLETED = "completed"
    STOPPED = "stopped"
    PAUSED = "paused"


_NONE, _STOPPED = Event.NONE, Event.STOPPED
_EVENTS = {event.value.encode(): event for event in Event} | {b"empty": Event.NONE}


class AnnounceRequest(NamedTuple):
    """What a client tells a tracker. `left`, `uploaded`, `downloaded` are bytes.

    `port` 0 means that the client does not listen; `numwant` None leaves the number of
    peers to the tracker. `ip` is the source address that the server saw, never what the
    client claims.
    """

    torrent_id: TorrentId
    peer_id: PeerId
    port: int
    uploaded: int = 0
    downloaded: int = 0
    left: int = 0
    event: Event = Event.NONE
    numwant: int | None = None
    compact: bool = True
    no_peer_id: bool = False
    key: bytes | None = None
    tracker_id: bytes | None = None
    ip: str | None = None


def encode_query(request: AnnounceRequest) -> str:
    """The query string of an announce, without `?`."""
    fields = [
        f"info_hash={quote_from_bytes(request.torrent_id.v1, safe='')}",
        f"peer_id={quote_from_bytes(request.peer_id, safe='')}",
        f"port={request.port}",
        f"uploaded={request.uploaded}",
        f"downloaded={request.downloaded}",
        f"left={request.left}",
        f"compact={int(request.compact)}",
    ]
    if request.no_peer_id:
        fields.append("no_peer_id=1")
    if request.event is not Event.NONE:
        fields.append(f"event={request.event.value}")
    if request.numwant is not None:
        fields.append(f"numwant={request.numwant}")
    if request.key is not None:
        fields.append(f"key={quote_from_bytes(request.key, safe='')}")
    if request.tracker_id is not None:
        fields.append(f"trackerid={quote_from_bytes(request.tracker_id, safe='')}")
    return "&".join(fields)


_KNOWN = frozenset(
    b"info_hash peer_id port uploaded downloaded left event numwant compact no_peer_id"
    b" key trackerid".split()
)


def parse_query(raw_query: bytes | str, ip: str | None = None) -> AnnounceRequest:
    """The announce in a raw, still percent-encoded query.

    Raises `FormatError` when `info_hash` or `peer_id` is not 20 bytes, `port` is missing
    or outside 0..65535, a number is not plain digits, or a parameter comes twice with
    different values. `event` values nobody knows count as none. `left` may be missing
    only for `stopped`; anything but a number there is refused.
    """
    fields = _split(raw_query)
    named = fields.get(b"event")
    event = _NONE if not named else _EVENTS.get(named, _NONE)
    left = _count(fields, b"left", 0 if event is _STOPPED else None)
    port = _count(fields, b"port", None)
    if port > 65535:
        raise FormatError(f"port {port} is outside 0..65535")
    numwant = None
    wanted = fields.get(b"numwant")
    if wanted is not None:
        if not _is_number(wanted.removeprefix(b"-")):
            raise FormatError("numwant is not a number")
        numwant = int(wanted)
    torrent_id, peer_id = fields.get(b"info_hash"), fields.get(b"peer_id")
    key, tracker_id = fields.get(b"key"), fields.get(b"trackerid")
    return AnnounceRequest(
        _torrent(torrent_id),
        PeerId(_identity(b"peer_id", peer_id)),
        port,
        _count(fields, b"uploaded", 0),
        _count(fields, b"downloaded", 0),
        left,
        event,
        None if numwant is not None and numwant < 0 else numwant,
        fields.get(b"compact") != b"0",
        fields.get(b"no_peer_id") == b"1",
        None if key is None else _unquoted(key),
        None if tracker_id is None else _unquoted(tracker_id),
        ip,
    )


def _split(raw_query: bytes | str) -> dict[bytes, bytes]:
    """The parameters by name, unknown ones among them; those without a value are empty."""
    if isinstance(raw_query, str):
        raw_query = raw_query.encode("utf-8", "surrogateescape")
    if len(raw_query) > MAX_QUERY:
        raise FormatError(f"the query is longer than {MAX_QUERY} bytes")
    marks = raw_query.translate(None, _OTHERS)
    if marks[-1:] == b"=" and _REGULAR.startswith(marks):
        cells = raw_query.replace(b"&", b"=").split(b"=")
    else:
        cells = [cell for part in raw_query.split(b"&") for cell in part.partition(b"=")[::2]]
    each = iter(cells)
    fields = dict(zip(each, each, strict=False))
    if 2 * len(fields) != len(cells):
        for name, value in zip(cells[::2], cells[1::2], strict=True):
            if name in _KNOWN and fields[name] != value:
                raise FormatError(f"{name.decode()} is given twice")
    return fields


@lru_cache(maxsize=4096)
def _torrent(raw: bytes | None) -> TorrentId:
    """What many ask for is worked out once; it raises before anything long is kept."""
    return TorrentId(_identity(b"info_hash", raw))


def _identity(name: bytes, raw: bytes | None) -> bytes:
    if raw is None:
        raise FormatError(f"{name.decode()} is missing")
    value = _unquoted(raw) if len(raw) <= 60 else raw
    if len(value) != 20:
        raise FormatError(f"{name.decode()} has {len(value)} bytes instead of 20")
    return value


def _unquoted(raw: bytes) -> bytes:
    return unquote_to_bytes(raw) if b"%" in raw else raw


def _count(fields: dict[bytes, bytes], name: bytes, default: int | None) -> int:
    value = fields.get(name)
    if value and value.isdigit() and len(value) < 19:
        return int(value)
    if value is None or (not value and default is not None):
        if default is None:
            raise FormatError(f"{name.decode()} is missing")
        return default
    if not _is_number(value):
        raise FormatError(f"{name.decode()} is not a number")
    return min(int(value), _MAX_COUNT)


def _is_number(value: bytes) -> bool:
    return value.isdigit() and len(value) <= _MAX_DIGITS
