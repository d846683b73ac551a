"""Announces over HTTP (BEP 3, 7, 21, 23, 24, 31): query strings and replies <-> values.

Invariant: the query of a request is handled as bytes, because an info hash is 20 raw
bytes; what a client sends and what a tracker answers become values here or nowhere, and
anything else is a `FormatError`. Unknown parameters and keys are ignored; an `ip`
parameter is one of them, since anybody could put anybody's address there.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote_from_bytes, unquote_to_bytes

from p2pfs.errors import FormatError
from p2pfs.formats import bencode
from p2pfs.formats.endpoint import (
    PeerAddress,
    is_dialable,
    pack_host,
    unpack_host,
    unpack_peers,
)
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

DEFAULT_INTERVAL = 1800
"""Seconds between announces to a tracker that names none."""

NEVER = 7 * 24 * 3600
"""Seconds that stand for a tracker's "never again"."""

_MAX_COUNT = 2**63 - 1
_DIGITS = re.compile(rb"[0-9]{1,20}")
_SIGNED = re.compile(rb"-?[0-9]{1,20}")


class Event(enum.Enum):
    """Why a client announces (BEP 3; `PAUSED` is a partial seed, BEP 21)."""

    NONE = ""
    STARTED = "started"
    COMPLETED = "completed"
    STOPPED = "stopped"
    PAUSED = "paused"


_EVENTS = {event.value.encode(): event for event in Event} | {b"empty": Event.NONE}


@dataclass(frozen=True, slots=True)
class AnnounceRequest:
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


@dataclass(frozen=True, slots=True)
class AnnounceReply:
    """What a tracker answers. Intervals are seconds as it named them (at least 0).

    `failure` beats everything else (BEP 3); `retry_in` goes with it: seconds, `NEVER` at
    most (BEP 31).
    """

    interval: int = DEFAULT_INTERVAL
    min_interval: int | None = None
    peers: tuple[PeerAddress, ...] = ()
    complete: int | None = None
    incomplete: int | None = None
    downloaded: int | None = None
    warning: str | None = None
    tracker_id: bytes | None = None
    external_ip: str | None = None
    failure: str | None = None
    retry_in: int | None = None


# -- announce: client to tracker ---------------------------------------------------------


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
    event = _EVENTS.get(fields.get(b"event", b""), Event.NONE)
    left = _count(fields, b"left", 0 if event is Event.STOPPED else None)
    port = _count(fields, b"port", None)
    if port > 65535:
        raise FormatError(f"port {port} is outside 0..65535")
    numwant = None
    if b"numwant" in fields:
        if not _SIGNED.fullmatch(fields[b"numwant"]):
            raise FormatError("numwant is not a number")
        numwant = int(fields[b"numwant"])
    return AnnounceRequest(
        TorrentId(_identity(fields, b"info_hash")),
        PeerId(_identity(fields, b"peer_id")),
        port,
        _count(fields, b"uploaded", 0),
        _count(fields, b"downloaded", 0),
        left,
        event,
        None if numwant is not None and numwant < 0 else numwant,
        fields.get(b"compact") != b"0",
        fields.get(b"no_peer_id") == b"1",
        unquote_to_bytes(fields[b"key"]) if b"key" in fields else None,
        unquote_to_bytes(fields[b"trackerid"]) if b"trackerid" in fields else None,
        ip,
    )


def _split(raw_query: bytes | str) -> dict[bytes, bytes]:
    if isinstance(raw_query, str):
        raw_query = raw_query.encode("utf-8", "surrogateescape")
    if len(raw_query) > MAX_QUERY:
        raise FormatError(f"the query is longer than {MAX_QUERY} bytes")
    fields: dict[bytes, bytes] = {}
    for part in raw_query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name in _KNOWN and fields.setdefault(name, value) != value:
            raise FormatError(f"{name.decode()} is given twice")
    return fields


def _identity(fields: dict[bytes, bytes], name: bytes) -> bytes:
    if name not in fields:
        raise FormatError(f"{name.decode()} is missing")
    value = unquote_to_bytes(fields[name])
    if len(value) != 20:
        raise FormatError(f"{name.decode()} has {len(value)} bytes instead of 20")
    return value


def _count(fields: dict[bytes, bytes], name: bytes, default: int | None) -> int:
    value = fields.get(name)
    if value is None or (not value and default is not None):
        if default is None:
            raise FormatError(f"{name.decode()} is missing")
        return default
    if not _DIGITS.fullmatch(value):
        raise FormatError(f"{name.decode()} is not a number")
    return min(int(value), _MAX_COUNT)


# -- announce: tracker to client ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PackedReply:
    """A tracker's answer, ready to be encoded.

    `peers` and `peers6` are packed, 6 and 18 bytes a peer (BEP 23, 7); `listed` replaces
    both by the dictionary form. `external_ip` is 4 or 16 raw bytes (BEP 24), or empty.
    """

    interval: int
    min_interval: int | None = None
    complete: int = 0
    incomplete: int = 0
    downloaded: int | None = None
    peers: bytes = b""
    peers6: bytes = b""
    listed: Sequence[PeerAddress] | None = None
    external_ip: bytes = b""
    tracker_id: bytes | None = None
    warning: str | None = None


def encode_reply(answer: PackedReply) -> bytes:
    """The bencoded body of an answer."""
    reply: dict[bytes, bencode.Encodable] = {
        b"complete": answer.complete,
        b"incomplete": answer.incomplete,
        b"interval": answer.interval,
    }
    if answer.downloaded is not None:
        reply[b"downloaded"] = answer.downloaded
    if answer.external_ip:
        reply[b"external ip"] = answer.external_ip
    if answer.min_interval is not None:
        reply[b"min interval"] = answer.min_interval
    if answer.tracker_id is not None:
        reply[b"tracker id"] = answer.tracker_id
    if answer.warning is not None:
        reply[b"warning message"] = answer.warning.encode()
    if answer.listed is not None:
        reply[b"peers"] = [_peer_dictionary(peer) for peer in answer.listed]
        return bencode.encode(reply)
    reply[b"peers"] = answer.peers
    if answer.peers6:
        reply[b"peers6"] = answer.peers6
    return bencode.encode(reply)


def _peer_dictionary(peer: PeerAddress) -> dict[bytes, bytes | int]:
    entry: dict[bytes, bytes | int] = {b"ip": peer.host.encode(), b"port": peer.port}
    if peer.peer_id is not None:
        entry[b"peer id"] = peer.peer_id
    return entry


def encode_failure(text: str, retry_in: int | None = None) -> bytes:
    """A refusal. `retry_in` is seconds, told in whole minutes; `NEVER` as never (BEP 31)."""
    reply: dict[bytes, bencode.Encodable] = {b"failure reason": text.encode()}
    if retry_in is not None:
        reply[b"retry in"] = b"never" if retry_in >= NEVER else -(-retry_in // 60)
    return bencode.encode(reply)


def parse_reply(body: bytes) -> AnnounceReply:
    """The reply in `body`, whichever form its peers have.

    Peers that nobody could dial (port 0, unspecified, multicast or broadcast address) are
    left out, and so is what follows the last whole entry of a packed list. A missing or
    senseless interval becomes `DEFAULT_INTERVAL`. Raises `FormatError` when the body is
    not a bencoded dictionary.
    """
    reply = bencode.decode(body, bencode.REPLY_LIMITS)
    if not isinstance(reply, dict):
        raise FormatError("the reply is not a dictionary")
    if b"failure reason" in reply:
        return AnnounceReply(
            failure=_text(reply.get(b"failure reason")) or "no reason given",
            retry_in=_retry(reply.get(b"retry in")),
        )
    found: dict[PeerAddress, None] = {}
    for key, width in ((b"peers", 4), (b"peers6", 16)):
        value = reply.get(key)
        if isinstance(value, bytes):
            found |= dict.fromkeys(unpack_peers(value, width))
        elif isinstance(value, list):
            found |= dict.fromkeys(_listed_peers(value))
    external = reply.get(b"external ip")
    tracker_id = reply.get(b"tracker id")
    return AnnounceReply(
        interval=_natural(reply.get(b"interval")) or DEFAULT_INTERVAL,
        min_interval=_natural(reply.get(b"min interval")),
        peers=tuple(found),
        complete=_natural(reply.get(b"complete")),
        incomplete=_natural(reply.get(b"incomplete")),
        downloaded=_natural(reply.get(b"downloaded")),
        warning=_text(reply.get(b"warning message")),
        tracker_id=tracker_id if isinstance(tracker_id, bytes) else None,
        external_ip=unpack_host(external)
        if isinstance(external, bytes) and len(external) in (4, 16)
        else None,
    )


def _listed_peers(entries: list[bencode.Value]) -> Iterator[PeerAddress]:
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        host, port, peer_id = entry.get(b"ip"), entry.get(b"port"), entry.get(b"peer id")
        if not isinstance(host, bytes) or not isinstance(port, int) or not 0 < port < 65536:
            continue
        text = _hostname(host)
        if text is None:
            continue
        known = isinstance(peer_id, bytes) and len(peer_id) == 20
        yield PeerAddress(text, port, PeerId(peer_id) if known else None)  # type: ignore[arg-type]


_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?")


def _hostname(raw: bytes) -> str | None:
    """An address in its one text form, or a DNS name; None for anything else."""
    text = raw[:256].decode("ascii", "replace")
    try:
        packed = pack_host(text)
    except FormatError:
        return text if _NAME.fullmatch(text) and not text[-1].isdigit() else None
    return unpack_host(packed) if is_dialable(packed) else None


def _natural(value: object) -> int | None:
    return min(value, _MAX_COUNT) if isinstance(value, int) and value >= 0 else None


def _text(value: object) -> str | None:
    return value[:1000].decode("utf-8", "replace") if isinstance(value, bytes) else None


def _retry(value: object) -> int | None:
    if value == b"never":
        return NEVER
    if isinstance(value, bytes):
        value = int(value) if _DIGITS.fullmatch(value) else None
    minutes = _natural(value)
    return None if minutes is None else min(minutes * 60, NEVER)
