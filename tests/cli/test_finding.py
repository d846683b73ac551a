"""The order in which an index is looked for, and what is said when there is none."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from p2pfs.cli.finding import find_index, locate, token_of_environment
from p2pfs.errors import StorageError, TrackerError, UsageError
from p2pfs.net import discovery
from p2pfs.net.config_files import server_config, write_config
from p2pfs.net.discovery import FoundIndex
from p2pfs.net.tracker_http import TrackerServer

FIRST = FoundIndex("p2pfs on a", "10.0.0.1", 9999)
SECOND = FoundIndex("p2pfs on b", "10.0.0.2", 9999)


class Network:
    """Who announces itself; `asked` is how often that was looked for."""

    def __init__(self) -> None:
        self.indexes: list[FoundIndex] = []
        self.asked = 0

    async def find(self, seconds: float) -> list[FoundIndex]:
        self.asked += 1
        return self.indexes


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """A network of our own, and an environment that says nothing."""
    made = Network()
    monkeypatch.setattr(discovery, "find_indexes", made.find)
    for name in ("P2PFS_INDEX", "P2PFS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.fixture
async def index() -> AsyncIterator[TrackerServer]:
    async with TrackerServer("127.0.0.1", 0) as server:
        yield server


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port at which nothing listens for as long as the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def config(folder: Path, **values: object) -> Path:
    path = server_config(folder)
    write_config(path, {name: str(value) for name, value in values.items()})
    return path


async def test_a_host_that_was_given_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Network
) -> None:
    config(tmp_path, host="10.0.0.5", port=7070)
    monkeypatch.setenv("P2PFS_INDEX", "10.0.0.6")

    assert (await locate("10.0.0.4", 8080, tmp_path)).base == "http://10.0.0.4:8080"
    assert (await locate("10.0.0.4:1", 8080, tmp_path)).base == "http://10.0.0.4:1"
    assert network.asked == 0


async def test_then_comes_the_file_that_the_index_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Network
) -> None:
    config(tmp_path, host="10.0.0.5", port=7070)
    monkeypatch.setenv("P2PFS_INDEX", "10.0.0.6")
    network.indexes = [FIRST]

    assert (await locate(None, 9999, tmp_path)).base == "http://10.0.0.5:7070"
    config(tmp_path, host="fd00::5", port=7070)
    assert (await locate(None, 9999, tmp_path)).base == "http://[fd00::5]:7070"
    assert network.asked == 0


@pytest.mark.parametrize(
    ("value", "base"),
    [
        ("10.0.0.6", "http://10.0.0.6:9999"),
        (" index.lan:7070\n", "http://index.lan:7070"),
        ("https://index.example/announce", "https://index.example"),
    ],
)
async def test_then_the_environment(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    network: Network,
    value: str,
    base: str,
) -> None:
    monkeypatch.setenv("P2PFS_INDEX", value)
    network.indexes = [FIRST]

    assert (await locate(None, 9999, tmp_path)).base == base
    assert network.asked == 0


async def test_then_the_one_on_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Network
) -> None:
    monkeypatch.setenv("P2PFS_INDEX", " ")
    network.indexes = [FIRST, FIRST]

    assert (await locate(None, 9999, tmp_path)).base == "http://10.0.0.1:9999"


async def test_of_several_on_the_network_none_is_taken_unasked(
    tmp_path: Path, network: Network
) -> None:
    network.indexes = [SECOND, FIRST]

    with pytest.raises(UsageError, match=r"10\.0\.0\.1.*on a.*10\.0\.0\.2.*on b.*-i HOST"):
        await locate(None, 9999, tmp_path)


async def test_when_all_of_that_fails_all_of_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        await locate(None, 9999, tmp_path)

    for part in (
        str(tmp_path / "server.config"),
        "P2PFS_INDEX",
        "network",
        "-i HOST",
        "p2pfs index",
    ):
        assert part in str(caught.value)


async def test_an_index_that_answers_is_found(tmp_path: Path, index: TrackerServer) -> None:
    config(tmp_path, host="127.0.0.1", port=index.port)

    assert await find_index(None, 9999, tmp_path) == f"http://127.0.0.1:{index.port}"


async def test_a_file_that_was_left_behind_is_named(tmp_path: Path, dead_port: int) -> None:
    path = config(tmp_path, host="127.0.0.1", port=dead_port)

    with pytest.raises(TrackerError) as caught:
        await find_index(None, 9999, tmp_path)

    assert f"127.0.0.1:{dead_port}" in str(caught.value)
    assert f"{path} says" in str(caught.value)
    assert "remove that file" in str(caught.value)


async def test_an_environment_that_leads_nowhere_is_named(
    tmp_path: Path, dead_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PFS_INDEX", f"127.0.0.1:{dead_port}")

    with pytest.raises(TrackerError, match="P2PFS_INDEX names it"):
        await find_index(None, 9999, tmp_path)


async def test_a_host_that_leads_nowhere_is_to_be_checked(tmp_path: Path, dead_port: int) -> None:
    with pytest.raises(TrackerError, match=r"check host \(-i\) and port \(-d\)"):
        await find_index("127.0.0.1", dead_port, tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"host": "10.0.0.5"},
        {"port": "9999"},
        {"host": "10.0.0.5", "port": "0"},
        {"host": "10.0.0.5", "port": "65536"},
        {"host": "10.0.0.5", "port": "9_999"},
        {"host": "10.0.0.5", "port": "٣"},
        {"host": "http://10.0.0.5", "port": "80"},
        {"host": "a b", "port": "80"},
        {"host": "a\x1b[2J", "port": "80"},
    ],
)
async def test_a_file_that_names_no_index_is_an_error_that_names_it(
    tmp_path: Path, values: dict[str, str]
) -> None:
    path = config(tmp_path, **values)

    with pytest.raises(UsageError, match="does not say where the index is") as caught:
        await locate(None, 9999, tmp_path)

    assert str(path) in str(caught.value)


async def test_a_file_that_is_none_of_ours_is_an_error_that_names_it(tmp_path: Path) -> None:
    server_config(tmp_path).write_text("hello", encoding="utf-8")

    with pytest.raises(StorageError, match=r"server\.config.*remove it"):
        await locate(None, 9999, tmp_path)


async def test_an_environment_that_names_no_host_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PFS_INDEX", "a b")

    with pytest.raises(UsageError, match="P2PFS_INDEX"):
        await locate(None, 9999, tmp_path)


def test_the_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert token_of_environment() is None
    monkeypatch.setenv("P2PFS_TOKEN", " secret\n")
    assert token_of_environment() == "secret"
