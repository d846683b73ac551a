"""The extended handshake (BEP 10) as values.

Invariant: everything in it is a hint from the peer: what cannot be read or is out of
range is left at its default, and only bytes that are no bencoded dictionary are refused.
The ids in `m` are the receiver's own numbers for the messages it understands.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from p2pfs.errors import BencodeError, WireError
from p2pfs.formats import bencode
from p2pfs.geometry import BLOCK_LENGTH

__all__ = ["HANDSHAKE_ID", "MAX_RUN_LENGTH", "ExtendedHandshake", "encode", "parse"]

HANDSHAKE_ID: Final = 0

MAX_RUN_LENGTH: Final = 8 * BLOCK_LENGTH
"""The longest request that p2pfs peers agree on among each other, in bytes."""

_RUN_LENGTH: Final = b"pf_run"
_MAX_CLIENT: Final = 64


@dataclass(frozen=True, slots=True)
class ExtendedHandshake:
    """`port`: where the sender listens, 0 unknown. `reqq`: requests it queues at most.

    `run_length`: the longest request it answers, in bytes, a multiple of a block; only
    p2pfs says so. `messages`: name to id, ids 1..255.
    """

    client: str = ""
    port: int = 0
    reqq: int = 250
    run_length: int = BLOCK_LENGTH
    messages: dict[bytes, int] = field(default_factory=dict)


def encode(handshake: ExtendedHandshake) -> bytes:
    """The payload that follows id 20 and `HANDSHAKE_ID`."""
    values: dict[bytes, bencode.Encodable] = {
        b"m": dict(handshake.messages),
        b"reqq": handshake.reqq,
        b"v": handshake.client.encode(),
        _RUN_LENGTH: handshake.run_length,
    }
    if handshake.port:
        values[b"p"] = handshake.port
    return bencode.encode(values)


def parse(payload: bytes) -> ExtendedHandshake:
    """What the peer said of itself. Raises `WireError` for what is no dictionary."""
    try:
        root = bencode.decode(payload, bencode.WIRE_LIMITS)
    except BencodeError as error:
        raise WireError(f"an extended handshake that is not bencode: {error}") from error
    if not isinstance(root, dict):
        raise WireError("an extended handshake that is no dictionary")
    client = root.get(b"v")
    listed = root.get(b"m")
    messages = listed if isinstance(listed, dict) else {}
    return ExtendedHandshake(
        client=client[:_MAX_CLIENT].decode("utf-8", "replace") if isinstance(client, bytes) else "",
        port=_number(root.get(b"p"), 1, 65535, 0),
        reqq=_number(root.get(b"reqq"), 1, 1_000_000, 250),
        run_length=_number(root.get(_RUN_LENGTH), BLOCK_LENGTH, MAX_RUN_LENGTH, BLOCK_LENGTH)
        // BLOCK_LENGTH
        * BLOCK_LENGTH,
        messages={
            name: number
            for name, number in messages.items()
            if isinstance(number, int) and 0 < number < 256
        },
    )


def _number(value: object, low: int, high: int, default: int) -> int:
    return value if isinstance(value, int) and low <= value <= high else default
