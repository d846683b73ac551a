"""What an index answers, as values: entries of the catalogue, nodes, leases (JSON).

Invariant: whatever a server sends, these functions give values of the declared kinds and in
bounds, or raise `FormatError`; nothing of an answer is believed because of another part of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from p2pfs.errors import FormatError

__all__ = [
    "MAX_NAME",
    "Listed",
    "NodeInfo",
    "Registered",
    "parse_candidates",
    "parse_entry",
    "parse_lease",
    "parse_listing",
    "parse_nodes",
    "parse_object",
]

MAX_NAME: Final = 8192
"""Characters of a name: a path in a torrent has at most 4,096 bytes."""

_HASH = re.compile(r"[0-9a-fA-F]{40}")
_NUMBERS = ("size", "published", "seeders", "leechers", "downloaded", "files")
_MAX_NUMBER = 1 << 62
_MAX_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of the catalogue: `size` in bytes, `published` in seconds since 1970.

    `name` is as the index has it and may hold what does not print: show it through
    `printable`. `live`: somebody has it now. `unconfirmed`: the counts are from before the
    index was started, and nobody was heard of since.
    """

    name: str
    size: int
    info_hash: str
    published: int
    seeders: int
    leechers: int
    downloaded: int
    files: int = 1
    live: bool = True
    unconfirmed: bool = False


@dataclass(frozen=True, slots=True)
class Registered:
    """A lease of `lease` seconds, to be renewed every `renew_every`.

    `unknown` are the info hashes that the index has no .torrent of.
    """

    lease: float
    renew_every: float
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A registered node; `since` in seconds since 1970, `files` how many it seeds.

    `id` and `host` are text from outside, as in `Listed`.
    """

    id: str
    host: str
    port: int
    files: int
    since: int
    unconfirmed: bool = False


def parse_object(body: bytes) -> Mapping[str, Any]:
    """The JSON object that `body` is."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise FormatError("not JSON") from None
    if not isinstance(value, dict):
        raise FormatError("not a JSON object")
    return value


def parse_listing(body: bytes) -> tuple[list[Listed], int]:
    """A page of the catalogue, and how many entries all pages have together."""
    value = parse_object(body)
    total = value.get("total")
    if not _is_count(total):
        raise FormatError("no total")
    return [_listed(one) for one in _rows(value, "torrents")], total


def parse_entry(body: bytes) -> Listed:
    """One entry of the catalogue."""
    return _listed(parse_object(body))


def parse_candidates(value: Mapping[str, Any]) -> list[Listed]:
    """The entries that an error names; none when they are not what they should be."""
    try:
        return [_listed(one) for one in _rows(value, "candidates")]
    except FormatError:
        return []


def parse_lease(body: bytes) -> Registered:
    """What came of a registration."""
    value = parse_object(body)
    lease, every = value.get("lease"), value.get("renew_every")
    unknown = _rows(value, "unknown")
    if not _is_seconds(lease) or not _is_seconds(every) or not all(map(_is_hash, unknown)):
        raise FormatError("no lease")
    return Registered(float(lease), float(every), tuple(one.lower() for one in unknown))


def parse_nodes(body: bytes) -> list[NodeInfo]:
    """The registered nodes."""
    return [_node(one) for one in _rows(parse_object(body), "nodes")]


def _listed(entry: object) -> Listed:
    if not isinstance(entry, dict):
        raise FormatError("an entry is no object")
    counts: dict[str, Any] = {name: entry.get(name) for name in _NUMBERS}
    info_hash = entry.get("info_hash")
    if not all(map(_is_count, counts.values())) or not _is_hash(info_hash):
        raise FormatError("an entry lacks a number or its info hash")
    return Listed(
        name=_text(entry, "name", MAX_NAME),
        info_hash=info_hash.lower(),
        live=_flag(entry, "live"),
        unconfirmed=_flag(entry, "unconfirmed"),
        **counts,
    )


def _node(entry: object) -> NodeInfo:
    if not isinstance(entry, dict):
        raise FormatError("a node is no object")
    if not all(_is_count(entry.get(name)) for name in ("port", "files", "since")):
        raise FormatError("a node lacks a number")
    return NodeInfo(
        id=_text(entry, "id", 64),
        host=_text(entry, "host", 64),
        port=entry["port"],
        files=entry["files"],
        since=entry["since"],
        unconfirmed=_flag(entry, "unconfirmed"),
    )


def _rows(value: Mapping[str, Any], name: str) -> list[Any]:
    found = value.get(name)
    if not isinstance(found, list):
        raise FormatError(f"no list of {name}")
    return found


def _text(entry: Mapping[str, Any], name: str, limit: int) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= limit:
        raise FormatError(f"no {name}, or one of more than {limit} characters")
    return value


def _flag(entry: Mapping[str, Any], name: str) -> bool:
    value = entry.get(name)
    if not isinstance(value, bool):
        raise FormatError(f"{name} is neither true nor false")
    return value


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < _MAX_NUMBER


def _is_hash(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


def _is_seconds(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and 0 < value <= _MAX_SECONDS
