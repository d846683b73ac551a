"""Whole swarms on a simulated network: real `Transfer`s and `Session`s, a virtual clock.

Invariant: no real clock is read and no socket opened; the same seed gives the same run.
Every node has an uplink that sends one chunk at a time, in turn to each of its connections,
and a downlink that receives one at a time; a chunk also takes the latency. A node does with
its transfer what the net floor does: it feeds what arrives, carries out the effects, answers
requests while a connection's queue is short, and ticks four times a second. Content is one
random string that all nodes know; only the bytes that travelled are compared with it.

Sizes are bytes, rates bytes a second, times seconds.
"""

from __future__ import annotations

import heapq
import itertools
import random
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from p2pfs.formats.allowed_fast import allowed_fast_set
from p2pfs.formats.bitfield import Bitfield
from p2pfs.formats.extension import MAX_RUN_LENGTH, ExtendedHandshake
from p2pfs.geometry import BLOCK_LENGTH, BlockRequest, Geometry
from p2pfs.swarm.effects import Close, Completed, Effect, Forget, Store, Verify
from p2pfs.swarm.peer import Peer
from p2pfs.swarm.rates import TokenBucket
from p2pfs.swarm.session import Session
from p2pfs.swarm.transfer import Transfer

KB: Final = 1000
MB: Final = 1000 * KB
LATENCY: Final = 0.02
TICK: Final = 0.25
VERIFY_TIME: Final = 0.005
STEP: Final = 0.004
"""What happens to a node within this time is answered at once, as a busy event loop does."""
SEND_AHEAD: Final = 256 * 1024
CHUNK: Final = 16 * 1024

EVERYTHING: Final = "everything"
Have = Iterable[int] | str


def in_memory(piece: int) -> bool:
    """Every piece can be sent at once: the disks are not simulated."""
    return True


class Clock:
    """What happens when, in virtual seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = itertools.count()

    def at(self, time: float, action: Callable[..., None], *arguments: object) -> None:
        heapq.heappush(self._queue, (time, next(self._order), action, arguments))

    def after(self, delay: float, action: Callable[..., None], *arguments: object) -> None:
        self.at(self.now + delay, action, *arguments)

    def run_until(self, time: float) -> None:
        queue = self._queue
        while queue and queue[0][0] <= time:
            self.now, _, action, arguments = heapq.heappop(queue)
            action(*arguments)
        self.now = time


class End:
    """A node's end of a connection: its `peer`, and the bytes that wait for its uplink."""

    __slots__ = ("node", "open", "other", "out", "peer", "queued", "waiting")

    def __init__(self, node: Node | Stranger, peer: Peer) -> None:
        self.node = node
        self.peer = peer
        self.other: End = self
        self.out: deque[bytes | memoryview] = deque()
        self.queued = 0
        self.waiting = False
        self.open = True


class Swarm:
    """Everybody who shares one torrent of `pieces` pieces with `blocks` blocks each.

    `neighbours`: how many of those who are there somebody who comes connects to, default all.
    """

    def __init__(
        self,
        *,
        pieces: int = 64,
        blocks: int = 16,
        seed: int = 1,
        latency: float = LATENCY,
        neighbours: int | None = None,
    ) -> None:
        self.clock = Clock()
        self.rng = random.Random(seed)
        self.latency = latency
        self.neighbours = neighbours
        self.geometry = Geometry(pieces * blocks * BLOCK_LENGTH, blocks * BLOCK_LENGTH)
        self.content = self.rng.randbytes(self.geometry.total_length)
        self.fast_set = allowed_fast_set(bytes((10, 0, 0, 0)), bytes(20), pieces)
        self.everybody: list[Node] = []
        self.nodes: list[Node] = []
        """Those who are there now."""

    @property
    def size(self) -> int:
        return self.geometry.total_length

    def pieces(self, have: Have) -> Bitfield:
        count = self.geometry.piece_count
        return Bitfield.full(count) if isinstance(have, str) else Bitfield.of(count, have)

    def seeder(self, have: Have = EVERYTHING, **options: object) -> Node:
        """Somebody who has `have` and wants nothing."""
        return self.add(Node(self, have, (), **options))

    def leecher(self, have: Have = (), **options: object) -> Node:
        """Somebody who has `have` and wants everything."""
        return self.add(Node(self, have, EVERYTHING, **options))

    def leechers(self, count: int, **options: object) -> list[Node]:
        return [self.leecher(**options) for _ in range(count)]

    def add(self, node: Node) -> Node:
        self.everybody.append(node)
        self.come(node)
        return node

    def come(self, node: Node) -> None:
        """`node` joins (again) and connects to those who are there."""
        others = list(self.nodes)
        if self.neighbours is not None:
            others = self.rng.sample(others, min(self.neighbours, len(others)))
        for other in others:
            self.connect(node, other)
        self.nodes.append(node)
        node.present = True
        self.clock.after(self.rng.random() * TICK, node.tick_on)

    def go(self, node: Node) -> None:
        """`node` leaves; what it has verified it keeps."""
        self.nodes.remove(node)
        node.present = False
        for end in list(node.ends.values()):
            self.disconnect(end)

    def connect(self, one: Node | Stranger, two: Node | Stranger) -> None:
        if one.id in two.banned or two.id in one.banned:
            return
        extended = one.extended and two.extended
        fast = one.fast and two.fast
        ends = [
            End(node, self._peer(other, extended, fast)) for node, other in ((one, two), (two, one))
        ]
        ends[0].other, ends[1].other = ends[1], ends[0]
        for end in ends:
            end.node.joined(end)

    def _peer(self, node: Node | Stranger, extended: bool, fast: bool) -> Peer:
        now = self.clock.now
        session = Session(self.geometry, now, extended=extended, fast=fast)
        address, piece = (f"10.0.0.{node.number}", 6881), self.geometry.block_count(0)
        return Peer(session, address, node.id, now, fast_set=self.fast_set, piece=piece)

    def disconnect(self, end: End) -> None:
        """Both ends close; the other one hears of it after the latency."""
        if end.open:
            end.open = False
            end.node.left(end)
            self.clock.after(self.latency, self.disconnect, end.other)

    def run(
        self, until: Callable[[], bool] | None = None, *, limit: float = 600.0, step: float = TICK
    ) -> float:
        """Let it run `until` (default: everybody there is finished); the seconds since the start.

        Fails after `limit` more seconds.
        """
        done = until or (lambda: all(node.transfer.finished for node in self.nodes))
        end = self.clock.now + limit
        while not done():
            if self.clock.now >= end:
                raise AssertionError(f"not done after {limit:.0f} s: {self.nodes}")
            self.clock.run_until(self.clock.now + step)
        return self.clock.now

    def run_for(self, seconds: float) -> None:
        self.clock.run_until(self.clock.now + seconds)

    # -- what to ask of a swarm

    def union(self) -> set[int]:
        """Pieces that somebody who is there has."""
        return {piece for node in self.nodes for piece in node.have}

    def copies(self) -> list[int]:
        """For each piece, how many of those who are there have it."""
        return [
            sum(node.have[piece] for node in self.nodes)
            for piece in range(self.geometry.piece_count)
        ]

    def finish_time(self, nodes: Iterable[Node]) -> float:
        """When the last of `nodes` was complete."""
        return max(node.completed_at for node in nodes)


class Node:
    """One participant.

    `limit`: upload limit as the user sets it (then answered in the order that makes every
    copy count); `spoils`: the share of its blocks that it sends with a wrong byte;
    `stops_after`: bytes of payload after which its uplink falls silent, inside a block.
    """

    def __init__(
        self,
        swarm: Swarm,
        have: Have,
        wanted: Have,
        *,
        up: float = MB,
        down: float = 4 * MB,
        limit: float | None = None,
        spoils: float = 0.0,
        stops_after: int | None = None,
        slots: int = 8,
        extended: bool = True,
        fast: bool = True,
    ) -> None:
        self.swarm = swarm
        self.clock = swarm.clock
        self.number = len(swarm.everybody)
        self.id = b"-PF0100-%012d" % self.number
        self.rng = random.Random(swarm.rng.random())
        self.transfer = Transfer(
            swarm.geometry,
            swarm.pieces(have),
            self.rng,
            wanted=swarm.pieces(wanted),
            slots=slots,
        )
        self.extended, self.fast = extended, fast
        self.present = False
        self.up, self.down = up, down
        self.spoils = spoils
        self.stops_after = stops_after
        self.ends: dict[Peer, End] = {}
        self.banned: set[bytes] = set()
        self.closed: list[tuple[bytes, str]] = []
        """Whom this node disconnected, and why."""
        self.completed_at = 0.0
        self.uploaded = 0
        """Bytes of blocks that were queued for others."""
        self.received: list[tuple[float, bytes, BlockRequest]] = []
        """When which block was stored, and from whom."""
        self.hash_failures = 0
        self._met: list[Peer] = []
        self._giver = b""
        self._bucket = TokenBucket(limit, self.clock.now)
        self._buffers: dict[int, bytearray] = {}
        self._ready: deque[End] = deque()
        self._sending = self._pushing = self._pump_due = False
        self.down_free_at = 0.0

    def __repr__(self) -> str:
        have = self.transfer.have
        return f"<Node {self.number} {have.count}/{len(have)}>"

    @property
    def have(self) -> Bitfield:
        return self.transfer.have

    @property
    def wasted(self) -> int:
        """Bytes that came in and were not wanted, those of failed pieces not counted."""
        return sum(peer.wasted for peer in self._met)

    @property
    def peers(self) -> list[Peer]:
        return self.transfer.peers

    def peer(self, other: Node | Stranger) -> Peer:
        """How this node sees `other`, to whom it is connected."""
        return next(peer for peer in self.ends if peer.peer_id == other.id)

    def blocks_from(self, other: Node) -> int:
        return sum(1 for _, giver, _ in self.received if giver == other.id)

    # -- what the net floor does

    def joined(self, end: End) -> None:
        self.ends[end.peer] = end
        self.transfer.join(end.peer, ExtendedHandshake(run_length=MAX_RUN_LENGTH))
        self._met.append(end.peer)
        self.push_soon()

    def left(self, end: End) -> None:
        del self.ends[end.peer]
        self.transfer.leave(end.peer, self.clock.now)
        self._settle()

    def receive(self, end: End, data: bytes | memoryview) -> None:
        if not end.open:
            return
        now = self.clock.now
        self._giver = end.peer.peer_id
        self.transfer.receive(end.peer, end.peer.session.receive_data(data, now), now)
        self._settle()

    def tick_on(self) -> None:
        if self.present:
            self.transfer.tick(self.clock.now)
            self._settle()
            self.clock.after(TICK, self.tick_on)

    def _settle(self) -> None:
        for effect in self.transfer.take_effects():
            self._carry_out(effect)
        self.push_soon()

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Store):
            (piece, begin, length), data = effect
            buffer = self._buffers.get(piece)
            if buffer is None:
                buffer = bytearray(self.swarm.geometry.piece_size(piece))
                self._buffers[piece] = buffer
            assert begin + length <= len(buffer), "a block beyond the end of its piece"
            buffer[begin : begin + length] = data
            self.received.append((self.clock.now, self._giver, effect.block))
        elif isinstance(effect, Verify):
            buffer = self._buffers.pop(effect.piece)
            self.clock.after(VERIFY_TIME, self._verify, effect.piece, buffer, effect.digests)
        elif isinstance(effect, Forget):
            self._buffers.pop(effect.piece, None)
        elif isinstance(effect, Completed):
            self.completed_at = self.clock.now
        elif isinstance(effect, Close):
            if effect.banned:
                self.banned.add(effect.peer.peer_id)
            end = self.ends.get(effect.peer)
            if end is not None:
                self._close(end, effect.reason)

    def _close(self, end: End, reason: str) -> None:
        self.closed.append((end.peer.peer_id, reason))
        self.swarm.disconnect(end)

    def _verify(self, piece: int, buffer: bytearray, digests: bool) -> None:
        start = piece * self.swarm.geometry.piece_length
        right = self.swarm.content[start : start + len(buffer)] == buffer
        found = _digests(buffer) if digests or not right else []
        if right:
            self.transfer.verified(piece, found, self.clock.now)
        else:
            self.hash_failures += 1
            self.transfer.rejected(piece, found, self.clock.now)
        self._settle()

    # -- output

    def push_soon(self) -> None:
        if not self._pushing:
            self._pushing = True
            self.clock.after(STEP, self._push)

    def _push(self) -> None:
        self._pushing = False
        limited = self._bucket.rate is not None
        for peer, end in self.ends.items():
            if not limited and peer.uploads:
                while peer.uploads and end.queued < SEND_AHEAD:
                    self.transfer.serving.serve(peer, in_memory)
                    self._take_output(end)
            session = peer.session
            if session._out or session._rejected:  # in large swarms this is asked most of all
                self._take_output(end)
        if limited and not self._pump_due:
            self._pump()

    def _pump(self) -> None:
        """Answer the most useful requests at hand as fast as the limit allows."""
        while self._bucket.available(self.clock.now) > 0:
            ready = [p for p, end in self.ends.items() if p.uploads and end.queued < SEND_AHEAD]
            served = self.transfer.serving.serve_best(ready, in_memory, self.clock.now)
            if served is None:
                return
            peer, length = served
            self._bucket.take(length, self.clock.now)
            self._take_output(self.ends[peer])
        if not self._pump_due:
            self._pump_due = True
            self.clock.after(max(0.002, self._bucket.wait(self.clock.now)), self._pump_again)

    def _pump_again(self) -> None:
        self._pump_due = False
        self._pump()

    def _take_output(self, end: End) -> None:
        session = end.peer.session
        items = session.data_to_send()
        session.sent(self.clock.now)
        if not end.waiting and self.stops_after is None and BlockRequest not in map(type, items):
            deliver(self.swarm, end.other, b"".join(items))  # takes the link no time to speak of
            return
        for item in items:
            if isinstance(item, BlockRequest):
                data = self.read(item)
                self.uploaded += item.length
                end.out.extend(data[at : at + CHUNK] for at in range(0, len(data), CHUNK))
                end.queued += len(data)
            else:
                end.out.append(item)
                end.queued += len(item)
        if end.out and not end.waiting:
            end.waiting = True
            self._ready.append(end)
        self._transmit()

    def read(self, block: BlockRequest) -> bytes | memoryview:
        start = block.piece * self.swarm.geometry.piece_length + block.begin
        data = self.swarm.content[start : start + block.length]
        if self.spoils and self.rng.random() < self.spoils:
            spoilt = bytearray(data)
            spoilt[self.rng.randrange(block.length)] ^= 1 + self.rng.randrange(255)
            return bytes(spoilt)
        return data

    def _transmit(self) -> None:
        if self._sending or not self._ready:
            return
        end = self._ready.popleft()
        parts, size = [], 0
        while end.out and size < CHUNK:
            part = end.out.popleft()
            parts.append(part)
            size += len(part)
        data = b"".join(parts)
        if self.stops_after is not None:
            self.stops_after -= size
            if self.stops_after < 0:
                data = data[: self.stops_after]
        self._sending = True
        self.clock.after(size / self.up, self._sent, end, data)

    def _sent(self, end: End, data: bytes) -> None:
        deliver(self.swarm, end.other, data)
        if self.stops_after is not None and self.stops_after < 0:
            return  # `_sending` stays: nothing ever leaves again
        self._sending = False
        end.queued -= len(data)
        if end.out and end.open:
            self._ready.append(end)
        else:
            end.waiting = False
        self._transmit()
        if end.peer.uploads:
            self.push_soon()


class Stranger:
    """A peer that says whatever a test wants: raw bytes out, raw bytes in."""

    extended = True
    fast = False
    down = MB
    down_free_at = 0.0

    def __init__(self, swarm: Swarm, number: int = 99) -> None:
        self.swarm = swarm
        self.number = number
        self.id = b"-XX0000-%012d" % number
        self.banned: set[bytes] = set()
        self.inbox = bytearray()
        self.connected = False

    def meet(self, node: Node) -> None:
        self.swarm.connect(self, node)

    def joined(self, end: End) -> None:
        self._end = end
        self.connected = True

    def left(self, end: End) -> None:
        self.connected = False

    def receive(self, end: End, data: bytes | memoryview) -> None:
        self.inbox += data

    def say(self, data: bytes, *, at_once: bool = False) -> None:
        """Send `data`; `at_once`: it is received before this returns."""
        if at_once:
            self._end.other.node.receive(self._end.other, data)
        else:
            deliver(self.swarm, self._end.other, data)


def deliver(swarm: Swarm, end: End, data: bytes) -> None:
    """`data` has left its sender: it takes the latency, then its turn on the downlink."""
    node, clock = end.node, swarm.clock
    node.down_free_at = max(clock.now + swarm.latency, node.down_free_at) + len(data) / node.down
    clock.at(node.down_free_at, node.receive, end, data)


def _digests(data: bytearray) -> list[bytes]:
    """Of each block something that only equal blocks share, quicker than SHA-1."""
    view = memoryview(data)
    return [
        zlib.crc32(view[at : at + BLOCK_LENGTH]).to_bytes(4, "big")
        for at in range(0, len(data), BLOCK_LENGTH)
    ]
