"""Greetings in disguise (message stream encryption), from the side that answers them.

libtorrent, Transmission and others open their connections like this; refused at the first byte,
some come back in the clear at once, some after a second, and some never. Who offers to go on in
the clear does so; RC4 is for those who offer nothing else. It protects nobody: it was made to be
hard to recognise, and nothing of ours is sent so unasked.

Invariant: nothing is held of a greeting beyond what the protocol allows for its present step.

The steps, as Vuze and uTorrent laid them down: both ends exchange Diffie-Hellman keys; the caller
names the torrent by a hash, and offers ways to go on, under RC4; the answer picks one of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from hashlib import sha1
from typing import Final, Protocol

from p2pfs.errors import WireError

__all__ = ["Cipher", "DisguisedGreeting", "Rc4", "disguised_name", "public_key", "shared_secret"]

KEY_LENGTH: Final = 96
PRIME: Final = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74"
    "020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437"
    "4FE1356D6D51C245E485B576625E7EC6F44C42E9A63A36210000000000090563",
    16,
)
GENERATOR: Final = 2

MAX_PADDING: Final = 512
"""Bytes that may stand before what names the torrent, and after what is offered."""

MAX_FIRST_WORDS: Final = 1024
"""Bytes of the caller's that may come along under RC4; a handshake has 68."""

VERIFICATION: Final = bytes(8)
IN_THE_CLEAR: Final = 1
RC4: Final = 2
"""How to go on, a bit each."""

DISCARDED: Final = 1024
"""Bytes of an RC4 key stream that are not used."""


class Cipher(Protocol):
    """One direction of a connection."""

    def apply(self, data: bytes | bytearray | memoryview) -> bytes:
        """`data`, which is the next of its direction, enciphered or deciphered."""
        ...


class Rc4:
    """In Python: enough for the few hundred bytes of a greeting, at a few MB/s."""

    def __init__(self, key: bytes) -> None:
        state = list(range(256))
        j = 0
        for i in range(256):
            j = (j + state[i] + key[i % len(key)]) & 255
            state[i], state[j] = state[j], state[i]
        self._key = key
        self._state = state
        self._i = self._j = 0
        self._used = 0
        self.apply(bytes(DISCARDED))

    def apply(self, data: bytes | bytearray | memoryview) -> bytes:
        """See `Cipher`."""
        state, i, j = self._state, self._i, self._j
        out = bytearray(data)
        for place, byte in enumerate(out):
            i = (i + 1) & 255
            first = state[i]
            j = (j + first) & 255
            state[i] = second = state[j]
            state[j] = first
            out[place] = byte ^ state[(first + second) & 255]
        self._i, self._j = i, j
        self._used += len(out)
        return bytes(out)

    def quicker(self) -> Cipher:
        """What goes on from here, at hundreds of MB/s; only where `has_quick_rc4`."""
        quick = _QuickRc4(self._key)
        quick.apply(bytes(self._used))
        return quick


class _QuickRc4:
    """By OpenSSL, which may be built without it."""

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
        from cryptography.hazmat.primitives import ciphers

        self._context = ciphers.Cipher(ARC4(key), mode=None).encryptor()

    def apply(self, data: bytes | bytearray | memoryview) -> bytes:
        return self._context.update(data)


@functools.cache
def has_quick_rc4() -> bool:
    """Whether whole connections can be enciphered here."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        _QuickRc4(bytes(16))
    except UnsupportedAlgorithm:
        return False
    return True


def disguised_name(info_hash: bytes) -> bytes:
    """The 20 bytes by which a greeting names a torrent, once its mask is taken off."""
    return sha1(b"req2" + info_hash, usedforsecurity=False).digest()


def public_key(private: int) -> bytes:
    """The 96 bytes that go with a private key of 160 random bits."""
    return pow(GENERATOR, private, PRIME).to_bytes(KEY_LENGTH, "big")


def shared_secret(private: int, theirs: bytes) -> bytes:
    """What both ends know. Raises `WireError` for a key that nobody draws."""
    key = int.from_bytes(theirs, "big")
    if not 1 < key < PRIME - 1:
        raise WireError("not a BitTorrent handshake, nor a disguised one")
    return pow(key, private, PRIME).to_bytes(KEY_LENGTH, "big")


def _digest(*parts: bytes) -> bytes:
    return sha1(b"".join(parts), usedforsecurity=False).digest()


class DisguisedGreeting:
    """Bytes in, answers out; then what the caller says.

    `private` has 160 random bits, for this greeting alone; `find` gives the info hash of an open
    torrent by its `disguised_name`, None for an unknown one; without `rc4`, all has to go on in
    the clear.
    """

    def __init__(
        self, private: int, find: Callable[[bytes], bytes | None], *, rc4: bool = True
    ) -> None:
        self._private = private
        self._find = find
        self._rc4 = rc4
        self._buffer = bytearray()
        self._answer = b""
        self._first_words = b""
        self._steps = self._listen()
        self.understood = False
        """Whether the greeting is over: `plain` has what came after it."""
        self.ciphers: tuple[Cipher, Cipher] | None = None
        """For what comes and for what goes from then on; None when that is in the clear."""

    def receive(self, data: bytes | memoryview) -> bytes:
        """What to answer to `data`, often nothing.

        Raises `WireError` for what is no such greeting, one for a torrent that is not open, and
        one that offers no way to go on that is known here; nothing may come after that.
        """
        self._buffer += data
        if not self.understood:
            next(self._steps, None)
        answer, self._answer = self._answer, b""
        return answer

    def plain(self) -> bytes:
        """What was said since the last call, deciphered; only once it is `understood`."""
        said = bytes(self._buffer)
        self._buffer.clear()
        if self.ciphers is not None:
            said = self.ciphers[0].apply(said)
        first_words, self._first_words = self._first_words, b""
        return first_words + said

    def _listen(self) -> Generator[None, None, None]:
        theirs = yield from self._take(KEY_LENGTH)
        secret = shared_secret(self._private, theirs)
        self._answer += public_key(self._private)
        yield from self._skip_to(_digest(b"req1", secret))
        masked = yield from self._take(20)
        mask = _digest(b"req3", secret)
        info_hash = self._find(bytes(a ^ b for a, b in zip(masked, mask, strict=True)))
        if info_hash is None:
            raise WireError("the handshake is for a torrent that is not shared here")
        heard = Rc4(_digest(b"keyA", secret, info_hash))
        head = heard.apply((yield from self._take(len(VERIFICATION) + 4 + 2)))
        padding = int.from_bytes(head[12:], "big")
        if not head.startswith(VERIFICATION) or padding > MAX_PADDING:
            raise WireError("a disguised handshake that is none")
        choice = IN_THE_CLEAR if head[11] & IN_THE_CLEAR else head[11] & RC4
        if not choice or (choice == RC4 and not (self._rc4 and has_quick_rc4())):
            raise WireError("offers no way to go on that is known here")
        rest = heard.apply((yield from self._take(padding + 2)))
        length = int.from_bytes(rest[padding:], "big")
        if length > MAX_FIRST_WORDS:
            raise WireError("a disguised handshake that is too long")
        self._first_words = heard.apply((yield from self._take(length)))
        said = Rc4(_digest(b"keyB", secret, info_hash))
        self._answer += said.apply(VERIFICATION + choice.to_bytes(4, "big") + bytes(2))
        if choice == RC4:
            self.ciphers = heard.quicker(), said.quicker()
        self.understood = True

    def _take(self, count: int) -> Generator[None, None, bytes]:
        buffer = self._buffer
        while len(buffer) < count:
            yield
        taken = bytes(buffer[:count])
        del buffer[:count]
        return taken

    def _skip_to(self, mark: bytes) -> Generator[None, None, None]:
        """Leave out everything up to the end of `mark`."""
        buffer = self._buffer
        while (place := buffer.find(mark, 0, MAX_PADDING + len(mark))) < 0:
            if len(buffer) >= MAX_PADDING + len(mark):
                raise WireError("not a BitTorrent handshake, nor a disguised one")
            yield
        del buffer[: place + len(mark)]
