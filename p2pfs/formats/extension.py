"""The extended handshake (BEP 10) as values, and our own numbers for extended messages.

Invariant: everything in it is a hint from the peer: what cannot be read or is out of
range is left as it was, and only bytes that are no bencoded dictionary are refused.
The ids in `m` are the receiver's own numbers for the messages it understands; ours are
in `IDS` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from p2pfs.errors import BencodeError, WireError
from p2pfs.formats import bencode
from p2pfs.geometry import BLOCK_LENGTH

__all__ = [
    "DONT_HAVE",
    "HANDSHAKE_ID",
    "IDS",
    "MAX_RUN_LENGTH",
    "UPLOAD_ONLY",
    "UT_METADATA",
    "UT_PEX",
    "ExtendedHandshake",
    "encode",
    "encode_upload_only",
    "offer",
    "parse",
]

HANDSHAKE_ID: Final = 0

UT_METADATA: Final = b"ut_metadata"  # BEP 9
UT_PEX: Final = b"ut_pex"  # BEP 11
DONT_HAVE: Final = b"lt_donthave"  # BEP 54
UPLOAD_ONLY: Final = b"upload_only"  # libtorrent: BEP 21's flag as a message of one byte

IDS: Final[Mapping[bytes, int]] = {UT_METADATA: 1, UT_PEX: 2, DONT_HAVE: 3, UPLOAD_ONLY: 4}
"""By which ids we are sent each message, where we offer to be."""

MAX_RUN_LENGTH: Final = 16 * BLOCK_LENGTH
"""The longest request that p2pfs peers agree on among each other, in bytes."""

_RUN_LENGTH: Final = b"pf_run"
_LONGEST_RUN: Final = 1024 * BLOCK_LENGTH  # who answers more than we ask for is asked for that
_MAX_CLIENT: Final = 64
_MAX_MESSAGES: Final = 64
_MAX_NAME: Final = 64
_MAX_METADATA: Final = 1 << 40


def offer(*names: bytes) -> dict[bytes, int]:
    """The `messages` of one who understands those called `names`; KeyError for one not in `IDS`."""
    return {name: IDS[name] for name in names}


@dataclass(frozen=True, slots=True)
class ExtendedHandshake:
    """`port`: where the sender listens, 0 unknown. `reqq`: requests it queues at most.

    `run_length`: the longest request it answers, in bytes, a multiple of a block; only
    p2pfs says so. `messages`: name to id, ids 1..255. `your_ip`: the receiver's address as
    the sender sees it, 4 or 16 raw bytes, empty unknown. `metadata_size`: bytes of the info
    dictionary, 0 unknown. `upload_only`: wants no data (BEP 21).
    """

    client: str = ""
    port: int = 0
    reqq: int = 250
    run_length: int = BLOCK_LENGTH
    messages: Mapping[bytes, int] = field(default_factory=dict)
    your_ip: bytes = b""
    metadata_size: int = 0
    upload_only: bool = False


_NOTHING: Final = ExtendedHandshake()


def encode(handshake: ExtendedHandshake) -> bytes:
    """The payload that follows id 20 and `HANDSHAKE_ID`; what is unknown is left out."""
    values: dict[bytes, bencode.Encodable] = {
        b"m": dict(handshake.messages),
        b"reqq": handshake.reqq,
        b"v": handshake.client.encode(),
        _RUN_LENGTH: handshake.run_length,
    }
    if handshake.port:
        values[b"p"] = handshake.port
    if handshake.your_ip:
        values[b"yourip"] = handshake.your_ip
    if handshake.metadata_size:
        values[b"metadata_size"] = handshake.metadata_size
    if handshake.upload_only:
        values[UPLOAD_ONLY] = 1
    return bencode.encode(values)


def encode_upload_only(upload_only: bool) -> bytes:
    """A later handshake that changes nothing but `upload_only`."""
    return bencode.encode({b"m": {}, UPLOAD_ONLY: int(upload_only)})


def parse(payload: bytes, before: ExtendedHandshake = _NOTHING) -> ExtendedHandshake:
    """What is known of the peer with this handshake added to those `before`.

    Raises `WireError` for what is no dictionary.
    """
    try:
        root = bencode.decode(payload, bencode.WIRE_LIMITS)
    except BencodeError as error:
        raise WireError(f"an extended handshake that is not bencode: {error}") from error
    if not isinstance(root, dict):
        raise WireError("an extended handshake that is no dictionary")
    client = root.get(b"v")
    your_ip = root.get(b"yourip")
    upload_only = root.get(UPLOAD_ONLY)
    return ExtendedHandshake(
        client=client[:_MAX_CLIENT].decode("utf-8", "replace")
        if isinstance(client, bytes)
        else before.client,
        port=_number(root.get(b"p"), 1, 65535, before.port),
        reqq=_number(root.get(b"reqq"), 1, 1_000_000, before.reqq),
        run_length=min(
            MAX_RUN_LENGTH,
            _number(root.get(_RUN_LENGTH), BLOCK_LENGTH, _LONGEST_RUN, before.run_length)
            // BLOCK_LENGTH
            * BLOCK_LENGTH,
        ),
        messages=_merged(before.messages, root.get(b"m")),
        your_ip=your_ip
        if isinstance(your_ip, bytes) and len(your_ip) in (4, 16)
        else before.your_ip,
        metadata_size=_number(root.get(b"metadata_size"), 1, _MAX_METADATA, before.metadata_size),
        upload_only=bool(upload_only) if isinstance(upload_only, int) else before.upload_only,
    )


def _merged(before: Mapping[bytes, int], listed: object) -> dict[bytes, int]:
    """The messages of a peer that lists those in `m` as well; id 0 takes one back."""
    messages = dict(before)
    for name, number in listed.items() if isinstance(listed, dict) else ():
        if not isinstance(number, int) or not 0 <= number < 256:
            continue
        if number == 0:
            messages.pop(name, None)
        elif name in messages or (len(messages) < _MAX_MESSAGES and len(name) <= _MAX_NAME):
            messages[name] = number
    return messages


def _number(value: object, low: int, high: int, default: int) -> int:
    return value if isinstance(value, int) and low <= value <= high else default
