"""Bencode (BEP 3): a strict, bounded scanner in front of the bencode.py library.

Invariant: the library never sees a byte that the scanner has not accepted. The scan is
iterative and linear, checks every length against the bytes that are left before it
slices, and caps bytes, nesting and tokens; so hostile input costs no more than honest
input of the same size. Reading forgives the order of keys and nothing else; what is
written is canonical.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import bencodepy

from p2pfs.errors import BencodeError

__all__ = [
    "METAINFO_LIMITS",
    "REPLY_LIMITS",
    "WIRE_LIMITS",
    "Encodable",
    "Limits",
    "Value",
    "check",
    "decode",
    "decode_prefix",
    "decode_with_span",
    "encode",
]

Value: TypeAlias = bytes | int | list["Value"] | dict[bytes, "Value"]
"""What decoding gives."""
Encodable: TypeAlias = bytes | int | Sequence["Encodable"] | Mapping[bytes, "Encodable"]
"""What can be encoded: bytes, integers, lists or tuples, dictionaries with keys of bytes."""
Buffer: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Limits:
    """What one place accepts: bytes in all, containers inside each other, tokens.

    A token is a string, an integer, or the first or last byte of a container.
    """

    max_bytes: int
    max_depth: int
    max_tokens: int


METAINFO_LIMITS = Limits(max_bytes=32 * 1024 * 1024, max_depth=64, max_tokens=3_000_000)
"""Metainfo files: room for 100,000 files or 1.6 million pieces."""
WIRE_LIMITS = Limits(max_bytes=1024 * 1024, max_depth=16, max_tokens=100_000)
"""Extension messages of peers (BEP 10)."""
REPLY_LIMITS = Limits(max_bytes=1024 * 1024, max_depth=16, max_tokens=300_000)
"""Bodies of tracker replies."""

# Twenty digits hold every 64-bit number, signed or not; ten hold every length below 10 GB.
_TOKEN = re.compile(rb"(0|[1-9][0-9]{0,9}):|i(?:0|-?[1-9][0-9]{0,19})e|[del]")
_MAX_INTEGER = 10**20 - 1


def decode(data: Buffer, limits: Limits = METAINFO_LIMITS, *, strict_order: bool = False) -> Value:
    """The one value that `data` holds.

    Unsorted keys are accepted unless `strict_order` is set; duplicate keys never are.
    Raises `BencodeError` for anything that is not bencode, for bytes after the value,
    and beyond the limits.
    """
    raw, end, _ = _scan(data, limits, None)
    _check_ended(raw, end)
    value = _decode_checked(raw)
    if strict_order and bencodepy.encode(value) != raw:
        raise BencodeError("the keys of a dictionary are not in order")
    return value


def check(data: Buffer, limits: Limits = METAINFO_LIMITS) -> None:
    """Raises `BencodeError` unless `decode` would take `data`; costs half as much."""
    raw, end, _ = _scan(data, limits, None)
    _check_ended(raw, end)


def _check_ended(raw: bytes, end: int) -> None:
    if end != len(raw):
        raise BencodeError(f"{len(raw) - end} bytes follow the end of the value at byte {end}")


def decode_prefix(data: Buffer, limits: Limits = METAINFO_LIMITS) -> tuple[Value, int]:
    """The value that `data` begins with, and the offset of the first byte after it.

    For messages where raw bytes follow a dictionary (BEP 9). Raises `BencodeError`.
    """
    raw, end, _ = _scan(data, limits, None)
    return _decode_checked(raw[:end]), end


def decode_with_span(
    data: Buffer, key: bytes, limits: Limits = METAINFO_LIMITS
) -> tuple[dict[bytes, Value], tuple[int, int] | None]:
    """The dictionary that `data` holds, and where the raw value of `key` lies in it.

    The span is `data[start:stop]`, None without such a key. An info hash is the hash of
    that slice, whatever order its keys have (BEP 3). Raises `BencodeError`, also when
    the value is not a dictionary or has bytes after it.
    """
    raw, end, span = _scan(data, limits, key)
    if raw[:1] != b"d":
        raise BencodeError("this is bencode, but not a dictionary")
    _check_ended(raw, end)
    return cast("dict[bytes, Value]", _decode_checked(raw)), span


def encode(value: Encodable) -> bytes:
    """The canonical form: keys sorted as raw bytes (BEP 3).

    Text and booleans are refused, because decoding could not give them back, and so are
    integers of more than 20 digits and nesting beyond 64. Raises `BencodeError`.
    """
    _check_encodable(value)
    return cast(bytes, bencodepy.encode(value))


def _decode_checked(raw: bytes) -> Value:
    try:
        return cast(Value, bencodepy.decode(raw))
    except bencodepy.BencodeDecodeError as error:  # the scanner and the library disagree
        raise BencodeError(f"not bencode: {error}") from error


def _scan(
    data: Buffer, limits: Limits, wanted: bytes | None
) -> tuple[bytes, int, tuple[int, int] | None]:
    """Walk one value: the input as bytes, the offset after the value, the span of `wanted`."""
    size = len(data)
    if size > limits.max_bytes:
        raise BencodeError(f"{size} bytes are more than the {limits.max_bytes} accepted here")
    raw = data if isinstance(data, bytes) else bytes(data)
    match, max_depth, tokens_left = _TOKEN.match, limits.max_depth, limits.max_tokens
    outer: list[set[bytes] | None] = []
    keys: set[bytes] | None = None  # the keys seen in the innermost container, if a dictionary
    key_is_next = False
    depth = position = 0
    start = stop = -1
    while True:
        token = match(raw, position)
        if token is None:
            raise BencodeError(_what_is_wrong(raw, position))
        tokens_left -= 1
        if tokens_left < 0:
            raise BencodeError(f"more than {limits.max_tokens} values, too many here")
        begin, position = position, token.end()
        if token.lastindex:
            text = position
            position += int(token[1])
            if position > size:
                raise BencodeError(
                    f"byte {begin}: a string of {position - text} bytes, but only"
                    f" {size - text} are left"
                )
            if key_is_next:
                key = raw[text:position]
                if key in keys:  # type: ignore[operator]
                    raise BencodeError(f"byte {begin}: the key {_shown(key)} comes twice")
                keys.add(key)  # type: ignore[union-attr]
                key_is_next = False
                if depth == 1:
                    if start >= 0 > stop:
                        stop = begin
                    if key == wanted:
                        start = position
                continue
        else:
            kind = raw[begin]
            if kind == 0x65:  # e
                if keys is None:
                    if depth == 0:
                        raise BencodeError(f"byte {begin}: an end without a beginning")
                elif not key_is_next:
                    raise BencodeError(f"byte {begin}: a key without a value")
                elif depth == 1 and start >= 0 > stop:
                    stop = begin
                keys = outer.pop()
                depth -= 1
            elif key_is_next:
                raise BencodeError(f"byte {begin}: a key that is not a string")
            elif kind != 0x69:  # d or l; i needs nothing more
                if depth == max_depth:
                    raise BencodeError(f"byte {begin}: nested deeper than {max_depth} levels")
                outer.append(keys)
                depth += 1
                keys = set() if kind == 0x64 else None
                key_is_next = keys is not None
                continue
        if depth == 0:
            return raw, position, (start, stop) if stop >= 0 else None
        key_is_next = keys is not None


def _what_is_wrong(raw: bytes, position: int) -> str:
    head = raw[position : position + 24]
    if not head:
        return f"byte {position}: the value ends too early"
    if head[:1] == b"i":
        return f"byte {position}: {_shown(head)} is not an integer of at most 20 digits"
    if head[:1].isdigit() or head[:1] in b"-+":
        return f"byte {position}: {_shown(head)} does not begin with the length of a string"
    return f"byte {position}: {_shown(head)} begins no value"


def _shown(text: bytes) -> str:
    return ascii(text[:24])[1:] + ("..." if len(text) > 24 else "")


def _check_encodable(value: Encodable) -> None:
    todo: list[tuple[object, int]] = [(value, 0)]
    while todo:
        item, depth = todo.pop()
        kind = type(item)
        if kind is bytes:
            continue
        if kind is int:
            if not -_MAX_INTEGER <= item <= _MAX_INTEGER:  # type: ignore[operator]
                raise BencodeError("integers of more than 20 digits cannot be encoded")
        elif kind is dict or kind is list or kind is tuple:
            if depth == METAINFO_LIMITS.max_depth:
                raise BencodeError(f"nested deeper than {depth} levels")
            items = item
            if isinstance(item, dict):
                for key in item:
                    if type(key) is not bytes:
                        raise BencodeError(f"a key must be bytes, not {type(key).__name__}")
                items = item.values()
            todo.extend((each, depth + 1) for each in items)  # type: ignore[attr-defined]
        else:
            raise BencodeError(f"{kind.__name__} cannot be encoded")
