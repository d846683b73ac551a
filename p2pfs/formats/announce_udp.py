"""Announces and scrapes over UDP (BEP 15, 41): datagrams <-> values.

Invariant: a datagram may always be longer than its layout and nothing in it is trusted for
a length; what is shorter, or contradicts itself, is a `FormatError`. The `ip` field is
never looked at, since anybody could put anybody's address there.
"""

from __future__ import annotations

import enum
import re
import struct
from collections.abc import Sequence
from hashlib import blake2b
from itertools import islice
from typing import TypeAlias

from p2pfs.errors import FormatError
from p2pfs.formats.announce_http import AnnounceReply, AnnounceRequest, Event, PackedReply
from p2pfs.formats.announce_reply import DEFAULT_INTERVAL, MAX_PEERS
from p2pfs.formats.endpoint import unpack_peers
from p2pfs.formats.scrape_http import ScrapeEntry
from p2pfs.geometry import PeerId, TorrentId

__all__ = [
    "ACTION_AT",
    "CONNECT",
    "MAX_SCRAPE",
    "REQUEST_HEADER",
    "Action",
    "Renewal",
    "encode_announce",
    "encode_announce_reply",
    "encode_connect",
    "encode_connect_reply",
    "encode_error",
    "encode_peers",
    "encode_scrape",
    "encode_scrape_reply",
    "parse_announce",
    "parse_announce_reply",
    "parse_connect_reply",
    "parse_error",
    "parse_renewal",
    "parse_reply_header",
    "parse_scrape",
    "parse_scrape_reply",
]

CONNECT = (0x41727101980).to_bytes(8, "big")
"""What a connect request has in the place of a connection id."""

REQUEST_HEADER = struct.Struct(">8sI4s")
"""Connection id, action, transaction id."""

ACTION_AT = 8
"""Where in a request the action stands."""

MAX_SCRAPE = 74
"""Info hashes that one scrape may ask about: what fits into one packet of the network."""

MAX_REPLY = 1232
"""Bytes of an announce reply: what every IPv6 network carries in one packet."""

_REPLY_HEADER = struct.Struct(">I4s")
_ANNOUNCE = struct.Struct(">16x20s20sQQQI4xIiH")
_ANNOUNCE_REPLY = struct.Struct(">I4sIII")
_SCRAPE_ENTRY = struct.Struct(">III")
_EVENTS = (Event.NONE, Event.COMPLETED, Event.STARTED, Event.STOPPED, Event.PAUSED)
"""By number. The last one is no part of BEP 15, but clients send it so (BEP 21)."""
_KEY = b"%08X"
"""A key as clients write it over HTTP: one identity."""
_HEX_KEY = re.compile(rb"[0-9A-Fa-f]{8}")
_URL_DATA = 2
_MAX32 = 2**32 - 1
_MAX64 = 2**64 - 1


Renewal: TypeAlias = tuple[bytes, bytes, bytes, int, int, int]
"""Info hash, peer id, key, bytes left, peers wanted (below 0: any number), port."""


class Action(enum.IntEnum):
    """What a datagram is about."""

    CONNECT = 0
    ANNOUNCE = 1
    SCRAPE = 2
    ERROR = 3


_ANNOUNCED = int(Action.ANNOUNCE)
_ROOM4, _ROOM6 = ((MAX_REPLY - _ANNOUNCE_REPLY.size) // each * each for each in (6, 18))

# -- as the tracker sees it


def encode_connect_reply(transaction: bytes, connection_id: bytes) -> bytes:
    """The 16 bytes that hand out a connection id."""
    return _REPLY_HEADER.pack(Action.CONNECT, transaction) + connection_id


def parse_announce(data: bytes, ip: str | None = None) -> AnnounceRequest:
    """The announce in a datagram; `ip` is where it came from.

    An event nobody knows counts as none. What follows the 98 bytes (BEP 41) is not looked
    at. Raises `FormatError` when there are fewer.
    """
    if len(data) < _ANNOUNCE.size:
        raise FormatError(f"an announce has {_ANNOUNCE.size} bytes at least, not {len(data)}")
    info_hash, peer_id, downloaded, left, uploaded, event, key, numwant, port = (
        _ANNOUNCE.unpack_from(data)
    )
    return AnnounceRequest(
        TorrentId(info_hash),
        PeerId(peer_id),
        port,
        uploaded,
        downloaded,
        left,
        _EVENTS[event] if event < len(_EVENTS) else Event.NONE,
        None if numwant < 0 else numwant,
        key=_KEY % key if key else None,
        ip=ip,
    )


def parse_renewal(data: bytes) -> Renewal | None:
    """The announce in a datagram if it is of the kind that clients repeat: no event, a key, a port.

    None for any other, and for what is no announce: `parse_announce` tells then.
    """
    if len(data) < _ANNOUNCE.size:
        return None
    info_hash, peer_id, _, left, _, event, key, numwant, port = _ANNOUNCE.unpack_from(data)
    if event or not key or not port:
        return None
    return info_hash, peer_id, _KEY % key, left, numwant, port


def encode_announce_reply(transaction: bytes, reply: PackedReply, *, ipv6: bool) -> bytes:
    """An answer with the peers of the family that the datagram came by."""
    peers = reply.peers6 if ipv6 else reply.peers
    return encode_peers(
        transaction, reply.interval, reply.incomplete, reply.complete, peers, ipv6=ipv6
    )


def encode_peers(
    transaction: bytes, interval: int, incomplete: int, complete: int, peers: bytes, *, ipv6: bool
) -> bytes:
    """The same from its parts; `peers` are packed, 18 bytes each for IPv6, else 6."""
    header = _ANNOUNCE_REPLY.pack(_ANNOUNCED, transaction, interval, incomplete, complete)
    return header + peers[: _ROOM6 if ipv6 else _ROOM4]


def parse_scrape(data: bytes) -> list[TorrentId]:
    """The torrents that a scrape asks about, in order.

    Raises `FormatError` when there is none, or more than `MAX_SCRAPE`.
    """
    count = (len(data) - REQUEST_HEADER.size) // 20
    if not 1 <= count <= MAX_SCRAPE:
        raise FormatError(f"a scrape may ask about 1 to {MAX_SCRAPE} torrents, not {count}")
    starts = range(REQUEST_HEADER.size, REQUEST_HEADER.size + 20 * count, 20)
    return [TorrentId(data[start : start + 20]) for start in starts]


def encode_scrape_reply(transaction: bytes, entries: Sequence[ScrapeEntry | None]) -> bytes:
    """Counts in the order in which they were asked for; None stands for an unknown torrent."""
    parts = [_REPLY_HEADER.pack(Action.SCRAPE, transaction)]
    for entry in entries:
        counts = (entry.complete, entry.downloaded, entry.incomplete) if entry else (0, 0, 0)
        parts.append(_SCRAPE_ENTRY.pack(*(min(count, _MAX32) for count in counts)))
    return b"".join(parts)


def encode_error(transaction: bytes, text: str) -> bytes:
    """A refusal that a client can show."""
    return _REPLY_HEADER.pack(Action.ERROR, transaction) + text.encode()[:MAX_REPLY]


# -- as the client sees it


def encode_connect(transaction: bytes) -> bytes:
    """A request for a connection id; `transaction` is 4 bytes."""
    return REQUEST_HEADER.pack(CONNECT, Action.CONNECT, transaction)


def encode_announce(
    connection_id: bytes, transaction: bytes, request: AnnounceRequest, url_data: bytes = b""
) -> bytes:
    """An announce. `url_data` is what follows the port in the tracker's URL (BEP 41)."""
    numwant = -1 if request.numwant is None else min(request.numwant, 2**31 - 1)
    packed = bytearray(
        _ANNOUNCE.pack(
            request.torrent_id.v1,
            request.peer_id,
            min(request.downloaded, _MAX64),
            min(request.left, _MAX64),
            min(request.uploaded, _MAX64),
            _EVENTS.index(request.event),
            _number(request.key),
            numwant,
            request.port,
        )
    )
    REQUEST_HEADER.pack_into(packed, 0, connection_id, Action.ANNOUNCE, transaction)
    for start in range(0, len(url_data), 255):
        part = url_data[start : start + 255]
        packed += bytes((_URL_DATA, len(part))) + part
    return bytes(packed)


def _number(key: bytes | None) -> int:
    """A client's key as the number that UDP has room for."""
    if not key:
        return 0
    if _HEX_KEY.fullmatch(key):
        return int(key, 16)
    return int.from_bytes(blake2b(key, digest_size=4).digest(), "big")


def encode_scrape(connection_id: bytes, transaction: bytes, torrents: Sequence[TorrentId]) -> bytes:
    """A question about 1 to `MAX_SCRAPE` torrents."""
    header = REQUEST_HEADER.pack(connection_id, Action.SCRAPE, transaction)
    return header + b"".join(torrent.v1 for torrent in torrents)


def parse_reply_header(data: bytes) -> tuple[int, bytes]:
    """Action and transaction id of a reply; raises `FormatError` when it is too short."""
    if len(data) < _REPLY_HEADER.size:
        raise FormatError(f"a reply has {_REPLY_HEADER.size} bytes at least, not {len(data)}")
    action, transaction = _REPLY_HEADER.unpack_from(data)
    return action, transaction


def parse_connect_reply(data: bytes) -> bytes:
    """The connection id, 8 bytes; raises `FormatError` when the reply is too short."""
    if len(data) < 16:
        raise FormatError(f"a connect reply has 16 bytes at least, not {len(data)}")
    return data[8:16]


def parse_announce_reply(data: bytes, width: int) -> AnnounceReply:
    """The reply to an announce; `width` is 4 or 16, by the family that it came by.

    Peers that nobody could dial are left out, and so is what follows the last whole entry
    or the first `MAX_PEERS`. Raises `FormatError` when it is too short.
    """
    if len(data) < _ANNOUNCE_REPLY.size:
        raise FormatError(
            f"an announce reply has {_ANNOUNCE_REPLY.size} bytes at least, not {len(data)}, "
            "which some send for torrents that they do not serve"
        )
    _, _, interval, leechers, seeders = _ANNOUNCE_REPLY.unpack_from(data)
    peers = unpack_peers(data[_ANNOUNCE_REPLY.size :], width)
    return AnnounceReply(
        interval=interval or DEFAULT_INTERVAL,
        peers=tuple(dict.fromkeys(islice(peers, MAX_PEERS))),
        complete=seeders,
        incomplete=leechers,
    )


def parse_scrape_reply(data: bytes, count: int) -> list[ScrapeEntry]:
    """The counts of the `count` torrents asked about; raises `FormatError` if some are missing."""
    need = _REPLY_HEADER.size + _SCRAPE_ENTRY.size * count
    if len(data) < need:
        raise FormatError(f"a scrape reply about {count} torrents has {need} bytes at least")
    entries = _SCRAPE_ENTRY.iter_unpack(data[_REPLY_HEADER.size : need])
    return [
        ScrapeEntry(complete=seeders, incomplete=leechers, downloaded=completed)
        for seeders, completed, leechers in entries
    ]


def parse_error(data: bytes) -> str:
    """What a tracker says that refuses."""
    return data[_REPLY_HEADER.size :][:1000].decode("utf-8", "replace").rstrip("\0")
