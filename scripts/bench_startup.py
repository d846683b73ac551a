"""How long `p2pfs --help` takes beside a bare typer program with two commands.

Runs the two in turns, so that both see the same machine; prints both medians and their
ratio. Usage: bench_startup.py [RUNS]; exits 1 when the ratio is above 1.15.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BARE = '''
import typer

app = typer.Typer()


@app.command()
def one(name: str) -> None:
    """One thing."""


@app.command()
def two(name: str) -> None:
    """Another thing."""


def main() -> None:
    app()
'''

LIMIT = 1.15


def seconds(command: list[str], folder: Path) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    return time.perf_counter() - start


def main(runs: int) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bare.py").write_text(BARE, encoding="utf-8")
        bare = [sys.executable, "-c", "from bare import main; main()", "--help"]
        ours = [sys.executable, "-c", "from p2pfs.cli import main; main()", "--help"]
        for command in (bare, ours):
            seconds(command, folder)
        pairs = [(seconds(bare, folder), seconds(ours, folder)) for _ in range(runs)]
    bare_median = statistics.median(pair[0] for pair in pairs)
    our_median = statistics.median(pair[1] for pair in pairs)
    ratio = our_median / bare_median
    print(f"bare typer program: {bare_median * 1000:.0f} ms (median of {runs})")
    print(f"p2pfs --help:       {our_median * 1000:.0f} ms")
    print(f"ratio:              {ratio:.3f} (at most {LIMIT})")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 40))
