"""URLs that come inside torrents: trackers (BEP 3, BEP 12) and web seeds (BEP 19).

Invariant: what leaves this module is printable text with a scheme and no blanks, of
bounded length and number. Whether an address may be contacted is decided by who dials.
"""

from __future__ import annotations

from p2pfs.formats.bencode import Value

__all__ = ["MAX_URLS", "MAX_URL_LENGTH", "read_tiers", "read_urls"]

MAX_URLS = 1_000
MAX_URL_LENGTH = 2_048


def read_tiers(root: dict[bytes, Value]) -> tuple[tuple[str, ...], ...]:
    """The trackers in tiers; `announce` counts only without a usable `announce-list` (BEP 12)."""
    listed = root.get(b"announce-list")
    tiers: list[tuple[str, ...]] = []
    seen: set[str] = set()
    for tier in listed if isinstance(listed, list) else ():
        fresh = tuple(url for url in read_urls(tier) if url not in seen)
        if fresh and len(seen) + len(fresh) <= MAX_URLS:
            seen.update(fresh)
            tiers.append(fresh)
    if tiers:
        return tuple(tiers)
    announce = read_urls(root.get(b"announce"))
    return (announce[:1],) if announce else ()


def read_urls(value: Value | None) -> tuple[str, ...]:
    """Whatever looks like a URL in a string or a list of strings, in order, each once."""
    candidates = value if isinstance(value, list) else [value]
    urls: dict[str, None] = {}
    for candidate in candidates:
        if isinstance(candidate, bytes) and 0 < len(candidate) <= MAX_URL_LENGTH:
            try:
                url = candidate.decode().strip()
            except UnicodeDecodeError:
                continue
            if "://" in url and url.isprintable() and " " not in url:
                urls[url] = None
        if len(urls) == MAX_URLS:
            break
    return tuple(urls)
