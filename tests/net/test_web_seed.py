"""Downloads from web servers, alone and beside peers (BEP 19)."""

from __future__ import annotations

import asyncio
import random
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from p2pfs.formats import bencode, metainfo
from p2pfs.formats.reach import Reach
from p2pfs.net import addresses, http_client, web_seed
from p2pfs.net.engine import Torrent
from p2pfs.storage.hashing import block_digests
from tests.support.swarm import KIB, Sample, Swarm, at, done, make_sample
from tests.support.waiting import until
from tests.support.web_server import (
    WebServer,
    as_a_whole,
    in_parts,
    partly,
    range_of,
    served,
    with_seeds,
)

ALBUM = {"a.bin": 40_001, "deep/ünï ©/b #1.bin": 100_000, "empty": 0, "c%41.bin": 7, "z": 70_000}


async def fetch(swarm: Swarm, sample: Sample, *urls: str, **options: Any) -> Torrent:
    """A download with these web seeds, on this machine."""
    options.setdefault("private_web_seeds", True)
    _, torrent = await swarm.download(with_seeds(sample, *urls), **options)
    return torrent


async def problem(torrent: Torrent, text: str = "") -> str:
    """What is wrong with its web seed, once something (with `text` in it) is."""
    await until(lambda: any(text in one for one in torrent.progress().web_problems))
    return torrent.progress().web_problems[0]


def whole(sample: Sample, path: Path, torrent: Torrent, server: WebServer) -> None:
    """Everything came from `server`, once."""
    assert sample.is_at(path)
    progress = torrent.progress()
    (source,) = progress.sources
    assert (source.address, source.client) == (f"127.0.0.1:{server.port}", "web seed")
    assert source.bytes_down == progress.downloaded == len(sample.content)
    assert (progress.wasted, progress.hash_failures, progress.web_problems) == (0, 0, ())


# -- as it should be


@pytest.mark.loops("asyncio", "uvloop")
@pytest.mark.parametrize("ending", ["", "story.bin"])
async def test_a_file_comes_from_a_web_seed_and_no_peer_at_all(
    swarm: Swarm, sample: Sample, ending: str
) -> None:
    async with WebServer(served(sample)) as server:
        torrent = await fetch(swarm, sample, server.url + ending)
        (path,) = await done(torrent)

    whole(sample, path, torrent, server)
    assert server.paths() == ["/story.bin"]
    assert server.bytes_asked() == len(sample.content)
    assert len(server.asked) <= 4
    assert len(server.connections) <= 2


async def test_a_folder_comes_file_by_file_and_empty_ones_are_not_asked_for(swarm: Swarm) -> None:
    sample = make_sample(swarm.folder / "shared", ALBUM, name="an album")
    async with WebServer(served(sample)) as server:
        torrent = await fetch(swarm, sample, server.url)
        (path,) = await done(torrent)

    whole(sample, path, torrent, server)
    assert sorted(server.paths()) == [
        "/an%20album/a.bin",
        "/an%20album/c%2541.bin",
        "/an%20album/deep/%C3%BCn%C3%AF%20%C2%A9/b%20%231.bin",
        "/an%20album/z",
    ]
    assert server.bytes_asked() == len(sample.content)


def padded(folder: Path) -> Sample:
    """Two files with padding between them, so that the second begins with a piece (BEP 47)."""
    length, rng = 16 * KIB, random.Random(4)
    first, second = rng.randbytes(20_000), rng.randbytes(30_000)
    pad = bytes(-len(first) % length)
    content = first + pad + second
    files = [
        {b"length": len(first), b"path": [b"first"]},
        {b"length": len(pad), b"path": [b".pad", b"%d" % len(pad)], b"attr": b"p"},
        {b"length": len(second), b"path": [b"second"]},
    ]
    info = {
        b"files": files,
        b"name": b"padded",
        b"piece length": length,
        b"pieces": b"".join(block_digests(memoryview(content))),
    }
    return Sample(metainfo.parse(bencode.encode({b"info": info})), folder, content)


async def test_padding_is_made_here_and_not_asked_for(swarm: Swarm) -> None:
    sample = padded(swarm.folder)
    first, second = sample.content[:20_000], sample.content[-30_000:]
    async with WebServer({"padded/first": first, "padded/second": second}) as server:
        torrent = await fetch(swarm, sample, server.url)
        (path,) = await done(torrent)

    assert (path / "first").read_bytes() == first
    assert (path / "second").read_bytes() == second
    assert sorted(server.paths()) == ["/padded/first", "/padded/second"]
    assert server.bytes_asked() == 50_000


async def test_a_large_file_takes_few_requests_and_few_connections(swarm: Swarm) -> None:
    sample = make_sample(swarm.folder / "shared", 40_000_000, piece_length=256 * KIB)
    async with WebServer(served(sample)) as server:
        torrent = await fetch(swarm, sample, server.url)
        (path,) = await done(torrent)

    whole(sample, path, torrent, server)
    assert len(server.asked) <= 20
    assert len(server.connections) <= 2


async def test_a_web_seed_and_peers_share_the_work(swarm: Swarm) -> None:
    sample = make_sample(swarm.folder / "shared", 3_000_000, piece_length=64 * KIB)
    seeder, _ = await swarm.seed(sample, up_limit=1_000_000)
    async with WebServer(served(sample), slowly(20_000)) as server:
        torrent = await fetch(swarm, sample, server.url)
        torrent.add_peers(at(seeder))
        (path,) = await done(torrent)

    assert sample.is_at(path)
    progress = torrent.progress()
    given = {source.client: source.bytes_down for source in progress.sources}
    assert len(given) == 2
    assert min(given.values()) > len(sample.content) / 10
    assert progress.wasted < len(sample.content) / 4


async def test_what_no_peer_has_is_asked_of_the_web_seed_first(swarm: Swarm) -> None:
    sample = make_sample(swarm.folder / "shared", 64 * 16 * KIB)
    seeder, _ = await swarm.seed(sample, *range(32), up_limit=100_000)
    async with WebServer(served(sample), slowly(4_000)) as server:
        torrent = await fetch(swarm, sample)
        torrent.add_peers(at(seeder))
        await until(lambda: torrent.progress().pieces_done)
        await torrent.close()
        again = await fetch(swarm, sample, server.url)
        again.add_peers(at(seeder))
        await until(lambda: len(server.asked) >= 2)

    firsts = [asked.range[0] // (16 * KIB) for asked in server.asked if asked.range]
    assert firsts[1] >= 32


async def test_those_who_download_from_a_web_seed_serve_each_other(swarm: Swarm) -> None:
    sample = make_sample(swarm.folder / "shared", 2_000_000, piece_length=64 * KIB)
    async with WebServer(served(sample), slowly(20_000)) as server:
        one = await fetch(swarm, sample, server.url)
        two = await fetch(swarm, sample)
        two.add_peers([("127.0.0.1", one._client.port)])
        paths = await done(one, two)

    assert all(map(sample.is_at, paths))


async def test_web_seeds_can_be_switched_off(swarm: Swarm, sample: Sample) -> None:
    seeder, _ = await swarm.seed(sample)
    async with WebServer(served(sample)) as server:
        torrent = await fetch(swarm, sample, server.url, web_seeds=False)
        torrent.add_peers(at(seeder))
        await done(torrent)

    assert server.asked == []


async def test_web_seeds_count_against_the_download_limit(swarm: Swarm) -> None:
    sample = make_sample(swarm.folder / "shared", 600_000)
    loop = asyncio.get_running_loop()
    async with WebServer(served(sample)) as server:
        torrent = await fetch(swarm, sample, server.url, down_limit=300_000)
        start = loop.time()
        await done(torrent)

    assert loop.time() - start > 1.0


# -- servers that do not heed ranges


async def test_a_file_comes_whole_where_ranges_are_not_heeded(swarm: Swarm) -> None:
    sample = make_sample(swarm.folder / "shared", 5_000_000, piece_length=64 * KIB)
    async with WebServer(served(sample), as_a_whole) as server:
        torrent = await fetch(swarm, sample, server.url)
        (path,) = await done(torrent)

    whole(sample, path, torrent, server)
    assert len(server.asked) <= 3


async def test_a_folder_comes_whole_where_ranges_are_not_heeded(swarm: Swarm) -> None:
    lengths = {"a": 2_000_000, "b": 1_500_000, "c": 10, "d": 3_000_001}
    sample = make_sample(swarm.folder / "shared", lengths, name="album", piece_length=64 * KIB)
    async with WebServer(served(sample), as_a_whole) as server:
        torrent = await fetch(swarm, sample, server.url)
        (path,) = await done(torrent)

    whole(sample, path, torrent, server)
    assert len(server.asked) <= 12


async def test_the_web_server_that_python_brings_is_a_web_seed(
    swarm: Swarm, sample: Sample
) -> None:
    command = [sys.executable, "-u", "-m", "http.server", "-b", "127.0.0.1", "0"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=sample.path.parent, stdout=PIPE, stderr=DEVNULL
    )
    try:
        assert process.stdout is not None
        ready = (await process.stdout.readline()).decode()
        torrent = await fetch(swarm, sample, ready[ready.index("(") + 1 : ready.index(")")])
        (path,) = await done(torrent)
    finally:
        process.kill()
        await process.wait()

    assert sample.is_at(path)


async def test_what_is_had_of_a_file_is_passed_over_where_ranges_are_not_heeded(
    swarm: Swarm,
) -> None:
    sample = make_sample(swarm.folder / "shared", 5_000_000, piece_length=64 * KIB)
    seeder, _ = await swarm.seed(sample, *range(30))
    output = swarm.output()
    _, first = await swarm.download(sample, seeder, output=output)
    await until(lambda: first.progress().pieces_done == 30)
    await first.close()
    async with WebServer(served(sample), as_a_whole) as server:
        torrent = await fetch(swarm, sample, server.url, output=output)
        (path,) = await done(torrent)

    assert sample.is_at(path)
    assert torrent.progress().downloaded == len(sample.content) - 30 * 64 * KIB


# -- servers that give what they should not


def slowly(size: int, pause: float = 0.01) -> web_seed_treat:
    """Right answers, so many bytes at a time."""

    async def treat(server: WebServer, request: web.Request, data: bytes) -> web.StreamResponse:
        first, last = range_of(request) or (0, len(data) - 1)
        answer = partly(request, data)
        answer.content_length = last - first + 1
        await answer.prepare(request)
        for place in range(first, last + 1, size):
            await answer.write(data[place : min(place + size, last + 1)])
            await asyncio.sleep(pause)
        return answer

    return treat


web_seed_treat = Callable[[WebServer, web.Request, bytes], Any]


def spoilt(sample: Sample, *places: int) -> dict[str, bytes]:
    """The file of a sample with a wrong byte at each of these places."""
    data = bytearray(sample.content)
    for place in places:
        data[place] ^= 1
    return {sample.metainfo.name: bytes(data)}


async def test_a_web_seed_with_wrong_bytes_is_asked_for_nothing_more(
    swarm: Swarm, sample: Sample
) -> None:
    places = range(0, len(sample.content), 16 * KIB)
    async with WebServer(spoilt(sample, *places)) as server:
        torrent = await fetch(swarm, sample, server.url)
        assert "fails the hash" in await problem(torrent, "not asked again")
        await until(lambda: not torrent._web._lines)
        asked = len(server.asked)
        await asyncio.sleep(0.6)
        assert len(server.asked) == asked
        assert torrent.progress().pieces_done == 0
        assert len(torrent.progress().missing) == sample.count

        seeder, _ = await swarm.seed(sample)
        torrent.add_peers(at(seeder))
        (path,) = await done(torrent)

    assert sample.is_at(path)


async def test_a_web_seed_with_wrong_bytes_is_blamed_and_nobody_beside_it(swarm: Swarm) -> None:
    sample = make_sample(swarm.folder / "shared", 1_000_000, piece_length=64 * KIB)
    seeder, seeder_torrent = await swarm.seed(sample, up_limit=300_000)
    async with (
        WebServer(spoilt(sample, *range(60_000, 1_000_000, 64 * KIB))) as bad,
        WebServer(served(sample), slowly(30_000)) as good,
    ):
        torrent = await fetch(swarm, sample, bad.url, good.url)
        torrent.add_peers(at(seeder))
        (path,) = await done(torrent)
        progress = torrent.progress()

    assert sample.is_at(path)
    assert [f":{bad.port}:" in one for one in progress.web_problems] == [True]
    assert not torrent._peers.is_banned("127.0.0.1", seeder_torrent.peer_id)


@pytest.mark.parametrize("status", [401, 403, 404, 410, 500, 502])
async def test_a_server_that_says_no_is_left_in_peace_for_a_while(
    swarm: Swarm, sample: Sample, status: int
) -> None:
    async def refuse(server: WebServer, request: web.Request, data: bytes) -> web.Response:
        return web.Response(status=status)

    async with WebServer(served(sample), refuse) as server:
        torrent = await fetch(swarm, sample, server.url)
        assert f"HTTP status {status}" in await problem(torrent)
        await asyncio.sleep(0.5)
        assert len(server.asked) == 1
        assert len(torrent.progress().missing) == sample.count

        seeder, _ = await swarm.seed(sample)
        torrent.add_peers(at(seeder))
        await done(torrent)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_server_is_asked_again_when_it_wants_to_be(
    swarm: Swarm, sample: Sample, status: int
) -> None:
    times: list[float] = []

    async def busy(server: WebServer, request: web.Request, data: bytes) -> web.StreamResponse:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            return web.Response(status=status, headers={"Retry-After": "2"})
        return await in_parts(server, request, data)

    async with WebServer(served(sample), busy) as server:
        torrent = await fetch(swarm, sample, server.url)
        (path,) = await done(torrent)

    whole(sample, path, torrent, server)
    assert times[1] - times[0] >= 2


async def test_a_folder_with_a_file_missing_gives_all_the_others(swarm: Swarm) -> None:
    lengths = {"a": 100_000, "b": 100_000, "c": 100_000}
    sample = make_sample(swarm.folder / "shared", lengths, name="album")
    files = served(sample)
    del files["album/b"]
    async with WebServer(files) as server:
        torrent = await fetch(swarm, sample, server.url)
        touched = range(100_000 // (16 * KIB), 200_000 // (16 * KIB) + 1)
        await until(lambda: torrent.progress().pieces_done == sample.count - len(touched))
        assert torrent.progress().missing == tuple(touched)
        assert len([path for path in server.asked if path.path.endswith("/b")]) == 1


Body = Callable[[web.Request, bytes], web.Response]


def claims(**headers: str) -> Body:
    """The right bytes with these words about them."""

    def body(request: web.Request, data: bytes) -> web.Response:
        first, last = range_of(request) or (0, 0)
        right = {"Content_Range": f"bytes {first}-{last}/{len(data)}", **headers}
        found = {name.replace("_", "-"): value for name, value in right.items() if value}
        return web.Response(status=206, body=data[first : last + 1], headers=found)

    return body


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (claims(Content_Range=""), "another part"),
        (claims(Content_Range="bytes 0-5/300000"), "another part"),
        (claims(Content_Range="bytes nonsense"), "another part"),
        (claims(Content_Encoding="br"), "packed"),
        (lambda request, data: web.Response(status=206, body=b"x"), "another part"),
        (lambda request, data: web.Response(body=b"<html>Welcome</html>"), "of 20 bytes, not"),
        (lambda request, data: web.Response(status=204), "status 204"),
        (lambda request, data: web.Response(status=304), "status 304"),
    ],
)
async def test_an_answer_that_is_not_what_was_asked_for_is_not_content(
    swarm: Swarm, sample: Sample, body: Body, why: str
) -> None:
    async def treat(server: WebServer, request: web.Request, data: bytes) -> web.Response:
        return body(request, data)

    async with WebServer(served(sample), treat) as server:
        torrent = await fetch(swarm, sample, server.url)
        assert why in await problem(torrent)
        assert torrent.progress().downloaded == 0


async def test_a_file_of_another_length_is_another_file(swarm: Swarm, sample: Sample) -> None:
    async with WebServer({"story.bin": sample.content + b"x"}) as server:
        torrent = await fetch(swarm, sample, server.url)
        assert "has a file of 300001 bytes, not 300000" in await problem(torrent)


async def test_a_body_that_ends_early_keeps_what_came_and_the_rest_is_asked_for_again(
    swarm: Swarm, sample: Sample
) -> None:
    async def short(server: WebServer, request: web.Request, data: bytes) -> web.StreamResponse:
        if len(server.asked) > 1:
            return await in_parts(server, request, data)
        first, last = range_of(request) or (0, 0)
        answer = partly(request, data)
        answer.content_length = last - first + 1
        await answer.prepare(request)
        await answer.write(data[first : (first + last) // 2])
        assert request.transport is not None
        request.transport.close()
        return answer

    async with WebServer(served(sample), short) as server:
        torrent = await fetch(swarm, sample, server.url)
        (path,) = await done(torrent)

    whole(sample, path, torrent, server)
    again = sum(
        last + 1 - first for first, last in filter(None, [a.range for a in server.asked[1:]])
    )
    assert again < 0.6 * len(sample.content)


async def test_an_endless_body_is_read_as_far_as_it_was_asked_for(
    swarm: Swarm, sample: Sample
) -> None:
    async def endless(server: WebServer, request: web.Request, data: bytes) -> web.StreamResponse:
        first, last = range_of(request) or (0, 0)
        answer = partly(request, data)
        answer.force_close()
        await answer.prepare(request)
        await answer.write(data[first : last + 1])
        while True:
            await answer.write(bytes(65536))

    async with WebServer(served(sample), endless) as server:
        torrent = await fetch(swarm, sample, server.url)
        (path,) = await done(torrent)

    whole(sample, path, torrent, server)


async def test_a_slow_body_does_not_hold_up_a_download_that_has_peers(swarm: Swarm) -> None:
    sample = make_sample(swarm.folder / "shared", 1_000_000)
    seeder, _ = await swarm.seed(sample)
    async with WebServer(served(sample), slowly(100, 0.1)) as server:
        torrent = await fetch(swarm, sample, server.url)
        await until(lambda: server.asked)
        torrent.add_peers(at(seeder))
        (path,) = await done(torrent)

    assert sample.is_at(path)


async def test_a_silent_server_is_given_up_and_asked_again(
    swarm: Swarm, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(server: WebServer, request: web.Request, data: bytes) -> web.StreamResponse:
        if len(server.asked) == 1:
            await asyncio.sleep(60)
        return await in_parts(server, request, data)

    monkeypatch.setattr(web_seed, "SILENCE", 0.3)
    async with WebServer(served(sample), silent) as server:
        torrent = await fetch(swarm, sample, server.url)
        assert "no answer within 0.3 s" in await problem(torrent)
        (path,) = await done(torrent)

    whole(sample, path, torrent, server)


async def test_a_server_that_dies_in_the_middle_is_asked_for_the_rest_when_it_is_back(
    swarm: Swarm,
) -> None:
    sample = make_sample(swarm.folder / "shared", 1_000_000)
    async with WebServer(served(sample), slowly(20_000)) as server:
        torrent = await fetch(swarm, sample, server.url)
        await until(lambda: torrent.progress().pieces_done > 5)
        await server.stop()
        await problem(torrent)
        assert 5 < torrent.progress().pieces_done < sample.count
        server.treat = in_parts
        await server.start()
        (path,) = await done(torrent)

    whole(sample, path, torrent, server)


async def test_a_download_that_is_closed_in_the_middle_goes_on_from_there(swarm: Swarm) -> None:
    sample = make_sample(swarm.folder / "shared", 1_000_000)
    output = swarm.output()
    async with WebServer(served(sample), slowly(20_000)) as server:
        first = await fetch(swarm, sample, server.url, output=output)
        await until(lambda: first.progress().pieces_done > 5)
        await first.close()
        before = first.progress().pieces_done
        server.treat = in_parts
        torrent = await fetch(swarm, sample, server.url, output=output)
        (path,) = await done(torrent)

    assert sample.is_at(path)
    assert torrent.progress().downloaded <= len(sample.content) - before * 16 * KIB


# -- whom a torrent may send us to


async def test_a_torrent_sends_nobody_to_this_machine_or_network(
    swarm: Swarm, sample: Sample
) -> None:
    async with WebServer(served(sample)) as server:
        torrent = await fetch(swarm, sample, server.url, private_web_seeds=False)
        assert "(--allow-private-web-seeds changes that)" in await problem(torrent, "loopback")

    assert server.asked == []


async def test_urls_of_other_kinds_are_passed_over(swarm: Swarm, sample: Sample) -> None:
    async with WebServer(served(sample)) as server:
        odd = ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://[broken", "http:///x"]
        torrent = await fetch(swarm, sample, *odd, server.url)
        (path,) = await done(torrent)

    whole(sample, path, torrent, server)


@asynccontextmanager
async def public(host: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """As if `host` were a public address."""
    real = addresses.reach_of

    def as_if(one: str) -> Reach:
        return Reach.GLOBAL if one == host else real(one)

    monkeypatch.setattr(addresses, "reach_of", as_if)
    monkeypatch.setattr(http_client, "reach_of", as_if)
    yield


@pytest.mark.parametrize("private", [False, True])
async def test_a_public_web_seed_cannot_lead_inside(
    swarm: Swarm, sample: Sample, private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with WebServer(served(sample)) as inside, public("127.0.0.2", monkeypatch):

        async def lead(server: WebServer, request: web.Request, data: bytes) -> web.Response:
            return web.Response(status=302, headers={"Location": f"{inside.url}story.bin"})

        async with WebServer(served(sample), lead, host="127.0.0.2") as outside:
            torrent = await fetch(swarm, sample, outside.url, private_web_seeds=private)
            assert "--allow" not in await problem(torrent, "redirected")

    assert inside.asked == []


async def test_a_web_seed_may_lead_to_another_place_and_is_followed_each_time(
    swarm: Swarm, sample: Sample
) -> None:
    async with WebServer(served(sample)) as mirror:

        async def lead(server: WebServer, request: web.Request, data: bytes) -> web.Response:
            return web.Response(status=302, headers={"Location": f"{mirror.url}story.bin"})

        async with WebServer(served(sample), lead) as server:
            torrent = await fetch(swarm, sample, server.url)
            (path,) = await done(torrent)

    whole(sample, path, torrent, server)
    assert len(server.asked) == len(mirror.asked)


@pytest.mark.parametrize(
    "location", ["http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "/story.bin", ""]
)
async def test_a_redirect_to_where_nobody_is_sent_is_not_followed(
    swarm: Swarm, sample: Sample, location: str
) -> None:
    async def lead(server: WebServer, request: web.Request, data: bytes) -> web.Response:
        return web.Response(status=302, headers={"Location": location} if location else {})

    async with WebServer(served(sample), lead) as server:
        torrent = await fetch(swarm, sample, server.url)
        assert await problem(torrent)
        assert torrent.progress().downloaded == 0


async def test_of_chosen_files_no_more_is_asked_for_than_their_pieces(swarm: Swarm) -> None:
    lengths = {"a": 100_000, "b": 100_000, "c": 100_000}
    sample = make_sample(swarm.folder / "shared", lengths, name="album")
    client = await swarm.client(private_web_seeds=True)
    async with WebServer(served(sample)) as server:
        wanted = with_seeds(sample, server.url).metainfo
        torrent = await client.download(wanted, swarm.output(), files=["b"])
        (path,) = await done(torrent)

    assert (path / "b").read_bytes() == sample.content[100_000:200_000]
    pieces = range(100_000 // (16 * KIB), 200_000 // (16 * KIB) + 1)
    assert server.bytes_asked() == len(pieces) * 16 * KIB


async def test_in_order_a_web_seed_is_asked_from_the_beginning(swarm: Swarm) -> None:
    sample = make_sample(swarm.folder / "shared", 3_000_000, piece_length=64 * KIB)
    client = await swarm.client(private_web_seeds=True)
    async with WebServer(served(sample)) as server:
        wanted = with_seeds(sample, server.url).metainfo
        torrent = await client.download(wanted, swarm.output(), sequential=True)
        await done(torrent)

    firsts = [asked.range[0] for asked in server.asked if asked.range]
    assert firsts == sorted(firsts)
    assert firsts[0] == 0
