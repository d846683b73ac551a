"""What a running command says with `--json`.

Invariant: standard output holds one object a line, each with its `event`, and the last one
is `final`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from p2pfs.cli import listed_views, views
from p2pfs.cli.screen import COMMANDS, Screen, address_text, success_line

if TYPE_CHECKING:
    from pathlib import Path

    from p2pfs.net.index_client import Listed
    from p2pfs.net.progress import PeerInfo, Progress
    from p2pfs.net.tried import Fetched

__all__ = ["JsonScreen"]


class JsonScreen(Screen):
    """One JSON object a line, ASCII only, so that no text in it can steer a terminal."""

    def __init__(self, role: str) -> None:
        super().__init__(role)
        self._seconds: dict[str, float] = {}
        self._messages: dict[str, str] = {}

    def event(self, event: str, **fields: Any) -> None:
        """Write one object."""
        self.write(json.dumps({"event": event, **fields}))

    def ready(self, addresses: Sequence[tuple[str, int]], **detail: Any) -> None:
        self.event(
            "ready",
            role=self.role,
            port=addresses[0][1] if addresses else None,
            addresses=[address_text(address) for address in addresses],
            **detail,
        )

    def note(self, text: str) -> None:
        self.event("note", text=text)

    def progress(self, all_progress: Sequence[Progress], now: float) -> None:
        self.latest = all_progress
        self.report(all_progress)

    def metadata(self, fetched: Fetched) -> None:
        self.event("metadata", **asdict(fetched))

    def report(self, all_progress: Sequence[Progress]) -> None:
        for progress in all_progress:
            files = [views.file_object(file) for file in progress.files]
            more = {"files": files, "files_total": progress.files_total} if files else {}
            self.event("progress", **views.progress_object(progress), **more)

    def peers(self, peers: Sequence[tuple[Progress, PeerInfo]]) -> None:
        self.event("peers", peers=[views.peer_object(p.name, peer) for p, peer in peers])

    def help(self) -> None:
        self.event("help", commands=COMMANDS)

    def missing(self, progress: Progress) -> None:
        found = views.progress_object(progress)
        self.event(
            "missing",
            name=progress.name,
            pieces=found["missing"],
            count=found["missing_count"],
            asked=progress.asked,
        )

    def complete(self, progress: Progress, path: Path, seconds: float) -> None:
        self.paths[progress.name] = path
        self._seconds[progress.name] = seconds
        self._messages[progress.name] = success_line(progress, path)
        self.event(
            "complete",
            name=progress.name,
            path=path.as_posix(),
            bytes=progress.bytes_total,
            seconds=round(seconds, 3),
        )

    def failed(self, name: str, error: str, candidates: Sequence[Listed] = ()) -> None:
        found = [listed_views.listed_object(one) for one in candidates]
        self.event("failed", name=name, error=error, candidates=found)

    def finish(self, code: int, error: str | None) -> None:
        torrents = []
        for progress in self.latest:
            found = views.progress_object(progress)
            path = self.paths.get(progress.name)
            found["path"] = None if path is None else path.as_posix()
            found["seconds"] = self._seconds.get(progress.name)
            torrents.append(found)
        self.event(
            "final",
            ok=code == 0,
            exit_code=code,
            error=error,
            message="; ".join(self._messages.values()) or None,
            torrents=torrents,
        )
