"""The tracker over UDP (BEP 15): the same answers as over HTTP, in one datagram each.

Invariant: an address gets 16 bytes for its 16 until it has proved that it can be answered,
by a connection id that was sent there; a wrong id is answered with silence. So nobody can
have others flooded or listed by sending in their name.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from p2pfs.errors import P2pfsError
from p2pfs.formats import announce_udp as udp
from p2pfs.formats.endpoint import pack_host, unpack_host
from p2pfs.net.own_address import route_to
from p2pfs.net.packet_filter import drop_above
from p2pfs.storage.whole_files import written_aside
from p2pfs.tracker.connection_id import SECRET_LENGTH, ConnectionIds
from p2pfs.tracker.service import TrackerService

__all__ = ["UdpTracker", "drop_nonsense", "kept_secret"]

log = logging.getLogger(__name__)

_ANNOUNCE, _SCRAPE = int(udp.Action.ANNOUNCE), int(udp.Action.SCRAPE)
_SECRET_FILE = "connection-ids.secret"


class UdpTracker:
    """What to answer to a datagram. `secret` is as for `ConnectionIds`.

    `clock` is monotonic seconds, `wall` those of a clock that goes on across restarts.
    """

    def __init__(
        self,
        service: TrackerService,
        secret: bytes,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._service = service
        self._ids = ConnectionIds(secret)
        self._clock = clock
        self._wall = wall

    def answer(self, data: bytes, source: str, ours: bytes) -> bytes:
        """The reply to a datagram from the IP address `source`; empty for silence.

        `ours` is the address of this machine that it was sent to, packed, if that is known.
        """
        if len(data) < udp.REQUEST_HEADER.size:
            return b""
        connection_id, action, transaction = udp.REQUEST_HEADER.unpack_from(data)
        host = pack_host(source)
        if connection_id == udp.CONNECT:
            if action != udp.Action.CONNECT:
                return b""
            return udp.encode_connect_reply(transaction, self._ids.issue(host, self._wall()))
        if not self._ids.is_valid(connection_id, host, self._wall()):
            return b""

        def reached_at() -> str | None:
            return unpack_host(ours) if ours else route_to(source)

        try:
            if action == _ANNOUNCE:
                again = udp.parse_renewal(data)
                if again is not None and (
                    reply := self._renew(again, host, transaction, reached_at)
                ):
                    return reply
                request = udp.parse_announce(data, source)
                found = self._service.announce(request, source, self._clock(), reached_at)
                return udp.encode_announce_reply(transaction, found, ipv6=len(host) == 16)
            if action == _SCRAPE:
                torrents = udp.parse_scrape(data)
                counts = self._service.scrape(torrents)
                return udp.encode_scrape_reply(transaction, [counts.get(one) for one in torrents])
        except P2pfsError as error:
            return udp.encode_error(transaction, str(error))
        return b""

    def _renew(
        self,
        announce: udp.Renewal,
        host: bytes,
        transaction: bytes,
        reached_at: Callable[[], str | None],
    ) -> bytes:
        """The reply to somebody who was here before and says nothing new; empty for others."""
        info_hash, peer_id, key, left, numwant, port = announce
        found = self._service.renew(
            info_hash,
            peer_id,
            key,
            host + port.to_bytes(2, "big"),
            seed=left == 0,
            numwant=None if numwant < 0 else numwant,
            now=self._clock(),
            reached_at=reached_at,
        )
        if found is None:
            return b""
        counts, peers, peers6 = found
        ipv6 = len(host) == 16
        return udp.encode_peers(
            transaction,
            self._service.interval,
            counts.incomplete,
            counts.complete,
            peers6 if ipv6 else peers,
            ipv6=ipv6,
        )


def drop_nonsense(sockets: Sequence[socket.socket]) -> None:
    """Have the system drop what asks for nothing that there is, where it can."""
    for sock in sockets:
        drop_above(sock, udp.ACTION_AT, udp.Action.SCRAPE)


def kept_secret(folder: Path | None) -> bytes:
    """The secret that `folder` keeps, a new one the first time or without a folder.

    Where it cannot be kept, connection ids end with the process, which costs every client
    one round trip: that is only logged.
    """
    if folder is None:
        return os.urandom(SECRET_LENGTH)
    path = folder / _SECRET_FILE
    with contextlib.suppress(OSError):
        found = path.read_bytes()
        if len(found) == SECRET_LENGTH:
            return found
    secret = os.urandom(SECRET_LENGTH)
    try:
        with written_aside(path, secret, private=True) as temporary:
            temporary.replace(path)
    except OSError as error:
        log.warning("cannot keep %s: %s", path, error.strerror or error)
    return secret
