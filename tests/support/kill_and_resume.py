"""kill -9 of a downloader again and again, with account of every byte that it fetched."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.e2e.processes import Lab
from tests.support.fake_peer import announce
from tests.support.relay import Passage, Relay

NAME = "content.bin"
NOWHERE = "http://127.0.0.1:1/announce"
"""The seeder's tracker: so the downloader finds nobody but the relay."""


@dataclass
class Count:
    """What a series of kills cost."""

    size: int
    kills: int
    again: int = 0
    """Verified pieces of which anything was asked for again."""
    lost: int = 0
    """Verified pieces that a resumed downloader did not have."""
    extra: int = 0
    """Payload bytes that the relay saw beyond one copy."""
    in_progress: int = 0
    """Bytes of the pieces that were in progress at the kills."""
    uploaded: int = 0
    """Payload bytes by the seeder's own account."""

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.size} bytes: verified pieces lost {self.lost}, "
            f"fetched again {self.again}; extra bytes {self.extra} of the {self.in_progress} in "
            f"progress at the kills; the seeder says {self.uploaded} sent "
            f"({self.uploaded / self.size:.3f} copies)"
        )


def kill_and_resume(
    lab: Lab, *, size: int, piece: str, rate: str, kills: int, seed: int, say: Callable[[str], None]
) -> Count:
    """Download with `kills` kills at random moments between 10 % and 90 %, and count."""
    rng = random.Random(seed)
    moments = sorted(rng.uniform(0.1, 0.9) for _ in range(kills))
    say(f"seed {seed}: kills at {', '.join(f'{100 * moment:.1f} %' for moment in moments)}")
    lab.tracker()
    data = lab.content(NAME, size, seed=seed)
    made = lab.run("make-torrent", f"seeds/{NAME}", "-o", "t.torrent", "-l", piece, "-t", NOWHERE)
    assert made.wait() == 0, str(made)
    metainfo = lab.metainfo("t.torrent")
    piece_size = metainfo.geometry.piece_size
    seeder = lab.p2pfs("seed", "-f", "t.torrent", "-p", "0", "--up-limit", rate, "--json")
    count = Count(size, kills)
    with contextlib.closing(Relay(seeder.event("ready")["port"])) as relay:
        announce(lab.announce_url, metainfo.torrent_id, relay.port)
        before = Passage()
        reported = 0
        for moment in (*moments, None):
            number = len(relay.passages)
            downloader = lab.download("-f", "t.torrent", "--down-limit", rate)
            passage = relay.passage(number)
            if moment is None:
                assert downloader.wait() == 0, str(downloader)
            else:
                relay.wait_verified(passage, piece_size, moment * size)
                relay.wait_delivered(relay.delivered + rng.randrange(1, piece_size(0)))
                downloader.kill()
            relay.wait_closed(passage)
            assert len(relay.passages) == number + 1, "more than one connection to the relay"
            assert len(passage.bitfield) >= reported, "fewer pieces than were reported as done"
            count.lost += len(before.verified - passage.bitfield)
            count.again += len(passage.requested & (before.verified | passage.bitfield))
            count.in_progress += sum(map(piece_size, before.requested - passage.bitfield))
            before = passage
            reported = max(e["pieces_done"] for e in downloader.events if "pieces_done" in e)
        count.extra = relay.delivered - size
    count.uploaded = seeder.leave()["torrents"][0]["uploaded"]
    say(str(count))
    assert lab.sha256(f"output/{NAME}") == hashlib.sha256(data).hexdigest()
    return count


def assert_nothing_was_fetched_twice(count: Count) -> None:
    """But what was in progress when it was killed."""
    assert count.lost == 0
    assert count.again == 0
    assert 0 <= count.extra <= count.in_progress
    assert count.uploaded - count.size <= count.in_progress
