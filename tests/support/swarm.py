"""Clients of ours in one process, content for them to share, and a peer that is made by hand."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.metainfo import Metainfo
from p2pfs.net.engine import Client, Torrent
from p2pfs.storage.creating import make_metainfo
from tests.support import fake_peer
from tests.support.fake_peer import Told

T = TypeVar("T")

LOCAL = "127.0.0.1"
KIB = 1024


@dataclass(frozen=True)
class Sample:
    """A torrent, its content, and where that lies."""

    metainfo: Metainfo
    path: Path
    content: bytes

    @property
    def count(self) -> int:
        return self.metainfo.geometry.piece_count

    @property
    def info_hash(self) -> bytes:
        return self.metainfo.torrent_id.v1

    def pieces(self, *indices: int) -> Bitfield:
        return Bitfield.of(self.count, indices)

    def digest(self, piece: int) -> bytes:
        return self.metainfo.piece_digest(piece)

    def block(self, piece: int, begin: int, length: int) -> bytes:
        start = piece * self.metainfo.geometry.piece_length + begin
        return self.content[start : start + length]

    def is_at(self, path: Path) -> bool:
        """Whether the content stands at `path`, byte for byte, with nothing beside it."""
        if not self.metainfo.multi_file:
            return path.read_bytes() == self.content
        entries = self.metainfo.files
        found = {p for p in path.rglob("*") if p.is_file()}
        return found == {path.joinpath(*entry.path) for entry in entries} and self.content == (
            b"".join(path.joinpath(*entry.path).read_bytes() for entry in entries)
        )


def make_sample(
    folder: Path,
    lengths: int | dict[str, int] = 300_000,
    *,
    piece_length: int = 16 * KIB,
    name: str = "story.bin",
    seed: int = 1,
) -> Sample:
    """Random content in `folder`: a file of so many bytes, or a tree of `path: length`."""
    rng = random.Random(seed)
    path = folder / name
    if isinstance(lengths, int):
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(lengths))
    else:
        for inner, length in lengths.items():
            file = path / inner
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(rng.randbytes(length))
    metainfo = make_metainfo(path, piece_length=piece_length)
    files = [path.joinpath(*entry.path) for entry in metainfo.files]
    files = files if metainfo.multi_file else [path]
    return Sample(metainfo, path, b"".join(file.read_bytes() for file in files))


class Swarm:
    """Clients on loopback, closed together."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = AsyncExitStack()
        self._count = 0

    async def close(self) -> None:
        await self._stack.aclose()

    async def enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Anything else that is to be closed with the clients."""
        return await self._stack.enter_async_context(manager)

    async def client(self, **options: Any) -> Client:
        return await self.enter(Client(**{"bind": LOCAL, **options}))

    async def seed(
        self, sample: Sample, *pieces: int, client: Client | None = None, **options: Any
    ) -> tuple[Client, Torrent]:
        """A seeder of the sample, or of some of its pieces only."""
        client = client or await self.client(**options)
        have = sample.pieces(*pieces) if pieces else None
        return client, await client.seed(sample.metainfo, sample.path, have=have, verify=False)

    def output(self) -> Path:
        """A folder that nobody has used yet."""
        self._count += 1
        return self.folder / f"output{self._count}"

    async def download(
        self,
        sample: Sample,
        *sources: Client,
        client: Client | None = None,
        output: Path | None = None,
        **options: Any,
    ) -> tuple[Client, Torrent]:
        """A downloader of the sample that dials the sources."""
        client = client or await self.client(**options)
        torrent = await client.download(sample.metainfo, output or self.output())
        torrent.add_peers(at(*sources))
        return client, torrent


def at(*clients: Client) -> list[tuple[str, int]]:
    """Where the clients listen."""
    return [(LOCAL, client.port) for client in clients]


async def done(*torrents: Torrent, seconds: float = 20) -> list[Path]:
    """Wait until all are complete."""
    async with asyncio.timeout(seconds):
        return [await torrent.wait() for torrent in torrents]


class HandMade:
    """A peer that says what it is told to, over asyncio's own streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.peer_id = fake_peer.peer_id()

    @classmethod
    async def dial(cls, client: Client, *, small: bool = False) -> HandMade:
        """Connect to a client; `small`: with hardly any room for what it sends."""
        sock = socket.socket()
        if small:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * KIB)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (LOCAL, client.port))
        return cls(*await asyncio.open_connection(sock=sock, limit=KIB if small else 64 * KIB))

    def stop_reading(self) -> None:
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]

    async def meet(self, info_hash: bytes, *, reserved: bytes = bytes(8)) -> bytes:
        """Shake hands; what the other end answered (68 bytes, or less when it closed)."""
        await self.send(fake_peer.handshake(info_hash, self.peer_id, reserved))
        return await self.read(68)

    async def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))
        await self.writer.drain()

    async def read(self, count: int, seconds: float = 10) -> bytes:
        """`count` bytes, or fewer when the connection ends before."""
        async with asyncio.timeout(seconds):
            try:
                return await self.reader.readexactly(count)
            except asyncio.IncompleteReadError as error:
                return error.partial
            except ConnectionError:
                return b""

    async def take(self, seconds: float = 10) -> Told | None:
        """The next message; None at the end of the connection."""
        head = await self.read(4, seconds)
        if len(head) < 4:
            return None
        body = await self.read(struct.unpack(">I", head)[0], seconds)
        return Told(body[0], body[1:]) if body else Told(-1)

    async def expect(self, kind: int, seconds: float = 10) -> Told:
        """The next message of this kind; others before it are skipped."""
        while (told := await self.take(seconds)) is not None:
            if told.kind == kind:
                return told
        raise AssertionError(f"closed before a message of kind {kind} came")

    async def ended(self, seconds: float = 10) -> bytes:
        """What came until the other end closed."""
        async with asyncio.timeout(seconds):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def close(self) -> None:
        self.writer.transport.abort()
        await asyncio.sleep(0)


def copies(torrent: Torrent) -> float:
    """How often the content was uploaded."""
    progress = torrent.progress()
    return progress.uploaded / progress.bytes_total
