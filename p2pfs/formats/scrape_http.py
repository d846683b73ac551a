"""Scrapes over HTTP (BEP 48): what many torrents' swarms look like, in one request.

Invariant: a scrape answers about the info hashes that were asked for and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote_from_bytes, unquote_to_bytes

from p2pfs.errors import FormatError
from p2pfs.formats import bencode
from p2pfs.formats.announce_http import MAX_QUERY
from p2pfs.geometry import TorrentId

__all__ = [
    "MAX_SCRAPE",
    "ScrapeEntry",
    "encode_scrape",
    "encode_scrape_query",
    "parse_scrape",
    "parse_scrape_query",
    "scrape_url",
]

MAX_SCRAPE = 128
"""Info hashes that one scrape may ask about."""


@dataclass(frozen=True, slots=True)
class ScrapeEntry:
    """Counts of one torrent; `downloaders` leaves partial seeds out (BEP 21)."""

    complete: int
    incomplete: int
    downloaded: int
    downloaders: int | None = None


def scrape_url(announce_url: str) -> str | None:
    """The scrape address that belongs to an announce address, None where there is none.

    The last part of the path must begin with `announce`.
    """
    head, mark, query = announce_url.partition("?")
    start = head.rfind("/") + 1
    if not head.startswith("announce", start):
        return None
    return f"{head[:start]}scrape{head[start + len('announce') :]}{mark}{query}"


def encode_scrape_query(torrents: Iterable[TorrentId]) -> str:
    """The query string that asks about `torrents`, without `?`."""
    return "&".join(f"info_hash={quote_from_bytes(one.v1, safe='')}" for one in torrents)


def parse_scrape_query(raw_query: bytes) -> list[TorrentId]:
    """The torrents that a raw scrape query asks about, each once.

    Raises `FormatError` when there is none (a tracker never tells everything it knows),
    more than `MAX_SCRAPE`, or one of another length than 20 bytes.
    """
    if len(raw_query) > MAX_QUERY:
        raise FormatError(f"the query is longer than {MAX_QUERY} bytes")
    found: dict[TorrentId, None] = {}
    for part in raw_query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name != b"info_hash":
            continue
        raw = unquote_to_bytes(value) if len(value) <= 60 else value
        if len(raw) != 20:
            raise FormatError(f"info_hash has {len(raw)} bytes instead of 20")
        found[TorrentId(raw)] = None
    if not found:
        raise FormatError("a scrape needs at least one info_hash")
    if len(found) > MAX_SCRAPE:
        raise FormatError(f"a scrape may ask about {MAX_SCRAPE} torrents, not {len(found)}")
    return list(found)


def encode_scrape(entries: Mapping[TorrentId, ScrapeEntry]) -> bytes:
    """A scrape reply about the torrents in `entries`."""
    files: dict[bytes, dict[bytes, int]] = {}
    for torrent, entry in entries.items():
        counts = files[torrent.v1] = {
            b"complete": entry.complete,
            b"downloaded": entry.downloaded,
            b"incomplete": entry.incomplete,
        }
        if entry.downloaders is not None:
            counts[b"downloaders"] = entry.downloaders
    return bencode.encode({b"files": files})


def parse_scrape(body: bytes) -> dict[TorrentId, ScrapeEntry]:
    """The counts in a scrape reply; entries that make no sense are left out.

    Raises `FormatError` when the body is no scrape reply or is a refusal.
    """
    reply = bencode.decode(body, bencode.REPLY_LIMITS)
    if not isinstance(reply, dict):
        raise FormatError("the scrape reply is not a dictionary")
    if b"failure reason" in reply:
        raise FormatError(f"the tracker refused: {ascii(reply[b'failure reason'])[:200]}")
    files = reply.get(b"files")
    if not isinstance(files, dict):
        raise FormatError("the scrape reply has no files")
    return {
        TorrentId(key): ScrapeEntry(
            _natural(counts, b"complete") or 0,
            _natural(counts, b"incomplete") or 0,
            _natural(counts, b"downloaded") or 0,
            _natural(counts, b"downloaders"),
        )
        for key, counts in files.items()
        if len(key) == 20 and isinstance(counts, dict)
    }


def _natural(counts: dict[bytes, bencode.Value], name: bytes) -> int | None:
    value = counts.get(name)
    return value if isinstance(value, int) and value >= 0 else None
