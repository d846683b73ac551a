"""Make the sample files that the scenarios share: text of our own, the same on every machine.

The text grows from a small grammar and a fixed seed, so that every line differs and a
piece in the wrong place is noticed. Usage: make_data.py [FOLDER] [NAME]... [--demo SIZE]
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB

FILES = {
    "0short_story.txt": 20 * KIB,
    "1short_story_10x.txt": 200 * KIB,
    "2short_story_100x.txt": 2000 * KIB,
    "3lorem_ipsum.txt": 8 * MIB,
}

PEOPLE = (
    "the ferryman",
    "an old cartographer",
    "my neighbour",
    "the lighthouse keeper",
    "a girl with a red kite",
    "the baker's son",
    "nobody in particular",
    "the last librarian",
    "a travelling clockmaker",
    "the night porter",
)
DEEDS = (
    "counted the boats in the harbour",
    "carried a letter across the frozen lake",
    "planted one more row of beans",
    "forgot where the bridge had been",
    "sang quietly to the telegraph wires",
    "mended a net that nobody would use",
    "wrote the names of the winds on a slate",
    "opened the shutters to look for snow",
    "sold a map of a town without streets",
    "waited for the second bell",
)
TURNS = (
    "because the tide was late",
    "and told nobody",
    "while the kettle boiled dry",
    "though it was not yet morning",
    "as the almanac had promised",
    "until the lamps were lit",
    "and came back with a basket of plums",
    "which settled the matter",
    "before anyone could object",
    "and the dog agreed",
)
SYLLABLES = (
    *("lo", "rem", "ip", "sum", "do", "lor", "sit", "a", "met", "ve", "ni", "am", "qui"),
    *("no", "stru", "ta", "mi", "na", "cul", "pa", "se", "di", "tor", "ba", "ri", "len"),
)


def story(rng: random.Random) -> Iterator[str]:
    """Numbered sentences without end."""
    number = 0
    while True:
        number += 1
        sentence = f"{rng.choice(PEOPLE)} {rng.choice(DEEDS)} {rng.choice(TURNS)}."
        yield f"{number:>6}  {sentence[0].upper()}{sentence[1:]}\n"


def lorem(rng: random.Random) -> Iterator[str]:
    """Numbered lines of words that mean nothing, without end."""
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) for _ in range(2000)]
    number = 0
    while True:
        number += 1
        line = " ".join(rng.choices(words, k=12))
        yield f"{number:>7} {line}.\n"


def write(path: Path, size: int, lines: Iterator[str]) -> bool:
    """Fill `path` with exactly `size` bytes; False when a file of that size is there already.

    The file gets its name when it is whole, so that several makers at once do no harm.
    """
    if path.is_file() and path.stat().st_size == size:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            left = size
            while left:
                chunk = "".join(next(lines) for _ in range(1000)).encode("ascii")[:left]
                file.write(chunk)
                left -= len(chunk)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return True


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Make the sample files of the scenarios.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("seeds"))
    parser.add_argument("names", nargs="*", help="only these of the sample files")
    parser.add_argument("--demo", type=int, metavar="MIB", help="make demo.txt of this size")
    options = parser.parse_args(arguments)
    wanted = dict(FILES)
    if options.names:
        unknown = [name for name in options.names if name not in FILES]
        if unknown:
            parser.error(f"no such sample file: {unknown[0]} (there are {', '.join(FILES)})")
        wanted = {name: FILES[name] for name in options.names}
    if options.demo:
        wanted = {"demo.txt": options.demo * MIB}
    for name, size in wanted.items():
        rng = random.Random(f"p2pfs {name}")
        lines = story(rng) if "story" in name else lorem(rng)
        made = write(options.folder / name, size, lines)
        print(f"{'made' if made else 'kept'} {options.folder / name} ({size} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
