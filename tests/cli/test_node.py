"""`node` as a process that is driven by a pipe, with a real index and other nodes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p2pfs.cli.node import parse_id, shared_folder
from p2pfs.errors import StorageError, UsageError
from p2pfs.formats.config_file import parse

pytestmark = pytest.mark.slow

LONG_AGO = 1_600_000_000
SIZE = 300_000


def content(name: str, size: int = SIZE) -> bytes:
    return bytes((i * 5 + i // 251 + len(name)) % 256 for i in range(size))


class Room:
    """A folder with an index and nodes p1, p2, ..., each with a menu or serving only."""

    def __init__(self, swarm: Any) -> None:
        self.swarm = swarm
        self.folder: Path = swarm.folder

    def index(self, port: int = 0) -> Any:
        index = self.swarm.start(
            *("index", "--host", "127.0.0.1", "-d", str(port), "--no-mdns", "--json")
        )
        self.port = index.event("ready")["port"]
        return index

    def place(self, number: int, *names: str) -> dict[str, bytes]:
        """The folder of a node, with files that nobody has written to for long."""
        contents = {name: content(name) for name in names}
        folder = self.folder / f"p{number}"
        folder.mkdir(exist_ok=True)
        for name, data in contents.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            os.utime(path, (LONG_AGO, LONG_AGO))
        return contents

    def serve(self, number: int, *more: str) -> Any:
        """A node that only serves, and is ready."""
        node = self.swarm.start(
            *("node", "--id", str(number), "--serve", "--json", "--quit-grace", "0", *more)
        )
        node.event("ready")
        return node

    def menu(self, number: int, *more: str) -> Any:
        return self.swarm.start("node", "--id", str(number), "--quit-grace", "0", *more)

    def drive(self, number: int, *lines: str, more: tuple[str, ...] = ()) -> Any:
        """A node with a menu, from its start to the end of these lines."""
        node = self.menu(number, *more)
        for line in lines:
            node.say(line)
        node.close_input()
        assert node.wait() == 0, (node.lines, node.errors)
        assert node.errors == []
        assert "\x1b" not in "".join(node.lines)
        return node

    def config(self, name: str) -> dict[str, str]:
        return parse((self.folder / "config" / name).read_text())


@pytest.fixture
def room(swarm: Any) -> Room:
    made = Room(swarm)
    made.index()
    return made


def only_line(process: Any) -> str:
    assert len(process.errors) == 1, process.errors
    line: str = process.errors[0]
    assert line.startswith("p2pfs: ")
    return line


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "1.5", "1" * 10, "²", "٣", "1\x1b[2J", "1 2"])
def test_an_id_is_a_positive_number(text: str) -> None:
    with pytest.raises(UsageError, match=r"a positive number, 1 to 999999999$"):
        parse_id(text)
    assert parse_id(" 007 ") == 7


def test_the_folder_has_to_be_there_and_the_error_has_the_command(tmp_path: Path) -> None:
    root = tmp_path / "my files"
    with pytest.raises(StorageError, match=f"mkdir -p '{root}/p3'$"):
        shared_folder(root, 3)
    root.mkdir()
    (root / "p3").write_bytes(b"")
    with pytest.raises(StorageError, match="is not a folder"):
        shared_folder(root, 3)


def test_a_config_folder_that_cannot_be_used_is_told_with_what_to_do(room: Room) -> None:
    room.place(1)
    (room.folder / "in the way").write_bytes(b"")

    options = ("-i", "127.0.0.1", "--config-dir", "in the way/config")
    line = only_line(room.swarm.run("node", "--id", "1", *options))

    assert "chmod -R u+rwX 'in the way/config'" in line
    assert "--config-dir" in line


@pytest.mark.skipif(not hasattr(os, "fork"), reason="rights are another matter there")
def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "p1").mkdir(mode=0)
    if os.geteuid() != 0:
        with pytest.raises(StorageError, match=r"cannot read .*chmod"):
            shared_folder(tmp_path, 1)
        return
    pid = os.fork()  # root may read everything: look as somebody else
    if pid == 0:
        tmp_path.chmod(0o777)
        tmp_path.parent.chmod(0o777)
        os.seteuid(65534)
        try:
            shared_folder(tmp_path, 1)
        except StorageError as error:
            os._exit(0 if "cannot read" in str(error) and "chmod" in str(error) else 2)
        except BaseException:
            os._exit(3)
        os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_list_download_and_delete_by_a_pipe(room: Room) -> None:
    contents = room.place(1, "a.bin", "b c.txt", "2024/05/d.jpg")
    room.place(2, "mine.txt")
    room.serve(1)

    node = room.drive(
        2,
        *("list", "2", "b c.txt", "download", "2024/05/d.jpg", "5 ", "nonsense"),
        *("1", "3", 'mine.txt "b c.txt" nix', "list"),
    )

    text = "\n".join(node.lines)
    assert "sharing 1 file of p2" in text
    assert "Successfully Downloaded b c.txt to p2/b c.txt" in node.lines
    assert "Successfully Downloaded 2024/05/d.jpg to p2/2024/05/d.jpg" in node.lines
    assert "there is no entry 'nonsense'" in text
    assert "serving only for 10 seconds" in node.lines
    assert "deleted: mine.txt" in node.lines
    assert "not deleted: nix: there is no file of this name here" in node.lines
    first, last = text.index("\na.bin\n"), text.rindex("\na.bin\n")
    assert "mine.txt" in text[first : first + 60]
    assert "mine.txt" not in text[last:]
    assert "b c.txt" in text[last:]
    assert (room.folder / "p2/2024/05/d.jpg").read_bytes() == contents["2024/05/d.jpg"]
    assert not (room.folder / "p2/b c.txt").exists()
    assert (room.folder / "p1/b c.txt").read_bytes() == contents["b c.txt"]


def test_the_id_is_the_first_line_when_it_is_not_given(room: Room) -> None:
    room.place(7)
    node = room.swarm.start("node", "--quit-grace", "0")
    node.say("7")
    node.say("quit")
    assert node.wait() == 0
    assert any("node 7 ready" in line for line in node.lines)

    for line in ("seven", "0", ""):
        wrong = room.swarm.start("node")
        wrong.say(line)
        assert wrong.wait() == 2
        assert "positive number" in only_line(wrong)
    nothing = room.swarm.run("node")
    assert nothing.wait() == 2
    assert "--id" in only_line(nothing)


def test_the_config_file_says_where_the_node_is_while_it_runs(room: Room) -> None:
    room.place(3)
    node = room.serve(3, "--bind", "127.0.0.1")
    ready = node.event("ready")

    config = room.config("p3.config")
    node.say("exit")

    assert config == {
        "id": "3",
        "host": "127.0.0.1",
        "port": str(ready["port"]),
        "folder": str((room.folder / "p3").resolve()),
    }
    assert (ready["role"], ready["id"], ready["files"], ready["folder"]) == ("node", 3, 0, "p3")
    assert ready["index"] == f"http://127.0.0.1:{room.port}"
    assert node.wait() == 0
    assert not (room.folder / "config" / "p3.config").exists()
    assert node.events()[-1]["event"] == "final"


def test_a_node_is_at_home_in_its_root_and_its_own_config_dir(room: Room) -> None:
    root = room.folder / "else where"
    (root / "p1").mkdir(parents=True)

    node = room.serve(
        1, "--root", "else where", "--config-dir", "cfg", "-i", f"127.0.0.1:{room.port}"
    )

    assert (room.folder / "cfg" / "p1.config").exists()
    node.say("exit")
    assert node.wait() == 0


def test_a_second_node_of_this_id_is_refused_here_and_elsewhere(room: Room) -> None:
    room.place(1, "a.bin")
    port = room.serve(1).event("ready")["port"]

    here = room.swarm.run("node", "--id", "1", "--serve")
    (room.folder / "other" / "p1").mkdir(parents=True)
    where = ("-i", f"127.0.0.1:{room.port}")
    elsewhere = room.swarm.run("node", "--id", "1", "--root", "other", "--serve", *where)

    assert here.wait() == 1
    assert "runs already" in only_line(here)
    assert str(port) in only_line(here)
    assert elsewhere.wait() == 1
    assert f":{port}" in only_line(elsewhere)


def test_files_that_come_and_go_are_told(room: Room) -> None:
    room.place(1, "a.bin")
    node = room.menu(1)
    node.line_with("5. Sleep")

    room.place(1, "new.bin")
    node.line_with("shared: new.bin")
    (room.folder / "p1" / "a.bin").unlink()
    node.line_with("no longer shared: a.bin")
    node.say("quit")

    assert node.wait() == 0


def test_many_files_at_once_are_few_lines(room: Room) -> None:
    room.place(1)
    node = room.menu(1)
    node.line_with("5. Sleep")

    room.place(1, *(f"{number:02}.bin" for number in range(30)))
    node.line_with("shared")
    node.say("quit")

    assert node.wait() == 0
    assert sum("shared" in line for line in node.lines[3:]) < 15


def test_what_cannot_be_shared_is_told_and_steers_no_terminal(room: Room) -> None:
    contents = room.place(1, "good.bin")
    (room.folder / "p1" / "bad\x1b[2J.bin").write_bytes(b"x")
    (room.folder / "p1" / "empty").write_bytes(b"")
    os.utime(room.folder / "p1" / "empty", (LONG_AGO, LONG_AGO))
    room.place(2)

    node = room.menu(1)
    node.line_with("5. Sleep")
    other = room.drive(2, "1", "2", "empty", "2", "good.bin")
    node.say("1")
    node.say("quit")

    assert node.wait() == 0
    problem = node.line_with("problem")
    assert "bad\\x1b[2J.bin" in problem
    assert "\x1b" not in "".join(node.lines)
    assert "Successfully Downloaded empty to p2/empty" in other.lines
    assert (room.folder / "p2" / "good.bin").read_bytes() == contents["good.bin"]
    assert (room.folder / "p2" / "empty").read_bytes() == b""


def test_wrong_names_and_names_that_are_here_leave_the_menu_running(room: Room) -> None:
    room.place(1, "story.txt")
    room.place(2, "mine.txt")
    room.serve(1)

    node = room.drive(
        2, "2", "stroy.txt", "2", "mine.txt", "2", "../p1/story.txt", "2", "story.txt"
    )

    text = "\n".join(node.lines)
    assert "nothing called 'stroy.txt' is shared here; is it one of: story.txt" in text
    assert "mine.txt is here already" in text
    assert "nothing called '../p1/story.txt'" in text
    assert "Successfully Downloaded story.txt to p2/story.txt" in node.lines


def test_two_contents_of_one_name_are_shown_and_one_is_picked(room: Room) -> None:
    for number in (1, 2):
        room.place(number)
        path = room.folder / f"p{number}" / "same.txt"
        path.write_bytes(content("same", 1000 * number))
        os.utime(path, (LONG_AGO, LONG_AGO))
        room.serve(number)
    room.place(3)

    node = room.drive(3, "2", "same.txt", "1")
    row = next(line for line in node.lines if line.startswith("same.txt@") and "2.0 KiB" in line)
    again = room.drive(3, "2", row.split()[0])

    assert sum(line == "same.txt" for line in node.lines) == 1
    assert any("several contents" in line for line in node.lines)
    assert "Successfully Downloaded same.txt to p3/same.txt" in again.lines
    assert (room.folder / "p3" / "same.txt").stat().st_size == 2000


def test_quit_waits_for_downloads_from_here_and_says_whose(room: Room) -> None:
    contents = room.place(1, "a.bin")
    room.place(2)
    server = room.menu(1, "--up-limit", "70k", "--bind", "127.0.0.1")
    server.line_with("5. Sleep")
    taker = room.menu(2, "--bind", "127.0.0.1")
    taker.say("2")
    taker.say("a.bin")
    taker.line_with("a.bin: downloading")

    server.say("quit")
    taker.say("quit")

    assert server.wait() == 0
    waiting = server.line_with("waiting for 127.0.0.1:")
    assert "downloads a.bin" in waiting
    assert taker.wait() == 0
    assert "Successfully Downloaded a.bin to p2/a.bin" in taker.lines
    assert (room.folder / "p2" / "a.bin").read_bytes() == contents["a.bin"]


def test_ctrl_c_quits_as_the_menu_does_and_a_second_one_at_once(room: Room) -> None:
    room.place(1, "a.bin")
    room.place(2)
    server = room.swarm.start(
        *("node", "--id", "1", "--up-limit", "1k", "--bind", "127.0.0.1", "--quit-grace", "0.1")
    )
    server.line_with("5. Sleep")
    taker = room.menu(2)
    taker.say("2")
    taker.say("a.bin")
    taker.line_with("a.bin: downloading")

    server.signal(signal.SIGINT)
    server.line_with("waiting for")
    assert server.process.poll() is None
    server.signal(signal.SIGINT)

    assert server.wait() == 130
    assert server.errors == []
    assert not (room.folder / "config" / "p1.config").exists()
    taker.signal(signal.SIGTERM)
    assert taker.wait() == 143
    assert taker.errors == []


def test_a_download_can_be_stopped_and_goes_on_later(room: Room) -> None:
    contents = room.place(1, "a.bin")
    room.place(2)
    slow = room.serve(1, "--up-limit", "50k")
    node = room.menu(2)
    node.say("2")
    node.say("a.bin")
    node.line_with("a.bin: downloading")

    node.say("stop")
    node.line_with("a.bin is not complete: stopped; download it again to go on from here")
    slow.say("exit")
    assert slow.wait() == 0
    room.serve(1)
    node.say("2")
    node.say("a.bin")
    node.say("quit")

    assert node.wait() == 0
    assert "Successfully Downloaded a.bin to p2/a.bin" in node.lines
    assert (room.folder / "p2" / "a.bin").read_bytes() == contents["a.bin"]


def test_an_index_that_comes_later_or_goes_away_is_told_and_waited_for(swarm: Any) -> None:
    room = Room(swarm)
    index = room.index()
    room.place(1, "a.bin")
    room.place(2)
    index.process.kill()
    index.wait()
    where = ("-i", "127.0.0.1", "-d", str(room.port))

    node = room.menu(1, *where)
    node.line_with("no index at the moment")
    node.line_with("5. Sleep")
    node.say("list")
    node.line_with("cannot reach the index")
    room.index(room.port)
    node.line_with("the index is there again")
    other = room.drive(2, "2", "a.bin", more=where)
    node.say("quit")

    assert "Successfully Downloaded a.bin to p2/a.bin" in other.lines
    assert node.wait() == 0


def test_serving_only_obeys_exit_and_outlives_the_end_of_its_input(room: Room) -> None:
    room.place(1, "a.bin")
    node = room.swarm.start("node", "--id", "1", "--serve", "--quit-grace", "0")
    node.line_with("p2pfs node 1 ready on")
    node.say("what")
    node.line_with("sharing 1 file; exit ends it")
    node.close_input()
    room.place(2)
    assert "a.bin" in room.drive(2, "list").lines

    node.signal(signal.SIGINT)

    assert node.wait() == 130
    assert "\n".join(node.lines).count("ready") == 1


def test_json_is_for_serving_only(room: Room) -> None:
    node = room.swarm.run("node", "--id", "1", "--json")

    assert node.wait() == 2
    assert "--serve" in only_line(node)


@pytest.fixture
def small_disk(room: Room) -> Iterator[Path]:
    """p2, with room for half a megabyte."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    room.place(2)
    folder = room.folder / "p2"
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)])
    if made.returncode:
        pytest.skip("no small disk can be made here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_and_the_menu_goes_on(room: Room, small_disk: Path) -> None:
    room.place(1, "small.bin")
    data = content("large", 2_000_000)
    large = room.folder / "p1" / "large.bin"
    large.write_bytes(data)
    os.utime(large, (LONG_AGO, LONG_AGO))
    room.serve(1)

    node = room.menu(2)
    node.say("2")
    node.say("large.bin")
    told = node.line_with("large.bin is not complete")
    node.say("1")
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    node.say("2")
    node.say("large.bin")
    node.say("quit")

    assert node.wait() == 0
    assert "the disk is full" in told
    assert "Successfully Downloaded large.bin to p2/large.bin" in node.lines
    assert (small_disk / "large.bin").read_bytes() == data
