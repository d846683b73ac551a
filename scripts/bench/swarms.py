"""One seeder, many downloaders (rows 6 to 9): how close to what the links allow.

The bound: somebody's whole copy has to leave the seeder, and all copies have to leave all
uplinks: max(F / u_seeder, N * F / sum of all uplinks).
"""

from __future__ import annotations

from collections.abc import Sequence

from contest import Content, End, Run
from results import Result, ratios
from rows import LIBTORRENTS, Bench

__all__ = ["eight", "mixed", "thirty_two", "uneven", "unlimited"]

PIECE = 256 * 1024
MB = 1_000_000


def bound(content: Content, seeder: int, uplinks: Sequence[int]) -> float:
    """Seconds that the links need at least; rates in bytes a second."""
    all_copies = len(uplinks) * content.size
    return max(content.size / seeder, all_copies / (seeder + sum(uplinks)))


def _spread(
    bench: Bench, content: Content, seeder: str, loaders: str, rate: int, uplinks: Sequence[int]
) -> Run:
    """From one seeder to as many as there are uplinks."""
    ends = [End(loaders, uplink) for uplink in uplinks]
    return bench.transfer(f"{seeder} > {len(ends)} x {loaders}", content, [End(seeder, rate)], ends)


def _both(
    bench: Bench, content: Content, rate: int, uplinks: Sequence[int]
) -> tuple[list[Run], list[Run], str]:
    """Ours, theirs at their better settings, and a note on these."""

    def theirs(name: str) -> Run:
        return _spread(bench, content, name, name, rate, uplinks)

    best = bench.better(theirs)
    hidden = _spread(bench, content, "libtorrent-super", "libtorrent", rate, uplinks)
    limit = bound(content, rate, uplinks)
    ours, others = [], []
    for _ in range(bench.pairs):
        ours.append(_spread(bench, content, "p2pfs", "p2pfs", rate, uplinks))
        others.append(theirs(best))
    note = (
        f"{LIBTORRENTS[best]}; its super-seeding, once: {hidden.seconds / limit:.2f} x the bound, "
        f"{hidden.copies:.2f} copies"
    )
    return ours, others, note


def _over(runs: list[Run], limit: float) -> list[float]:
    return [run.seconds / limit for run in runs]


def eight(bench: Bench) -> list[Result]:
    content, uplinks = bench.content(64, PIECE), [4 * MB] * 8
    ours, theirs, note = _both(bench, content, 4 * MB, uplinks)
    limit = bound(content, 4 * MB, uplinks)
    times, their_times = _over(ours, limit), _over(theirs, limit)
    copies, their_copies = [run.copies for run in ours], [run.copies for run in theirs]
    return [
        Result("6", times, times, their_times, "x the bound", note),
        Result("7", copies, copies, their_copies, "copies", note),
    ]


def _against_bound(
    bench: Bench, key: str, against: str, rate: int, uplinks: Sequence[int]
) -> list[Result]:
    content = bench.content(64, PIECE)
    ours, theirs, note = _both(bench, content, rate, uplinks)
    limit = bound(content, rate, uplinks)
    times, their_times = _over(ours, limit), _over(theirs, limit)
    return [
        Result(key, times, times, their_times, "x the bound", note),
        ratios(against, times, their_times, "x the bound", note),
    ]


def thirty_two(bench: Bench) -> list[Result]:
    return _against_bound(bench, "8a", "8d", MB, [MB] * 32)


def uneven(bench: Bench) -> list[Result]:
    return _against_bound(bench, "8b", "8e", 4 * MB, [MB] * 4 + [4 * MB] * 4)


def mixed(bench: Bench) -> list[Result]:
    """Four of ours and four of libtorrent's; against eight of libtorrent's with its own seeder."""
    content, rate = bench.content(64, PIECE), 4 * MB
    uplinks = [rate] * 8
    limit = bound(content, rate, uplinks)
    best = bench.better(lambda name: _spread(bench, content, name, name, rate, uplinks))
    ends = [End("p2pfs", rate)] * 4 + [End(best, rate)] * 4
    ours, theirs = [], []
    for _ in range(bench.pairs):
        ours.append(bench.transfer("p2pfs > 4 + 4", content, [End("p2pfs", rate)], ends))
        theirs.append(_spread(bench, content, best, best, rate, uplinks))
    times, their_times = _over(ours, limit), _over(theirs, limit)
    return [
        Result("8c", times, times, their_times, "x the bound", LIBTORRENTS[best]),
        ratios("8f", times, their_times, "x the bound", LIBTORRENTS[best]),
    ]


def unlimited(bench: Bench) -> list[Result]:
    content = bench.content(256, PIECE)

    def spread(name: str) -> Run:
        return bench.transfer(f"{name} > 4 x {name}", content, [End(name)], [End(name)] * 4)

    best = bench.better(spread)
    ours, theirs = [], []
    for _ in range(bench.pairs):
        ours.append(spread("p2pfs").rate / MB)
        theirs.append(spread(best).rate / MB)
    return [ratios("9", ours, theirs, "MB/s to each", LIBTORRENTS[best])]
