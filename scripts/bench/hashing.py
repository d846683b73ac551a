"""Making metainfo files (row 10): p2pfs make-torrent beside mktorrent and torf.

The content is in the page cache for all, as far as it fits; each makes the same piece length
with two threads, as a process of its own from its start to its end. Ours has its bytecode
cached, as what is installed has. Who takes longer than `PATIENCE` runs only once.
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from contest import RunError
from results import Result, ratios
from rows import Bench, Skipped

__all__ = ["large_file", "many_files"]

MIB = 1024 * 1024
PATIENCE = 60.0
NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
TORF = (
    "import sys, torf; t = torf.Torrent(sys.argv[1], piece_size=int(sys.argv[3]));"
    "t.generate(threads=2); t.write(sys.argv[2], overwrite=True)"
)


def _mktorrent(content: Path, out: Path, exponent: int) -> list[str]:
    return ["mktorrent", "-t", "2", "-l", str(exponent), "-o", str(out), str(content)]


def _torf(content: Path, out: Path, exponent: int) -> list[str]:
    return [sys.executable, "-c", TORF, str(content), str(out), str(1 << exponent)]


def _ours(content: Path, out: Path, exponent: int) -> list[str]:
    made = [sys.executable, "-m", "p2pfs", "make-torrent", str(content), "-o", str(out)]
    return [*made, "-l", f"{(1 << exponent) // 1024}KiB"]


MAKERS: dict[str, Callable[[Path, Path, int], list[str]]] = {
    "p2pfs": _ours,
    "mktorrent": _mktorrent,
    "torf": _torf,
}


def _seconds(bench: Bench, name: str, content: Path, exponent: int) -> float:
    out = bench.folder / f"{name}.torrent"
    out.unlink(missing_ok=True)
    settings = {key: value for key, value in os.environ.items() if key != NO_BYTECODE}
    start = time.perf_counter()
    subprocess.run(
        MAKERS[name](content, out, exponent),
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=900,
        env=settings,
    )
    took = time.perf_counter() - start
    bench.say(f"{name:10} {took:6.2f} s")
    return took


def _check_installed() -> None:
    """Before content is made for nothing."""
    if shutil.which("mktorrent") is None:
        raise Skipped("mktorrent is not installed (Debian: apt install mktorrent)")
    if importlib.util.find_spec("torf") is None:
        raise Skipped("torf is not installed (.venv/bin/pip install torf)")


def _compare(
    bench: Bench, keys: Sequence[str], content: Path, exponent: int, size: int
) -> list[Result]:
    if hasattr(os, "sync"):
        os.sync()  # or the content would be written while it is hashed
    first = {name: _seconds(bench, name, content, exponent) for name in MAKERS}  # warm after that
    _same(bench, content)
    rates: dict[str, list[float]] = {name: [] for name in MAKERS}
    for _ in range(bench.pairs):
        for name, found in rates.items():
            slow = first[name] > PATIENCE
            took = first[name] if slow else _seconds(bench, name, content, exponent)
            found.append(size / took / 1e6)
    return [
        ratios(key, rates["p2pfs"], rates[other], "MB/s", f"2 threads, {content.name}")
        for key, other in zip(keys, ("mktorrent", "torf"), strict=True)
    ]


def _same(bench: Bench, content: Path) -> None:
    """All of them found the same content; folders they may have in different orders."""
    import p2pfs

    made = [p2pfs.parse_torrent((bench.folder / f"{name}.torrent").read_bytes()) for name in MAKERS]
    if len({one.total_length if one.multi_file else one.pieces for one in made}) != 1:
        raise RunError(f"the makers disagree about {content.name}")


def large_file(bench: Bench) -> list[Result]:
    _check_installed()
    size = max(64, round(8192 * bench.scale)) * MIB
    path = bench.folder / f"large-{size // MIB}"
    if not path.exists() or path.stat().st_size != size:
        block = random.Random(2).randbytes(16 * MIB)
        with path.open("wb") as file:
            for at in range(0, size, len(block)):
                file.write(block[: size - at])
    results = _compare(bench, ("10a", "10b"), path, 20, size)
    path.unlink()
    return results


def many_files(bench: Bench) -> list[Result]:
    _check_installed()
    count = max(200, round(20_000 * bench.scale))
    folder = bench.folder / f"many-{count}"
    rng = random.Random(3)
    size = 0
    for number in range(count):
        path = folder / f"{number // 200:03}" / f"file-{number:05}.dat"
        length = rng.randrange(1000, 50_000)
        size += length
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(rng.randbytes(length))
    results = _compare(bench, ("10c", "10d"), folder, 18, size)
    shutil.rmtree(folder)
    return results
