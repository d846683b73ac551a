"""Connection ids of the UDP tracker (BEP 15): proof that an address can be answered.

Invariant: nothing has to be kept for those who ask. An id is a keyed hash over the address
and a window of time, so that it is good for its own address only, cannot be guessed without
the secret, and ends by itself. The last hashes are at hand, since who asks asks again.
"""

from __future__ import annotations

from functools import lru_cache, partial
from hashlib import blake2b
from hmac import compare_digest

__all__ = ["SECRET_LENGTH", "ConnectionIds"]

SECRET_LENGTH = 32
_AT_HAND = 8192
_WINDOW = 60
"""Seconds; an id is good in the window in which it was given out and in the next one."""


class ConnectionIds:
    """Gives out ids and knows its own. `secret` is `SECRET_LENGTH` random bytes.

    With the same secret, ids outlive a restart. `now` is seconds of a clock that does
    so too.
    """

    def __init__(self, secret: bytes) -> None:
        self._hash = lru_cache(maxsize=_AT_HAND)(partial(_hash, secret))

    def issue(self, host: bytes, now: float) -> bytes:
        """The id, 8 bytes, for the address `host` (4 or 16 raw bytes).

        It is good for 60 seconds at least and 120 at most.
        """
        return self._hash(host, int(now // _WINDOW))

    def is_valid(self, connection_id: bytes, host: bytes, now: float) -> bool:
        """Whether `connection_id` was given out to `host` in the last two minutes."""
        window = int(now // _WINDOW)
        return compare_digest(connection_id, self._hash(host, window)) or compare_digest(
            connection_id, self._hash(host, window - 1)
        )


def _hash(secret: bytes, host: bytes, window: int) -> bytes:
    data = window.to_bytes(8, "big", signed=True) + host
    return blake2b(data, digest_size=8, key=secret).digest()
