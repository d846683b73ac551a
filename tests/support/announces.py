"""Takes the announces of a client in the place of every tracker, and writes them down."""

from __future__ import annotations

import asyncio

from p2pfs.formats.announce_http import AnnounceReply, AnnounceRequest, Event
from p2pfs.net.engine import Client

__all__ = ["Book"]


class Book:
    """Every tracker answers at once; `stopped` only when `farewell` is set, if `patient`."""

    def __init__(self, *, patient: bool = False) -> None:
        self.requests: list[AnnounceRequest] = []
        self.asked: list[tuple[str, Event]] = []
        self.trusted: set[str] = set()
        self.farewell = asyncio.Event()
        if not patient:
            self.farewell.set()

    @classmethod
    def of(cls, client: Client, *, patient: bool = False) -> Book:
        """What a client that has announced nothing yet announces from now on."""
        book = client._announcers.transport = cls(patient=patient)
        return book

    async def announce(self, url: str, request: AnnounceRequest, *, trusted: bool) -> AnnounceReply:
        self.requests.append(request)
        self.asked.append((url, request.event))
        if trusted:
            self.trusted.add(url)
        if request.event is Event.STOPPED:
            await self.farewell.wait()
        return AnnounceReply(interval=1800)

    async def close(self) -> None:
        pass
