"""One end of a measured transfer, as a process of its own: p2pfs or libtorrent.

    contender.py CLIENT seed|load TORRENT PLACE [--up-limit BYTES]

CLIENT: `p2pfs`, `libtorrent` (its default settings), `libtorrent-hp` (its
`high_performance_seed` preset) or `libtorrent-super` (default settings, super-seeding).
Says one JSON object a line: `{"port": N}` once it listens and its content is known; the line
`[PORT, ...]` on standard input then makes it connect to these ports, `{"done": TIME, ...}` is
its last verified piece, and `{"end": TIME, ...}` answers the end of standard input. TIME is the
machine's monotonic clock, `cpu` the processor seconds since it was ready, `memory_mib` its peak.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any


class Diary:
    """What this process tells of itself."""

    def __init__(self) -> None:
        self._cpu = 0.0

    def say(self, **values: object) -> None:
        sys.stdout.write(json.dumps(values) + "\n")
        sys.stdout.flush()

    def ready(self, port: int) -> None:
        self._cpu = self._used()
        self.say(port=port)

    def mark(self, event: str, uploaded: int) -> None:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        cpu = self._used() - self._cpu
        self.say(**{event: time.monotonic()}, cpu=cpu, memory_mib=memory, uploaded=uploaded)

    def _used(self) -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime


def run(main: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop as runner
    except ImportError:
        import asyncio as runner  # type: ignore[no-redef]
    runner.run(main)


async def p2pfs_end(options: argparse.Namespace, diary: Diary) -> None:
    import asyncio

    import p2pfs

    metainfo = p2pfs.parse_torrent(options.torrent.read_bytes())
    async with p2pfs.Client(bind="127.0.0.1", up_limit=options.up_limit) as client:
        if options.part == "seed":
            handle = await client.seed(metainfo, options.place, verify=False)
        else:
            handle = await client.download(metainfo, options.place)
        diary.ready(client.port)
        ports = json.loads(await asyncio.to_thread(sys.stdin.readline) or "[]")
        handle.add_peers([("127.0.0.1", port) for port in ports])
        if options.part == "load":
            await handle.wait()
            diary.mark("done", handle.progress().uploaded)
        await asyncio.to_thread(sys.stdin.read)
        diary.mark("end", handle.progress().uploaded)


def libtorrent_end(options: argparse.Namespace, diary: Diary) -> None:
    import libtorrent as lt  # type: ignore[import-untyped,unused-ignore]

    high = options.client == "libtorrent-hp"
    settings = lt.high_performance_seed() if high else lt.default_settings()
    session = lt.session(
        settings
        | {
            "listen_interfaces": "127.0.0.1:0",
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_incoming_utp": False,
            "enable_outgoing_utp": False,
            "allow_multiple_connections_per_ip": True,
            "connections_limit": 2000,
            "alert_mask": lt.alert.category_t.error_notification,
        }
    )
    params = lt.load_torrent_file(str(options.torrent))
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    params.upload_limit = options.up_limit or 0
    params.save_path = str(options.place)
    if options.part == "seed":
        params.save_path = str(options.place.parent)
        params.flags |= lt.torrent_flags.seed_mode
        if options.client == "libtorrent-super":
            params.flags |= lt.torrent_flags.super_seeding
    handle = session.add_torrent(params)
    states = lt.torrent_status.states
    while session.listen_port() == 0 or handle.status().state not in (
        states.downloading,
        states.seeding,
    ):
        time.sleep(0.005)
    diary.ready(session.listen_port())
    for port in json.loads(sys.stdin.readline() or "[]"):
        handle.connect_peer(("127.0.0.1", port))
    if options.part == "load":
        while not handle.status().is_seeding:
            time.sleep(0.005)
        diary.mark("done", handle.status().total_payload_upload)
    sys.stdin.read()
    diary.mark("end", handle.status().total_payload_upload)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "client", choices=["p2pfs", "libtorrent", "libtorrent-hp", "libtorrent-super"]
    )
    parser.add_argument("part", choices=["seed", "load"])
    parser.add_argument("torrent", type=Path)
    parser.add_argument("place", type=Path)
    parser.add_argument("--up-limit", type=int)
    options = parser.parse_args()
    diary = Diary()
    if options.client == "p2pfs":
        run(p2pfs_end(options, diary))
    else:
        libtorrent_end(options, diary)


if __name__ == "__main__":
    main()
