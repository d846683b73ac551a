"""The catalogue over HTTP: list, search, fetch, publish and withdraw below `/torrents`.

Invariant: passes over the catalogue, its database and the metainfo of strangers are left
to worker threads, so that announces never wait for them.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from urllib.parse import quote, unquote

from p2pfs.errors import FormatError
from p2pfs.formats.bencode import METAINFO_LIMITS
from p2pfs.net.http_reply import Reply, header, json_reply, read_body
from p2pfs.net.request_guard import RequestGuard, sender
from p2pfs.net.routing import Refused, Request, Router
from p2pfs.net.workers import Workers
from p2pfs.tracker.catalogue import AmbiguousName, Catalogue, Entry, NotYours, UnknownName
from p2pfs.tracker.listing import Listing
from p2pfs.tracker.presence import Presence
from p2pfs.tracker.rights import ANONYMOUS, Publisher

__all__ = ["CatalogueRoutes"]

TORRENT_TYPE = b"application/x-bittorrent"
PAGE = 1000
_SUFFIX = ".torrent"
_BODY_SECONDS = 60.0
_NUMBER = re.compile(r"[0-9]{1,9}")
_SMALL_BODY = 256 * 1024
_SMALL_UPLOADS = 64
_LARGE_UPLOADS = 4
"""Metainfo files taken in at the same time: each may be as large as the limit."""


class CatalogueRoutes:
    """The part of the application below `/torrents`; `clock` is seconds since 1970."""

    def __init__(
        self,
        catalogue: Catalogue,
        presence: Presence,
        guard: RequestGuard,
        workers: Workers,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._catalogue = catalogue
        self._presence = presence
        self._listing = Listing(catalogue, presence)
        self._guard = guard
        self._workers = workers
        self._clock = clock
        self._small_uploads = asyncio.Semaphore(_SMALL_UPLOADS)
        self._large_uploads = asyncio.Semaphore(_LARGE_UPLOADS)

    def enter(self, router: Router) -> None:
        """Answer through `router`."""
        router.add("/torrents", GET=self._list, POST=self._publish)
        router.add("/torrents/{name}", GET=self._fetch, DELETE=self._withdraw)

    async def _list(self, request: Request) -> Reply:
        query = request.query("pattern", "all", "offset", "limit")
        offset = _number(query, "offset", 0)
        limit = min(_number(query, "limit", PAGE), PAGE)
        everything = query.get("all", "0")
        if everything not in ("0", "1"):
            raise FormatError("all is 0 or 1")

        entries, total = await self._workers.run(
            self._listing.page,
            query.get("pattern"),
            everything=everything == "1",
            offset=offset,
            limit=limit,
        )
        answer = {"torrents": [self._described(entry) for entry in entries], "total": total}
        return await self._workers.run(json_reply, answer)

    async def _publish(self, request: Request) -> Reply:
        publisher = self._sender(request)
        length = header(request.scope, b"content-length")
        small = length.isdigit() and int(length[:20]) <= _SMALL_BODY
        async with self._small_uploads if small else self._large_uploads:
            data = await read_body(request.receive, METAINFO_LIMITS.max_bytes, _BODY_SECONDS)
            entry, new = await self._workers.run(
                self._catalogue.publish, data, int(self._clock()), publisher
            )
        self._presence.published(entry.torrent_id)
        return json_reply(self._described(entry), 201 if new else 200)

    async def _fetch(self, request: Request) -> Reply:
        wanted = unquote(request.argument)
        try:
            entry = await self._find(wanted.removesuffix(_SUFFIX) or wanted)
        except Refused as error:
            if error.status != 404 or not wanted.endswith(_SUFFIX):
                raise
            try:
                entry = await self._find(wanted)
            except Refused as second:
                raise (error if second.status == 404 else second) from None
        data = await self._workers.run(self._catalogue.metainfo, entry.torrent_id)
        name = quote(entry.name.rpartition("/")[2], safe="")
        disposition = f"attachment; filename*=UTF-8''{name}{_SUFFIX}"
        return Reply(
            data, kind=TORRENT_TYPE, headers=[(b"content-disposition", disposition.encode())]
        )

    async def _withdraw(self, request: Request) -> Reply:
        asker = self._sender(request)
        entry = await self._find(unquote(request.argument))
        described = self._described(entry)
        try:
            await self._workers.run(
                self._catalogue.withdraw,
                entry.torrent_id,
                asker,
                self._presence.leases.holders(entry.torrent_id.v1),
                everything=self._guard.by_token,
            )
        except NotYours as error:
            raise Refused(403, str(error)) from error
        except UnknownName as error:
            raise Refused(404, str(error), near=error.near) from error
        return json_reply(described)

    async def _find(self, wanted: str) -> Entry:
        try:
            return await self._workers.run(self._catalogue.find, wanted, self._presence.live_among)
        except UnknownName as error:
            raise Refused(404, str(error), near=error.near) from error
        except AmbiguousName as error:
            candidates = [self._described(one) for one in error.candidates]
            raise Refused(409, str(error), candidates=candidates) from error

    def _sender(self, request: Request) -> Publisher:
        """Who asks; nobody may use the id of a node that is here with another key."""
        publisher = sender(request.scope)
        lease = self._presence.leases.get(publisher.node_id)
        if publisher != ANONYMOUS and lease is not None and lease.node != publisher:
            raise Refused(403, f"another node is called {publisher.node_id!r}: the key is wrong")
        return publisher

    def _described(self, entry: Entry) -> dict[str, object]:
        standing = self._presence.standing(entry.torrent_id)
        return {
            "name": entry.name,
            "size": entry.size,
            "info_hash": str(entry.torrent_id),
            "published": entry.published,
            "files": entry.files,
            "seeders": standing.counts.complete,
            "leechers": standing.counts.incomplete,
            "downloaded": standing.counts.downloaded,
            "live": standing.live,
            "unconfirmed": standing.unconfirmed,
        }


def _number(query: dict[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not _NUMBER.fullmatch(text):
        raise FormatError(f"{name} is not a number")
    return int(text)
