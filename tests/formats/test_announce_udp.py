"""Datagrams of UDP trackers, byte by byte as BEP 15 lays them out."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfs.errors import FormatError
from p2pfs.formats import announce_udp as udp
from p2pfs.formats.announce_http import AnnounceRequest, Event, PackedReply, PeerAddress
from p2pfs.formats.announce_reply import DEFAULT_INTERVAL, MAX_PEERS
from p2pfs.formats.scrape_http import ScrapeEntry
from p2pfs.geometry import PeerId, TorrentId

TORRENT = TorrentId(bytes(range(20)))
OURS = PeerId(b"-PF0100-abcdefghijkl")
ID = b"\1\2\3\4\5\6\7\x08"
TID = b"\xaa\xbb\xcc\xdd"


def request(**fields: object) -> AnnounceRequest:
    values: dict[str, object] = {"key": b"0A0B0C0D"} | fields
    return AnnounceRequest(TORRENT, OURS, 6881, 3, 1, 2, **values)  # type: ignore[arg-type]


def test_a_connect_request_is_the_magic_number_the_action_and_the_transaction() -> None:
    assert udp.encode_connect(TID) == bytes.fromhex("0000041727101980 00000000 aabbccdd")


def test_a_connect_reply_has_16_bytes() -> None:
    reply = udp.encode_connect_reply(TID, ID)

    assert reply == bytes(4) + TID + ID
    assert udp.parse_reply_header(reply) == (udp.Action.CONNECT, TID)
    assert udp.parse_connect_reply(reply + b"more") == ID


def test_an_announce_has_98_bytes_each_in_its_place() -> None:
    made = udp.encode_announce(ID, TID, request(event=Event.STARTED, numwant=50))

    assert len(made) == 98
    assert made[:16] == ID + b"\0\0\0\1" + TID
    assert made[16:36] == TORRENT.v1
    assert made[36:56] == OURS
    downloaded, left, uploaded, event, ip, key, numwant, port = struct.unpack(
        ">QQQIIIiH", made[56:]
    )
    assert (downloaded, left, uploaded) == (1, 2, 3)
    assert (event, ip, key, numwant, port) == (2, 0, 0x0A0B0C0D, 50, 6881)


@pytest.mark.parametrize(
    ("event", "number"),
    [
        (Event.NONE, 0),
        (Event.COMPLETED, 1),
        (Event.STARTED, 2),
        (Event.STOPPED, 3),
        (Event.PAUSED, 4),
    ],
)
def test_events_have_the_numbers_that_udp_gives_them(event: Event, number: int) -> None:
    made = udp.encode_announce(ID, TID, request(event=event))

    assert int.from_bytes(made[80:84], "big") == number
    assert udp.parse_announce(made).event is event


def test_an_announce_is_read_as_it_was_written() -> None:
    asked = request(event=Event.COMPLETED, numwant=7, ip="10.0.0.1")

    assert udp.parse_announce(udp.encode_announce(ID, TID, asked), "10.0.0.1") == asked


def test_no_wish_for_a_number_of_peers_is_minus_one() -> None:
    made = udp.encode_announce(ID, TID, request())

    assert made[92:96] == b"\xff\xff\xff\xff"
    assert udp.parse_announce(made).numwant is None


def test_the_ip_field_is_not_looked_at() -> None:
    made = bytearray(udp.encode_announce(ID, TID, request()))
    made[84:88] = b"\x09\x09\x09\x09"

    assert udp.parse_announce(bytes(made), "10.0.0.1") == request(ip="10.0.0.1")


def test_an_event_that_nobody_knows_is_none() -> None:
    made = bytearray(udp.encode_announce(ID, TID, request()))
    made[80:84] = b"\xff\xff\xff\xff"

    assert udp.parse_announce(bytes(made)).event is Event.NONE


@pytest.mark.parametrize(
    "options",
    [
        b"\x02\x0c/dir?a=b&c=d",
        b"\x02\x0c/dir?a=b&c=d\x01\x01\x00",
        b"\x02\x00",
        b"\x02\xff/short",
        b"\x02",
        b"\x00\x02\x05",
        b"\xfe\xff" + bytes(100),
    ],
)
def test_options_after_the_announce_are_tolerated_whatever_length_they_claim(
    options: bytes,
) -> None:
    made = udp.encode_announce(ID, TID, request())

    assert udp.parse_announce(made + options) == udp.parse_announce(made)


def test_what_follows_the_port_in_the_url_goes_with_the_announce_in_pieces_of_255_bytes() -> None:
    plain = udp.encode_announce(ID, TID, request())

    assert udp.encode_announce(ID, TID, request(), b"/dir?a=b&c=d") == (
        plain + b"\x02\x0c/dir?a=b&c=d"
    )
    assert udp.encode_announce(ID, TID, request(), b"x" * 300) == (
        plain + b"\x02\xff" + b"x" * 255 + b"\x02\x2d" + b"x" * 45
    )


def test_a_key_of_eight_hex_digits_is_the_same_over_http_and_udp() -> None:
    made = udp.encode_announce(ID, TID, request(key=b"00ABCDEF"))

    assert made[88:92] == b"\x00\xab\xcd\xef"
    assert udp.parse_announce(made).key == b"00ABCDEF"


def test_any_other_key_becomes_a_number_that_stays_the_same() -> None:
    first = udp.encode_announce(ID, TID, request(key=b"\xff any bytes"))
    other = udp.encode_announce(ID, TID, request(key=b"\xfe any bytes"))

    assert first == udp.encode_announce(ID, TID, request(key=b"\xff any bytes"))
    assert first[88:92] != other[88:92]


def test_no_key_is_zero_and_zero_is_no_key() -> None:
    made = udp.encode_announce(ID, TID, request(key=None))

    assert made[88:92] == bytes(4)
    assert udp.parse_announce(made).key is None


@pytest.mark.parametrize("length", [0, 16, 97])
def test_a_short_announce_is_refused(length: int) -> None:
    with pytest.raises(FormatError, match="98 bytes"):
        udp.parse_announce(udp.encode_announce(ID, TID, request())[:length])


def test_an_announce_reply_counts_leechers_before_seeders() -> None:
    reply = PackedReply(interval=300, complete=5, incomplete=2, peers=b"\x0a\0\0\1\x1a\xe1")

    made = udp.encode_announce_reply(TID, reply, ipv6=False)

    assert made == b"\0\0\0\1" + TID + struct.pack(">III", 300, 2, 5) + b"\x0a\0\0\1\x1a\xe1"
    read = udp.parse_announce_reply(made, 4)
    assert (read.interval, read.complete, read.incomplete) == (300, 5, 2)
    assert read.peers == (PeerAddress("10.0.0.1", 6881),)


def test_the_family_of_the_datagram_says_which_peers_are_in_it() -> None:
    v6 = bytes.fromhex("20010db8" + "00" * 11 + "07") + b"\x1a\xe1"
    reply = PackedReply(interval=1, peers=b"\x0a\0\0\1\0\1", peers6=v6)

    made = udp.encode_announce_reply(TID, reply, ipv6=True)

    assert udp.parse_announce_reply(made, 16).peers == (PeerAddress("2001:db8::7", 6881),)
    assert made[20:] == v6


@pytest.mark.parametrize(("ipv6", "stride"), [(False, 6), (True, 18)])
def test_an_announce_reply_fits_into_one_packet(ipv6: bool, stride: int) -> None:
    many = bytes(range(1, 1 + stride)) * 500

    made = udp.encode_announce_reply(
        TID, PackedReply(interval=1, peers=many, peers6=many), ipv6=ipv6
    )

    assert len(made) <= udp.MAX_REPLY
    assert (len(made) - 20) % stride == 0
    assert len(made) > udp.MAX_REPLY - 20


def test_half_a_peer_and_peers_that_nobody_can_dial_are_left_out() -> None:
    peers = b"\x0a\0\0\1\0\5" + bytes(6) + b"\xe0\0\0\1\0\5" + b"\x0a\0\0\2\0\0" + b"\x0a\0"

    reply = udp.parse_announce_reply(b"\0\0\0\1" + TID + bytes(12) + peers, 4)

    assert reply.peers == (PeerAddress("10.0.0.1", 5),)
    assert reply.interval == DEFAULT_INTERVAL


def test_of_very_many_peers_a_part_is_taken() -> None:
    peers = b"".join(b"\x0a" + n.to_bytes(3, "big") + b"\0\5" for n in range(1, MAX_PEERS + 1000))

    reply = udp.parse_announce_reply(b"\0\0\0\1" + TID + bytes(12) + peers, 4)

    assert len(reply.peers) == MAX_PEERS


def test_a_scrape_reply_counts_seeders_completed_leechers() -> None:
    made = udp.encode_scrape_reply(TID, [ScrapeEntry(1, 3, 2), None])

    assert made == b"\0\0\0\2" + TID + struct.pack(">IIIIII", 1, 2, 3, 0, 0, 0)
    assert udp.parse_scrape_reply(made + b"more", 2) == [
        ScrapeEntry(1, 3, 2),
        ScrapeEntry(0, 0, 0),
    ]


def test_up_to_74_torrents_are_scraped_at_once() -> None:
    torrents = [TorrentId(bytes([n]) * 20) for n in range(75)]

    assert udp.parse_scrape(udp.encode_scrape(ID, TID, torrents[:74])) == torrents[:74]
    assert udp.parse_scrape(udp.encode_scrape(ID, TID, torrents[:1]) + b"half") == torrents[:1]
    with pytest.raises(FormatError, match="1 to 74 torrents, not 75"):
        udp.parse_scrape(udp.encode_scrape(ID, TID, torrents))


def test_a_scrape_for_everything_is_not_possible() -> None:
    with pytest.raises(FormatError, match="not 0"):
        udp.parse_scrape(udp.encode_scrape(ID, TID, []))


def test_an_error_is_a_text() -> None:
    made = udp.encode_error(TID, "not tracked here")

    assert made == b"\0\0\0\3" + TID + b"not tracked here"
    assert udp.parse_error(made + b"\0") == "not tracked here"
    assert udp.parse_error(made[:8] + b"\xff" * 3000) == "\ufffd" * 1000


@given(st.binary(max_size=2048))
def test_no_datagram_breaks_the_parsers(data: bytes) -> None:
    for parse in (
        udp.parse_announce,
        udp.parse_scrape,
        udp.parse_reply_header,
        udp.parse_connect_reply,
        udp.parse_error,
        lambda data: udp.parse_announce_reply(data, 4),
        lambda data: udp.parse_announce_reply(data, 16),
        lambda data: udp.parse_scrape_reply(data, 3),
    ):
        try:
            parse(data)
        except FormatError:
            continue


_counts = st.integers(0, 2**64 - 1)


@given(
    st.binary(min_size=20, max_size=20),
    st.binary(min_size=20, max_size=20),
    st.integers(0, 65535),
    _counts,
    _counts,
    _counts,
    st.sampled_from(Event),
    st.none() | st.integers(0, 2**31 - 1),
    st.none() | st.integers(1, 2**32 - 1).map(lambda number: b"%08X" % number),
)
def test_what_is_written_is_read_again(
    info_hash: bytes,
    peer_id: bytes,
    port: int,
    uploaded: int,
    downloaded: int,
    left: int,
    event: Event,
    numwant: int | None,
    key: bytes | None,
) -> None:
    asked = AnnounceRequest(
        TorrentId(info_hash), PeerId(peer_id), port, uploaded, downloaded, left, event, numwant,
        key=key,
    )  # fmt: skip

    assert udp.parse_announce(udp.encode_announce(ID, TID, asked)) == asked
