"""The matrix with other clients: who can seed to us, and whom we can seed to.

    python scripts/interop.py [--size MIB] [--only WORD]... [--out FILE]

Runs one cell after the other and writes docs/interop.md. Clients that refuse peers at
127.0.0.1 take root (network namespaces). `--only aria2 --only magnet` runs the cells that
have all these words in their name, prints them, and writes no page unless told where.
Exits 1 when a cell failed, with what everyone said.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from interop_cells import ALL, Cell, NotRun, make_content, run_cell, run_opentracker, why_not
from interop_clients import CLIENTS, ROOT
from interop_report import Outcome, Row, page

MIB = 1024 * 1024
SOURCES = {False: ".torrent", True: "magnet"}
TRACKERS = {"http": "HTTP tracker", "udp": "UDP tracker"}


class Run:
    """A run of the matrix: every cell in a folder of its own, which goes with it."""

    def __init__(self, content: Path, folder: Path, only: Sequence[str]) -> None:
        self.failures = 0
        self._content = content
        self._folder = folder
        self._only = [word.lower() for word in only]
        self._number = 0

    def cell(self, name: str, work: Callable[[Path], float]) -> Outcome | None:
        """Run it and say so; None when it is left out."""
        if not all(word in name.lower() for word in self._only):
            return None
        self._number += 1
        print(f"{name}: ", end="", flush=True)
        with tempfile.TemporaryDirectory(dir=self._folder, ignore_cleanup_errors=True) as place:
            try:
                seconds = work(Path(place))
            except NotRun as reason:
                print(f"not run: {reason}")
                return Outcome(not_run=str(reason))
            except Exception as error:
                self.failures += 1
                text = str(error) or traceback.format_exc()
                print(f"failed: {text}")
                return Outcome(failed=text.splitlines()[0])
        print(f"yes, {seconds:.1f} s")
        return Outcome(seconds)

    def clients(self, cells: Sequence[Cell]) -> list[Row]:
        """Every client in these cells."""
        rows = []
        loopback = why_not() is not None
        for client in CLIENTS:
            row = Row(client.name, client.version(), client.setting)
            for cell in cells:
                way = "seeds to us" if cell.seeds else "downloads from us"
                name = f"{client.name} {way}, {SOURCES[cell.magnet]}, {TRACKERS[cell.scheme]}"

                def work(place: Path, client=client, cell=cell) -> float:
                    local = loopback and client.loopback
                    return run_cell(client, cell, self._content, place, loopback=local)

                outcome = self.cell(name, work)
                if outcome is not None:
                    row.outcomes[key(cell)] = outcome
            rows.append(row)
        return rows

    def opentracker(self) -> list[Row]:
        row = Row("opentracker", None)
        for scheme, tracker in TRACKERS.items():

            def work(place: Path, scheme=scheme) -> float:
                return run_opentracker(scheme, self._content, place)

            outcome = self.cell(f"opentracker, {tracker}", work)
            if outcome is not None:
                row.outcomes[scheme] = outcome
        return [row]


def key(cell: Cell) -> str:
    return f"{cell.magnet} {cell.scheme}"


def columns(cells: Sequence[Cell]) -> dict[str, str]:
    return {key(cell): f"{SOURCES[cell.magnet]}, {TRACKERS[cell.scheme]}" for cell in cells}


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="interop", description="The matrix with other clients.")
    parser.add_argument("--size", type=int, default=64, help="MiB of content (64)")
    parser.add_argument("--only", action="append", default=[], help="cells with this word")
    parser.add_argument("--out", type=Path, help="the page (docs/interop.md)")
    options = parser.parse_args(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing is left running
    out = options.out or (None if options.only else ROOT / "docs/interop.md")
    seeds = [cell for cell in ALL if cell.seeds]
    gets = [cell for cell in ALL if not cell.seeds]
    with tempfile.TemporaryDirectory(prefix="p2pfs-interop-", ignore_cleanup_errors=True) as work:
        folder = Path(work)
        folder.chmod(0o755)
        run = Run(make_content(folder, options.size * MIB), folder, options.only)
        sections = [
            ("They seed, we download", columns(seeds), run.clients(seeds)),
            ("We seed, they download", columns(gets), run.clients(gets)),
            ("Both ends ours, a foreign tracker", TRACKERS, run.opentracker()),
        ]
    if out is not None:
        network = "" if why_not() else ", each on a machine of its own (network namespaces)"
        out.write_text(page(options.size, network, sections), encoding="utf-8")
        print(f"written: {out}")
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
