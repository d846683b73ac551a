"""Case 19: names that collide, are reserved or too long, in one torrent and in several."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.e2e.processes import Lab, Running, no_traceback, until

pytestmark = [
    pytest.mark.torture,
    pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot store such names"),
]

ODD = [
    "CON", "con.txt", "nul", "COM1.log", "lpt9", "aux.", "A", "a", "Straße", "STRASSE",
    "\u00e9", "e\u0301", "\u212bngstrom", "\u00e5ngstrom", "dot.", "dot", "space ", "space",
    "what?", "ab:c", "star*", "<b>", "\u202egnp.exe",
    "zero\u200bwidth", "n" * 255, "n" * 254 + "m", "\u00e9" * 127, "-rf", "~", "$HOME", "%2e%2e",
    ".hidden", "..twodots", "...", "~/inner", "CON/inner", "con/inner2", "dot./in", "dot2/in",
]  # fmt: skip


def content_of(folder: Path) -> dict[bytes, str]:
    """What lies below a folder: content, and its path."""
    found = {}
    for path in folder.rglob("*"):
        assert not path.is_symlink()
        if path.is_file():
            assert all(len(part.encode()) <= 255 for part in path.parts)
            found[path.read_bytes()] = str(path.relative_to(folder))
    return found


def make(lab: Lab, folder: str, names: list[str]) -> dict[bytes, str]:
    """Files of these names, each with content of its own."""
    made = {}
    for number, name in enumerate(names):
        path = lab.folder / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = lab.random_bytes(3000 + number, (folder, name))
        path.write_bytes(data)
        made[data] = name
    return made


def finished(process: Running) -> Running:
    assert process.wait() == 0, str(process)
    return process


def test_odd_names_in_one_torrent_all_arrive_under_names_of_their_own(lab: Lab) -> None:
    lab.tracker()
    names = [name for name in ODD if name not in ("~", "dot.", "CON")]  # which are folders too
    made = make(lab, "seeds/odd", [*names, "CON/x", "dot./x"])
    torrent = lab.torrent("seeds/odd")
    seeder = lab.seed("-f", torrent)

    downloads = [finished(lab.download(torrent, "-o", output)) for output in ("one", "two")]

    one, two = (content_of(lab.folder / output / "odd") for output in ("one", "two"))
    assert one == two
    assert one.keys() == made.keys()
    assert {path.name for path in (lab.folder / "one").iterdir()} == {"odd"}
    no_traceback(seeder, *downloads)


def test_torrents_with_odd_names_side_by_side_do_not_touch_each_other(lab: Lab) -> None:
    lab.tracker()
    names = [name for name in ODD if "/" not in name and not name.startswith(".")]
    made = make(lab, "seeds", names)
    seeder = lab.seed()
    torrents = []
    for number, name in enumerate(names):
        torrents.append(lab.torrent(f"seeds/{name}", output=f"{number}.torrent"))

    leecher = finished(lab.download(*torrents))

    assert content_of(lab.folder / "output").keys() == made.keys()
    no_traceback(seeder, leecher)


@pytest.mark.parametrize("together", [False, True], ids=["in turn", "at once"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_of_two_contents_of_one_name_the_second_is_refused_and_harms_nothing(
    lab: Lab, together: bool, kind: str
) -> None:
    lab.tracker()
    inner = "same/b.bin" if kind == "folder" else "same"
    contents = [lab.content(inner, 700_000, seed=n, under=f"s{n}") for n in range(2)]
    torrents = [lab.torrent(f"s{n}/same", output=f"{n}.torrent") for n in range(2)]
    for n in range(2):
        lab.p2pfs("seed", *lab.where, "--json", "-f", f"s{n}/same", "--up-limit", "1M")
    for seeder in lab.running[-2:]:
        seeder.event("ready")

    if together:
        leechers = [lab.p2pfs("download", *lab.where, "--json", one) for one in torrents]
        kept = output_when_one_is_done(lab, leechers, inner)
    else:
        first = finished(lab.download(torrents[0]))
        kept = lab.read(f"output/{inner}")
        second = lab.run("download", *lab.where, torrents[1])
        assert second.wait() != 0
        leechers = [first, second]

    assert kept in contents
    assert lab.read(f"output/{inner}") == kept
    no_traceback(*leechers)


def output_when_one_is_done(lab: Lab, leechers: list[Running], inner: str) -> bytes:
    """Wait until one download is complete and the other says why it cannot be."""

    def over(leecher: Running) -> bool:
        return not leecher.alive or any(
            event["event"] == "progress" and event["state"] == "error" for event in leecher.events
        )

    until(lambda: all(map(over, leechers)), lambda: "\n".join(map(str, leechers)))
    done = [leecher for leecher in leechers if not leecher.alive and leecher.wait() == 0]
    [refused] = [leecher for leecher in leechers if leecher not in done]
    kept = lab.read(f"output/{inner}")
    if refused.alive:
        assert refused.last()["error"]
        assert refused.leave()["exit_code"] != 0
    assert len(done) == 1
    return kept
