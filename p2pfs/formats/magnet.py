"""Magnet links (BEP 9, BEP 53): a torrent named by its info hash, and where to ask for the rest.

Invariant: a `Magnet` that exists names one torrent of version 1, holds addresses that can be
dialled and URLs of bounded length and number; `encode` and `parse` undo each other. What a
link says beside that (sizes, hashes of other networks) is left out.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from p2pfs.errors import FormatError, MagnetError, UsageError
from p2pfs.formats.endpoint import is_dialable, pack_host
from p2pfs.formats.metainfo import Metainfo
from p2pfs.formats.torrent_urls import read_urls
from p2pfs.geometry import TorrentId

__all__ = [
    "Magnet",
    "encode",
    "is_magnet",
    "link_of",
    "merged",
    "parse",
    "parse_peer",
    "selected_files",
]

MAX_LENGTH: Final = 64 * 1024
"""Characters of a link; those of real life have a few thousand."""

MAX_PARAMETERS: Final = 1_000
MAX_PEERS: Final = 200
MAX_NAME: Final = 1_024
MAX_RUNS: Final = 1_000
MAX_FILE: Final = 1_000_000
"""The greatest number of a file that a selection may name."""

_SCHEME: Final = "magnet:?"
_V1: Final = "urn:btih:"
_V2: Final = "urn:btmh:"
_HEX: Final = re.compile(r"[0-9A-Fa-f]{40}", re.ASCII)
_BASE32: Final = re.compile(r"[2-7A-Za-z]{32}", re.ASCII)
_RUN: Final = re.compile(r"([0-9]{1,7})(?:-([0-9]{1,7}))?", re.ASCII)
_PEER: Final = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]{1,255})):(?P<port>[0-9]{1,5})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Magnet:
    """`name` is what the link calls it, which the metadata may contradict.

    `trackers` are http, https or udp URLs, `web_seeds` http or https ones. `peers` are (host,
    port), a name or an address each. `selected` are runs of file numbers (BEP 53), first and
    last included, ascending; empty for all files.
    """

    torrent_id: TorrentId
    name: str | None = None
    trackers: tuple[str, ...] = ()
    web_seeds: tuple[str, ...] = ()
    peers: tuple[tuple[str, int], ...] = ()
    selected: tuple[tuple[int, int], ...] = ()

    @property
    def shown(self) -> str:
        """What it is called until the metadata is there; text from outside."""
        return self.name or str(self.torrent_id)


def is_magnet(text: str) -> bool:
    """Whether a word on the command line means a magnet link."""
    return text.lstrip()[: len("magnet:")].lower() == "magnet:"


def parse(link: str) -> Magnet:
    """The torrent that a link names; raises `MagnetError` that says what is wrong with it.

    Trackers, web seeds and peers that cannot be used are left out; a selection of files that
    cannot be read is refused, since leaving it out would mean something else.
    """
    link = link.strip().encode(errors="replace").decode().replace("&amp;", "&")
    if len(link) > MAX_LENGTH:
        raise MagnetError(f"the magnet link is longer than {MAX_LENGTH} characters")
    if link[: len(_SCHEME)].lower() != _SCHEME:
        raise MagnetError("this is no magnet link: it does not begin with magnet:?")
    hashes: list[TorrentId] = []
    version_2 = False
    name: str | None = None
    trackers: list[bytes] = []
    web_seeds: list[bytes] = []
    peers: list[tuple[str, int]] = []
    selected: list[tuple[int, int]] = []
    parameters = link[len(_SCHEME) :].split("&")
    if len(parameters) > MAX_PARAMETERS:
        raise MagnetError(f"the magnet link has more than {MAX_PARAMETERS} parts")
    for parameter in parameters:
        key, _, quoted = parameter.partition("=")
        value = unquote_to_bytes(quoted)
        key = re.sub(r"\.[0-9]{1,4}$", "", key.lower())  # xt.1, tr.2: the same, numbered
        if key == "xt":
            topic = _text(value)
            if topic[: len(_V1)].lower() == _V1:
                hashes.append(_torrent_id(topic[len(_V1) :]))
            version_2 = version_2 or topic[: len(_V2)].lower() == _V2
        elif key == "dn" and name is None:
            name = _text(unquote_to_bytes(quoted.replace("+", " ")))[:MAX_NAME] or None
        elif key == "tr":
            trackers.append(value)
        elif key == "ws":
            web_seeds.append(value)
        elif key == "x.pe":
            with contextlib.suppress(MagnetError):
                peers.append(parse_peer(_text(value)))
        elif key == "so":
            selected += _runs(_text(value))
    if not hashes:
        raise MagnetError(
            "the magnet link is for a torrent of version 2 alone (BEP 52), which cannot be used"
            if version_2
            else "the magnet link names no torrent: it has no xt=urn:btih: with an info hash"
        )
    if len(set(hashes)) > 1:
        raise MagnetError("the magnet link names several torrents: give one link for each")
    return Magnet(
        hashes[0],
        name,
        _urls(trackers, ("http", "https", "udp")),
        _urls(web_seeds, ("http", "https")),
        tuple(dict.fromkeys(peers))[:MAX_PEERS],
        _merged_runs(selected),
    )


def encode(magnet: Magnet) -> str:
    """The link for `magnet`."""
    parts = [f"xt={_V1}{magnet.torrent_id}"]
    if magnet.name is not None:
        parts.append(f"dn={quote(magnet.name, safe='', errors='replace')}")
    parts += [f"tr={quote(url, safe='')}" for url in magnet.trackers]
    parts += [f"ws={quote(url, safe='')}" for url in magnet.web_seeds]
    for host, port in magnet.peers:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        parts.append(f"x.pe={quote(where, safe=':[]')}")  # libtorrent reads it as it stands
    if magnet.selected:
        runs = (f"{a}" if a == b else f"{a}-{b}" for a, b in magnet.selected)
        parts.append("so=" + ",".join(runs))
    return _SCHEME + "&".join(parts)


def link_of(
    metainfo: Metainfo, *, trackers: Iterable[str] = (), peers: Iterable[tuple[str, int]] = ()
) -> Magnet:
    """The magnet link of a torrent, with more trackers, which come first, and peers."""
    named = (url for tier in metainfo.trackers for url in tier)
    return Magnet(
        metainfo.torrent_id,
        metainfo.name,
        _urls([url.encode() for url in (*trackers, *named)], ("http", "https", "udp")),
        _urls([url.encode() for url in metainfo.web_seeds], ("http", "https")),
        tuple(dict.fromkeys(peers)),
    )


def merged(magnets: Iterable[Magnet]) -> list[Magnet]:
    """Each torrent once, with all that its links name; one that selects no files wants all."""
    found: dict[TorrentId, Magnet] = {}
    for magnet in magnets:
        other = found.get(magnet.torrent_id)
        if other is not None:
            magnet = Magnet(
                magnet.torrent_id,
                other.name or magnet.name,
                tuple(dict.fromkeys((*other.trackers, *magnet.trackers))),
                tuple(dict.fromkeys((*other.web_seeds, *magnet.web_seeds))),
                tuple(dict.fromkeys((*other.peers, *magnet.peers)))[:MAX_PEERS],
                _merged_runs((*other.selected, *magnet.selected))
                if other.selected and magnet.selected
                else (),
            )
        found[magnet.torrent_id] = magnet
    return list(found.values())


def selected_files(magnet: Magnet, metainfo: Metainfo) -> tuple[int, ...]:
    """The indices in `metainfo.files` that the link selects (BEP 53); none when it wants all.

    Raises `UsageError` when the torrent has none of them.
    """
    if not magnet.selected:
        return ()
    files = metainfo.files
    chosen = tuple(
        index
        for first, last in _merged_runs(magnet.selected)
        for index in range(first, min(last + 1, len(files)))
        if not files[index].padding
    )
    if not chosen:
        raise UsageError(
            f"the magnet link selects none of the files of {metainfo.name}: they are counted "
            f"from 0 to {len(files) - 1}"
        )
    return chosen


def parse_peer(text: str) -> tuple[str, int]:
    """Host and port from `HOST:PORT`, IPv6 in brackets; raises `MagnetError`."""
    match = _PEER.fullmatch(text)
    port = int(match["port"]) if match else 0
    if match is None or not 1 <= port <= 65535:
        raise _no_peer(text)
    host = match["ipv6"] or match["host"]
    if match["ipv6"] or not re.search("[A-Za-z]", host):  # an address, not a name
        try:
            packed = pack_host(host)
        except FormatError:
            raise _no_peer(text) from None
        if not is_dialable(packed):
            raise _no_peer(text)
    return host, port


def _no_peer(text: str) -> MagnetError:
    return MagnetError(f"{text[:80]!a} is not the address of a peer: HOST:PORT is, or [IPV6]:PORT")


def _torrent_id(text: str) -> TorrentId:
    if _HEX.fullmatch(text):
        return TorrentId(bytes.fromhex(text))
    if _BASE32.fullmatch(text):
        try:
            return TorrentId(base64.b32decode(text.upper()))
        except binascii.Error:
            pass
    raise MagnetError(
        f"{text[:80]!a} in the magnet link is not an info hash: 40 hexadecimal digits are, "
        "or 32 characters of base32"
    )


def _runs(text: str) -> list[tuple[int, int]]:
    """`0,2,4-6` as runs of file numbers (BEP 53)."""
    runs = []
    for word in text.split(",", MAX_RUNS):
        match = _RUN.fullmatch(word)
        if match is None or not int(match[1]) <= int(match[2] or match[1]) <= MAX_FILE:
            raise MagnetError(
                f"so={text[:80]!a} in the magnet link selects no files: file numbers such as "
                "0,2,4-6 do"
            )
        runs.append((int(match[1]), int(match[2] or match[1])))
    return runs


def _merged_runs(runs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(runs):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def _urls(raw: Sequence[bytes], schemes: tuple[str, ...]) -> tuple[str, ...]:
    urls = read_urls(list(raw))
    return tuple(url for url in urls if url.partition("://")[0].lower() in schemes)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
