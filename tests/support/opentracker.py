"""A foreign tracker, opentracker, as a process on a free port of 127.0.0.1."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

from p2pfs.geometry import TorrentId

PROGRAM = shutil.which("opentracker")


class OpenTracker:
    """A running opentracker that serves the torrents in its white list.

    Raises OSError when it is not installed or does not start.
    """

    def __init__(self, folder: Path, *served: TorrentId) -> None:
        if PROGRAM is None:
            raise OSError("not installed (opentracker)")
        folder.chmod(0o755)  # it gives up its rights, and reads the list afterwards
        (folder / "white.list").write_text("".join(f"{one}\n" for one in served))
        for _ in range(5):
            self.port = free_port()
            at = ("-i", "127.0.0.1", "-p", str(self.port), "-P", str(self.port))
            self._process = subprocess.Popen(
                [PROGRAM, *at, "-d", str(folder), "-w", "white.list"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if self._listens() and all(self._serves(one) for one in served):
                return
            self.close()
        raise OSError("opentracker does not start here")

    def _listens(self) -> bool:
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if self._process.poll() is not None:
                    return False
                time.sleep(0.01)
            else:
                return True
        return False

    def _serves(self, torrent: TorrentId) -> bool:
        """It listens before it has read its list: somebody who never came leaves, to find out."""
        query = f"info_hash={quote(torrent.v1)}&peer_id={'-' * 20}&port=1&event=stopped"
        for _ in range(500):
            with urlopen(f"{self.url('http')}?{query}&left=0&uploaded=0&downloaded=0") as reply:
                if b"not authorized" not in reply.read():
                    return True
            time.sleep(0.01)
        return False

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def url(self, scheme: str) -> str:
        return f"{scheme}://127.0.0.1:{self.port}/announce"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
