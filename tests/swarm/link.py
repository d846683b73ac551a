"""Two sessions joined in memory: what one has to send the other receives, at once or cut up."""

from __future__ import annotations

from collections.abc import Callable

from p2pfs.geometry import BlockRequest, Geometry
from p2pfs.swarm.events import Event
from p2pfs.swarm.session import Session

Content = Callable[[BlockRequest], bytes]


def pattern(block: BlockRequest) -> bytes:
    """Content that differs from block to block."""
    unit = b"%d:%d;" % (block.piece, block.begin)
    return (unit * (block.length // len(unit) + 1))[: block.length]


def output(session: Session, now: float = 0.0, content: Content = pattern) -> bytes:
    """The bytes that `session` has to send, blocks included."""
    items = session.data_to_send()
    session.sent(now)
    return b"".join(content(item) if isinstance(item, BlockRequest) else item for item in items)


class Pair:
    """Sessions `one` and `two`, each the other's peer, and a clock of their own.

    `cut`: bytes that a receiver gets at a time.
    """

    def __init__(
        self,
        geometry: Geometry,
        *,
        cut: int | None = None,
        extended: bool = True,
        fast: bool = False,
    ) -> None:
        self.one = Session(geometry, 0.0, extended=extended, fast=fast)
        self.two = Session(geometry, 0.0, extended=extended, fast=fast)
        self.now = 0.0
        self._cut = cut

    def pass_on(self, sender: Session) -> list[Event]:
        """Move what `sender` has to send; the events at the receiver.

        Blocks in them are copied, so that they outlive the next call.
        """
        receiver = self.two if sender is self.one else self.one
        data = output(sender, self.now)
        size = self._cut or len(data) or 1
        events: list[Event] = []
        for start in range(0, len(data), size):
            for event in receiver.receive_data(data[start : start + size], self.now):
                if hasattr(event, "data"):
                    event = event._replace(data=bytes(event.data))
                events.append(event)
        return events
