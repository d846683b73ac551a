"""Files by which programs find each other: whole or not there, and removed by their owner."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from p2pfs.errors import FormatError, StorageError, UsageError
from p2pfs.net.config_files import (
    address_in,
    held,
    node_config,
    read_config,
    remove_config,
    server_config,
    write_config,
    written,
)

VALUES = {"host": "10.0.0.5", "port": "9999"}


def test_what_one_writes_another_reads(tmp_path: Path) -> None:
    path = server_config(tmp_path / "new" / "config")

    write_config(path, VALUES)

    assert path.read_bytes() == b"host = 10.0.0.5\nport = 9999\n"
    assert read_config(path) == VALUES
    assert list(path.parent.iterdir()) == [path]


def test_where_another_is_is_told_as_far_as_it_is_known(tmp_path: Path) -> None:
    path = tmp_path / "server.config"
    assert address_in(path) is None
    for values, address in ((VALUES, "10.0.0.5:9999"), ({"host": "10.0.0.5"}, None)):
        write_config(path, values)
        assert address_in(path) == address
    path.write_bytes(b"\xff")
    assert address_in(path) is None


def test_each_node_has_a_file_of_its_own(tmp_path: Path) -> None:
    assert node_config(tmp_path, 12) == tmp_path / "p12.config"


def test_where_there_is_no_file_nothing_is_read(tmp_path: Path) -> None:
    assert read_config(tmp_path / "server.config") is None
    assert read_config(tmp_path / "none" / "server.config") is None


def test_a_reader_sees_a_whole_file_at_every_moment(tmp_path: Path) -> None:
    path = tmp_path / "server.config"
    kinds = [{"host": str(n) * 2000, "port": str(n) * 5} for n in (1, 2)]
    write_config(path, kinds[0])
    over = threading.Event()

    def write() -> None:
        for turn in range(200):
            write_config(path, kinds[turn % 2])
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not over.is_set():
        assert read_config(path) in kinds
    writer.join()


def test_only_the_owner_removes_it(tmp_path: Path) -> None:
    path = tmp_path / "server.config"
    write_config(path, VALUES)
    other = VALUES | {"port": "7070"}

    assert not remove_config(path, other)
    assert read_config(path) == VALUES
    assert remove_config(path, VALUES)
    assert not path.exists()
    assert not remove_config(path, VALUES)


def test_it_is_there_while_a_block_runs_whatever_ends_that(tmp_path: Path) -> None:
    path = tmp_path / "config" / "server.config"

    with written(path, VALUES):
        assert read_config(path) == VALUES
    assert not path.exists()
    with pytest.raises(RuntimeError), written(path, VALUES):
        raise RuntimeError
    assert not path.exists()


def test_what_became_of_it_in_the_meantime_stays(tmp_path: Path) -> None:
    path = tmp_path / "server.config"
    path.write_text("something else", encoding="utf-8")

    assert not remove_config(path, VALUES)
    assert path.read_text(encoding="utf-8") == "something else"


@pytest.mark.parametrize("content", [b"host 10.0.0.5", b"\xff\xfe", b"a = b\n" * 2, b"x" * 100_000])
def test_a_file_of_another_kind_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "server.config"
    path.write_bytes(content)

    with pytest.raises(StorageError, match=r"server\.config.*remove it"):
        read_config(path)


def test_a_folder_in_its_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "server.config").mkdir()

    with pytest.raises(StorageError, match="not a regular file"):
        read_config(tmp_path / "server.config")
    with pytest.raises(StorageError, match="cannot write"):
        write_config(tmp_path / "server.config", VALUES)
    assert [entry.name for entry in tmp_path.iterdir()] == ["server.config"]


def test_a_file_in_the_place_of_its_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config").write_bytes(b"")

    with pytest.raises(StorageError, match="cannot write"):
        write_config(tmp_path / "config" / "server.config", VALUES)
    with pytest.raises(StorageError, match="not a folder"), held(tmp_path / "config" / "x"):
        pass


def test_values_that_cannot_be_kept_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        write_config(tmp_path / "a.config", {"no key": ""})

    assert list(tmp_path.iterdir()) == []


def test_one_at_a_time_holds_what_a_file_stands_for(tmp_path: Path) -> None:
    path = tmp_path / "config" / "server.config"
    with held(path) as first, held(path) as second, held(path.with_name("p1.config")) as another:
        assert (first, second, another) == (True, False, True)
    with held(path) as again:
        assert again


def test_the_claim_of_a_program_that_was_killed_is_over(tmp_path: Path) -> None:
    path = tmp_path / "server.config"
    program = (
        "import sys; from pathlib import Path; from p2pfs.net.config_files import held\n"
        "with held(Path(sys.argv[1])) as ours:\n"
        "    print(ours, flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == b"True"
        with held(path) as ours:
            assert not ours
        holder.kill()
    with held(path) as ours:
        assert ours


def test_whatever_is_wrong_with_it_is_wrong_usage_and_the_error_knows_a_way_out(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    paths = [folder]
    for number, content in enumerate((b"\xff", b"no line of it", b'host = "open')):
        paths.append(tmp_path / f"{number}.config")
        paths[-1].write_bytes(content)

    for path in paths:
        with pytest.raises(UsageError, match=r"correct or remove it, or .* -i HOST") as caught:
            read_config(path)
        assert str(path) in str(caught.value)
