"""The connections of one client: those that come in, those that go out, and room for both.

Invariant: each is counted by the admission from its first moment to its last, and its socket
is closed whatever happens on the way.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final

from p2pfs.errors import NetworkError, P2pfsError
from p2pfs.net.admission import Admission, default_limit
from p2pfs.net.connection import Connection, Party
from p2pfs.net.disk import Disk
from p2pfs.net.limits import DownLimit
from p2pfs.net.listener import is_any_address

__all__ = ["Connections"]

log = logging.getLogger(__name__)

DIAL_TIMEOUT: Final = 15.0


class Connections:
    """`find` gives the party to an info hash, `find_disguised` the info hash to the name that a
    disguised handshake has for it; `failed` hears of dials that came to nothing.

    `bind`: the address that is dialled from; None for any.
    """

    def __init__(
        self,
        bind: str | None,
        disk: Disk,
        down_limit: DownLimit,
        find: Callable[[bytes], Party | None],
        find_disguised: Callable[[bytes], bytes | None],
        failed: Callable[[Party, Connection], None],
    ) -> None:
        self._bind = bind if bind is not None and not is_any_address(bind) else None
        self._disk = disk
        self._find = find
        self.find_disguised = find_disguised
        self._failed = failed
        self._open: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self.down_limit = down_limit
        self.admission = Admission(default_limit())

    def welcome(self, sock: socket.socket, address: tuple[str, int]) -> None:
        """Take a connection that came in, or close it without a word."""
        refusal = self.admission.refuse(address[0])
        if refusal:
            log.info("%s is refused: %s", address[0], refusal)
            sock.close()
            return
        connection = Connection(self, address, None)
        self.admission.came(connection)
        self._open.add(connection)
        task = asyncio.get_running_loop().create_task(self._take(connection, sock))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _take(self, connection: Connection, sock: socket.socket) -> None:
        try:
            await connection.open(sock)
        except BaseException as error:
            log.info("%s: %s", connection.address, error)
            self._gone(connection)
            sock.close()
            if not isinstance(error, (OSError, P2pfsError)):
                raise

    async def dial(self, address: tuple[str, int], party: Party) -> None:
        """Connect to a peer. Raises `OSError`, `TimeoutError`, `NetworkError`."""
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        connection = Connection(self, address, party)
        self.admission.went_out(connection)
        self._open.add(connection)
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                if self._bind is not None:
                    if (":" in self._bind) != (family == socket.AF_INET6):
                        raise NetworkError(f"{address[0]} cannot be reached from {self._bind}")
                    sock.bind((self._bind, 0))
                async with asyncio.timeout(DIAL_TIMEOUT):
                    await loop.sock_connect(sock, address)
                await connection.open(sock)
            except BaseException:
                sock.close()
                raise
        except BaseException:
            self._gone(connection)
            raise

    def resume(self) -> None:
        """Receive again, wherever that is allowed now."""
        for connection in list(self._open):
            connection.resume()

    async def close(self) -> None:
        """Close them all."""
        for connection in list(self._open):
            connection.close("the client is closed")
        await asyncio.gather(*self._opening, return_exceptions=True)
        await asyncio.sleep(0)

    def _gone(self, connection: Connection) -> None:
        self._open.discard(connection)
        self.admission.left(connection)

    # -- what a connection asks and tells

    @property
    def disk_busy(self) -> bool:
        return self._disk.busy

    def find_exchange(self, info_hash: bytes) -> Party | None:
        return self._find(info_hash)

    def connection_joined(self, connection: Connection) -> None:
        self.admission.known(connection)

    def connection_closed(self, connection: Connection) -> None:
        self._gone(connection)
        party = connection.exchange
        if connection.outgoing and connection.peer is None and party is not None:
            self._failed(party, connection)
