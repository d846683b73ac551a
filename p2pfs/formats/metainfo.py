"""Metainfo files (BEP 3, 12, 19, 27): the one door through which torrents come in.

Invariant: a `Metainfo` that exists is safe to use: its paths stay inside its folder, its
sizes agree with its piece hashes, and `torrent_id` is the SHA-1 of `info_bytes` exactly
as they were found, unknown keys and wrong order included. Files, metadata from peers and
what we build ourselves all pass the same checks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from p2pfs.errors import GeometryError, MetainfoError
from p2pfs.formats import bencode
from p2pfs.formats.bencode import Encodable, Value
from p2pfs.formats.file_list import (
    FileEntry,
    FileList,
    count_links,
    encoded,
    read_attributes,
    read_files,
    read_length,
    write_files,
)
from p2pfs.formats.paths import safe_component
from p2pfs.formats.torrent_urls import read_tiers, read_urls
from p2pfs.geometry import Geometry, TorrentId

__all__ = [
    "SHA1_LENGTH",
    "FileEntry",
    "Metainfo",
    "build",
    "default_piece_length",
    "parse",
    "parse_info",
]

SHA1_LENGTH = 20

_SMALLEST_PIECE = 16 * 1024
_LARGEST_PIECE = 16 * 1024 * 1024
_PIECES_AIMED_AT = 2_000


@dataclass(frozen=True, slots=True)
class Metainfo:
    """A torrent that passed every check.

    The files lie in the content one after the other without gaps (BEP 3). `pieces` holds
    the SHA-1 of each piece, 20 bytes each. `trackers` are tiers (BEP 12), `creation_date`
    is in seconds since 1970. `extras` are keys of the file that are kept but not
    understood, as (key, encoded value).
    """

    name: str
    files: tuple[FileEntry, ...]
    multi_file: bool
    geometry: Geometry
    pieces: bytes
    private: bool
    info_bytes: bytes
    torrent_id: TorrentId
    trackers: tuple[tuple[str, ...], ...] = ()
    web_seeds: tuple[str, ...] = ()
    comment: str | None = None
    created_by: str | None = None
    creation_date: int | None = None
    extras: tuple[tuple[bytes, bytes], ...] = ()
    links: int = 0
    """Symbolic links that the torrent lists; they are left out of `files`, and never made."""

    @property
    def total_length(self) -> int:
        """Bytes in all files together."""
        return self.geometry.total_length

    @property
    def shared_name(self) -> str:
        """What the content is called where it is listed.

        The name; of a folder with a single file in it `NAME/PATH`, which is how one file
        keeps its place in a tree.
        """
        if self.multi_file and len(self.files) == 1:
            return "/".join((self.name, *self.files[0].path))
        return self.name

    def piece_digest(self, index: int) -> bytes:
        """The SHA-1 of piece `index`; raises `GeometryError` when there is no such piece."""
        if not 0 <= index < self.geometry.piece_count:
            raise GeometryError(f"piece {index} is outside 0..{self.geometry.piece_count - 1}")
        return self.pieces[index * SHA1_LENGTH : (index + 1) * SHA1_LENGTH]

    def to_bytes(self) -> bytes:
        """The metainfo file, with the info dictionary byte for byte as it came in."""
        root = {key: value for key, value in self.extras if key != b"info"}
        root[b"info"] = self.info_bytes

        def put(key: bytes, value: Encodable) -> None:
            root[key] = bencode.encode(value)

        if self.trackers:
            put(b"announce", self.trackers[0][0].encode())
            if len(self.trackers) > 1 or len(self.trackers[0]) > 1:
                put(b"announce-list", [[url.encode() for url in tier] for tier in self.trackers])
        if self.web_seeds:
            put(b"url-list", [url.encode() for url in self.web_seeds])
        if self.comment is not None:
            put(b"comment", self.comment.encode())
        if self.created_by is not None:
            put(b"created by", self.created_by.encode())
        if self.creation_date is not None:
            put(b"creation date", self.creation_date)
        parts = [b"d"]
        for key in sorted(root):
            parts += (bencode.encode(key), root[key])
        parts.append(b"e")
        return b"".join(parts)


_UNDERSTOOD = {
    b"info",
    b"announce",
    b"announce-list",
    b"url-list",
    b"comment",
    b"created by",
    b"creation date",
}


def parse(data: bytes) -> Metainfo:
    """The torrent that a metainfo file describes.

    Raises `BencodeError` when it is not bencode, `MetainfoError` when it cannot be used
    safely. Outside the info dictionary, values that make no sense are left out.
    """
    root, span = bencode.decode_with_span(data, b"info")
    if span is None:
        raise MetainfoError("the torrent has no info dictionary")
    return _from_info(
        root[b"info"],
        bytes(data[span[0] : span[1]]),
        trackers=read_tiers(root),
        web_seeds=read_urls(root.get(b"url-list")),
        comment=_text(root.get(b"comment")),
        created_by=_text(root.get(b"created by")),
        creation_date=_date(root.get(b"creation date")),
        extras=tuple(
            (key, bencode.encode(value)) for key, value in root.items() if key not in _UNDERSTOOD
        ),
    )


def parse_info(
    info_bytes: bytes,
    *,
    trackers: Iterable[Iterable[str]] = (),
    web_seeds: Iterable[str] = (),
) -> Metainfo:
    """The torrent of an info dictionary that came without a file, as from peers (BEP 9).

    The same checks and errors as `parse`. The caller compares `torrent_id`.
    """
    return _from_info(
        bencode.decode(info_bytes),
        bytes(info_bytes),
        trackers=read_tiers({b"announce-list": [_lenient(tier) for tier in trackers]}),
        web_seeds=read_urls(_lenient(web_seeds)),
    )


def build(
    *,
    name: str,
    files: Sequence[FileEntry],
    multi_file: bool,
    piece_length: int,
    pieces: bytes,
    private: bool = False,
    trackers: Iterable[Iterable[str]] = (),
    web_seeds: Iterable[str] = (),
    comment: str | None = None,
    created_by: str | None = None,
    creation_date: int | None = None,
) -> Metainfo:
    """A new torrent; the same arguments give the same bytes.

    `pieces` are the SHA-1 digests of the pieces, joined. Raises `MetainfoError` when the
    parts do not fit together, or a name or URL cannot be used.
    """
    info: dict[bytes, Value] = {
        b"name": encoded(name),
        b"piece length": piece_length,
        b"pieces": bytes(pieces),
    }
    if private:
        info[b"private"] = 1
    listed: FileList | None = None
    if multi_file:
        listed = write_files(files)
        # `files` is the first of the keys
        info_bytes = b"d5:files" + listed.encoded + bencode.encode(info)[1:]
    else:
        if len(files) != 1 or files[0].path != (name,):
            raise MetainfoError("a single-file torrent has one file, which bears its name")
        info[b"length"] = files[0].length
        if files[0].attributes:
            info[b"attr"] = files[0].attributes
        info_bytes = bencode.encode(info)
    tiers: list[Value] = [[_encoded_url(url) for url in tier] for tier in trackers]
    seeds: list[Value] = [_encoded_url(url) for url in web_seeds]
    made = _from_info(
        info,
        info_bytes,
        files=listed,
        trackers=read_tiers({b"announce-list": tiers}),
        web_seeds=read_urls(seeds),
        comment=None if comment is None else _text(encoded(comment)),
        created_by=None if created_by is None else _text(encoded(created_by)),
        creation_date=_date(creation_date),
    )
    data = made.to_bytes()
    if len(data) > bencode.METAINFO_LIMITS.max_tokens:  # each has a byte at least
        bencode.check(data)
    return made


def default_piece_length(total: int) -> int:
    """A power of two in 16 KiB..16 MiB that cuts `total` bytes into at most 2,000 pieces.

    Beyond 31 GiB the largest size stays, and there are more pieces.
    """
    length = _SMALLEST_PIECE
    while length < _LARGEST_PIECE and total > length * _PIECES_AIMED_AT:
        length *= 2
    return length


def _from_info(
    info: Value,
    info_bytes: bytes,
    *,
    files: tuple[FileEntry, ...] | None = None,
    trackers: tuple[tuple[str, ...], ...] = (),
    web_seeds: tuple[str, ...] = (),
    comment: str | None = None,
    created_by: str | None = None,
    creation_date: int | None = None,
    extras: tuple[tuple[bytes, bytes], ...] = (),
) -> Metainfo:
    """`files`: those of `info`, where they were read before."""
    if not isinstance(info, dict):
        raise MetainfoError("the info of the torrent is not a dictionary")
    name = _name(info)
    pieces = info.get(b"pieces")
    if pieces is None and b"meta version" in info:
        raise MetainfoError("a torrent of version 2 alone (BEP 52) cannot be used")
    if not isinstance(pieces, bytes) or len(pieces) % SHA1_LENGTH:
        raise MetainfoError("the piece hashes are missing, or not 20 bytes each")
    links, multi_file = 0, files is not None or b"files" in info
    if multi_file == (b"length" in info):
        raise MetainfoError("a torrent has exactly one of length and files")
    if files is None and multi_file:
        files, links = read_files(info[b"files"]), count_links(info[b"files"])
    elif files is None:
        files = (_single_file(name, info),)
    piece_length = info.get(b"piece length")
    if not isinstance(piece_length, int):
        raise MetainfoError("the piece length is missing or not a number")
    try:
        geometry = Geometry(sum(file.length for file in files), piece_length)
    except GeometryError as error:
        raise MetainfoError(str(error)) from error
    if geometry.piece_count * SHA1_LENGTH != len(pieces):
        raise MetainfoError(
            f"{geometry.total_length} bytes in pieces of {piece_length} are"
            f" {geometry.piece_count} pieces, but there are {len(pieces) // SHA1_LENGTH} hashes"
        )
    private = info.get(b"private", 0)
    if not isinstance(private, int):
        raise MetainfoError("the private flag is not a number")
    return Metainfo(
        name=name,
        files=files,
        multi_file=multi_file,
        geometry=geometry,
        pieces=pieces,
        private=private != 0,
        info_bytes=info_bytes,
        torrent_id=TorrentId(hashlib.sha1(info_bytes).digest()),
        trackers=trackers,
        web_seeds=web_seeds,
        comment=comment,
        created_by=created_by,
        creation_date=creation_date,
        extras=extras,
        links=links,
    )


def _single_file(name: str, info: dict[bytes, Value]) -> FileEntry:
    attributes = read_attributes(info)
    return FileEntry(
        (name,),
        read_length(info),
        executable=b"x" in attributes,
        hidden=b"h" in attributes,
    )


def _name(info: dict[bytes, Value]) -> str:
    name = info.get(b"name.utf-8")
    if not isinstance(name, bytes):
        name = info.get(b"name")
    if not isinstance(name, bytes):
        raise MetainfoError("the name of the torrent is missing or not a string")
    return safe_component(name)


def _text(value: Value | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else None


def _date(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 2**53 else None


def _lenient(urls: Iterable[str]) -> list[Value]:
    return [url.encode(errors="replace") for url in urls]


def _encoded_url(url: str) -> bytes:
    raw = encoded(url)
    if read_urls(raw) != (url,):
        raise MetainfoError(f"{url!a} is not a URL, such as http://host:9999/announce")
    return raw
