"""How the time to reach everybody grows with their number, simulated: a table and a plot.

    python scripts/bench_curve.py                      2 to 1,000 downloaders: long
    python scripts/bench_curve.py --sizes 2,4,8,16     these
    python scripts/bench_curve.py --plot               only the plot, from results/curve.json

Whole swarms on a virtual clock (tests/simulation/swarm.py): every decision is the program's
own code, the links between are simulated. Figures go to results/curve.json as they come, a
picture of all that are there to docs/benchmarks-curve.svg.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import line_charts

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # for the simulation, which is among the tests

PICTURE = ROOT / "docs" / "benchmarks-curve.svg"
SIZES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
KINDS = {"even": 1.0, "uneven": 0.25}
"""The uplink of every other downloader, as a share of the seeder's, which the rest have."""

PIECES, BLOCKS, UPLINK = 64, 4, 250_000
"""4 MiB that need 16.8 s to leave the seeder, as 64 MiB do at 4 MB/s: fewer bytes, the same time.
64 pieces, since every peer tells its neighbours of each: a thousand peers take minutes as it is."""
CONNECTS_TO = 15
"""Peers that a newcomer connects to, of those there: twice as many connections on average."""


@dataclass(frozen=True)
class Point:
    """`bound`: seconds that the links need at least; `copies`: that the seeder sent."""

    size: int
    kind: str
    seconds: float
    bound: float
    copies: float

    @property
    def over(self) -> float:
        return self.seconds / self.bound


def simulate(size: int, kind: str, *, pieces: int = PIECES, seed: int = 1) -> Point:
    """One seeder and `size` downloaders, until the last of these has everything."""
    from tests.simulation.swarm import MB, Swarm

    swarm = Swarm(pieces=pieces, blocks=BLOCKS, seed=seed, neighbours=CONNECTS_TO)
    uplinks = [UPLINK * (KINDS[kind] if number % 2 else 1.0) for number in range(size)]
    link = {"up": 50 * MB, "down": 50 * MB}
    seeder = swarm.seeder(limit=UPLINK, **link)
    leechers = [swarm.leecher(limit=uplink, **link) for uplink in uplinks]
    swarm.run()
    bound = max(swarm.size / UPLINK, size * swarm.size / (UPLINK + sum(uplinks)))
    return Point(size, kind, swarm.finish_time(leechers), bound, seeder.uploaded / swarm.size)


def load(path: Path) -> dict[tuple[str, int], Point]:
    """By kind and size; empty when there is no such file."""
    if not path.exists():
        return {}
    points = [Point(**one) for one in json.loads(path.read_text(encoding="utf-8"))]
    return {(one.kind, one.size): one for one in points}


def save(path: Path, points: Iterable[Point]) -> None:
    told = [asdict(one) for one in points]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def line(point: Point) -> str:
    return (
        f"{point.size:>5} {point.kind:7} {point.seconds:7.1f} s  {point.over:5.2f} x the bound  "
        f"{point.copies:5.2f} copies"
    )


def plot(points: Mapping[tuple[str, int], Point], path: Path) -> None:
    lines = {
        f"{kind} uplinks": [(one.size, one.over) for _, one in sorted(points.items())
                            if one.kind == kind]
        for kind in KINDS
    }  # fmt: skip
    chart = line_charts.Chart(
        "Time until the last one has everything",
        "downloaders",
        "times what the links need",
        {name: found for name, found in lines.items() if found},
        doubling=True,
        start=1.0,
        width=760,
    )
    title = "From one seeder to many, simulated"
    told = f"{PIECES} pieces; at 1 every uplink is in full use from the first to the last moment"
    line_charts.save(path, title, "", [line_charts.Row(told, [chart])])


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench_curve.py", description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of downloaders")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of uplinks")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (one a core)")
    parser.add_argument("--out", type=Path, default=Path("results"), help="figures (results)")
    parser.add_argument("--plot", action="store_true", help="simulate nothing")
    options = parser.parse_args()
    kept = options.out / "curve.json"
    points = load(kept)
    sizes = [] if options.plot else sorted(map(int, options.sizes.split(",")), reverse=True)
    with ProcessPoolExecutor(options.jobs) as pool:
        asked = [
            pool.submit(simulate, size, kind) for size in sizes for kind in options.kinds.split(",")
        ]
        for done in as_completed(asked):  # the longest began first
            point = done.result()
            points[point.kind, point.size] = point
            save(kept, points.values())
            print(line(point), flush=True)
    plot(points, PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
