"""`runpeer`: a node that only serves, by its number."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import bench_peers
import pytest
from processes import Process, Processes

SCRIPT = Path(__file__).parents[2] / "scripts" / "runpeer.sh"
ENVIRONMENT = {**os.environ, "P2PFS_BIN": str(Path(sys.executable).parent)}

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")


async def test_it_serves_the_folder_of_its_number_and_passes_options_on(tmp_path: Path) -> None:
    (tmp_path / "p7").mkdir()
    (tmp_path / "p7" / "a b.txt").write_text("shared")
    async with Processes(tmp_path) as processes:
        index = await processes.start(
            *("index", "index", "--bind", "127.0.0.1", "-d", 0, "--no-mdns"),
            *("--config-dir", tmp_path / "config"),
        )
        port = (await index.says("ready", 60))["port"]
        where = [
            "-i",
            "127.0.0.1",
            "-d",
            str(port),
            "-p",
            "0",
            "--root",
            str(tmp_path),
            "--quit-grace",
            "0",
        ]
        script = await asyncio.create_subprocess_exec(
            *("bash", str(SCRIPT), "7", *where, "--json"),
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        node = Process("runpeer", script, tmp_path / "index.log")
        try:
            await node.says("ready", 60)
            await bench_peers.all_registered(port, nodes=1, files=1)
            assert bench_peers.registered(port)[0]["id"] == "7"
        finally:
            node.ask_to_end()
            await node.leave(30)


def test_without_a_number_it_says_how_it_is_used() -> None:
    done = subprocess.run(
        ["bash", str(SCRIPT)], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: runpeer.sh ID")
