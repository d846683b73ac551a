"""Make the files that the scenarios and benchmarks share: the same on every machine.

    make_data.py [FOLDER] [NAME]... [--demo MIB]        the sample files, text of our own
    make_data.py --peers N [--files N] [--size SIZE]    folders p1..pN, all with the same files

The text grows from a small grammar and a fixed seed, so that every line differs and a
piece in the wrong place is noticed. What the folders hold is pseudo-random, from a seed too.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB

MOST_PEERS = 999
MOST_FILES = 9999

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


def text(lines: Iterator[str]) -> Iterator[bytes]:
    """The lines, a thousand at a time."""
    while True:
        yield "".join(next(lines) for _ in range(1000)).encode("ascii")


def noise(name: str) -> Iterator[bytes]:
    """Bytes without end that depend on `name` alone."""
    rng = random.Random(f"p2pfs {name}")
    while True:
        yield rng.randbytes(MIB)


def cut(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The first `size` bytes of `chunks`."""
    for chunk in chunks:
        yield chunk[:size]
        size -= len(chunk)
        if size <= 0:
            return


def replace(path: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write a file that gets its name when it is whole.

    So several makers at once do no harm.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        fill(Path(temporary))
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write(path: Path, chunks: Iterable[bytes]) -> None:
    """Make `path` of `chunks`."""

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.writelines(chunks)

    replace(path, fill)


def holds(path: Path, size: int, chunks: Iterable[bytes]) -> bool:
    """Whether `path` is a file of `size` bytes, and those are `chunks`."""
    if not path.is_file() or path.stat().st_size != size:
        return False
    with path.open("rb") as file:
        return all(file.read(len(chunk)) == chunk for chunk in chunks)


def make_samples(folder: Path, sizes: dict[str, int]) -> None:
    """Files of text; one that is there with its size is kept."""
    for name, size in sizes.items():
        path = folder / name
        kept = path.is_file() and path.stat().st_size == size
        if not kept:
            rng = random.Random(f"p2pfs {name}")
            write(path, cut(text(story(rng) if "story" in name else lorem(rng)), size))
        print(f"{'kept' if kept else 'made'} {path} ({size} bytes)")


def names_of(files: int) -> list[str]:
    """What the files of a folder are called."""
    return [f"data{number:02}.bin" for number in range(1, files + 1)]


def make_folders(root: Path, peers: int, files: int, size: int) -> list[Path]:
    """Folders p1..pN in `root`, each with the same `files` files of `size` bytes.

    Files that are right are kept, those of other content are made anew, others left alone.
    """
    folders = [root / f"p{number}" for number in range(1, peers + 1)]
    names = names_of(files)
    for name in names:
        first = folders[0] / name
        if not holds(first, size, cut(noise(name), size)):
            write(first, cut(noise(name), size))
        for folder in folders[1:]:
            path = folder / name
            if not path.is_file() or not filecmp.cmp(first, path, shallow=False):
                replace(path, lambda temporary, first=first: shutil.copyfile(first, temporary))
    return folders


def whole(least: int, most: int) -> Callable[[str], int]:
    """An argument type: whole numbers from `least` to `most`."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text[:9]) <= most):
            raise argparse.ArgumentTypeError(
                f"{text!r} is no whole number from {least:,} to {most:,}"
            )
        return int(text)

    return parse


def size_of(text: str) -> int:
    """An argument type: sizes as `p2pfs` takes them (`512K`, `8M`, `1.5MiB`)."""
    from p2pfs.cli.units import parse_size
    from p2pfs.errors import UsageError

    try:
        return parse_size(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def refuse_without_room(root: Path, needed: int) -> None:
    """End with a message when the disk of `root` has less than `needed` bytes left."""
    from p2pfs.cli.units import format_size

    free = shutil.disk_usage(root).free
    if needed > free:
        raise SystemExit(
            f"make_data.py: this takes {format_size(needed)}, and {root.resolve()} has"
            f" {format_size(free)} left: fewer folders, or fewer or smaller files?"
        )


def tell(folders: list[Path], files: int, size: int) -> None:
    """Say what the folders hold."""
    names = names_of(files)
    span = " to ".join(str(folder) for folder in dict.fromkeys((folders[0], folders[-1])))
    those = " to ".join(dict.fromkeys((names[0], names[-1])))
    print(f"{span}: {those}, {size} bytes each, the same in every folder")
    for folder in folders:
        others = sum(not path.name.startswith(".") for path in folder.iterdir()) - files
        if others:
            print(f"{folder} holds {others} more, left alone")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description="Make the files that the scenarios and benchmarks share."
    )
    parser.add_argument("folder", nargs="?", type=Path, help="for the sample files (seeds)")
    parser.add_argument("names", nargs="*", help="only these of the sample files")
    parser.add_argument("--demo", type=int, metavar="MIB", help="make demo.txt of this size")
    folders = parser.add_argument_group("folders p1..pN instead, here, each with the same files")
    folders.add_argument("--peers", type=whole(1, MOST_PEERS), metavar="N", help="(16)")
    folders.add_argument("--files", type=whole(1, MOST_FILES), metavar="N", help="(10)")
    folders.add_argument("--size", type=size_of, help="of each file, as 512K or 8M (1M)")
    options = parser.parse_args(arguments)
    if options.peers or options.files or options.size:
        if options.folder or options.demo:
            parser.error("--peers, --files and --size make p1..pN; they go with nothing else")
        peers, files, size = options.peers or 16, options.files or 10, options.size or MIB
        root = Path()
        refuse_without_room(root, peers * files * size)
        try:
            tell(make_folders(root, peers, files, size), files, size)
        except OSError as error:
            raise SystemExit(f"make_data.py: {error.filename}: {error.strerror}") from None
        return 0
    wanted = dict(FILES)
    if options.names:
        unknown = [name for name in options.names if name not in FILES]
        if unknown:
            parser.error(f"no such sample file: {unknown[0]} (there are {', '.join(FILES)})")
        wanted = {name: FILES[name] for name in options.names}
    if options.demo:
        wanted = {"demo.txt": options.demo * MIB}
    make_samples(options.folder or Path("seeds"), wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
