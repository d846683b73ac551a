"""Swarms that meet over UDP alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.processes import Lab, no_traceback, until
from tests.support.namespaces import HERE, two_machines, why_not

pytestmark = pytest.mark.slow

NAME = "content.bin"


def udp_url(lab: Lab) -> str:
    return f"udp://127.0.0.1:{lab.tracker_port}/announce"


def udp_torrent(lab: Lab) -> str:
    """A .torrent that names our tracker, by UDP."""
    lab.content(NAME, 1 << 20)
    made = lab.run("make-torrent", f"seeds/{NAME}", "-o", "t.torrent", "-t", udp_url(lab))
    assert made.wait() == 0, str(made)
    return "t.torrent"


def counts(lab: Lab, torrent: str) -> list[str]:
    """Seeders, leechers and downloads, as `scrape` shows them."""
    asked = lab.run("scrape", torrent)
    assert asked.wait() == 0, str(asked)
    return asked.lines[1].split()[1:4]


def test_a_swarm_meets_over_udp_and_is_counted(lab: Lab) -> None:
    tracker = lab.tracker()
    torrent = udp_torrent(lab)
    seeder = lab.p2pfs("seed", "-f", torrent, "-p", "0", "--json")
    seeder.event("ready")
    until(lambda: counts(lab, torrent) == ["1", "0", "0"])

    one = lab.p2pfs("download", torrent, "-p", "0", "-o", "one", "--keep-seeding", "--json")
    one.event("complete")
    other = lab.p2pfs("download", torrent, "-p", "0", "-o", "other", "--json")
    assert other.wait() == 0, str(other)
    until(lambda: counts(lab, torrent) == ["2", "0", "2"])
    one.leave()
    seeder.leave()
    until(lambda: counts(lab, torrent) == ["0", "0", "2"])

    assert lab.sha256(f"one/{NAME}") == lab.sha256(f"seeds/{NAME}")
    assert lab.sha256(f"other/{NAME}") == lab.sha256(f"seeds/{NAME}")
    no_traceback(tracker, seeder, one, other)


@pytest.mark.parametrize("asked_by", ["udp", "http"])
def test_who_came_by_the_one_way_is_found_by_the_other(lab: Lab, asked_by: str) -> None:
    lab.tracker()
    torrent = udp_torrent(lab)
    plain = lab.torrent(f"seeds/{NAME}", output="http.torrent")
    shared, wanted = (plain, torrent) if asked_by == "udp" else (torrent, plain)
    seeder = lab.p2pfs("seed", "-f", shared, "-p", "0", "--json")
    seeder.event("ready")
    lab.await_scrape(plain, complete=1, incomplete=0)

    download = lab.p2pfs("download", wanted, "-p", "0", "--json")

    assert download.wait() == 0, str(download)


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_who_announced_over_loopback_is_reached_from_another_machine_over_udp(
    tmp_path: Path,
) -> None:
    with two_machines(tmp_path) as (here, there):
        tracker = here.p2pfs("tracker", "-d", "0", "--json")
        here.tracker_port = there.tracker_port = tracker.event("ready")["port"]
        data = here.content(NAME, 300_000)
        for machine, host in ((here, "127.0.0.1"), (there, HERE)):
            machine.content(NAME, 300_000)
            url = f"udp://{host}:{here.tracker_port}/announce"
            made = machine.run("make-torrent", f"seeds/{NAME}", "-o", "t.torrent", "-t", url)
            assert made.wait() == 0, str(made)
        seeder = here.p2pfs("seed", "-f", "t.torrent", "-p", "0", "--json")
        seeder.event("ready")
        until(lambda: counts(here, "t.torrent") == ["1", "0", "0"])

        fetched = there.run("download", "t.torrent", "-p", "0")

        assert fetched.wait() == 0, str(fetched)
        assert there.read(f"output/{NAME}") == data
        assert tracker.event("ready")["udp"] == f"udp://{HERE}:{here.tracker_port}/announce"
