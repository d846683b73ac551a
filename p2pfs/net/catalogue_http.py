"""The catalogue over HTTP: `/torrents` to list and publish, `/torrents/NAME.torrent` to fetch.

Invariant: whatever a client sends, it gets an answer that says what was wrong; the
database is only touched on worker threads, so announces never wait for it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from urllib.parse import parse_qs, quote, unquote

from p2pfs.errors import FormatError, P2pfsError
from p2pfs.formats.bencode import METAINFO_LIMITS
from p2pfs.formats.scrape_http import ScrapeEntry
from p2pfs.geometry import TorrentId
from p2pfs.net.asgi_server import Receive, Scope, Send
from p2pfs.net.http_reply import header, read_body, send_json, send_reply
from p2pfs.tracker.catalogue import AmbiguousName, Catalogue, Entry, UnknownName

__all__ = ["CatalogueRoutes"]

TORRENT_TYPE = b"application/x-bittorrent"
PAGE = 1000
_BODY_SECONDS = 60.0
_NUMBER = re.compile(r"[0-9]{1,9}")
_UPLOADS = 4
"""Metainfo files taken in at the same time: each may be as large as the limit."""


class CatalogueRoutes:
    """The part of the application below `/torrents`.

    `scrape` gives the counts of those torrents that have a swarm.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        scrape: Callable[[list[TorrentId]], dict[TorrentId, ScrapeEntry]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._catalogue = catalogue
        self._scrape = scrape
        self._clock = clock
        self._uploads = asyncio.Semaphore(_UPLOADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["raw_path"].decode("latin-1")
        name = path.removeprefix("/torrents").lstrip("/")
        try:
            if method in ("POST", "PUT") and (method == "PUT" or not name):
                await self._publish(scope, receive, send)
            elif method in ("GET", "HEAD") and name:
                await self._fetch(name, send)
            elif method in ("GET", "HEAD"):
                await self._list(scope, send)
            else:
                await send_json(send, {"error": f"{method} is not possible here"}, status=405)
        except UnknownName as error:
            await send_json(send, {"error": str(error), "near": error.near}, status=404)
        except AmbiguousName as error:
            choices = [f"{one.name}@{one.torrent_id}" for one in error.candidates]
            await send_json(send, {"error": str(error), "candidates": choices}, status=409)
        except FormatError as error:
            await send_json(send, {"error": str(error)}, status=400)
        except P2pfsError as error:
            await send_json(send, {"error": str(error)}, status=503)

    async def _publish(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin, host = header(scope, b"origin"), header(scope, b"host")
        if origin and origin.partition(b"://")[2] != host:
            await send_json(send, {"error": "pages of other sites may not publish"}, status=403)
            return
        async with self._uploads:
            data = await read_body(receive, METAINFO_LIMITS.max_bytes, _BODY_SECONDS)
            entry, new = await asyncio.to_thread(self._catalogue.publish, data, int(self._clock()))
        await send_json(send, _described(entry, None), status=201 if new else 200)

    async def _fetch(self, quoted: str, send: Send) -> None:
        name = unquote(quoted.removesuffix(".torrent"))
        entry = await asyncio.to_thread(self._catalogue.find, name)
        data = await asyncio.to_thread(self._catalogue.metainfo, entry.torrent_id)
        disposition = f"attachment; filename*=UTF-8''{quote(entry.name, safe='')}.torrent"
        await send_reply(
            send,
            data,
            kind=TORRENT_TYPE,
            headers=[(b"content-disposition", disposition.encode())],
        )

    async def _list(self, scope: Scope, send: Send) -> None:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        offset = _number(query, "offset", 0)
        limit = min(_number(query, "limit", PAGE), PAGE)
        entries = await asyncio.to_thread(self._catalogue.entries, offset, limit)
        counts = self._scrape([entry.torrent_id for entry in entries])
        await send_json(
            send,
            {
                "torrents": [_described(one, counts.get(one.torrent_id)) for one in entries],
                "total": len(self._catalogue),
            },
        )


def _described(entry: Entry, counts: ScrapeEntry | None) -> dict[str, object]:
    return {
        "name": entry.name,
        "size": entry.size,
        "info_hash": str(entry.torrent_id),
        "published": entry.published,
        "seeders": counts.complete if counts else 0,
        "leechers": counts.incomplete if counts else 0,
        "downloaded": counts.downloaded if counts else 0,
    }


def _number(query: dict[str, list[str]], name: str, default: int) -> int:
    text = query.get(name, [str(default)])[0]
    if not _NUMBER.fullmatch(text):
        raise FormatError(f"{name} is not a number")
    return int(text)
