"""Case 15: ten seconds of hostile input for every parser.

Inputs are random bytes, good samples with edits (cuts, repeats, swapped numbers), and parts
of samples repeated up to 64 KiB. A parser may raise its declared error and nothing else,
takes 50 ms of processor time at most, and memory in proportion to its input.
"""

from __future__ import annotations

import gc
import os
import random
import re
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from p2pfs.errors import BencodeError, FormatError, StorageError, UsageError, WireError
from p2pfs.formats import (
    announce_http,
    announce_reply,
    announce_udp,
    bencode,
    endpoint,
    extension,
    http_head,
    local_search,
    magnet,
    metainfo,
    paths,
    peer_id,
    scrape_http,
    selection,
    ut_metadata,
    ut_pex,
    wire,
)
from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.metainfo import FileEntry
from p2pfs.geometry import BlockRequest, Geometry, PeerId, TorrentId
from p2pfs.storage.files import Files
from p2pfs.storage.resume import ResumeRecord
from tests.formats.hostile_metainfos import HOSTILE

pytestmark = pytest.mark.torture

SECONDS = float(os.environ.get("P2PFS_TORTURE_SECONDS", "10"))
LONGEST = 64 * 1024
MAX_CPU = 0.05

NUMBERS = [
    b"0", b"-0", b"-1", b"00", b"1_0", b" 3", b"+3", b"3\n", b"1e9", "٣".encode(), b"0x10",
    b"16384", b"65535", b"65536", b"2147483648", b"4294967295", b"18446744073709551616",
    b"99999999999999999999", b"9" * 5000,
]  # fmt: skip
DIGITS = re.compile(rb"[0-9]+")


@dataclass(frozen=True)
class Parser:
    """One way in: good samples of its input, and the only error that it may raise."""

    name: str
    call: Callable[[bytes], Any]
    samples: Sequence[bytes]
    error: type[Exception]
    per_byte: int = 128
    """Bytes of memory for one of input: a string or list of a byte or two takes about 60."""
    always: int = 256 * 1024
    """Bytes of memory for any input."""

    def __str__(self) -> str:
        return self.name


# -- what is fed in


def edited(sample: bytes, edits: list[tuple[int, int, int, bytes]]) -> bytes:
    data = sample
    for kind, first, second, piece in edits:
        low, high = sorted((first % (len(data) + 1), second % (len(data) + 1)))
        if kind == 0:
            data = data[:low] + data[high:]
        elif kind == 1:
            data = data[:low] + piece + data[low:]
        elif kind == 2:
            data = data[:low] + piece + data[low + len(piece) :]
        elif kind == 3:
            part = data[low : min(high, low + 64)]
            times = LONGEST // len(part) if part else 0
            data = data[:low] + part * min(times, second % 5000) + data[low:]
        elif kind == 4:
            data = data[:low] + data[low:high][::-1] + data[high:]
        elif numbers := list(DIGITS.finditer(data)):
            chosen = numbers[first % len(numbers)]
            new = NUMBERS[second % len(NUMBERS)]
            data = data[: chosen.start()] + new + data[chosen.end() :]
        data = data[:LONGEST]
    return data


BATCH = 20


def batch(samples: Sequence[bytes], number: int) -> list[bytes]:
    """Many inputs for one drawn number: drawing costs more than parsing."""
    rng = random.Random(number)
    made = []
    for _ in range(BATCH):
        edits = [
            (rng.randrange(6), rng.randrange(2**17), rng.randrange(2**17), rng.randbytes(3))
            for _ in range(rng.randrange(1, 5))
        ]
        made.append(edited(rng.choice(samples), edits))
    return made


def inputs(samples: Sequence[bytes]) -> st.SearchStrategy[list[bytes]]:
    numbers = st.integers(0, 2**64).map(lambda number: batch(samples, number))
    return numbers | st.lists(st.binary(max_size=300), min_size=1, max_size=5)


# -- the parsers

THIS = TorrentId(bytes(range(20)))
META = metainfo.build(
    name="tree",
    files=[FileEntry(("a", "b.txt"), 20_000), FileEntry(("ü",), 0), FileEntry(("c",), 20_000)],
    multi_file=True,
    piece_length=16384,
    pieces=bytes(60),
    trackers=[["http://127.0.0.1:1/announce", "udp://b:2"], ["https://c/announce?x=1"]],
    web_seeds=["http://d/"],
    comment="a comment",
    creation_date=1_700_000_000,
)
TORRENTS = [META.to_bytes(), *(case.data for case in HOSTILE if len(case.data) < 4096)]
INFOS = [META.info_bytes, *(case.info for case in HOSTILE if case.info and len(case.info) < 4096)]

ASKED = announce_http.AnnounceRequest(
    THIS, PeerId(b"-PF0000-abcdefghijkl"), 6881, left=5, numwant=50, key=b"k y", tracker_id=b"\xff"
)
QUERIES = [
    announce_http.encode_query(ASKED).encode(),
    announce_http.encode_query(ASKED).encode() + b"&event=completed&compact=0&no_peer_id=1",
]
REPLIES = [
    b"d8:completei1e10:incompletei2e8:intervali1800e12:min intervali60e5:peers12:"
    b"\x7f\0\0\1\x1a\xe1\x0a\0\0\1\x1a\xe26:peers618:" + bytes(15) + b"\1\x1a\xe1e",
    b"d8:intervali60e5:peersld2:ip9:127.0.0.17:peer id20:" + bytes(20) + b"4:porti6881eeee",
    b"d14:failure reason4:full8:retry in5:nevere",
    b"d11:external ip4:\x7f\0\0\1"
    + b"8:intervali5e5:peers0:10:tracker id3:abc15:warning message2:hie",
]
SCRAPES = [
    b"d5:filesd20:" + THIS.v1 + b"d8:completei5e10:downloadedi50e10:incompletei10eeee",
    scrape_http.encode_scrape({THIS: scrape_http.ScrapeEntry(1, 2, 3)}),
]
MESSAGES = [
    wire.KEEP_ALIVE + wire.CHOKE + wire.UNCHOKE + wire.INTERESTED + wire.NOT_INTERESTED,
    wire.encode_bitfield(b"\xff\x80") + wire.encode_have(3),
    wire.encode_requests([BlockRequest(1, 0, 16384), BlockRequest(1, 16384, 16384)]),
    wire.encode_cancels([BlockRequest(1, 0, 16384)]) + b"\0\0\0\3\x09\x1a\xe1",
    wire.block_header(BlockRequest(2, 0, 300)) + bytes(300) + wire.encode_have(1),
    wire.encode_extended(0, extension.encode(extension.ExtendedHandshake("x", 1, 2))),
    b"\xff\xff\xff\xff\x07" + bytes(100),
]


def decode_stream(data: bytes) -> None:
    """As a session does it, in cuts; what is held back is bounded."""
    decoder = wire.Decoder(2)
    step = 1 + len(data) // 7
    for start in range(0, len(data), step):
        for message in decoder.feed(data[start : start + step]):
            assert message is not None
        assert decoder.buffered <= wire.MAX_EXTENDED + 5


def parse_twice(data: bytes) -> None:
    found = metainfo.parse(data)
    assert metainfo.parse(found.to_bytes()) == found
    parts = paths.disk_paths([entry.path for entry in found.files])
    assert len(set(parts)) == len(parts)


def round_trip(data: bytes) -> None:
    value = bencode.decode(data)
    assert bencode.decode(bencode.encode(value)) == value


def parse_text(call: Callable[[str], Any]) -> Callable[[bytes], Any]:
    return lambda data: call(data.decode("utf-8", "surrogateescape"))


def magnet_twice(text: str) -> None:
    link = magnet.encode(magnet.parse(text))
    assert magnet.encode(magnet.parse(link)) == link


def name_parts(data: bytes) -> None:
    for part in paths.safe_path(data.split(b"/")):
        assert part not in ("", ".", "..")
        assert len(paths.disk_name(part).encode()) <= 255


def addresses(data: bytes) -> None:
    for width in (4, 16):
        assert all(0 < peer.port < 65536 for peer in endpoint.unpack_peers(data, width))


def udp_request(data: bytes) -> None:
    """Whatever a tracker reads of a datagram."""
    try:
        announce_udp.parse_announce(data)
    finally:
        announce_udp.parse_scrape(data)


def udp_reply(data: bytes) -> None:
    """Whatever a client reads of one."""
    announce_udp.parse_reply_header(data)
    announce_udp.parse_error(data)
    try:
        announce_udp.parse_announce_reply(data, 4)
        announce_udp.parse_announce_reply(data, 16)
    finally:
        announce_udp.parse_scrape_reply(data, 5)


UDP_REQUESTS = [
    announce_udp.encode_announce(b"c" * 8, b"tran", ASKED, b"/announce?x=1"),
    announce_udp.encode_scrape(b"c" * 8, b"tran", [THIS] * 74),
]
UDP_REPLIES = [
    b"\0\0\0\1tran" + bytes(range(120)),
    announce_udp.encode_scrape_reply(b"tran", [scrape_http.ScrapeEntry(1, 2, 3)] * 5),
    announce_udp.encode_error(b"tran", "not tracked here"),
]

ADDED = {("10.0.0.1", 6881): 2, ("fd00::1", 51413): 16}
EXCHANGES = [
    ut_pex.encode(ut_pex.PexMessage(ADDED, (("10.0.0.2", 1), ("fd00::2", 2)))),
    ut_pex.encode(ut_pex.PexMessage({(f"10.0.1.{n}", n): 0 for n in range(1, 200)})),
]
SEARCHES = [
    local_search.encode(local_search.GROUP6, local_search.Search(6881, (THIS.v1,) * 20, b"1f")),
    b"BT-SEARCH * HTTP/1.1\nport:1\ninfohash: " + b"aB" * 20,
]

METADATA = [
    ut_metadata.encode_request(7),
    ut_metadata.encode_reject(7),
    ut_metadata.encode_data(1, 33_000, bytes(ut_metadata.PIECE_LENGTH)),
]
LINKS = [
    b"magnet:?xt=urn:btih:"
    + b"aB" * 20
    + b"&dn=a+b%20c&tr=udp%3A%2F%2Fa%3A1&x.pe=[::1]:6881&so=0,4-9",
    b"magnet:?xt.1=urn:btih:" + b"A2" * 16 + b"&amp;tr.1=http://a/&ws=https://b/&x.pe=10.0.0.1:1",
]

HEADS = [
    b"GET /announce?info_hash=%ff HTTP/1.1\r\nHost: [::1]:9999\r\nConnection: close\r\n\r\n",
    b"GET /scrape HTTP/1.0\r\nUser-Agent: a/1\r\nAccept: */*\r\n\r\n",
]

PARSERS = [
    Parser("bencode", round_trip, [*TORRENTS, *REPLIES], BencodeError),
    Parser(
        "bencode-of-the-wire",
        lambda data: bencode.decode_prefix(data, bencode.WIRE_LIMITS),
        [*REPLIES, b"d8:msg_typei1e5:piecei0e10:total_sizei99ee" + bytes(99)],
        BencodeError,
    ),
    Parser(
        "bencode-with-span", lambda data: bencode.decode_with_span(data, b"info"), TORRENTS,
        BencodeError,
    ),
    Parser("metainfo", parse_twice, TORRENTS, FormatError),
    Parser("metainfo-from-peers", metainfo.parse_info, INFOS, FormatError),
    Parser("announce-query", announce_http.parse_query, QUERIES, FormatError),
    Parser("request-heads", http_head.parse_plain_get, HEADS, FormatError),
    Parser("announce-reply", announce_reply.parse_reply, REPLIES, FormatError),
    Parser(
        "scrape-query",
        scrape_http.parse_scrape_query,
        [scrape_http.encode_scrape_query([THIS, THIS]).encode(), b"info_hash=%00"],
        FormatError,
    ),
    Parser("udp-request", udp_request, UDP_REQUESTS, FormatError),
    Parser("udp-reply", udp_reply, UDP_REPLIES, FormatError),
    Parser("scrape-reply", scrape_http.parse_scrape, SCRAPES, FormatError),
    Parser(
        "scrape-url", parse_text(scrape_http.scrape_url), [b"http://h/announce.php?x=announce"],
        FormatError,
    ),
    Parser(
        "handshake",
        wire.decode_handshake,
        [wire.encode_handshake(wire.Handshake(THIS.v1, b"-XX0000-abcdefghijkl"))],
        WireError,
    ),
    Parser("messages", decode_stream, MESSAGES, WireError),
    Parser(
        "extended-handshake",
        extension.parse,
        [extension.encode(extension.ExtendedHandshake("c", 1, 2, 32768, {b"ut_pex": 1}))],
        WireError,
    ),
    Parser("peer-exchange", ut_pex.parse, EXCHANGES, WireError),
    Parser("local-search", local_search.parse, SEARCHES, FormatError),
    Parser("metadata-exchange", ut_metadata.parse, METADATA, WireError),
    Parser("magnet-links", parse_text(magnet_twice), LINKS, FormatError),
    Parser("bitfield", lambda data: Bitfield.from_bytes(data, 13), [b"\xff\xf8", b""], WireError),
    Parser("peer-lists", addresses, [bytes(range(18)) * 2, b"\x7f\0\0\1\x1a\xe1"], FormatError),
    Parser("names", name_parts, [b"a/b.txt", "ü/CON /x".encode(), b"..", b"a\\b"], FormatError),
    Parser("peer-ids", peer_id.client_name, [b"-PF0000-abcdefghijkl", b"M7-1-0--"], FormatError),
    Parser(
        "piece-lists",
        parse_text(lambda text: selection.parse_pieces([text], 1000)),
        [b"3 7 12", b"3,7,9-999", b"5-4"],
        UsageError,
    ),
    Parser(
        "piece-ranges",
        parse_text(lambda text: (selection.first_piece(text, 7), selection.last_piece(text, 7))),
        [b"0.25", b"20%", b"3", b".5", b"100.000001%"],
        UsageError,
    ),
]  # fmt: skip


@dataclass
class Worst:
    """What a parser cost at the most."""

    count: int = 0
    refused: int = 0
    seconds: float = 0.0
    memory: int = 0
    longest: int = 0

    def __str__(self) -> str:
        return (
            f"{self.count} inputs of up to {self.longest} bytes, {self.refused} refused; at most "
            f"{1000 * self.seconds:.1f} ms and {self.memory // 1024} KiB"
        )


def torture(parser: Parser) -> Worst:
    """Feed it until the time is over; every second round its memory is watched, not its time."""
    worst = Worst()

    def check(batch: list[bytes]) -> None:
        for data in batch:
            worst.count += 1
            worst.longest = max(worst.longest, len(data))
            if watching:
                used = memory_of(data)
                worst.memory = max(worst.memory, used)
                assert used <= parser.per_byte * len(data) + parser.always, (used, data[:200])
            else:
                spent = time_of(data)
                if spent > MAX_CPU:  # the processor may have been elsewhere: again
                    spent = min(spent, time_of(data), time_of(data))
                worst.seconds = max(worst.seconds, spent)
                assert spent <= MAX_CPU, (spent, data[:200])

    def time_of(data: bytes) -> float:
        start = time.thread_time()
        call(data)
        return time.thread_time() - start

    def memory_of(data: bytes) -> int:
        tracemalloc.start(1)
        call(data)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    def call(data: bytes) -> None:
        message = ""
        try:
            parser.call(data)
        except parser.error as error:
            worst.refused += 1
            message = str(error)
        assert len(message) < 500, message

    run = settings(
        max_examples=50,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    end = time.monotonic() + SECONDS
    watching = False
    start = time.time_ns()
    gc.disable()  # what it collects is not the parser's
    try:
        while time.monotonic() < end:
            gc.collect()
            seed(start + worst.count)(run(given(inputs(parser.samples))(check)))()
            watching = not watching
    finally:
        tracemalloc.stop()
        gc.enable()
    return worst


@pytest.mark.parametrize("parser", PARSERS, ids=str)
def test_a_parser_refuses_with_its_own_error_in_time_and_in_bounded_memory(
    parser: Parser, figures: Callable[[str], None]
) -> None:
    worst = torture(parser)
    figures(str(worst))
    assert worst.refused < worst.count


def test_a_resume_record_of_any_bytes_is_used_or_treated_as_absent(
    tmp_path: Path, figures: Callable[[str], None]
) -> None:
    files = Files()
    root = files.open_root(tmp_path)
    path = tmp_path / "record"
    geometry = Geometry(1_000_000, 16384)

    def reopen(data: bytes) -> None:
        path.write_bytes(data)
        record, loaded = ResumeRecord.open(files, root, ("record",), THIS, geometry)
        try:
            assert len(loaded.settled) == len(loaded.unsettled) == geometry.piece_count
            assert not set(loaded.settled) & set(loaded.unsettled)
        finally:
            record.close()

    record, _ = ResumeRecord.open(files, root, ("record",), THIS, geometry)
    record.begin(THIS, geometry, [1, 2, 3])
    record.checkpoint(record.position, {0: 2**60})
    record.add_all([4, 60])
    record.close()
    parser = Parser("resume", reopen, [path.read_bytes(), b""], StorageError, always=2 << 20)
    try:
        figures(str(torture(parser)))
    finally:
        files.close_root(root)


@pytest.mark.parametrize(
    ("bomb", "limits"),
    [
        (b"l" * 60 + b"le" * 700_000, bencode.METAINFO_LIMITS),
        (b"l" + b"le" * 149_999 + b"e", bencode.REPLY_LIMITS),
        (b"l" + b"0:" * 90_000 + b"e", bencode.WIRE_LIMITS),
        (b"l" * 1_000_000, bencode.METAINFO_LIMITS),
        (b"d" + b"".join(b"6:%06di0e" % n for n in range(90_000)) + b"e", bencode.REPLY_LIMITS),
        (b"i" + b"9" * 1_000_000 + b"e", bencode.REPLY_LIMITS),
        (b"9" * 1_000_000 + b":", bencode.REPLY_LIMITS),
    ],
    ids=["lists", "reply-lists", "strings", "depth", "keys", "integer", "length"],
)
def test_a_bencode_bomb_as_large_as_is_let_in_costs_bounded_memory(
    bomb: bytes, limits: bencode.Limits, figures: Callable[[str], None]
) -> None:
    tracemalloc.start()
    start = time.thread_time()
    try:
        bencode.decode(bomb, limits)
        verdict = "decoded"
    except BencodeError as error:
        verdict = f"refused ({error})"
    spent = time.thread_time() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    figures(
        f"{len(bomb)} bytes {verdict[:70]}: {peak / len(bomb):.1f} "
        f"bytes a byte, {spent:.2f} s traced"
    )
    assert peak <= 128 * len(bomb)
