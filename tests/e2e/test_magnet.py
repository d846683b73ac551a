"""Nothing but a magnet link: with our own, and both ways with libtorrent."""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.processes import Lab, Running, no_traceback, one_error_line
from tests.support.sockets import has_ipv6

pytestmark = pytest.mark.slow

NAME = "content.bin"
SIZE = 1_234_567
CLIENT = Path(__file__).with_name("foreign_client.py")

with_libtorrent = pytest.mark.skipif(
    importlib.util.find_spec("libtorrent") is None, reason="libtorrent is not installed"
)
with_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.fixture(params=["127.0.0.1", pytest.param("::1", marks=with_ipv6)])
def host(request: pytest.FixtureRequest, lab: Lab) -> str:
    """Where all of the lab is."""
    lab.address = str(request.param)
    return lab.address


def link(lab: Lab, torrent: str, *more: str) -> str:
    """The magnet link of a .torrent, which is then taken away."""
    made = lab.run("magnet", torrent, *more)
    assert made.wait() == 0, str(made)
    (text,) = made.lines
    return text


def forget(lab: Lab, torrent: str) -> None:
    (lab.folder / torrent).unlink()
    for kept in (lab.folder / "torrents").glob("*.torrent"):
        kept.unlink()


def offered(lab: Lab, path: str, *more: str) -> str:
    """Seed what is at `path`, and forget its .torrent; its link, which names the tracker."""
    torrent = lab.torrent(path, "-l", "64KiB")
    lab.seed("-f", torrent, *more)
    magnet = link(lab, torrent)
    forget(lab, torrent)
    return magnet


def without_trackers(lab: Lab, path: str) -> str:
    made = lab.run("make-torrent", path, "-o", "bare.torrent")
    assert made.wait() == 0, str(made)
    return "bare.torrent"


def seed_at(lab: Lab, torrent: str) -> str:
    """Seed, known to a tracker that no link names; where it listens, for a link."""
    seeder = lab.p2pfs("seed", *lab.where, "--json", "--no-lsd", "-f", torrent)
    port = seeder.event("ready")["port"]
    return f"[{lab.address}]:{port}" if ":" in lab.address else f"{lab.address}:{port}"


def download(lab: Lab, magnet: str, *more: str) -> Running:
    """A download with nothing but the link: no tracker is named beside it."""
    process = lab.p2pfs("download", magnet, "-p", "0", "--no-lsd", "--json", *more)
    process.event("ready")
    return process


def foreign(lab: Lab, torrent: str, folder: str) -> Running:
    (lab.folder / folder).mkdir(exist_ok=True)
    process = lab.start(sys.executable, str(CLIENT), torrent, folder, "--listen", lab.address)
    process.event("ready")
    return process


# -- among our own


def test_a_link_with_a_tracker_in_it_is_all_that_a_download_needs(lab: Lab) -> None:
    lab.tracker()
    data = lab.content(NAME, SIZE)
    magnet = offered(lab, f"seeds/{NAME}")

    ours = download(lab, magnet)

    assert ours.wait() == 0, str(ours)
    assert lab.read(f"output/{NAME}") == data
    told = [event for event in ours.events if event["event"] == "metadata"]
    assert told[0]["name"] == NAME
    assert told[-1]["bytes_done"] == told[-1]["bytes_total"] > 0
    assert ours.last("final")["message"] == f"Successfully Downloaded {NAME} to output/{NAME}"


def test_a_udp_tracker_in_the_link_does_as_well(lab: Lab) -> None:
    lab.tracker()
    data = lab.content(NAME, SIZE)
    torrent = lab.torrent(f"seeds/{NAME}")
    lab.seed("-f", torrent)
    url = f"udp://127.0.0.1:{lab.tracker_port}/announce"
    magnet = link(lab, without_trackers(lab, f"seeds/{NAME}"), "-t", url)
    forget(lab, torrent)

    assert download(lab, magnet).wait() == 0

    assert lab.read(f"output/{NAME}") == data


def test_a_link_with_a_peer_in_it_needs_no_tracker(lab: Lab) -> None:
    lab.tracker()
    data = lab.content(NAME, SIZE)
    peer = seed_at(lab, lab.torrent(f"seeds/{NAME}"))
    magnet = link(lab, without_trackers(lab, f"seeds/{NAME}"), "--peer", peer)
    assert "tr=" not in magnet
    forget(lab, "bare.torrent")

    assert download(lab, magnet).wait() == 0

    assert lab.read(f"output/{NAME}") == data


def test_metadata_that_was_fetched_is_kept_and_a_restart_does_not_fetch_it_again(lab: Lab) -> None:
    tracker = lab.tracker()
    data = lab.content(NAME, 20_000_000)
    torrent = lab.torrent(f"seeds/{NAME}")
    seeder = lab.seed("-f", torrent, "--up-limit", "2M")
    magnet = link(lab, torrent)
    forget(lab, torrent)
    before = download(lab, magnet)
    before.progress(lambda event: event["pieces_done"] > 3)
    before.kill()
    kept = lab.metainfo(f"torrents/{NAME}.torrent")
    assert kept.trackers == ((lab.announce_url,),)
    tracker.kill()
    seeder.leave()

    after = download(lab, magnet)

    event = after.progress(lambda event: event["pieces_done"] > 3)
    assert event["state"] == "downloading"
    assert not any(event["event"] == "metadata" for event in after.events)
    assert len(data) == event["bytes_total"]
    after.leave()


def test_a_link_chooses_files(lab: Lab) -> None:
    lab.tracker()
    files = {name: lab.content(name, 50_000, under="seeds/album") for name in "abc"}
    magnet = offered(lab, "seeds/album")

    ours = download(lab, f"{magnet}&so=1")

    assert ours.wait() == 0
    message = "Successfully Downloaded 1 of 3 files of album to output/album"
    assert ours.last("final")["message"] == message
    assert lab.read("output/album/b") == files["b"]
    assert not (lab.folder / "output/album/a").exists()
    assert not (lab.folder / "output/album/c").exists()


def test_files_chosen_by_hand_count_more_than_those_of_the_link(lab: Lab) -> None:
    lab.tracker()
    files = {name: lab.content(name, 50_000, under="seeds/album") for name in "abc"}
    magnet = offered(lab, "seeds/album")

    assert download(lab, f"{magnet}&so=1", "--files", "c", "-o", "here").wait() == 0

    assert lab.read("here/album/c") == files["c"]
    assert [path.name for path in (lab.folder / "here/album").glob("[!.]*")] == ["c"]
    assert not (lab.folder / "output").exists()


def test_files_that_the_torrent_does_not_have_are_told_of_once_that_is_known(lab: Lab) -> None:
    lab.tracker()
    lab.content("a", 50_000, under="seeds/album")
    magnet = offered(lab, "seeds/album")

    by_hand = lab.run("download", magnet, "-p", "0", "--no-lsd", "--files", "*.flac")
    by_link = lab.run("download", f"{magnet}&so=7", "-p", "0", "--no-lsd")

    assert by_hand.wait() == by_link.wait() == 2
    assert "*.flac" in one_error_line(by_hand)
    assert "selects none of the files of album" in one_error_line(by_link)


def test_content_comes_in_order_if_asked_for(lab: Lab) -> None:
    lab.tracker()
    data = lab.content(NAME, 20_000_000)
    magnet = offered(lab, f"seeds/{NAME}", "--up-limit", "2M")

    ours = download(lab, magnet, "--sequential")
    event = ours.progress(lambda event: event["pieces_done"] > 20)
    ours.kill()

    (part,) = (lab.folder / "output").glob(f".{NAME}.*.p2pfs-part")
    assert part.read_bytes()[: 64 * 1024 * 8] == data[: 64 * 1024 * 8], event


def test_two_links_of_one_torrent_are_one_download(lab: Lab) -> None:
    lab.tracker()
    data = lab.content(NAME, SIZE)
    magnet = offered(lab, f"seeds/{NAME}")
    bare = magnet.partition("&")[0]

    assert download(lab, magnet, f"{bare}&x.pe=127.0.0.1:1").wait() == 0

    assert lab.read(f"output/{NAME}") == data


def test_a_link_and_the_torrent_itself_are_one_download(lab: Lab) -> None:
    lab.tracker()
    data = lab.content(NAME, SIZE)
    peer = seed_at(lab, lab.torrent(f"seeds/{NAME}"))
    (lab.folder / "away.torrent").write_bytes(
        replace(lab.metainfo("t.torrent"), trackers=(("http://127.0.0.1:1/announce",),)).to_bytes()
    )
    magnet = link(lab, "away.torrent", "--peer", peer)

    assert download(lab, "away.torrent", magnet).wait() == 0

    assert lab.read(f"output/{NAME}") == data


def test_several_links_and_a_torrent_are_downloaded_together(lab: Lab) -> None:
    lab.tracker()
    data = {name: lab.content(name, SIZE) for name in ("a", "b", "c")}
    torrents = [lab.torrent(f"seeds/{name}", output=f"{name}.torrent") for name in data]
    lab.seed(*(word for torrent in torrents for word in ("-f", torrent)))
    magnets = [link(lab, torrent) for torrent in torrents[:2]]

    ours = lab.p2pfs("download", *magnets, "c.torrent", "-p", "0", "--no-lsd")

    assert ours.wait() == 0, str(ours)
    for name, content in data.items():
        assert lab.read(f"output/{name}") == content
        assert f"Successfully Downloaded {name} to output/{name}" in ours.lines


@pytest.mark.parametrize("known", [True, False], ids=["known to the index", "unknown to it"])
def test_get_takes_links_beside_names(lab: Lab, known: bool) -> None:
    lab.tracker()
    files = {name: lab.content(name, 50_000, under="seeds/album") for name in "ab"}
    torrent = lab.torrent("seeds/album")
    if known:
        lab.seed("-f", torrent)
        magnet = link(lab, torrent)
    else:
        theirs = lab.p2pfs("seed", "-f", torrent, "-p", "0", "--bind", "127.0.0.1", "--json")
        peer = f"127.0.0.1:{theirs.event('ready')['port']}"
        magnet = link(lab, without_trackers(lab, "seeds/album"), "--peer", peer)
    forget(lab, torrent)
    data = lab.content(NAME, SIZE)
    lab.seed("-f", f"seeds/{NAME}")

    ours = lab.p2pfs("get", NAME, f"{magnet}&so=1", *lab.where, "-o", "here", "--json")

    assert ours.wait() == 0, str(ours)
    assert lab.read(f"here/{NAME}") == data
    assert lab.read("here/album/b") == files["b"]
    assert not (lab.folder / "here/album/a").exists()
    assert any(event["event"] == "metadata" for event in ours.events) is not known


# -- when it does not work


def test_a_link_that_nobody_answers_ends_with_what_was_tried(lab: Lab) -> None:
    lab.tracker()
    magnet = f"magnet:?xt=urn:btih:{'01' * 20}&dn=gone&x.pe=127.0.0.1:1&tr={lab.announce_url}"

    ours = lab.run("download", magnet, "-p", "0", "--no-lsd", "--metadata-timeout", "2")

    assert ours.wait() == 1
    line = one_error_line(ours)
    assert line.startswith("p2pfs: nobody gave the metadata of gone in 2 s: ")
    assert f"{lab.announce_url} answered: 0 seeders" in line
    assert "127.0.0.1:1: Connection refused" in line
    assert not (lab.folder / "output").exists()


def test_a_link_that_fails_ends_none_of_the_others(lab: Lab) -> None:
    lab.tracker()
    data = {name: lab.content(name, SIZE) for name in ("a", "b", "c")}
    torrents = [lab.torrent(f"seeds/{name}", output=f"{name}.torrent") for name in data]
    lab.seed(*(word for torrent in torrents for word in ("-f", torrent)))
    bad, good = (link(lab, torrent) for torrent in torrents[:2])

    ours = lab.p2pfs("download", f"{bad}&so=7", good, "c.torrent", "-p", "0", "--no-lsd")

    assert ours.wait() == 1, str(ours)
    for name in ("b", "c"):
        assert lab.read(f"output/{name}") == data[name]
    assert not (lab.folder / "output/a").exists()
    told, last = ours.errors
    assert told.startswith("p2pfs: a: the magnet link selects none of the ")
    assert last == "p2pfs: 1 of 3 could not be fetched: a"


@pytest.mark.parametrize(
    ("magnet", "reason"),
    [
        ("magnet:?dn=x", "names no torrent"),
        ("magnet:?xt=urn:btih:12", "not an info hash"),
        (f"magnet:?xt=urn:btmh:1220{'ab' * 32}&tr=http://t/", "version 2 alone"),
        (f"magnet:?xt=urn:btih:{'01' * 20}", "names neither a tracker"),
        (f"magnet:?xt=urn:btih:{'01' * 20}&x.pe=nowhere&x.pe=a:0", "names neither a tracker"),
        (f"magnet:?xt=urn:btih:{'01' * 20}&x.pe=a:1&so=x", "selects no files"),
    ],
)
def test_a_link_that_cannot_be_used_is_wrong_usage(lab: Lab, magnet: str, reason: str) -> None:
    ours = lab.run("download", magnet, "-p", "0", "--no-lsd")

    assert ours.wait() == 2
    assert reason in one_error_line(ours)


@pytest.mark.parametrize("how", ["exit", "signal"])
def test_waiting_for_metadata_ends_cleanly(lab: Lab, how: str) -> None:
    lab.tracker()
    magnet = f"magnet:?xt=urn:btih:{'01' * 20}&tr={lab.announce_url}"
    ours = download(lab, magnet)
    ours.event("metadata", lambda event: "answered" in event["tracker"])
    assert "looking for a peer with the metadata" in ours.ask("prog", "note")["text"]

    if how == "exit":
        assert ours.leave()["exit_code"] == 1
    else:
        ours.signal(signal.SIGINT)
        assert ours.wait() == 130
    no_traceback(ours)


def test_the_link_of_a_torrent_that_is_not_there_is_an_error(lab: Lab) -> None:
    made = lab.run("magnet", "nothing")

    assert made.wait() == 1
    assert "there is no torrents/nothing.torrent" in one_error_line(made)


def test_a_link_as_json_with_all_that_was_named(lab: Lab) -> None:
    lab.content(NAME, 5)
    without_trackers(lab, f"seeds/{NAME}")

    more = ("-i", "tracker.example", "-t", "udp://u.example:80", "--peer", "[::1]:9000")
    made = lab.run("magnet", "bare.torrent", "--json", *more)

    assert made.wait() == 0
    (final,) = [json.loads(line) for line in made.lines]
    assert final["magnet"] == (
        f"magnet:?xt=urn:btih:{final['info_hash']}&dn={NAME}"
        "&tr=udp%3A%2F%2Fu.example%3A80&tr=http%3A%2F%2Ftracker.example%3A9999%2Fannounce"
        "&x.pe=[::1]:9000"
    )


# -- libtorrent


@with_libtorrent
@pytest.mark.parametrize("size", [1, SIZE])
def test_our_downloader_takes_metadata_and_content_from_a_libtorrent_swarm(
    lab: Lab, host: str, size: int
) -> None:
    lab.tracker()
    data = lab.content(NAME, size)
    torrent = lab.torrent(f"seeds/{NAME}")
    theirs = foreign(lab, torrent, "seeds")
    theirs.event("complete")
    magnet = link(lab, torrent)
    forget(lab, torrent)

    ours = download(lab, magnet)

    assert ours.wait() == 0, str(ours)
    assert lab.read(f"output/{NAME}") == data
    (source,) = ours.last("final")["torrents"][0]["sources"]
    assert "libtorrent" in source["client"]
    assert source["bytes_down"] == size


@with_libtorrent
def test_the_address_of_a_libtorrent_peer_is_enough(lab: Lab, host: str) -> None:
    data = lab.content(NAME, SIZE)
    torrent = without_trackers(lab, f"seeds/{NAME}")
    theirs = foreign(lab, torrent, "seeds")
    port = theirs.event("ready")["port"]
    theirs.event("complete")
    magnet = link(lab, torrent, "--peer", f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    assert "tr=" not in magnet
    forget(lab, torrent)

    assert download(lab, magnet).wait() == 0

    assert lab.read(f"output/{NAME}") == data


@with_libtorrent
def test_libtorrent_takes_metadata_and_content_from_our_seeder(lab: Lab, host: str) -> None:
    lab.tracker()
    data = lab.content(NAME, SIZE)
    torrent = lab.torrent(f"seeds/{NAME}")
    lab.seed("-f", torrent)

    theirs = foreign(lab, link(lab, torrent), "theirs")

    theirs.event("complete")
    assert lab.read(f"theirs/{NAME}") == data


@with_libtorrent
def test_libtorrent_needs_only_the_address_of_our_seeder(lab: Lab, host: str) -> None:
    lab.tracker()
    data = lab.content(NAME, SIZE)
    peer = seed_at(lab, lab.torrent(f"seeds/{NAME}"))
    magnet = link(lab, without_trackers(lab, f"seeds/{NAME}"), "--peer", peer)
    assert "tr=" not in magnet

    theirs = foreign(lab, magnet, "theirs")

    theirs.event("complete")
    assert lab.read(f"theirs/{NAME}") == data


@with_libtorrent
def test_metadata_of_many_pieces_goes_both_ways(lab: Lab) -> None:
    lab.tracker()
    files = {f"{number:04}": bytes([number % 251]) * 100 for number in range(2000)}
    for name, content in files.items():
        (lab.folder / "seeds/many").mkdir(parents=True, exist_ok=True)
        (lab.folder / "seeds/many" / name).write_bytes(content)
    torrent = lab.torrent("seeds/many")
    assert len(lab.metainfo(torrent).info_bytes) > 3 * 16384
    seeder = lab.seed("-f", torrent)
    magnet = link(lab, torrent)
    forget(lab, torrent)

    theirs = foreign(lab, magnet, "theirs")
    theirs.event("complete")
    seeder.leave()
    assert download(lab, magnet).wait() == 0

    for name, content in files.items():
        assert lab.read(f"output/many/{name}") == lab.read(f"theirs/many/{name}") == content
