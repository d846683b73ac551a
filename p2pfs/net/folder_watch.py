"""Says when it is time to look at shared folders again.

Invariant: a change is told soon where the system tells us (watchfiles), and within
`SLOW` seconds everywhere: nothing depends on being told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["FolderWatch"]

log = logging.getLogger(__name__)

SLOW: Final = 30.0
"""Seconds between two looks without a reason."""
SLOW_UNWATCHED: Final = 3.0
"""The same where the system does not tell us of changes."""

DEBOUNCE_MS: Final = 300


class FolderWatch:
    """Watches `folders`; what else is shared (`more`) is looked at every few seconds."""

    def __init__(self, folders: Sequence[Path], *, more: bool) -> None:
        self._folders = list(folders)
        self._slow = SLOW_UNWATCHED if more or not folders else SLOW
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        if self._folders:
            self._task = asyncio.get_running_loop().create_task(self._watch(), name="watch")

    async def close(self) -> None:
        """End watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def look_now(self) -> None:
        """Somebody knows of a change."""
        self._changed.set()

    async def wait(self, at_most: float | None) -> None:
        """Until there is a reason to look, or `at_most` seconds, if that is sooner."""
        seconds = self._slow if at_most is None else min(at_most, self._slow)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        self._changed.clear()

    async def _watch(self) -> None:
        from watchfiles import awatch

        stop = asyncio.Event()
        try:
            async for _ in awatch(
                *self._folders,
                watch_filter=lambda _, path: not self._is_hidden(path),
                debounce=DEBOUNCE_MS,
                stop_event=stop,
            ):
                self._changed.set()
        except asyncio.CancelledError:
            stop.set()
            raise
        except Exception as error:
            log.warning(
                "changes are not told by the system (%s): folders are looked at every %g s",
                error,
                SLOW_UNWATCHED,
            )
            self._slow = SLOW_UNWATCHED
            self._changed.set()

    def _is_hidden(self, path: str) -> bool:
        """Whether a path below a folder of ours has a hidden component, as our own files do."""
        for folder in self._folders:
            with contextlib.suppress(ValueError):
                inside = Path(path).relative_to(folder.absolute())
                return any(part.startswith(".") for part in inside.parts)
        return False
