"""Which event loops a test of this floor runs on, and the proof that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from p2pfs.net import stream as stream_module
from p2pfs.net.tracker_http import TrackerServer
from tests.support.swarm import LOCAL, Sample, Swarm, make_sample

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def _loops() -> dict[str, LoopFactory]:
    loops: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    try:
        import uvloop
    except ImportError:
        return loops
    return loops | {"uvloop": uvloop.new_event_loop}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "loops(*names): the event loops to run on, each in turn")


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, LoopFactory]:
    marker = item.get_closest_marker("loops")
    loops = _loops()
    chosen = {name: loops[name] for name in (marker.args if marker else ()) if name in loops}
    return chosen or {"asyncio": loops["asyncio"]}


def _open_files() -> list[str]:
    """The files that this process has open, and its sockets: unnamed, since some loops renew
    their own between two steps of a test."""
    folder = Path("/proc/self/fd")
    found = []
    if folder.exists():
        for name in os.listdir(folder):  # noqa: PTH208
            try:
                target = str((folder / name).readlink())
            except OSError:
                continue
            if target.startswith("socket:"):
                found.append("socket")
            elif target.startswith("/") and not target.startswith("/dev/"):
                found.append(target)
    return found


def _threads() -> set[str]:
    """Threads but those of the loop's own pool, which end with the loop."""
    pools = ("asyncio_", "uvloop_")
    return {one.name for one in threading.enumerate() if not one.name.startswith(pools)}


@pytest.fixture(scope="session")
def tracker_runtime() -> None:
    """Starts, once, what the tracker's server keeps for the life of the process."""

    async def once() -> None:
        async with TrackerServer(LOCAL, 0):
            pass

    asyncio.run(once())


@pytest.fixture(scope="session")
def frozen() -> None:
    """What was imported is looked through once, not at the end of every test."""
    gc.collect()
    gc.freeze()


@pytest.fixture
async def nothing_left(frozen: None) -> AsyncIterator[None]:
    """Fails the test when a task, socket, file or thread outlives it, or the loop saw an error."""
    loop = asyncio.get_running_loop()
    raised: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: raised.append(context))
    tasks, files, threads = asyncio.all_tasks(), Counter(_open_files()), _threads()
    yield

    def left() -> list[object]:
        running = asyncio.all_tasks() - tasks - {asyncio.current_task()}
        opened = Counter(_open_files()) - files
        return [*running, *opened, *(_threads() - threads)]

    until = loop.time() + 5
    while rest := left():
        if loop.time() > until:
            pytest.fail(f"left behind: {rest}")
        await asyncio.sleep(0.005)
    gc.collect()
    await asyncio.sleep(0)
    assert raised == []


@pytest.fixture
async def swarm(nothing_left: None, tmp_path: Path) -> AsyncIterator[Swarm]:
    """Clients in this process, all closed before it is looked at what they left behind."""
    made = Swarm(tmp_path)
    yield made
    await made.close()


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """A file of 19 pieces, the last one short."""
    return make_sample(tmp_path / "shared")


@pytest.fixture(params=["sendfile", "transport"])
def stream_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which bytes leave a client."""
    if request.param == "transport":
        monkeypatch.setattr(stream_module, "HAS_SENDFILE", False)
    return str(request.param)
