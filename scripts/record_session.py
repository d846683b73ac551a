"""Record one session between our downloader and a libtorrent seeder, message by message.

    python scripts/record_session.py [--write]

Prints the transcript, or writes it to its place in docs/protocol.md. Both ends are real and
meet at a relay, which reads along by the message ids of the BEPs alone. What differs from run
to run (peer ids, hashes, ports) is replaced by a word in capitals, and repetitions are counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import p2pfs  # noqa: E402
from tests.e2e.processes import laboratory  # noqa: E402
from tests.support.relay import GREETING, Passage, Relay  # noqa: E402

PAGE = ROOT / "docs/protocol.md"
FENCE = "```text session\n"

SIZE = 3 * 65536
PIECE = 65536

NAMES = {
    0: "choke", 1: "unchoke", 2: "interested", 3: "not interested", 4: "have", 5: "bitfield",
    6: "request", 7: "piece", 8: "cancel", 9: "port", 13: "suggest", 14: "have all",
    15: "have none", 16: "reject", 17: "allowed fast", 20: "extended",
}  # fmt: skip

NOTES = {
    "handshake": "reserved bits: which extensions each end speaks",
    "extended": "its own ids for extended messages, its name and limits",
    "bitfield": "what it has",
    "have all": "what it has: everything (fast extension)",
    "have none": "what it has: nothing (fast extension)",
    "allowed fast": "pieces that it gives even while it chokes",
    "interested": "it wants something that the other has",
    "not interested": "it wants nothing any more",
    "unchoke": "requests are answered from now on",
    "request": "a block of a piece: 16 KiB for a foreign client",
    "piece": "the block",
    "have": "a piece is complete and its hash is right",
}


class Session(Passage):
    """What went over the one connection: who (`->`: we) and what, in the order of arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, str]] = []

    def from_downloader(self, kind: int, body: bytes) -> None:
        super().from_downloader(kind, body)
        self.heard.append(("->", told(kind, body)))

    def from_seeder(self, kind: int, body: bytes) -> None:
        super().from_seeder(kind, body)
        self.heard.append(("<-", told(kind, body)))


def told(kind: int, body: bytes) -> str:
    """A message in words."""
    if kind == GREETING:
        who = re.match(rb"-\w{6}-", body[48:])
        name = who[0].decode() if who else "PEER"
        return f"handshake: reserved {body[20:28].hex()}, info hash HASH, peer id {name}RANDOM"
    name = NAMES.get(kind, f"message {kind}")
    if kind == 20 and body[:1] == b"\0":
        return f"extended: handshake {masked(body[1:])}"
    if kind == 5:
        return f"{name}: {body.hex()}"
    return name


def masked(payload: bytes) -> str:
    """A bencoded dictionary with what differs from run to run made the same."""
    text = payload.decode("latin-1")
    text = re.sub(r"(1:p)i\d+e", r"\1iPORTe", text)
    text = re.sub(r"(6:yourip4:|4:ipv44:).{4}", r"\1ADDR", text, flags=re.DOTALL)
    text = re.sub(r"(12:complete_ago)i-?\d+e", r"\1iSECONDSe", text)
    return text.encode("ascii", "backslashreplace").decode()


def lines(heard: list[tuple[str, str]]) -> Iterator[str]:
    """The transcript, what is repeated in a row counted, each kind explained once."""
    explained = set()
    position = 0
    while position < len(heard):
        count = 1
        while heard[position + count : position + count + 1] == [heard[position]]:
            count += 1
        way, text = heard[position]
        name = text.partition(":")[0]
        note = "" if name in explained or name not in NOTES else f"   # {NOTES[name]}"
        explained.add(name)
        yield f"{way} {text}{f' x {count}' if count > 1 else ''}{note}"
        position += count


async def fetch(metainfo: p2pfs.Metainfo, output: Path, port: int) -> None:
    async with p2pfs.Client(bind="127.0.0.1") as client:
        handle = await client.download(metainfo, output)
        handle.add_peers([("127.0.0.1", port)])
        await asyncio.wait_for(handle.wait(), 60)


def record(folder: Path) -> list[tuple[str, str]]:
    """One session, from the handshakes to its end."""
    (folder / "seeds").mkdir()
    content = folder / "seeds/content.bin"
    content.write_bytes(random.Random("p2pfs session").randbytes(SIZE))
    metainfo = p2pfs.make_torrent(content, piece_length=PIECE)
    (folder / "t.torrent").write_bytes(metainfo.to_bytes())
    with laboratory(folder) as lab:
        program = str(ROOT / "tests/e2e/foreign_client.py")
        theirs = lab.start(sys.executable, program, "t.torrent", "seeds")
        theirs.event("complete")
        with contextlib.closing(Relay(theirs.event("ready")["port"], Session)) as relay:
            asyncio.run(fetch(metainfo, folder / "output", relay.port))
            session = relay.passage(0)
            relay.wait_closed(session)
    assert (folder / "output/content.bin").read_bytes() == content.read_bytes()
    assert isinstance(session, Session)
    return session.heard


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="p2pfs-session-") as folder:
        text = "\n".join(lines(record(Path(folder))))
    if sys.argv[1:] != ["--write"]:
        print(text)
        return
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(FENCE)
    _, _, after = rest.partition("```")
    PAGE.write_text(f"{before}{FENCE}{text}\n```{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
