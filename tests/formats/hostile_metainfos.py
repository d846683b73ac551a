"""Torrents that mean harm, or that only look like it: each with what must become of it.

`HOSTILE` is for every door that torrents come in through: files, metadata from peers,
the tracker's catalogue. A case is either `refused` (a part of the reason given) or mapped:
`disk` are the paths of its files, the torrent's own name first, as tuples of names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import bencodepy

CONTENT = b"hello"
DIGEST = hashlib.sha1(CONTENT).digest()


@dataclass(frozen=True)
class Hostile:
    """One case. `info` is None where the trouble lies outside the info dictionary."""

    title: str
    data: bytes
    info: bytes | None
    refused: str | None = None
    disk: tuple[tuple[str, ...], ...] | None = None

    def __str__(self) -> str:
        return self.title.replace(" ", "-")[:48]


def torrent(info: bytes) -> bytes:
    return b"d8:announce25:http://127.0.0.1/announce4:info" + info + b"e"


def single(name: object = b"name", **changes: object) -> dict[bytes, Any]:
    """A good single-file info dictionary, but for the changes (None takes a key away)."""
    info: dict[bytes, Any] = {
        b"length": len(CONTENT),
        b"name": name,
        b"piece length": 16384,
        b"pieces": DIGEST,
    }
    for key, value in changes.items():
        info[key.replace("_", " ").encode()] = value
    return {key: value for key, value in info.items() if value is not None}


def multi(*paths: object, name: object = b"top", **changes: object) -> dict[bytes, Any]:
    """A good multi-file info dictionary of files of one byte at these paths."""
    files = [{b"length": 1, b"path": path} for path in paths]
    changes = {"pieces": DIGEST if files else b"", **changes}
    return single(name, **{"length": None, "files": files, **changes})


def refused(title: str, info: object, reason: str) -> Hostile:
    raw = info if isinstance(info, bytes) else bencodepy.encode(info)
    return Hostile(title, torrent(raw), raw, refused=reason)


def mapped(title: str, info: dict[bytes, Any], *disk: str | tuple[str, ...]) -> Hostile:
    raw = bencodepy.encode(info)
    paths = tuple((path,) if isinstance(path, str) else path for path in disk)
    return Hostile(title, torrent(raw), raw, disk=paths)


def outside(title: str, data: bytes, reason: str) -> Hostile:
    return Hostile(title, data, None, refused=reason)


def path_of(*parts: bytes) -> list[bytes]:
    return list(parts)


GOOD = bencodepy.encode(single())
LONG = b"x" * 300
DEEP = path_of(*[b"d"] * 64, b"file")
WIDE = path_of(*[b"w" * 255] * 16)

NAMES: Sequence[Hostile] = [
    refused(f"the name is {name!a}", single(name), reason)
    for name, reason in [
        (b"", "not a usable name"),
        (b".", "not a usable name"),
        (b"..", "not a usable name"),
        (b"../up", "'/' in it"),
        (b"a/b", "'/' in it"),
        (b"/etc/passwd", "'/' in it"),
        (b"..\\..\\up", "'\\' in it"),
        (b"\\\\server\\share", "'\\' in it"),
        (b"C:", "'C:' at its start"),
        (b"c:up.txt", "'c:' at its start"),
        (b"a\0.txt", r"'\x00' in it"),
        (b"two\nlines", r"'\n' in it"),
        (b"\x1b]0;title\x07", r"'\x1b' in it"),
        (b"del\x7f", r"'\x7f' in it"),
        (b"\xff" * 5000, "longer than"),
        (7, "not a string"),
        ([b"a", b"b"], "not a string"),
        (None, "missing"),
    ]
]

PATHS: Sequence[Hostile] = [
    refused("a folder that is the parent", multi(path_of(b"..", b"x")), "not a usable name"),
    refused("a parent in the middle", multi(path_of(b"a", b"..", b"x")), "not a usable name"),
    refused("a dot in the middle", multi(path_of(b"a", b".", b"x")), "not a usable name"),
    refused("many parents in one part", multi(path_of(b"../../../x")), "'/' in it"),
    refused("an absolute path in one part", multi(path_of(b"/etc/passwd")), "'/' in it"),
    refused("an absolute path further down", multi(path_of(b"a", b"/etc")), "'/' in it"),
    refused("backslashes in a part", multi(path_of(b"a", b"..\\..\\x")), "in it"),
    refused("a drive as a folder", multi(path_of(b"C:", b"x")), "'C:' at its start"),
    refused("a path of one empty part", multi(path_of(b"")), "not a usable name"),
    refused("a path that ends in nothing", multi(path_of(b"a", b"")), "not a usable name"),
    refused("a path without parts", multi([]), "empty path"),
    refused("a path that is a string", multi(b"a"), "not a list"),
    refused("a path that is missing", multi(path_of(b"a"), files=[{b"length": 5}]), "missing"),
    refused("a number in a path", multi([b"a", 1]), "not a string"),
    refused("a dictionary in a path", multi([{b"a": b"b"}]), "not a string"),
    refused("a path of 65 parts", multi(DEEP), "deeper than"),
    refused("a path of 4096 bytes", multi(WIDE), "longer than"),
    refused("one file twice", multi([b"a", b"b"], [b"a", b"b"]), "listed twice"),
    refused("a file, then a folder", multi([b"a"], [b"a", b"b"]), "both a file and a folder"),
    refused("a folder, then a file", multi([b"a", b"b"], [b"a"]), "both a file and a folder"),
    refused(
        "a good path with a bad twin in utf-8",
        multi(files=[{b"length": 5, b"path": [b"a"], b"path.utf-8": [b"..", b"a"]}], pieces=DIGEST),
        "not a usable name",
    ),
    refused("a good name with a bad twin in utf-8", single() | {b"name.utf-8": b".."}, "usable"),
    refused("the torrent's folder is the parent", multi([b"a"], name=b".."), "not a usable name"),
]

SIZES: Sequence[Hostile] = [
    refused("a piece length of 0", single(piece_length=0), "piece length 0 is outside"),
    refused("a negative piece length", single(piece_length=-1), "piece length -1 is outside"),
    refused("a piece length of 2^63", single(piece_length=2**63), "is outside"),
    refused("pieces above 64 MiB", single(piece_length=(64 << 20) + 1), "is outside"),
    refused("a piece length in words", single(piece_length=b"16384"), "piece length is missing"),
    refused("no piece length", single(piece_length=None), "piece length is missing"),
    refused("a negative length", single(length=-5), "length of a file"),
    refused("a length in words", single(length=b"5"), "length of a file"),
    refused("a length that is a list", single(length=[5]), "length of a file"),
    refused("neither length nor files", single(length=None), "exactly one of"),
    refused("both length and files", multi([b"a"], length=1), "exactly one of"),
    refused("no files", multi(), "list of files is empty"),
    refused("files that are a dictionary", multi(files={b"a": 1}), "not a list"),
    refused("a file that is a string", multi(files=[b"a"]), "not a dictionary"),
    refused("a negative length that makes the sum right", multi(
        files=[{b"length": 10, b"path": [b"a"]}, {b"length": -5, b"path": [b"b"]}], pieces=DIGEST
    ), "length of a file"),
    refused("2^48 bytes", single(length=2**48), "outside 0..2^48-1"),
    refused("a sum above 2^48", multi(
        files=[{b"length": 2**47, b"path": [b"%d" % n]} for n in range(3)]
    ), "outside 0..2^48-1"),
    refused("a length of 2^64 - 1", single(length=2**64 - 1), "outside 0..2^48-1"),
    refused("half a hash", single(pieces=DIGEST[:10]), "not 20 bytes each"),
    refused("one hash too many", single(pieces=DIGEST * 2), "1 pieces, but there are 2"),
    refused("one hash too few", single(length=16385), "2 pieces, but there are 1"),
    refused("hashes of nothing", single(length=0), "0 pieces, but there are 1"),
    refused("no hashes", single(pieces=None), "piece hashes are missing"),
    refused("hashes in a list", single(pieces=[DIGEST]), "piece hashes are missing"),
    refused("a million pieces in a kilobyte", single(length=2**40), "pieces, but there are 1"),
    refused("a version 2 torrent alone", single(pieces=None) | {b"meta version": 2}, "version 2"),
    refused("a private flag in words", single(private=b"yes"), "private flag"),
    refused("100,001 files", multi(
        files=[{}] * 100_001, pieces=b""
    ), "more than the 100000"),
    refused("a link that owns bytes", multi(
        files=[{b"attr": b"l", b"length": 5, b"path": [b"a"], b"symlink path": [b"b"]}],
        pieces=DIGEST,
    ), "symbolic link owns bytes"),
    refused("nothing but links", multi(
        files=[{b"attr": b"l", b"length": 0, b"path": [b"a"], b"symlink path": [b".."]}],
        pieces=b"",
    ), "nothing but symbolic links"),
]  # fmt: skip

BENCODE: Sequence[Hostile] = [
    refused("nested lists", GOOD[:-1] + b"1:x" + b"l" * 100 + b"e" * 101, "nested deeper"),
    refused("ten thousand nested dictionaries", b"d1:a" * 10_000 + b"e" * 10_000, "nested deeper"),
    refused("a key twice", GOOD[:-1] + b"4:name2:..e", "comes twice"),
    refused("a key twice, out of order", b"d4:name1:a6:lengthi5e4:name2:..e", "comes twice"),
    refused("a length of -0", GOOD.replace(b"i5e", b"i-0e"), "not an integer"),
    refused("a length with a zero before it", GOOD.replace(b"i5e", b"i05e"), "not an integer"),
    refused("a length with an underscore", GOOD.replace(b"i5e", b"i5_0e"), "not an integer"),
    refused("a length of 5000 digits", GOOD.replace(b"i5e", b"i" + b"9" * 5000 + b"e"), "digits"),
    refused("a string of 10^18 bytes", b"d6:length1000000000000000000:a", "length of a string"),
    refused("a string beyond the end", b"d4:name999999999:ae", "only"),
    refused("a string of negative length", b"d4:name-1:ae", "length of a string"),
    refused("a number as a key", b"di1ei2ee", "key that is not a string"),
    refused("a key without a value", b"d4:namee", "key without a value"),
    refused("info that is a list", b"le", "not a dictionary"),
    refused("info that is a string", b"4:info", "not a dictionary"),
    outside("nothing", b"", "ends too early"),
    outside("a page of a web server", b"<!DOCTYPE html><html></html>", "begins no value"),
    outside("a list", b"le", "not a dictionary"),
    outside("no info", b"d8:announce10:http://a/be", "no info dictionary"),
    outside("the info of a nested dictionary", b"d1:xd4:info" + GOOD + b"ee", "no info"),
    outside("two infos", b"d4:info" + GOOD + b"4:info" + GOOD + b"e", "comes twice"),
    outside("cut in the middle", torrent(GOOD)[:-20], "left"),
    outside("bytes after the end", torrent(GOOD) + b"\0", "follow the end"),
    outside("33 MiB", bytes(33 << 20), "more than the"),
]

MAPPED_NAMES: Sequence[Hostile] = [
    mapped(f"the name {name!a}", single(name if isinstance(name, bytes) else name.encode()), disk)
    for name, disk in [
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("Com1.tar.gz", "_Com1.tar.gz"),
        ("lpt³", "_lpt³"),
        ("aux .c", "_aux .c"),
        ("console.log", "console.log"),
        ('a"*:<>?|b', "a_______b"),
        ("page.html:evil.exe", "page.html_evil.exe"),
        ("<img src=x onerror=alert(1)>", "_img src=x onerror=alert(1)_"),
        ("dots...", "dots"),
        ("blank ", "blank"),
        ("...", "_"),
        (". .", "_"),
        (" ", "_"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        (".\u200b.", "_"),
        ("\u2066\u2069", "_"),
        ("c1\x9bcontrol\u2028", "c1_control_"),
        (".other.p2pfs-resume", ".other_p2pfs-resume"),
        (".other.P2PFS-part", ".other_p2pfs-part"),
        (b"\xc4\xe3\xba\xc3.txt", "%C4%E3%BA%C3.txt"),
        (b"..\xc0\xafup", "..%C0%AFup"),
        (b"\xed\xa0\x80", "%ED%A0%80"),
        ("..%2fup", "..%2fup"),
        ("~", "~"),
        ("$HOME; rm -rf", "$HOME; rm -rf"),
        ("．．", "．．"),
        (b"x" * 255, "x" * 255),
        (LONG, "x" * 255),
        (LONG + b".txt", "x" * 251 + ".txt"),
        ("é" * 200 + ".txt", "é" * 125 + ".txt"),
        (b"a." + LONG, "a." + "x" * 253),
    ]
]

MAPPED_PATHS: Sequence[Hostile] = [
    mapped(
        "twins by case",
        multi([b"A.txt"], [b"a.txt"], [b"a.TXT"]),
        ("top", "A.txt"),
        ("top", "a (2).txt"),
        ("top", "a (3).TXT"),
    ),
    mapped(
        "twins by normalisation",
        multi(["é".encode()], ["e\u0301".encode()]),
        ("top", "é"),
        ("top", "e\u0301 (2)"),
    ),
    mapped(
        "twins by full case folding",
        multi(["straße".encode()], [b"STRASSE"]),
        ("top", "straße"),
        ("top", "STRASSE (2)"),
    ),
    mapped(
        "folders that are twins",
        multi([b"A", b"x"], [b"a", b"x"], [b"A", b"y"]),
        ("top", "A", "x"),
        ("top", "a (2)", "x"),
        ("top", "A", "y"),
    ),
    mapped(
        "a file and a folder that are twins",
        multi([b"a"], [b"A", b"x"]),
        ("top", "a"),
        ("top", "A (2)", "x"),
    ),
    mapped(
        "twins once they are mapped",
        multi([b"a?"], [b"a*"], [b"a_"], [b"a_ (2)"]),
        ("top", "a_"),
        ("top", "a_ (2)"),
        ("top", "a_ (3)"),
        ("top", "a_ (2) (2)"),
    ),
    mapped(
        "twins once they are cut",
        multi([LONG + b"1.txt"], [LONG + b"2.txt"]),
        ("top", "x" * 251 + ".txt"),
        ("top", "x" * 247 + " (2).txt"),
    ),
    mapped("a device as a folder", multi([b"NUL", b"x"]), ("top", "_NUL", "x")),
    mapped("a device as the torrent's folder", multi([b"x"], name=b"prn"), ("_prn", "x")),
    mapped(
        "a link out of the torrent",
        multi(
            files=[
                {
                    b"attr": b"l",
                    b"length": 0,
                    b"path": [b"l"],
                    b"symlink path": [b"..", b"..", b"x"],
                },
                {b"length": 5, b"path": [b"a"]},
            ],
            pieces=DIGEST,
        ),
        ("top", "a"),
    ),
    mapped(
        "padding files that share a path",
        multi(
            files=[
                {b"length": 1, b"path": [b"a"]},
                {b"attr": b"p", b"length": 2, b"path": [b".pad", b"2"]},
                {b"length": 1, b"path": [b"b"]},
                {b"attr": b"p", b"length": 2, b"path": [b".pad", b"2"]},
            ],
            pieces=DIGEST,
        ),
        ("top", "a"),
        ("top", ".pad", "1-2"),
        ("top", "b"),
        ("top", ".pad", "2-2"),
    ),
    mapped(
        "a torrent without a byte",
        multi(files=[{b"length": 0, b"path": [b"a"]}], pieces=b""),
        ("top", "a"),
    ),
]

HOSTILE: tuple[Hostile, ...] = (
    *NAMES,
    *PATHS,
    *SIZES,
    *BENCODE,
    *MAPPED_NAMES,
    *MAPPED_PATHS,
)
