"""Where a web seed has the files of a torrent (BEP 19).

Invariant: what leaves this module is an http or https URL in ASCII that can be sent as it
stands, and names that came in a torrent change nothing in it but the last parts of the path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, urlsplit

__all__ = ["file_url", "web_seed_name"]

_AS_THEY_ARE: Final = "".join(map(chr, range(0x21, 0x7F)))
"""What a URL from a torrent may hold; the rest of it is percent-encoded."""


def web_seed_name(url: str) -> str | None:
    """The host of `url`, with its port if it has one; None unless it is http or https."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return None
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"


def file_url(url: str, name: str, path: Sequence[str] | None) -> str:
    """Where the web seed at `url` has a file of the torrent called `name`.

    `path` below the torrent's folder; None for a torrent that is one file: then `url` is that
    file, unless it ends with a slash (or has no path at all). A query stays behind the path.
    """
    head, mark, query = url.partition("#")[0].partition("?")
    head = quote(head, safe=_AS_THEY_ARE)
    if not head.partition("://")[2].partition("/")[1]:
        head += "/"
    if path is not None:
        head = head.removesuffix("/") + "/" + "/".join(map(_quoted, (name, *path)))
    elif head.endswith("/"):
        head += _quoted(name)
    return head + mark + quote(query, safe=_AS_THEY_ARE)


def _quoted(part: str) -> str:
    return quote(part, safe="")
