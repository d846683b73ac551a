"""Starting again (row 16): a download with its record, and the check of one without it."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import threading
import time
from pathlib import Path

from contest import MIB
from results import Result
from rows import Bench

__all__ = ["resuming"]

CHUNK = 1 << 20


def _hash_alone(path: Path, threads: int = 2) -> float:
    """Bytes a second that plain threads read and hash, each a part of the file of its own."""
    size = path.stat().st_size
    share = -(-size // threads)

    def work(start: int) -> None:
        state, buffer = hashlib.sha1(), bytearray(CHUNK)
        left = min(share, size - start)
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            while left > 0:
                count = file.readinto(memoryview(buffer)[: min(CHUNK, left)])
                if not count:
                    return
                state.update(memoryview(buffer)[:count])
                left -= count

    workers = [threading.Thread(target=work, args=(n * share,)) for n in range(threads)]
    before = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return size / (time.perf_counter() - before)


async def _most_of_it(content: Path, torrent: bytes, output: Path) -> None:
    """A download that was left when nine tenths were there."""
    import p2pfs

    metainfo = p2pfs.parse_torrent(torrent)
    async with p2pfs.Client(bind="127.0.0.1") as giver, p2pfs.Client(bind="127.0.0.1") as taker:
        await giver.seed(metainfo, content, verify=False)
        handle = await taker.download(metainfo, output)
        handle.add_peers([("127.0.0.1", giver.port)])
        async for progress in handle.updates(0.1):
            if progress.bytes_done >= 0.9 * metainfo.total_length:
                break


async def _start(torrent: bytes, output: Path) -> tuple[float, int]:
    """Seconds until the download goes on, and the bytes that it has then."""
    import p2pfs

    metainfo = p2pfs.parse_torrent(torrent)
    async with p2pfs.Client(bind="127.0.0.1") as client:
        before = time.perf_counter()
        handle = await client.download(metainfo, output)
        return time.perf_counter() - before, handle.progress().bytes_done


def resuming(bench: Bench) -> list[Result]:
    content = bench.content(10 * 1024, 4 * MIB)
    torrent = content.torrent.read_bytes()
    output = bench.folder / "resumed"
    shutil.rmtree(output, ignore_errors=True)
    asyncio.run(_most_of_it(content.path, torrent, output))
    resumed, alone, checked = [], [], []
    for _ in range(bench.pairs):
        seconds, done = asyncio.run(_start(torrent, output))
        bench.say(f"with its record: {seconds:.3f} s, {done / content.size:.0%} there")
        resumed.append(seconds)
    part = max(output.rglob("*"), key=lambda path: path.stat().st_size)
    for _ in range(min(bench.pairs, 3)):
        alone.append(_hash_alone(part) / 1e6)
        for record in output.rglob(".*.p2pfs-resume"):
            record.unlink()
        seconds, found = asyncio.run(_start(torrent, output))
        if found < done:
            raise SystemExit(f"the check found {found} bytes, not {done}")
        checked.append(part.stat().st_size / seconds / 1e6)
        bench.say(f"without: {checked[-1]:.0f} MB/s, hashing alone {alone[-1]:.0f} MB/s")
    shutil.rmtree(output)
    shares = [one / limit for one, limit in zip(checked, alone, strict=True)]
    return [
        Result("16a", resumed, resumed, shown_in="s", note="nine tenths of it were there"),
        Result("16b", shares, checked, alone, "MB/s", "two threads"),
    ]
