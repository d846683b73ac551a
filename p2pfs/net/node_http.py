"""The nodes over HTTP: register, renew and leave, and who is here, below `/nodes`.

Invariant: a node is reached at the address that its registration came from, whatever it
says about itself; and only who knows its key renews or ends its lease.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote

from p2pfs.errors import FormatError
from p2pfs.formats.endpoint import pack_host
from p2pfs.geometry import TorrentId
from p2pfs.net.http_reply import Reply, header, json_reply, long_json_reply, read_body
from p2pfs.net.index_keeping import in_steps
from p2pfs.net.own_address import address_for
from p2pfs.net.request_guard import RequestGuard, sender
from p2pfs.net.routing import Refused, Request, Router
from p2pfs.net.workers import Workers
from p2pfs.tracker.catalogue import Catalogue
from p2pfs.tracker.leases import LIFETIME, MAX_TORRENTS, RENEW_EVERY, IdTaken, Lease
from p2pfs.tracker.presence import Presence
from p2pfs.tracker.rights import ANONYMOUS, Publisher, node_publisher
from p2pfs.tracker.service import TrackerService

__all__ = ["NodeRoutes"]

_MAX_BODY = 1000 + 64 * MAX_TORRENTS
_BODY_SECONDS = 30.0
_HASH = re.compile(r"[0-9a-fA-F]{40}")
_AT_ONCE = 500
"""Torrents that enter swarms in one step of the event loop: about a millisecond."""
_RHYTHM = {"lease": LIFETIME, "renew_every": RENEW_EVERY}


class Registration(NamedTuple):
    """The body of a registration, checked."""

    node: Publisher
    port: int
    torrents: list[bytes]


class NodeRoutes:
    """The part of the application below `/nodes`.

    `clock` is monotonic seconds, `wall_clock` seconds since 1970.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        presence: Presence,
        service: TrackerService,
        guard: RequestGuard,
        workers: Workers,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._catalogue = catalogue
        self._presence = presence
        self._service = service
        self._guard = guard
        self._workers = workers
        self._clock = clock
        self._wall_clock = wall_clock

    def enter(self, router: Router) -> None:
        """Answer through `router`."""
        router.add("/nodes", GET=self._list)
        router.add("/nodes/{id}", GET=self._show, PUT=self._register, DELETE=self._unregister)
        router.add("/nodes/{id}/renew", POST=self._renew)

    async def _list(self, request: Request) -> Reply:
        nodes = [self._described(lease, request) for lease in self._presence.leases]
        return await self._workers.run(json_reply, {"nodes": nodes})

    async def _show(self, request: Request) -> Reply:
        lease = self._lease(unquote(request.argument))
        described = self._described(lease, request)

        def encode() -> Reply:
            found = [self._catalogue.get(TorrentId(key)) for key in lease.torrents]
            entries = sorted((one for one in found if one), key=lambda one: one.name)
            torrents = [
                {"name": one.name, "size": one.size, "info_hash": str(one.torrent_id)}
                for one in entries
            ]
            return long_json_reply(described, "torrents", torrents)

        return await self._workers.run(encode)

    async def _register(self, request: Request) -> Reply:
        node_id = unquote(request.argument)
        data = await read_body(request.receive, _MAX_BODY, _BODY_SECONDS)
        wanted = await self._workers.run(_registration, node_id, data)
        now = self._clock()
        try:
            lease, new = self._presence.register(
                wanted.node,
                pack_host(request.source),
                wanted.port,
                wanted.torrents,
                now=now,
                since=int(self._wall_clock()),
            )
        except IdTaken as error:
            raise self._taken(error, request) from error
        await in_steps(partial(self._presence.work, _AT_ONCE))
        described = self._described(lease, request)
        answer = {name: described[name] for name in ("id", "host", "port")} | _RHYTHM

        def encode() -> Reply:
            torrents = dict.fromkeys(wanted.torrents)
            unknown = [key.hex() for key in torrents if TorrentId(key) not in self._catalogue]
            return json_reply(answer | {"unknown": unknown}, 201 if new else 200)

        return await self._workers.run(encode)

    async def _renew(self, request: Request) -> Reply:
        node = self._proved(request)
        try:
            lease = self._presence.leases.renew(node, pack_host(request.source), self._clock())
        except IdTaken as error:
            raise _wrong_key(node.node_id) from error
        if lease is None:
            raise _not_here(node.node_id)
        return json_reply(_RHYTHM)

    async def _unregister(self, request: Request) -> Reply:
        node_id = unquote(request.argument)
        lease = self._lease(node_id)
        by_token = self._guard.by_token and not header(request.scope, b"p2pfs-node")
        if not by_token and self._proved(request) != lease.node:
            raise _wrong_key(node_id)
        described = self._described(lease, request)
        self._presence.unregister(node_id)
        await in_steps(partial(self._presence.work, _AT_ONCE))
        return json_reply(described)

    def _lease(self, node_id: str) -> Lease:
        lease = self._presence.leases.get(node_id)
        if lease is None:
            raise _not_here(node_id)
        return lease

    def _proved(self, request: Request) -> Publisher:
        node = sender(request.scope)
        if node == ANONYMOUS or node.node_id != unquote(request.argument):
            raise Refused(
                403,
                "a node proves what it is: send its id as P2pfs-Node, its key as P2pfs-Node-Key",
            )
        return node

    def _taken(self, error: IdTaken, request: Request) -> Refused:
        """The refusal that says who has the id, as the asker can reach it."""
        lease = error.lease
        host = self._host(lease, request)
        return Refused(
            409,
            error.told(host),
            host=host,
            port=lease.port,
            heard=round(error.heard, 1),
            free_in=round(error.free_in, 1),
        )

    def _host(self, lease: Lease, request: Request) -> str:
        def reached_at() -> str | None:
            return address_for(header(request.scope, b"host"), request.source)

        return self._service.host_for(lease.host, request.source, reached_at)

    def _described(self, lease: Lease, request: Request) -> dict[str, object]:
        return {
            "id": lease.node.node_id,
            "host": self._host(lease, request),
            "port": lease.port,
            "files": len(lease.torrents),
            "since": lease.since,
            "unconfirmed": not lease.confirmed,
        }


def _registration(node_id: str, data: bytes) -> Registration:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise FormatError("the registration is not JSON") from None
    if not isinstance(body, dict):
        raise FormatError("the registration is not a JSON object")
    key, port, torrents = body.get("key"), body.get("port"), body.get("torrents")
    if not isinstance(key, str):
        raise FormatError("key is missing or not a string")
    if type(port) is not int or not 1 <= port <= 65535:
        raise FormatError("port is missing or not a number in 1..65535")
    if not isinstance(torrents, list) or not all(
        isinstance(one, str) and _HASH.fullmatch(one) for one in torrents
    ):
        raise FormatError("torrents is missing or not a list of info hashes of 40 digits")
    return Registration(
        node_publisher(node_id, key), port, [bytes.fromhex(one) for one in torrents]
    )


def _not_here(node_id: str) -> Refused:
    return Refused(404, f"no node {node_id[:80]!r} is registered; register it (anew)")


def _wrong_key(node_id: str) -> Refused:
    return Refused(403, f"another node is called {node_id[:80]!r}: the key is wrong")
