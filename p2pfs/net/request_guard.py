"""Who may ask the index: by the name it was asked under, by the page that asks, by token.

Invariant: a web page of somebody else cannot read the catalogue through a visitor's
browser (a foreign `Host`: DNS rebinding) nor change it (a foreign `Origin`), and a token
cannot be guessed: comparing takes the same time whatever is wrong, and after a number of
wrong ones an address has to wait.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import math
import re
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cache
from hashlib import blake2b

from p2pfs.net.asgi_server import Scope
from p2pfs.net.http_client import printable
from p2pfs.net.http_reply import header
from p2pfs.net.index_client import check_token
from p2pfs.net.routing import Refused
from p2pfs.tracker.rights import ANONYMOUS, Publisher, node_publisher

__all__ = ["RequestGuard", "WrongTokens", "sender"]

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]@/]*)(?::[0-9]{0,5})?")
_LOCAL_SUFFIXES = (".localhost", ".local", ".lan", ".home.arpa", ".internal")
_CHANGING = frozenset(("POST", "PUT", "DELETE", "PATCH"))
_WRONG_ALLOWED = 20
_WRONG_SECONDS = 60.0
_MAX_ADDRESSES = 4096
_NAME_SECONDS = 3.0


class WrongTokens:
    """Counts wrong tokens by address; `now` is monotonic seconds."""

    def __init__(self) -> None:
        self._wrong: dict[str, tuple[int, float]] = {}
        """How many, and until when they count."""

    def wait(self, address: str, now: float) -> float:
        """Seconds until `address` may try again; 0 when it may."""
        count, until = self._wrong.get(_network(address), (0, now))
        return until - now if count >= _WRONG_ALLOWED and now < until else 0.0

    def add(self, address: str, now: float) -> None:
        """`address` came with a wrong token."""
        name = _network(address)
        count, until = self._wrong.pop(name, (0, now))
        if now >= until:
            count, until = 0, now + _WRONG_SECONDS
        self._wrong[name] = (count + 1, until)
        if len(self._wrong) > _MAX_ADDRESSES:
            del self._wrong[next(iter(self._wrong))]


class RequestGuard:
    """Lets requests pass or raises `Refused`.

    `names` are host names of this index beside those of its machine. `token`, if there is
    one, is needed for every change. Raises `UsageError` for one that no header can carry.
    """

    def __init__(
        self, *, names: Sequence[str], token: str | None, clock: Callable[[], float]
    ) -> None:
        if token is not None:
            check_token(token)
        self._names = frozenset(name.rstrip(".").lower() for name in names)
        self._token = _digest(token.encode()) if token is not None else None
        self._clock = clock
        self._wrong = WrongTokens()

    @property
    def by_token(self) -> bool:
        """Whether changes need the token, which entitles to every change."""
        return self._token is not None

    async def __call__(self, scope: Scope) -> None:
        """Raises `Refused` (421, 403, 401 or 429) for a request that may not pass."""
        await self._check_host(header(scope, b"host").decode("latin-1"))
        if scope["method"] in _CHANGING:
            _check_origin(scope)
            self._check_token(scope)

    async def _check_host(self, text: str) -> None:
        match = _HOST.fullmatch(text)
        name = match[1].rstrip(".").lower() if match else text
        if match and (_is_plain(name) or name in self._names):
            return
        if match and name in await _own_names():
            return
        shown = printable(name, 100)
        raise Refused(
            421,
            f"this index does not go by the name {shown!r}; if it does, start it with "
            f"--allow-host {shown}, or ask it by its IP address",
        )

    def _check_token(self, scope: Scope) -> None:
        if self._token is None:
            return
        address, now = str(scope["client"][0]), self._clock()
        wait = self._wrong.wait(address, now)
        if wait:
            seconds = math.ceil(wait)
            raise Refused(
                429,
                f"too many wrong tokens from {address}; wait {seconds} s",
                headers=[(b"retry-after", b"%d" % seconds)],
            )
        kind, _, given = header(scope, b"authorization").partition(b" ")
        challenge = [(b"www-authenticate", b"Bearer")]
        if kind.lower() != b"bearer" or not given.strip():
            raise Refused(
                401,
                "this index takes changes only from those who have its token: put it into "
                "P2PFS_TOKEN in the environment (over HTTP: Authorization: Bearer TOKEN)",
                headers=challenge,
            )
        if not hmac.compare_digest(_digest(given.strip()), self._token):
            self._wrong.add(address, now)
            raise Refused(401, "the token is wrong; see P2PFS_TOKEN", headers=challenge)


def sender(scope: Scope) -> Publisher:
    """The node that sent a request, as it says and proves; `ANONYMOUS` when it says nothing.

    Raises `FormatError` when the id or the key is missing or cannot be one.
    """
    node_id, key = header(scope, b"p2pfs-node"), header(scope, b"p2pfs-node-key")
    if not node_id and not key:
        return ANONYMOUS
    return node_publisher(node_id.decode("latin-1"), key.decode("latin-1"))


def _check_origin(scope: Scope) -> None:
    origin, host = header(scope, b"origin"), header(scope, b"host")
    site = header(scope, b"sec-fetch-site")
    if (origin and origin.partition(b"://")[2] != host) or site in (b"cross-site", b"same-site"):
        raise Refused(403, "pages of other sites may not change anything here")


def _is_plain(name: str) -> bool:
    """Whether nobody outside can own this name: an address, or a name of the local network."""
    if "." not in name and ":" not in name:
        return True  # "localhost" and the names of machines nearby
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name.endswith(_LOCAL_SUFFIXES)
    return True


async def _own_names() -> frozenset[str]:
    """What this machine is called, as far as that can be told within a few seconds."""
    try:
        found = asyncio.wrap_future(_looked_up())
        return await asyncio.wait_for(found, _NAME_SECONDS)
    except TimeoutError:
        return frozenset()


@cache
def _looked_up() -> Future[frozenset[str]]:
    """The names of this machine, once the name server has answered.

    It may take its time; so the thread that waits is one that the process need not wait for.
    """
    names: Future[frozenset[str]] = Future()
    names.set_running_or_notify_cancel()  # whoever gives up waiting does not cancel it

    def look_up() -> None:
        found = (socket.gethostname(), socket.getfqdn())
        names.set_result(frozenset(name.rstrip(".").lower() for name in found))

    threading.Thread(target=look_up, name="own names", daemon=True).start()
    return names


def _network(address: str) -> str:
    """Whom an address belongs to: one host of IPv4, a network of 64 bits of IPv6."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None:
        return str(ipaddress.IPv6Network((ip.packed[:8] + bytes(8), 64)))
    return address


def _digest(token: bytes) -> bytes:
    return blake2b(token, digest_size=32).digest()
