"""Replies of trackers to announces (BEP 3, 7, 23, 24, 31): values <-> bencode.

Invariant: reading takes what is meaningful and leaves out the rest, since trackers differ
and many are sloppy; writing is canonical. Peers that come out of here can be dialled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from p2pfs.errors import FormatError
from p2pfs.formats import bencode
from p2pfs.formats.endpoint import (
    PeerAddress,
    is_dialable,
    pack_host,
    unpack_host,
    unpack_peers,
)
from p2pfs.geometry import PeerId

__all__ = [
    "DEFAULT_INTERVAL",
    "MAX_PEERS",
    "NEVER",
    "AnnounceReply",
    "PackedReply",
    "encode_failure",
    "encode_reply",
    "parse_reply",
]

DEFAULT_INTERVAL = 1800
"""Seconds between announces to a tracker that names none."""

NEVER = 7 * 24 * 3600
"""Seconds that stand for a tracker's "never again"."""

MAX_PEERS = 2000
"""Peers taken from one list: more than anybody has use for."""

_MAX_COUNT = 2**63 - 1
_DIGITS = re.compile(rb"[0-9]{1,20}")


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


class PackedReply(NamedTuple):
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
    """The bencoded body of an answer, its keys in order."""
    parts = [b"d8:completei%de" % answer.complete]
    if answer.downloaded is not None:
        parts.append(b"10:downloadedi%de" % answer.downloaded)
    if answer.external_ip:
        parts.append(b"11:external ip%d:%b" % (len(answer.external_ip), answer.external_ip))
    parts.append(b"10:incompletei%de8:intervali%de" % (answer.incomplete, answer.interval))
    if answer.min_interval is not None:
        parts.append(b"12:min intervali%de" % answer.min_interval)
    if answer.listed is not None:
        peers = bencode.encode([_peer_dictionary(peer) for peer in answer.listed])
        parts += (b"5:peers", peers)
    else:
        parts.append(b"5:peers%d:%b" % (len(answer.peers), answer.peers))
        if answer.peers6:
            parts.append(b"6:peers6%d:%b" % (len(answer.peers6), answer.peers6))
    if answer.tracker_id is not None:
        parts.append(b"10:tracker id%d:%b" % (len(answer.tracker_id), answer.tracker_id))
    if answer.warning is not None:
        warning = answer.warning.encode()
        parts.append(b"15:warning message%d:%b" % (len(warning), warning))
    parts.append(b"e")
    return b"".join(parts)


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
    left out, and so is what follows the last whole entry of a packed list, or the first
    `MAX_PEERS` of any. A missing or senseless interval becomes `DEFAULT_INTERVAL`. Raises
    `FormatError` when the body is not a bencoded dictionary.
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
        peers: Iterator[PeerAddress] = iter(())
        if isinstance(value, bytes):
            peers = unpack_peers(value, width)
        elif isinstance(value, list):
            peers = _listed_peers(value)
        found |= dict.fromkeys(islice(peers, MAX_PEERS))
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
