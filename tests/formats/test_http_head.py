"""Heads of plain GETs: what is read, and all that is left to a general server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfs.formats.http_head import PlainGet, head_ends, parse_plain_get

HEAD = (
    b"GET /announce?info_hash=%ff%00a&left=0 HTTP/1.1\r\nHost: tracker:9999\r\n"
    b"User-Agent: client/1.0\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
)
READ = PlainGet(b"/announce", b"info_hash=%ff%00a&left=0", b"tracker:9999", False)


def test_what_clients_send_is_read() -> None:
    assert parse_plain_get(HEAD) == READ


def test_nothing_is_read_before_the_head_is_whole() -> None:
    for length in range(len(HEAD)):
        assert parse_plain_get(HEAD[:length]) is None
        assert not head_ends(HEAD[:length])
    assert head_ends(HEAD)


@given(st.binary(min_size=1, max_size=50))
def test_nothing_is_read_when_more_follows(more: bytes) -> None:
    assert parse_plain_get(HEAD + more) is None
    assert head_ends(HEAD + more)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", b"/", b""),
        (b"/scrape", b"/scrape", b""),
        (b"/scrape?", b"/scrape", b""),
        (b"/a?b?c=/d", b"/a", b"b?c=/d"),
        (b"/a%3fb?x", b"/a%3fb", b"x"),
        (b'/a?h=\xff\x80{}|^`"<>', b"/a", b'h=\xff\x80{}|^`"<>'),
    ],
)
def test_path_and_query_stay_as_they_were_sent(target: bytes, path: bytes, query: bytes) -> None:
    assert parse_plain_get(b"GET %b HTTP/1.0\r\n\r\n" % target) == PlainGet(path, query, b"", False)


@pytest.mark.parametrize(
    ("lines", "keep"),
    [
        (b"", True),
        (b"Connection: keep-alive\r\n", True),
        (b"connection:close\r\n", False),
        (b"CONNECTION: \t Close \t\r\n", False),
        (b"Connection: te, close\r\nTE: x\r\n", False),
        (b"Connection: close\r\nConnection: keep-alive\r\n", False),
        (b"X-Connection: close\r\n", True),
        (b"Connection: closed\r\n", True),
        (b"A: close\r\nB:\r\nC: \xff\xfe\r\n", True),
        (b"X: %b\r\n" % (b"y" * 5000), True),
    ],
)
def test_a_connection_is_kept_unless_the_client_says_close(lines: bytes, keep: bool) -> None:
    for _ in range(2):
        now = parse_plain_get(b"GET /a HTTP/1.1\r\nHost: x\r\n%b\r\n" % lines)
        before = parse_plain_get(b"GET /a HTTP/1.0\r\nHost: x\r\n%b\r\n" % lines)

        assert now == PlainGet(b"/a", b"", b"x", keep)
        assert before == PlainGet(b"/a", b"", b"x", False)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\r\n\r\n",
        b"\r\nGET /a HTTP/1.1\r\n\r\n",
        b"get /a HTTP/1.1\r\n\r\n",
        b"POST /a HTTP/1.1\r\n\r\n",
        b"HEAD /a HTTP/1.1\r\n\r\n",
        b"GET  /a HTTP/1.1\r\n\r\n",
        b"GET /a  HTTP/1.1\r\n\r\n",
        b"GET /a\tHTTP/1.1\r\n\r\n",
        b"GET a HTTP/1.1\r\n\r\n",
        b"GET * HTTP/1.1\r\n\r\n",
        b"GET http://x/a HTTP/1.1\r\n\r\n",
        b"GET /a?b#c HTTP/1.1\r\n\r\n",
        b"GET /a#c HTTP/1.1\r\n\r\n",
        b"GET /a?b c HTTP/1.1\r\n\r\n",
        b"GET /a?\0 HTTP/1.1\r\n\r\n",
        b"GET /a?\x7f HTTP/1.1\r\n\r\n",
        b"GET /a\n HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.1\n\r\n\r\n",
        b"GET /a HTTP/2.0\r\n\r\n",
        b"GET /a HTTP/1.10\r\n\r\n",
        b"GET /a HTTP/1.1 \r\n\r\n",
        b"GET /a\r\n\r\n",
        b"GET /a HTTP/1.1\n\n",
    ],
)
def test_another_request_line_is_left_to_others(head: bytes) -> None:
    assert parse_plain_get(head) is None


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 0\r\n",
        b"content-length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"TRANSFER-ENCODING: x\r\n",
        b"Expect: 100-continue\r\n",
        b"Upgrade: websocket\r\n",
        b"Host: y\r\n",
        b"A : b\r\n",
        b" A: b\r\n",
        b"A: b\r\n c\r\n",
        b"A\r\n",
        b": b\r\n",
        b"A: b\n",
        b"A: b\rc\r\n",
        b"A: b\0\r\n",
        b"A: \x01\r\n",
        b"\xc4: b\r\n",
        b"A(: b\r\n",
        b"\r\n",
    ],
)
def test_a_body_or_a_line_that_may_mean_two_things_is_left_to_others(lines: bytes) -> None:
    for _ in range(2):
        assert parse_plain_get(b"GET /a HTTP/1.1\r\nHost: x\r\n%b\r\n" % lines) is None


@pytest.mark.parametrize("line", [b"A:%b\x01", b"A:x%b\x01", b"%b:", b"A:x%bx%b\x01"])
def test_a_long_run_of_blanks_is_looked_at_once(line: bytes) -> None:
    blanks = b" \t" * 30_000
    lines = line.replace(b"%b", blanks)

    assert parse_plain_get(b"GET /a HTTP/1.1\r\n%b\r\n\r\n" % lines) is None


NAMES = st.from_regex(r"\A[A-Za-z][A-Za-z-]{0,20}\Z").filter(
    lambda name: (
        name.lower() not in ("host", "connection", "content-length", "transfer-encoding", "expect")
        and name.lower() not in ("upgrade", "trailer")
    )
)
VALUES = st.from_regex(r"\A[!-~]?[ -~]{0,40}[!-~]?\Z")


@given(
    query=st.from_regex(rb"\A[!-\"$-~\x80-\xff]{0,200}\Z"),
    fields=st.lists(st.tuples(NAMES, VALUES), max_size=8),
    host=st.from_regex(r"\A[!-~]{1,30}\Z"),
    place=st.integers(0, 8),
)
def test_whatever_else_a_client_tells_host_and_query_are_found(
    query: bytes, fields: list[tuple[str, str]], host: str, place: int
) -> None:
    fields.insert(place, ("hOsT", host))
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields).encode()

    found = parse_plain_get(b"GET /announce?%b HTTP/1.1\r\n%b\r\n" % (query, lines))

    assert found == PlainGet(b"/announce", query, host.encode(), True)


@given(st.binary(max_size=200))
def test_no_bytes_are_an_error(data: bytes) -> None:
    assert parse_plain_get(data) is None or data.startswith(b"GET /")
    parse_plain_get(b"GET /" + data + b"\r\n\r\n")
    parse_plain_get(b"GET / HTTP/1.1\r\n" + data + b"\r\n\r\n")


@given(st.data())
def test_a_changed_byte_is_read_as_what_it_says_or_left_to_others(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(HEAD) - 1))
    changed = bytearray(HEAD)
    changed[place] = data.draw(st.integers(0, 255))

    found = parse_plain_get(bytes(changed))

    if found is not None:
        assert found.path + b"?" + found.query in bytes(changed) or b"?" not in changed
        assert found.host in bytes(changed)
        assert changed.endswith(b"\r\n\r\n")
