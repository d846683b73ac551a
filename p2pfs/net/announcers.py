"""Makes what announces the torrents of one client, and the one transport that carries all of it.

Invariant: every torrent is announced with the client's own key and port; a private one that
names trackers is announced to those and to no others (BEP 27).
"""

from __future__ import annotations

import os
import random
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from p2pfs.net.announcer import Announcer, Transport
from p2pfs.swarm.announcing import Tiers

if TYPE_CHECKING:
    from p2pfs.net.metadata_fetch import MetadataFetch
    from p2pfs.net.torrent import Torrent

__all__ = ["Announcers"]


class Announcers:
    """For a client that listens on `port` by these address `families`."""

    def __init__(self, port: int, families: Collection[int], rng: random.Random) -> None:
        self._port = port
        self._families = families
        self._rng = rng
        self._key = b"%08X" % int.from_bytes(os.urandom(4), "big")
        self.transport: Transport | None = None
        """Made when it is wanted first, as most of it takes time to import."""

    def of_torrent(self, torrent: Torrent, trackers: Sequence[str]) -> Announcer:
        """To `trackers`, which the user named, before those of the metainfo."""
        metainfo = torrent.metainfo
        chosen = tuple(dict.fromkeys(trackers))
        tiers = [*([chosen] if chosen else []), *metainfo.trackers]
        if metainfo.private and metainfo.trackers:
            tiers = list(metainfo.trackers)
        return Announcer(
            self._carrier(),
            Tiers(tiers, self._rng),
            frozenset(chosen),
            torrent_id=metainfo.torrent_id,
            peer_id=torrent.peer_id,
            port=self._port,
            key=self._key,
            complete=torrent.complete,
            partial_seed=torrent.finished and not torrent.complete,
            totals=torrent.totals,
            found=torrent.found_peers,
            returned=torrent.tracker_returned,
            rng=self._rng,
            switched=torrent.tracker_switched if metainfo.private else None,
        )

    def of_fetch(self, fetch: MetadataFetch, trackers: Sequence[str]) -> Announcer:
        """The same for a magnet link, whose trackers are tried one after the other."""
        from p2pfs.net.metadata_fetch import UNKNOWN_LEFT

        magnet = fetch.magnet
        chosen = tuple(dict.fromkeys(trackers))
        return Announcer(
            self._carrier(),
            Tiers([chosen, *([url] for url in magnet.trackers if url not in chosen)], self._rng),
            frozenset(chosen),
            torrent_id=magnet.torrent_id,
            peer_id=fetch.peer_id,
            port=self._port,
            key=self._key,
            complete=False,
            partial_seed=False,
            totals=lambda: (0, 0, UNKNOWN_LEFT),
            found=fetch.found_peers,
            returned=lambda: None,
            rng=self._rng,
        )

    def pass_on(self, fetch: MetadataFetch, torrent: Torrent, trackers: Sequence[str]) -> Announcer:
        """The one of a fetch, which goes on for the torrent that it was for.

        To the trackers that it has, and as `of_torrent` to all others of the torrent.
        """
        fetch.announcer.go_on(
            complete=torrent.complete,
            partial_seed=torrent.finished and not torrent.complete,
            totals=torrent.totals,
            found=torrent.found_peers,
            returned=torrent.tracker_returned,
            chosen=tuple(dict.fromkeys(trackers)),
            tiers=torrent.metainfo.trackers,
        )
        return fetch.announcer

    def _carrier(self) -> Transport:
        if self.transport is None:
            from p2pfs.net.announce_client import AnnounceClient

            self.transport = AnnounceClient(families=self._families)
        return self.transport

    async def close(self) -> None:
        """To be called when everything has left its trackers."""
        if self.transport is not None:
            await self.transport.close()
