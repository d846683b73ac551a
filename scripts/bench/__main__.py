"""The speed of p2pfs beside others, as one table: python scripts/bench [ROWS...]

    python scripts/bench                     every row
    python scripts/bench 1 2 6               these rows
    python scripts/bench --quick             a hundredth of the content, one pair: does it work?
    python scripts/bench --write             and put table and picture into docs/benchmarks.md

Ours and theirs run in turns, so that a drifting machine treats both alike; what counts is
the median of the ratios. Each row's figures are kept in results/bench.json, so that the rows
may be measured in several goes; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # what all scripts share

import decisions
import hashing
import idle
import memory
import report
import results
import resuming
import swarms
import trackers
import transfers
from contest import RunError
from rows import Bench, Row, Skipped, machine

ROWS: dict[str, tuple[Row, str]] = {
    "1": (transfers.ours_only, "1 GiB, p2pfs to p2pfs; with row 4"),
    "2": (transfers.from_theirs, "1 GiB, libtorrent to p2pfs"),
    "3": (transfers.to_theirs, "1 GiB, p2pfs to libtorrent"),
    "5": (transfers.from_eight, "1 GiB from 8 peers: memory"),
    "6": (swarms.eight, "64 MiB to 8, uplinks of 4 MB/s; with row 7"),
    "8a": (swarms.thirty_two, "64 MiB to 32, uplinks of 1 MB/s"),
    "8b": (swarms.uneven, "64 MiB to 8, uneven uplinks"),
    "8c": (swarms.mixed, "64 MiB to 8, 4 of them libtorrent"),
    "9": (swarms.unlimited, "256 MiB to 4, no limit"),
    "10": (hashing.large_file, "make-torrent, 8 GiB"),
    "10c": (hashing.many_files, "make-torrent, 20,000 files"),
    "11": (trackers.http, "HTTP announces"),
    "12": (trackers.udp, "UDP announces"),
    "13": (trackers.million, "a million peers"),
    "14": (decisions.picking, "a pick and a have"),
    "15": (idle.peers, "500 idle peers"),
    "16": (resuming.resuming, "resume and recheck of 10 GiB"),
    "17": (transfers.cold, "1 GiB, cold file"),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="The speed of p2pfs beside others, as one table.",
        epilog="rows: " + "; ".join(f"{key}: {what}" for key, (_, what) in ROWS.items()),
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="which rows (all)")
    parser.add_argument("--pairs", type=int, default=5, help="alternating runs (5)")
    parser.add_argument("--quick", action="store_true", help="little content, one pair")
    parser.add_argument("--write", action="store_true", help="table and picture into docs/")
    parser.add_argument("--dir", help="where the content goes (the system's temporary folder)")
    parser.add_argument("--out", type=Path, default=Path("results"), help="figures (results)")
    options = parser.parse_args()
    unknown = [key for key in options.rows if key not in ROWS]
    if unknown:
        parser.error(f"there is no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    kept = options.out / ("bench-quick.json" if options.quick else "bench.json")
    print(machine())
    missing = []
    with (
        tempfile.TemporaryDirectory(dir=options.dir, prefix="p2pfs-bench-") as folder,
        memory.kept(0 if options.quick else memory.enough()),
    ):
        bench = Bench(Path(folder), pairs=max(1, options.pairs))
        if options.quick:
            bench = Bench(Path(folder), pairs=1, scale=0.01)
        for key in options.rows or ROWS:
            row, what = ROWS[key]
            print(f"row {key}: {what}", flush=True)
            try:
                results.save(kept, row(bench))
            except Skipped as reason:
                missing.append(f"row {key} was not run: {reason}")
            except RunError as error:
                missing.append(f"row {key} failed: {error}")
            if missing and missing[-1].startswith(f"row {key} "):
                print(f"  {missing[-1]}", flush=True)
    found = results.load(kept)
    print(report.table(found))
    for line in missing:
        print(line)
    if options.write:
        report.write(found, machine())
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
