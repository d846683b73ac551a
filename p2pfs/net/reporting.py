"""What one torrent tells of itself: how far it is, who is there, and who takes from here.

Invariant: asking changes nothing and costs no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from p2pfs.net.holdings import Holdings
from p2pfs.net.ledger import Ledger, peer_info
from p2pfs.net.progress import PeerInfo, Progress, Source, Taking, label
from p2pfs.storage.pieces import PieceStore
from p2pfs.swarm.peer import Peer

__all__ = ["Reporting"]


class WebSources(Protocol):
    """The web servers among the sources."""

    @property
    def giving(self) -> int:
        """How many of them give."""
        ...

    def sources(self) -> tuple[Source, ...]: ...

    def rate(self, now: float) -> float: ...

    def problems(self) -> tuple[str, ...]:
        """What is wrong with the others."""
        ...


class Reporting:
    """`ledger` has what was exchanged also with those that have left."""

    def __init__(self, store: PieceStore, holdings: Holdings, ledger: Ledger) -> None:
        self._store = store
        self._holdings = holdings
        self._ledger = ledger

    @property
    def _connected(self) -> Sequence[Peer]:
        transfer = self._holdings.transfer
        return () if transfer is None else transfer.peers

    def progress(
        self,
        now: float,
        *,
        state: str,
        error: str | None,
        tracker: str,
        web: WebSources | None,
        files: int,
    ) -> Progress:
        """How far it is; with the first `files` of its files, if it has several."""
        metainfo, transfer = self._store.metainfo, self._holdings.transfer
        peers, finished = self._connected, self._holdings.finished
        pieces_done, pieces, done, total = self._holdings.counts()
        down_rate = sum(peer.down.rate(now) for peer in peers)
        sources = self._ledger.sources(peers)
        if web is not None:
            sources += web.sources()
            down_rate += web.rate(now)
        leeching = None if transfer is None else transfer.leeching
        stuck = leeching and not finished and not any(peer.interesting for peer in peers)
        chosen = self._store.chosen
        shown = self._holdings.files(files) if files and metainfo.multi_file else ()
        return Progress(
            name=metainfo.shared_name,
            state=state,
            pieces_done=pieces_done,
            pieces_total=pieces,
            bytes_done=done,
            bytes_total=total,
            down_rate=down_rate,
            up_rate=sum(peer.up.rate(now) for peer in peers),
            eta=(total - done) / down_rate if down_rate > 0 and not finished else None,
            peers=len(peers),
            downloaded=sum(source.bytes_down for source in sources),
            uploaded=sum(source.bytes_up for source in sources),
            wasted=leeching.wasted if leeching else 0,
            hash_failures=leeching.hash_failures if leeching else 0,
            sources=sources,
            missing=tuple(leeching.picker.unavailable()) if leeching and stuck else (),
            asked=self._ledger.met,
            error=error,
            tracker=tracker,
            files=tuple(shown),
            files_total=len(metainfo.files) - len(self._store.layout.padding),
            files_chosen=None if chosen is None else len(chosen),
            web_seeds=web.giving if web else 0,
            web_problems=web.problems() if web else (),
        )

    def peers(self, now: float) -> list[PeerInfo]:
        """The connections, in the order in which they came."""
        return [peer_info(peer, now) for peer in self._connected]

    def takings(self, now: float) -> list[Taking]:
        """The peers that are downloading and want something that is here."""
        have, metainfo = self._holdings.have, self._store.metainfo
        return [
            Taking(
                name=metainfo.shared_name,
                info_hash=str(metainfo.torrent_id),
                address=label(peer.listens_at or peer.address),
                client=peer.client,
                share_done=peer.session.peer_has.count / len(have),
                idle=now - peer.took_at,
            )
            for peer in self._connected
            if peer.session.peer_interested and (have - peer.session.peer_has).count
        ]
