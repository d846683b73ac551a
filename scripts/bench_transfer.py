"""How fast one seeder process feeds one downloader process: p2pfs beside libtorrent.

    python scripts/bench_transfer.py [--size MIB] [--pairs N] [--dir DIR] [--json]

Runs alternate (p2pfs, libtorrent, p2pfs, ...) over loopback on the same file, so that a
drifting machine treats both alike; libtorrent runs with the better of its default settings
and its `high_performance_seed` preset, found in a first round. Printed are the throughput
of every run, the CPU seconds and the peak memory of each process, and the median of the
ratios pair by pair. The time counts from the downloader's connecting to its last verified
piece; making the torrent, starting processes and checking the seeder's file do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MIB = 1024 * 1024
CONTENDERS = ("p2pfs", "libtorrent", "libtorrent-hp")


# -- the processes that are measured ------------------------------------------------------


def usage() -> dict[str, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu": used.ru_utime + used.ru_stime, "memory_mib": used.ru_maxrss / 1024}


def say(**values: object) -> None:
    print(json.dumps(values), flush=True)


def p2pfs_seed(torrent: Path, content: Path) -> None:
    import asyncio

    import p2pfs

    metainfo = p2pfs.parse_torrent(torrent.read_bytes())

    async def main() -> None:
        async with p2pfs.Client(bind="127.0.0.1") as client:
            await client.seed(metainfo, content, verify=False)
            say(port=client.port)
            await asyncio.to_thread(sys.stdin.read)
            say(**usage())

    run(main())


def p2pfs_download(torrent: Path, output: Path, port: int) -> None:
    import p2pfs

    metainfo = p2pfs.parse_torrent(torrent.read_bytes())

    async def main() -> None:
        async with p2pfs.Client(bind="127.0.0.1") as client:
            handle = await client.download(metainfo, output)
            start = time.perf_counter()
            handle.add_peers([("127.0.0.1", port)])
            await handle.wait()
            say(seconds=time.perf_counter() - start, **usage())

    run(main())


def run(main: object) -> None:
    try:
        import uvloop as runner
    except ImportError:
        import asyncio as runner  # type: ignore[no-redef]
    runner.run(main)


def libtorrent_session(preset: str) -> object:
    import libtorrent as lt

    settings = lt.high_performance_seed() if preset == "libtorrent-hp" else lt.default_settings()
    settings |= {
        "listen_interfaces": "127.0.0.1:0",
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
        "allow_multiple_connections_per_ip": True,
        "alert_mask": lt.alert.category_t.status_notification
        | lt.alert.category_t.error_notification,
    }
    return lt.session(settings)


def libtorrent_seed(preset: str, torrent: Path, content: Path) -> None:
    import libtorrent as lt

    session = libtorrent_session(preset)
    params = lt.load_torrent_file(str(torrent))
    params.save_path = str(content.parent)
    params.flags |= lt.torrent_flags.seed_mode
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    session.add_torrent(params)
    while session.listen_port() == 0:
        time.sleep(0.01)
    say(port=session.listen_port())
    sys.stdin.read()
    say(**usage())


def libtorrent_download(preset: str, torrent: Path, output: Path, port: int) -> None:
    import libtorrent as lt

    session = libtorrent_session(preset)
    params = lt.load_torrent_file(str(torrent))
    params.save_path = str(output)
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    handle = session.add_torrent(params)
    while handle.status().state != lt.torrent_status.states.downloading:
        time.sleep(0.005)
    start = time.perf_counter()
    handle.connect_peer(("127.0.0.1", port))
    while not handle.status().is_seeding:
        time.sleep(0.005)
    say(seconds=time.perf_counter() - start, **usage())


# -- one run ------------------------------------------------------------------------------


def role(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, "--role", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def measure(seeder: str, downloader: str, torrent: Path, content: Path, work: Path) -> dict:
    """One transfer; MB/s, and CPU seconds and MiB of each end."""
    output = work / "output"
    shutil.rmtree(output, ignore_errors=True)
    seed = role(seeder, "seed", torrent, content)
    assert seed.stdout is not None
    port = json.loads(seed.stdout.readline())["port"]
    load = role(downloader, "download", torrent, output, port)
    out, _ = load.communicate(timeout=600)
    if load.returncode:
        raise SystemExit(f"{downloader} did not finish its download")
    got = json.loads(out.splitlines()[-1])
    rest, _ = seed.communicate("", timeout=60)
    gave = json.loads(rest.splitlines()[-1])
    size = content.stat().st_size
    same = (output / content.name).stat().st_size == size
    shutil.rmtree(output)
    if not same:
        raise SystemExit(f"{downloader} produced a file of another size")
    return {
        "mb_per_s": size / got["seconds"] / 1e6,
        "seed_cpu": gave["cpu"],
        "load_cpu": got["cpu"],
        "seed_mib": gave["memory_mib"],
        "load_mib": got["memory_mib"],
    }


def show(name: str, result: dict) -> None:
    print(
        f"  {name:14} {result['mb_per_s']:7.0f} MB/s   CPU s: seeder {result['seed_cpu']:5.2f}, "
        f"downloader {result['load_cpu']:5.2f}   MiB: seeder {result['seed_mib']:4.0f}, "
        f"downloader {result['load_mib']:4.0f}",
        flush=True,
    )


def make_content(work: Path, size_mib: int) -> tuple[Path, Path]:
    import p2pfs

    content = work / "content.bin"
    rng = random.Random(1)
    with content.open("wb") as file:
        for _ in range(size_mib):
            file.write(rng.randbytes(MIB))
    torrent = work / "content.torrent"
    torrent.write_bytes(p2pfs.make_torrent(content, piece_length=MIB).to_bytes())
    return content, torrent


def bench(options: argparse.Namespace) -> dict:
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="p2pfs-bench-") as folder:
        work = Path(folder)
        content, torrent = make_content(work, options.size)
        print(f"{options.size} MiB, 1 MiB pieces, loopback, {os.cpu_count()} cores", flush=True)
        print("warm-up, and which of libtorrent's settings is the better:", flush=True)
        tried = {name: measure(name, name, torrent, content, work) for name in CONTENDERS}
        for name, result in tried.items():
            show(name, result)
        best = max(CONTENDERS[1:], key=lambda name: tried[name]["mb_per_s"])
        settings = {"libtorrent": "default settings", "libtorrent-hp": "high_performance_seed"}
        print(f"libtorrent with: {settings[best]}", flush=True)
        pairs = []
        for number in range(options.pairs):
            print(f"pair {number + 1}", flush=True)
            pair = {}
            for name in ("p2pfs", best):
                pair["ours" if name == "p2pfs" else "theirs"] = result = measure(
                    name, name, torrent, content, work
                )
                show(name, result)
            pairs.append(pair)
    ratios = [pair["ours"]["mb_per_s"] / pair["theirs"]["mb_per_s"] for pair in pairs]
    summary = {
        "ratio_median": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "settings": settings[best],
        "pairs": pairs,
    }
    print(
        f"throughput, p2pfs over libtorrent: median {summary['ratio_median']:.2f} "
        f"(min {summary['ratio_min']:.2f}, max {summary['ratio_max']:.2f})"
    )
    for key, what in (
        ("seed_cpu", "CPU seconds of the seeder"),
        ("load_cpu", "CPU seconds of the downloader"),
        ("seed_mib", "peak MiB of the seeder"),
        ("load_mib", "peak MiB of the downloader"),
    ):
        ours, theirs = (
            statistics.median(pair[who][key] for pair in pairs) for who in ("ours", "theirs")
        )
        print(f"{what}: p2pfs {ours:.2f}, libtorrent {theirs:.2f} (medians)")
    return summary


def main() -> None:
    if sys.argv[1:2] == ["--role"]:
        name, part, torrent, place, *rest = sys.argv[2:]
        port = int(rest[0]) if rest else 0
        if name == "p2pfs":
            if part == "seed":
                p2pfs_seed(Path(torrent), Path(place))
            else:
                p2pfs_download(Path(torrent), Path(place), port)
        elif part == "seed":
            libtorrent_seed(name, Path(torrent), Path(place))
        else:
            libtorrent_download(name, Path(torrent), Path(place), port)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024, help="MiB to transfer (1024)")
    parser.add_argument("--pairs", type=int, default=5, help="alternating pairs (5)")
    parser.add_argument("--dir", help="where the files go (the system's temporary folder)")
    parser.add_argument("--json", action="store_true", help="a last line with all figures")
    options = parser.parse_args()
    try:
        import libtorrent  # noqa: F401
    except ImportError:
        raise SystemExit("libtorrent is needed: pip install libtorrent") from None
    summary = bench(options)
    if options.json:
        print(json.dumps(summary))


if __name__ == "__main__":
    main()
