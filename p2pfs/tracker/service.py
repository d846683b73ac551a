"""What a tracker answers: the one logic behind every way to reach it.

Invariant: an answer depends on the request, the address that the request came from, the
store and `now`, and on nothing else; what the client claims its address to be is never
looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from p2pfs.errors import FormatError, TrackerError, UsageError
from p2pfs.formats.announce_http import AnnounceRequest, Event, PackedReply
from p2pfs.formats.endpoint import PeerAddress, is_loopback, pack_host, unpack_host
from p2pfs.formats.peer_id import client_name
from p2pfs.formats.scrape_http import ScrapeEntry
from p2pfs.geometry import PeerId, TorrentId
from p2pfs.tracker.leases import LEASE_PREFIX
from p2pfs.tracker.peer_store import Announced, Counts, PeerKind, PeerStore, SwarmPeer
from p2pfs.tracker.swarm_table import identity

__all__ = ["DEFAULT_INTERVAL", "TrackerService", "lifetime_for"]

DEFAULT_INTERVAL = 300
"""Seconds between announces; libtorrent never announces more often than that."""
DEFAULT_MIN_INTERVAL = 30
"""Seconds that a client waits at least, when it has a reason to ask early."""
MAX_INTERVAL = 24 * 3600
DEFAULT_NUMWANT = 50
MAX_NUMWANT = 200

_DOWNLOADER, _SEED = PeerKind.DOWNLOADER, PeerKind.SEED
_NONE = Event.NONE


def lifetime_for(interval: int) -> float:
    """Seconds after which a silent peer is gone: two intervals and more than libtorrent's two."""
    return float(max(2 * interval, 660))


class TrackerService:
    """Answers announces and scrapes from a `PeerStore`.

    `interval` and `min_interval` are seconds, 1..86400 (`UsageError` otherwise); the
    second is brought down to the first. `allowed` says which torrents are tracked (None:
    all). `advertise` lists IP addresses under which peers on the tracker's own machine
    are reached from elsewhere. `tracker_id` goes into every reply: clients can tell by it
    that the tracker was restarted.
    """

    def __init__(
        self,
        store: PeerStore,
        *,
        interval: int = DEFAULT_INTERVAL,
        min_interval: int | None = None,
        allowed: Callable[[TorrentId], bool] | None = None,
        advertise: Sequence[str] = (),
        tracker_id: bytes | None = None,
    ) -> None:
        least = DEFAULT_MIN_INTERVAL if min_interval is None else min_interval
        for seconds in (interval, least):
            if not 1 <= seconds <= MAX_INTERVAL:
                raise UsageError(f"an interval of {seconds} s is outside 1..{MAX_INTERVAL} s")
        try:
            self._advertise = {len(packed): packed for packed in map(pack_host, advertise)}
        except FormatError as error:
            raise UsageError(f"cannot advertise that address: {error}") from None
        self.interval = interval
        self.min_interval = min(least, interval)
        self._store = store
        self._allowed = allowed
        self._tracker_id = tracker_id

    def announce(
        self,
        request: AnnounceRequest,
        source_ip: str,
        now: float,
        reached_at: Callable[[], str | None] = lambda: None,
    ) -> PackedReply:
        """Enter, refresh or remove a peer, and tell it about others.

        `source_ip` is where the request came from. `reached_at` gives the address by
        which this asker reaches the tracker's machine: peers that announced from there by
        loopback are handed out under it, and left out when nobody can tell. Raises
        `TrackerError` for a torrent that is not tracked here.
        """
        host = pack_host(source_ip)
        if request.event is _NONE and request.key and request.port and request.compact:
            again = self.renew(
                request.torrent_id.v1,
                request.peer_id,
                request.key,
                host + request.port.to_bytes(2, "big"),
                seed=request.left == 0,
                numwant=request.numwant,
                now=now,
                reached_at=reached_at,
            )
            if again is not None:
                return self._reply(host, *again)
        self._check(request.torrent_id)
        peer = SwarmPeer(request.peer_id, request.key, host, request.port)
        if request.event is Event.STOPPED:
            found = Announced(self._store.remove(request.torrent_id, peer))
        else:
            wanted = DEFAULT_NUMWANT if request.numwant is None else request.numwant
            found = self._store.announce(
                request.torrent_id,
                peer,
                _kind(request),
                now=now,
                numwant=min(wanted, MAX_NUMWANT),
                completed=request.event is Event.COMPLETED,
                with_ids=not request.compact,
                seeds_too=_may_lack_metadata(request),
            )
        peers, peers6 = self._packed_for(host, found.peers, found.peers6, reached_at)
        listed = found.listed
        if listed and not is_loopback(host):
            as_seen = partial(self._seen_from_outside, len(host), reached_at)
            listed = [(as_seen(one), peer_id) for one, peer_id in listed]
        with_ids = None if request.compact else _listed(listed, request)
        return self._reply(host, found.counts, peers, peers6, with_ids)

    def _reply(
        self,
        host: bytes,
        counts: Counts,
        peers: bytes,
        peers6: bytes,
        listed: Sequence[PeerAddress] | None = None,
    ) -> PackedReply:
        return PackedReply(
            self.interval,
            self.min_interval,
            counts.complete,
            counts.incomplete,
            counts.downloaded,
            peers,
            peers6,
            listed,
            host,
            self._tracker_id,
        )

    def renew(
        self,
        info_hash: bytes,
        peer_id: bytes,
        key: bytes,
        address: bytes,
        *,
        seed: bool,
        numwant: int | None,
        now: float,
        reached_at: Callable[[], str | None],
    ) -> tuple[Counts, bytes, bytes] | None:
        """`announce` by a short way, for a peer that was here before and says nothing new.

        `address` is where it came from, packed, with its port, which is not 0. The counts,
        and other peers in packed form; None, and nothing is done, when the long way has to
        be taken. Raises `TrackerError` as that does.
        """
        if self._allowed is not None:
            self._check(TorrentId(info_hash))
        wanted = DEFAULT_NUMWANT if numwant is None else min(numwant, MAX_NUMWANT)
        kind = _SEED if seed else _DOWNLOADER
        found = self._store.renew(
            info_hash, identity(peer_id, key), kind, address, now=now, numwant=wanted
        )
        if found is None:
            return None
        counts, peers, peers6 = found
        return counts, *self._packed_for(address[:-2], peers, peers6, reached_at)

    def host_for(self, host: bytes, asker_ip: str, reached_at: Callable[[], str | None]) -> str:
        """The address, as text, by which `asker_ip` reaches whoever came from `host`."""
        asker = pack_host(asker_ip)
        if is_loopback(host) and not is_loopback(asker):
            host = self._ours(len(asker), reached_at) or host
        return unpack_host(host)

    def scrape(self, torrents: Iterable[TorrentId]) -> dict[TorrentId, ScrapeEntry]:
        """The counts of those `torrents` that are known."""
        entries = {}
        for torrent in torrents:
            counts = self._store.counts(torrent)
            if counts is not None:
                entries[torrent] = ScrapeEntry(
                    counts.complete, counts.incomplete, counts.downloaded, counts.downloaders
                )
        return entries

    def _check(self, torrent_id: TorrentId) -> None:
        if self._allowed is not None and not self._allowed(torrent_id):
            raise TrackerError("this tracker serves only the torrents published to it")

    def _packed_for(
        self, host: bytes, peers: bytes, peers6: bytes, reached_at: Callable[[], str | None]
    ) -> tuple[bytes, bytes]:
        """Packed peers as `host` can dial them."""
        if is_loopback(host) or not (peers6 or 127 in peers[::6]):
            return peers, peers6
        as_seen = partial(self._seen_from_outside, len(host), reached_at)
        together = [*map(as_seen, _split(peers, 6)), *map(as_seen, _split(peers6, 18))]
        return (
            b"".join([one for one in together if len(one) == 6]),
            b"".join([one for one in together if len(one) == 18]),
        )

    def _seen_from_outside(
        self, width: int, reached_at: Callable[[], str | None], peer: bytes
    ) -> bytes:
        """A packed peer as someone on another machine can dial it; nothing stands for nobody."""
        if not is_loopback(peer[:-2]):
            return peer
        ours = self._ours(width, reached_at)
        return ours + peer[-2:] if ours else b""

    def _ours(self, width: int, reached_at: Callable[[], str | None]) -> bytes:
        """The address of this machine as others see it, packed; empty when nobody can tell."""
        ours = self._advertise.get(width) or next(iter(self._advertise.values()), b"")
        if not ours:
            text = reached_at()
            ours = pack_host(text) if text else b""
        return ours


def _split(packed: bytes, width: int) -> list[bytes]:
    return [packed[at : at + width] for at in range(0, len(packed), width)]


def _kind(request: AnnounceRequest) -> PeerKind:
    if request.left == 0:
        return PeerKind.SEED
    if request.event is Event.PAUSED:
        return PeerKind.PARTIAL_SEED
    return PeerKind.DOWNLOADER


def _may_lack_metadata(request: AnnounceRequest) -> bool:
    """Whether the asker may mean that it does not know yet how much is left (BEP 9).

    Others say some number above zero then; aria2 says 0, as its seeders do.
    """
    return request.event is Event.STARTED and client_name(request.peer_id).startswith("aria2 ")


def _listed(peers: Iterable[tuple[bytes, bytes]], request: AnnounceRequest) -> list[PeerAddress]:
    return [
        PeerAddress(
            unpack_host(packed[:-2]),
            int.from_bytes(packed[-2:], "big"),
            None if request.no_peer_id or peer_id.startswith(LEASE_PREFIX) else PeerId(peer_id),
        )
        for packed, peer_id in peers
        if packed
    ]
