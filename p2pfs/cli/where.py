"""Where the swarm is: the tracker that `-i` and `-d` name, our own port, the limits.

Invariant: a host on the command line has one reading (name, IPv4, IPv6 with or without
brackets, each with or without `:PORT`, or a URL); anything else is refused before work starts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from urllib.parse import urlsplit

from p2pfs.errors import UsageError

__all__ = ["Where", "check_url", "named_trackers", "tracker_base"]

_NAMED = re.compile(r"(?P<host>[^\s:/@?#%\[\]\\-][^\s:/@?#\[\]\\]*)(?::(?P<port>[0-9]{1,5}))?")
_IPV6 = re.compile(
    r"\[?(?P<host>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)(?:\](?::(?P<port>[0-9]{1,5}))?)?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Where:
    """How the swarm is reached. `up_limit` and `down_limit` are bytes a second.

    `pex` and `lsd`: peers are also found through peers, and on the local network.
    `web_seeds`: web servers that a torrent names are sources too, and `private_web_seeds` also
    those in private networks.

    Raises `UsageError` for a `host` that cannot be one.
    """

    host: str | None
    tracker_port: int
    port: int
    bind: str | None
    up_limit: int | None = None
    down_limit: int | None = None
    pex: bool = True
    lsd: bool = True
    web_seeds: bool = True
    private_web_seeds: bool = False

    def __post_init__(self) -> None:
        if self.host is not None:
            tracker_base(self.host, self.tracker_port)

    @property
    def base_url(self) -> str | None:
        """Where the tracker and its catalogue are, if the user named a host."""
        return None if self.host is None else tracker_base(self.host, self.tracker_port)

    @property
    def trackers(self) -> list[str]:
        """The announce URLs that the user named."""
        return [] if self.base_url is None else [f"{self.base_url}/announce"]


def tracker_base(host: str, port: int) -> str:
    """The URL of the tracker on `host`; a port in `host` wins over `port`.

    Raises `UsageError`.
    """
    if "://" in host:
        check_url(host, ("http", "https"))
        if any(mark in host for mark in "@?#"):
            raise UsageError(f"{host!r} is not the URL of a tracker: leave out what has @, ? or #")
        return host.removesuffix("/").removesuffix("/announce")
    match = _IPV6.fullmatch(host) if host.count(":") > 1 else _NAMED.fullmatch(host)
    paired = host.startswith("[") == ("]" in host)
    if match is None or not paired or not host.isprintable() or not _is_host(match["host"]):
        raise UsageError(
            f"{host!r} is not a host name or an address: give one of them, HOST:PORT, "
            "or a URL such as http://host:9999/announce"
        )
    number = port if match["port"] is None else int(match["port"])
    if not 1 <= number <= 65535:
        raise UsageError(f"{host!r} has a port that is not possible: 1 to 65535 are")
    name = f"[{match['host']}]" if ":" in match["host"] else match["host"]
    return f"http://{name}:{number}"


def _is_host(text: str) -> bool:
    if ":" not in text:
        return len(text) <= 255
    try:
        return bool(IPv6Address(text))
    except ValueError:
        return False


def named_trackers(urls: Sequence[str] | None, host: str | None, port: int) -> list[str]:
    """The announce URLs that the user named by `-t` and by `-i`; raises `UsageError`."""
    named = list(dict.fromkeys(urls or ()))
    for url in named:
        check_url(url, ("http", "https", "udp"))
    if host is not None:
        named.append(f"{tracker_base(host, port)}/announce")
    return named


def check_url(url: str, schemes: tuple[str, ...], *, example: str | None = None) -> None:
    """Refuse what is no URL of one of these schemes with a host; raises `UsageError`."""
    reason = f"is not a URL such as {example or f'{schemes[0]}://host:9999/announce'}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError(f"{url!r} {reason}") from None
    if parts.scheme not in schemes or not parts.hostname or port == 0:
        raise UsageError(f"{url!r} {reason}")
    if parts.scheme == "udp" and port is None:
        raise UsageError(f"{url!r}: a udp:// tracker needs a port, as in udp://host:9999/announce")
    if not url.isprintable() or any(mark in url for mark in ' "<>\\'):
        raise UsageError(f"{url!r} {reason}")
