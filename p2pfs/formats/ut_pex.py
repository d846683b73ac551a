"""Messages of peer exchange (BEP 11): whom a peer is connected to, and no longer.

Invariant: what comes out of `parse` can be dialled, names nobody twice and has at most
`MAX_KEPT` entries a list, whatever came in. What is written has one byte of flags for each
peer, because others take no notice of a list without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice, zip_longest
from typing import Any, Final, NamedTuple

from p2pfs.errors import BencodeError, WireError
from p2pfs.formats import bencode
from p2pfs.formats.endpoint import is_dialable, pack_host, unpack_host

__all__ = ["MAX_KEPT", "REACHABLE", "WANTS_NOTHING", "Address", "PexMessage", "encode", "parse"]

Address = tuple[str, int]
"""IP address in text, and port 1..65535."""

WANTS_NOTHING: Final = 0x02
"""Flag: a seed, or a partial seed."""
REACHABLE: Final = 0x10
"""Flag: the sender connected to it."""

MAX_KEPT: Final = 50
"""Peers that are taken from one list: as many as may be named at a time."""

_ADDED: Final = {4: b"added", 16: b"added6"}  # by the bytes of an address
_DROPPED: Final = {4: b"dropped", 16: b"dropped6"}


class PexMessage(NamedTuple):
    """`added`: the flags of each peer, 0..255, by its address; no address is in both."""

    added: Mapping[Address, int] = {}
    dropped: tuple[Address, ...] = ()


def encode(message: PexMessage) -> bytes:
    """The payload of the extended message; lists without an entry are left out.

    Raises `FormatError` for a host that is no IP address.
    """
    lists: dict[bytes, bytearray] = {}
    for (host, port), flags in message.added.items():
        packed = pack_host(host)
        name = _ADDED[len(packed)]
        lists.setdefault(name, bytearray()).extend(packed + port.to_bytes(2, "big"))
        lists.setdefault(name + b".f", bytearray()).append(flags)
    for host, port in message.dropped:
        packed = pack_host(host)
        name = _DROPPED[len(packed)]
        lists.setdefault(name, bytearray()).extend(packed + port.to_bytes(2, "big"))
    return bencode.encode({name: bytes(packed) for name, packed in lists.items()})


def parse(payload: bytes) -> PexMessage:
    """What can be made use of in a message; of long lists both families have their share.

    Peers that are added without one byte of flags for each are left out, as libtorrent
    does; who is in both lists was added. Raises `WireError` for what is no bencoded
    dictionary.
    """
    try:
        root = bencode.decode(payload, bencode.WIRE_LIMITS)
    except BencodeError as error:
        raise WireError(f"a peer exchange that is not bencode: {error}") from error
    if not isinstance(root, dict):
        raise WireError("a peer exchange that is no dictionary")
    added = dict(
        _in_turn(
            *(
                _with_flags(root.get(name), root.get(name + b".f"), width)
                for width, name in _ADDED.items()
            )
        )
    )
    dropped = dict.fromkeys(
        _in_turn(*(_addresses(root.get(name), width) for width, name in _DROPPED.items()))
    )
    return PexMessage(added, tuple(one for one in dropped if one not in added))


def _with_flags(packed: object, flags: object, width: int) -> Iterator[tuple[Address, int]]:
    if not (isinstance(flags, bytes) and isinstance(packed, bytes)):
        return
    if len(flags) == len(packed) // (width + 2):
        for address, flag in zip(_addresses(packed, width), flags, strict=True):
            if address is not None:
                yield address, flag


def _addresses(packed: object, width: int) -> Iterator[Address | None]:
    """The whole entries of a packed list; None for one that nobody could dial."""
    if not isinstance(packed, bytes):
        return
    for start in range(0, len(packed) - width - 1, width + 2):
        host = packed[start : start + width]
        port = int.from_bytes(packed[start + width : start + width + 2], "big")
        yield (unpack_host(host), port) if port and is_dialable(host) else None


def _in_turn(*lists: Iterator[Any]) -> Iterator[Any]:
    """The first `MAX_KEPT` of both lists, one of each in turn."""
    pairs = chain.from_iterable(zip_longest(*lists))
    return islice((one for one in pairs if one is not None), MAX_KEPT)
