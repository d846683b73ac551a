"""The commands as programs use them: several torrents, the console by pipe, `--json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.e2e.processes import Event, Lab, Running, no_traceback

NAME = "content.bin"

Kinds = dict[str, type | tuple[type, ...]]

NUMBER = (int, float)
MAYBE_TEXT = (str, type(None))

PROGRESS: Kinds = {
    "name": str,
    "state": str,
    "percent": NUMBER,
    "pieces_done": int,
    "pieces_total": int,
    "bytes_done": int,
    "bytes_total": int,
    "down_rate": int,
    "up_rate": int,
    "eta": (*NUMBER, type(None)),
    "peers": int,
    "downloaded": int,
    "uploaded": int,
    "wasted": int,
    "hash_failures": int,
    "missing": list,
    "missing_count": int,
    "asked": int,
    "error": MAYBE_TEXT,
    "tracker": str,
    "sources": list,
}
CHECKING: Kinds = {"state": str, "bytes_done": int, "bytes_total": int}
PATH: Kinds = {"path": MAYBE_TEXT, "seconds": (*NUMBER, type(None))}
SOURCE: Kinds = {"address": str, "client": str, "bytes_down": int, "bytes_up": int}
PEER: Kinds = {
    "torrent": str,
    "address": str,
    "client": str,
    "direction": str,
    "pieces": int,
    "down_rate": int,
    "up_rate": int,
    "bytes_down": int,
    "bytes_up": int,
}
FINAL: Kinds = {"ok": bool, "exit_code": int, "error": MAYBE_TEXT}
SWARM: Kinds = {"message": MAYBE_TEXT, "torrents": list}
METAINFO: Kinds = {
    "path": str,
    "name": str,
    "info_hash": str,
    "bytes": int,
    "pieces": int,
    "piece_length": int,
    "private": bool,
    "trackers": list,
    "web_seeds": list,
    "comment": MAYBE_TEXT,
    "created_by": MAYBE_TEXT,
    "creation_date": (int, type(None)),
    "links": int,
    "files": list,
}
VERDICT: Kinds = {
    "name": str,
    "pieces": int,
    "pieces_good": int,
    "bad": list,
    "damaged_files": list,
    "unsure_files": list,
}
EVENTS: dict[str, Kinds] = {
    "ready": {"role": str, "port": int, "addresses": list},
    "missing": {"name": str, "pieces": list, "count": int, "asked": int},
    "peers": {"peers": list},
    "note": {"text": str},
    "help": {"commands": dict},
    "complete": {"name": str, "path": str, "bytes": int, "seconds": NUMBER},
}
STATES = {"checking", "downloading", "seeding", "stopped", "error"}


def fits(found: dict[str, Any], *kinds: Kinds) -> None:
    """`found` has exactly the documented fields, each of its kind."""
    wanted = {name: kind for part in kinds for name, kind in part.items()}
    assert found.keys() == wanted.keys(), found
    for name, kind in wanted.items():
        assert isinstance(found[name], kind), (name, found[name])
        assert bool in (kind,) or not isinstance(found[name], bool), (name, found[name])


def check_event(event: Event, results: Kinds) -> None:
    fields = dict(event)
    name = fields.pop("event")
    if name == "progress":
        fits(fields, CHECKING if fields["state"] == "checking" else PROGRESS)
        assert fields["state"] in STATES
        for source in fields.get("sources", ()):
            fits(source, SOURCE)
    elif name == "final":
        fits(fields, FINAL, results)
        assert (fields["exit_code"] == 0) == fields["ok"]
        for torrent in fields.get("torrents", ()):
            fits(torrent, PROGRESS, PATH)
    elif name == "ready" and fields["role"] != "tracker":
        fits(fields, EVENTS[name], {"torrents": str})
    elif name == "ready":
        fits(fields, EVENTS[name], {"udp": str})
    else:
        fits(fields, EVENTS[name])
        for peer in fields.get("peers", ()):
            fits(peer, PEER)


def check_output(process: Running, results: Kinds) -> set[str]:
    """Every line is one documented object, the last one `final`; which events there were."""
    for line in process.lines:
        assert line.isascii()
        assert line.isprintable()
        check_event(json.loads(line), results)
    names = [event["event"] for event in process.events]
    assert names.count("final") == 1
    assert names[-1] == "final"
    no_traceback(process)
    return set(names)


def test_every_line_of_json_is_what_the_documentation_says(lab: Lab) -> None:
    name = "cöntent [31m.bin"
    tracker = lab.tracker()
    lab.content(name, 400_000)
    seeder = lab.seed("-f", name, "-m", "3")
    peer = lab.p2pfs("peer", *lab.where, "-f", name, "--json", "-o", "mine")
    peer.event("missing")
    assert peer.ask("help", "help")["commands"].keys() == {"prog", "peers", "help", "exit"}
    assert len(peer.ask("peers", "peers")["peers"]) == 1
    assert "dance" in peer.ask("dance", "note")["text"]
    rest = lab.seed("-f", name, "-r1", "3", "-r2", "3")
    peer.event("complete")
    assert lab.run("download", name, *lab.where, "--json", "-o", "f/g").wait() == 0
    for process in (peer, rest, seeder):
        assert process.leave()["exit_code"] == 0
    tracker.signal(15)
    tracker.wait()
    made = lab.run("make-torrent", f"seeds/{name}", "--json", "-o", "t.torrent", "-c", "é")
    shown = lab.run("show", "t.torrent", "--json")
    verified = lab.run("verify", "t.torrent", f"mine/{name}", "--json")
    failed = lab.run("show", "none.torrent", "--json")

    assert {"ready", "missing", "progress", "help", "peers", "note", "complete"} < check_output(
        peer, SWARM
    )
    for process in (tracker, seeder, rest, lab.running[4]):
        check_output(process, SWARM)
    check_output(made, METAINFO | {"skipped": list})
    check_output(shown, METAINFO)
    check_output(verified, VERDICT)
    check_output(failed, {})
    assert peer.last("final")["message"] == f"Successfully Downloaded {name} to mine/{name}"
    assert failed.last("final")["error"] in failed.errors[0]


def test_several_torrents_run_in_one_process_at_once(lab: Lab) -> None:
    lab.tracker()
    names = [f"{number} of 5.bin" for number in range(5)]
    contents = {name: lab.content(name, 150_000 + len(name) * n) for n, name in enumerate(names)}
    seeder = lab.seed("--up-limit", "3M")

    downloader = lab.download(*names, "-o", "all")
    other = lab.download("-f", names[1], "-f", names[3], "-o", "two")

    assert downloader.wait() == other.wait() == 0
    assert {name: lab.read(f"all/{name}") for name in names} == contents
    assert lab.read(f"two/{names[3]}") == contents[names[3]]
    finals = downloader.last("final")["torrents"]
    assert [torrent["name"] for torrent in finals] == names
    assert all(torrent["path"] == f"all/{torrent['name']}" for torrent in finals)
    seen = {event["name"] for event in downloader.events if event["event"] == "progress"}
    assert seen == set(names)
    assert len(seeder.leave()["torrents"]) == 5


def test_the_installed_command_and_the_module_are_one_program(lab: Lab) -> None:
    script = Path(sys.executable).with_name("p2pfs")
    said = [
        lab.start(*argv, "--help") for argv in ((str(script),), (sys.executable, "-m", "p2pfs"))
    ]
    assert [process.wait() for process in said] == [0, 0]
    assert said[0].lines == said[1].lines
    for command in ("make-torrent", "show", "verify", "tracker", "seed", "download", "peer"):
        assert any(command in line for line in said[0].lines)


def test_a_peer_stays_and_serves_until_its_input_says_exit(lab: Lab) -> None:
    lab.tracker()
    data = lab.content("0short_story.txt", 20_000)
    seeder = lab.p2pfs("peer", *lab.where, "-S")
    seeder.line(lambda line: "peer ready on" in line and "seeding 2 of 2 pieces" in line)
    peer = lab.p2pfs("peer", *lab.where)
    peer.line(
        lambda line: line == "Successfully Downloaded 0short_story.txt to output/0short_story.txt"
    )
    seeder.say("EXIT")
    assert seeder.wait() == 0

    other = lab.run("peer", *lab.where, "-o", "other", "--help")
    taker = lab.download("0short_story.txt", "-o", "taken")
    assert taker.wait() == 0

    assert lab.read("taken/0short_story.txt") == data
    peer.say("prog")
    peer.line(lambda line: "127.0.0.1:" in line and "19.5 KiB" in line)
    peer.say("exit")
    assert peer.wait() == other.wait() == 0
    assert "\x1b" not in "".join([*peer.lines, *seeder.lines])
    no_traceback(seeder, peer)
