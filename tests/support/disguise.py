"""The calling side of a disguised handshake, written from the protocol's description.

It shares the key exchange and the cipher with what is tested; both have tests of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1

from p2pfs.formats.obfuscation import Rc4, public_key, shared_secret

IN_THE_CLEAR, RC4 = 1, 2


@dataclass
class Caller:
    """Asks for `info_hash`; what it offers and how it pads is for a test to say."""

    info_hash: bytes
    offered: int = IN_THE_CLEAR | RC4
    first_padding: bytes = b""
    padding: bytes = b""
    verification: bytes = bytes(8)
    private: int = 0x1234567890ABCDEF1234567890ABCDEF12345678

    def hello(self) -> bytes:
        """The first thing it says."""
        return public_key(self.private) + self.first_padding

    def asks(
        self, their_key: bytes, first_words: bytes = b"", *, length: int | None = None
    ) -> bytes:
        """What it says once it has the other's key; `length`: what it claims of `first_words`."""
        secret = shared_secret(self.private, their_key)
        name = sha1(b"req2" + self.info_hash).digest()
        mask = sha1(b"req3" + secret).digest()
        cipher = self.says = Rc4(sha1(b"keyA" + secret + self.info_hash).digest())
        self.answers = Rc4(sha1(b"keyB" + secret + self.info_hash).digest())
        offer = self.verification + self.offered.to_bytes(4, "big")
        offer += len(self.padding).to_bytes(2, "big") + self.padding
        claimed = len(first_words) if length is None else length
        return (
            sha1(b"req1" + secret).digest()
            + bytes(a ^ b for a, b in zip(name, mask, strict=True))
            + cipher.apply(offer + claimed.to_bytes(2, "big") + first_words)
        )

    def hears(self, answer: bytes) -> bytes:
        """The answer to that, as it was before it was enciphered; and, under RC4, all after it."""
        return self.answers.apply(answer)
