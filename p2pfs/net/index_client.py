"""The catalogue of a tracker from the outside: publish, list, fetch by name.

Invariant: what is fetched under an info hash has that info hash, and every error says
which tracker was asked, what came of it and what to do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from p2pfs.errors import CatalogueError, FormatError, NetworkError, TrackerError
from p2pfs.formats import metainfo
from p2pfs.formats.bencode import METAINFO_LIMITS
from p2pfs.net.http_client import HttpClient, HttpResponse, printable

__all__ = ["Listed", "base_url", "fetch", "list_torrents", "publish", "reach"]

_SECONDS = 30.0
_UPLOAD_SECONDS = 60.0
_MAX_JSON = 4 * 1024 * 1024
_PAGE = 1000
_MAX_LISTED = 100_000
TORRENT_TYPE = "application/x-bittorrent"


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of the catalogue: `size` in bytes, `published` in seconds since 1970."""

    name: str
    size: int
    info_hash: str
    published: int
    seeders: int
    leechers: int
    downloaded: int


def base_url(host: str, port: int) -> str:
    """Where the tracker on `host` answers; IPv6 addresses get their brackets."""
    bare = host.strip("[]")
    return f"http://{f'[{bare}]' if ':' in bare else bare}:{port}"


async def reach(base: str) -> None:
    """Whether anything answers at `base`, whatever it says; raises `TrackerError` if not."""
    await _request(base, "/health")


async def publish(base: str, data: bytes) -> Listed:
    """Give a metainfo file to the tracker at `base`; what it made of it.

    Raises `CatalogueError` when the tracker refuses, `TrackerError` when it is not there.
    """
    answer = await _request(base, "/torrents", method="POST", body=data)
    if answer.status not in (200, 201):
        raise CatalogueError(f"{_where(base)} did not take the torrent: {_error(answer)}")
    return _listed(base, _json(base, answer))


async def fetch(base: str, wanted: str) -> bytes:
    """The metainfo file called `wanted`: a name, NAME@HASH or an info hash.

    Raises `CatalogueError` when the tracker does not have it (with the names that are
    near to it) or the name means several things, `TrackerError` when it is not there.
    """
    answer = await _request(base, f"/torrents/{quote(wanted, safe='')}.torrent")
    if answer.status != 200:
        raise CatalogueError(f"{_where(base)}: {_error(answer)}")
    try:
        torrent = metainfo.parse(answer.body)
    except FormatError as error:
        raise CatalogueError(
            f"{_where(base)} sent something for {printable(wanted)!r} that is no torrent: {error}"
        ) from None
    pinned = wanted.rpartition("@")[2].lower()
    by_hash = wanted not in (torrent.name, f"{torrent.name}.torrent")
    if by_hash and not str(torrent.torrent_id).startswith(pinned):
        raise CatalogueError(
            f"{_where(base)} sent {torrent.name!r} ({torrent.torrent_id}) instead of "
            f"{printable(wanted)!r}"
        )
    return answer.body


async def list_torrents(base: str) -> list[Listed]:
    """Everything in the catalogue, by name; raises `TrackerError`."""
    found: list[Listed] = []
    while len(found) < _MAX_LISTED:
        answer = await _request(base, f"/torrents?offset={len(found)}&limit={_PAGE}")
        if answer.status != 200:
            raise CatalogueError(f"{_where(base)} does not list its torrents: {_error(answer)}")
        page = _json(base, answer).get("torrents")
        if not isinstance(page, list):
            raise _not_ours(base)
        found += [_listed(base, entry) for entry in page]
        if len(page) < _PAGE:
            break
    return found


async def _request(
    base: str, path: str, *, method: str = "GET", body: bytes | None = None
) -> HttpResponse:
    try:
        return await HttpClient().request(
            method,
            base.rstrip("/") + path,
            trusted=True,
            limit=METAINFO_LIMITS.max_bytes if path.endswith(".torrent") else _MAX_JSON,
            seconds=_SECONDS if body is None else _UPLOAD_SECONDS,
            body=body,
            content_type=None if body is None else TORRENT_TYPE,
        )
    except NetworkError as error:
        raise TrackerError(
            f"cannot reach {_where(base)}: {error}; check host (-i) and port (-d), and that "
            "the tracker runs there"
        ) from error


def _where(base: str) -> str:
    return f"the tracker at {printable(base.partition('://')[2] or base, 100)}"


def _json(base: str, answer: HttpResponse) -> Mapping[str, Any]:
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        raise _not_ours(base) from None
    if not isinstance(value, dict):
        raise _not_ours(base)
    return value


def _error(answer: HttpResponse) -> str:
    """What the tracker said was wrong, or its bare status."""
    try:
        text = json.loads(answer.body)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        text = None
    if isinstance(text, str):
        return printable(text, 1000)
    return f"HTTP status {answer.status}; is this a p2pfs tracker?"


def _listed(base: str, entry: object) -> Listed:
    numbers = ("size", "published", "seeders", "leechers", "downloaded")
    if (
        not isinstance(entry, dict)
        or not all(isinstance(entry.get(name), str) for name in ("name", "info_hash"))
        or not all(type(entry.get(name)) is int for name in numbers)
    ):
        raise _not_ours(base)
    return Listed(
        name=printable(entry["name"], 255),
        info_hash=printable(entry["info_hash"], 64),
        **{name: entry[name] for name in numbers},
    )


def _not_ours(base: str) -> TrackerError:
    return TrackerError(
        f"{_where(base)} answers, but not as a p2pfs tracker does; check host (-i) and port (-d)"
    )
