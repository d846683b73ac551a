"""The benchmark of the nodes: its checks, its arguments, and the whole of it, small."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import bench_peers
import pytest
from processes import ProcessError

from tests.support.waiting import until

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[2] / "scripts"
MIB = 1024 * 1024


# -- what arrived


def test_wrong_and_missing_and_superfluous_files_are_found(tmp_path: Path) -> None:
    known = {"a": bench_peers.hashlib.sha256(b"aaa").hexdigest()}
    (tmp_path / "a").write_bytes(b"aaa")
    bench_peers.check(tmp_path, known)
    (tmp_path / "a").write_bytes(b"aab")
    with pytest.raises(ProcessError, match=r"\['a'\]"):
        bench_peers.check(tmp_path, known)
    (tmp_path / "a").write_bytes(b"aaa")
    (tmp_path / "b").write_bytes(b"")
    with pytest.raises(ProcessError, match="'b'"):
        bench_peers.check(tmp_path, known)


# -- arguments


def test_without_options_it_is_the_benchmark_that_is_judged() -> None:
    options = bench_peers.arguments([])
    assert (options.nodes, options.files, options.sizes) == ([2, 4, 8, 16], 10, [8 * MIB])
    assert (options.limit, options.out) == (2_000_000, Path("results"))


def test_lists_are_sorted_and_each_number_counts_once() -> None:
    options = bench_peers.arguments(["--nodes", "8, 2,8", "--sizes", "512K,1M", "--limit", "0"])
    assert (options.nodes, options.sizes, options.limit) == ([2, 8], [512 * 1024, MIB], None)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--nodes", "2,x"], "'x' is no whole number from 1 to 64"),
        (["--nodes", "0"], "'0' is no whole number"),
        (["--nodes", ""], "'' is no whole number"),
        (["--sizes", "8MB"], "write it as 256KiB"),
        (["--limit", "fast"], "'fast' is not a rate"),
        (["--files", "0"], "'0' is no whole number from 1 to 1,000"),
        (["more"], "unrecognized arguments: more"),
    ],
)
def test_nonsense_is_refused(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        bench_peers.arguments(words)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


# -- the whole of it


def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "tmp").mkdir()
    return {
        **os.environ,
        "TMPDIR": str(tmp_path / "tmp"),
        "P2PFS_BIN": str(Path(sys.executable).parent),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_a_quick_run_measures_checks_and_draws(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(SCRIPTS / "test-peers.sh"), "--quick"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=160,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    lines = [line.split() for line in done.stdout.splitlines() if " MB/s " in line]
    assert [line[0] for line in lines] == ["2", "4", "2", "4"]
    assert "3 files of 512 KiB, no limit" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("every byte of every file is right")

    found = json.loads((tmp_path / "results" / "peers.json").read_text())
    assert [[run["nodes"] for run in one["runs"]] for one in found] == [[2, 4], [2, 4]]
    assert [one["limit"] for one in found] == [2_000_000, None]
    for one in found:
        for run in one["runs"]:
            assert 1 <= len(run["gave"]) <= run["nodes"]
            assert sum(run["gave"].values()) >= run["size"] == 3 * 512 * 1024

    svg = ElementTree.parse(tmp_path / "results" / "peers.svg").getroot()
    assert len(list(svg.iter("{http://www.w3.org/2000/svg}circle"))) == 8
    assert list((tmp_path / "tmp").iterdir()) == []


def of_ours(folder: Path) -> list[str]:
    """Command lines of processes that speak of `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words:
            found.append(words)
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc on this machine")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_nothing_goes_on_after_it_was_stopped(tmp_path: Path, number: int) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SCRIPTS / "bench_peers.py"), "--nodes", "3", "--limit", "1k"),
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    folder = tmp_path / "tmp"
    await until(lambda: len(of_ours(folder)) >= 3, seconds=60)
    process.send_signal(number)
    async with asyncio.timeout(60):
        _, told = await process.communicate()
    assert process.returncode == 130
    assert b"everything that was started has ended" in told
    assert of_ours(folder) == []
    assert list(folder.iterdir()) == []


async def test_a_process_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    from processes import Processes

    async with Processes(tmp_path) as processes:
        process = await processes.start("show", "show", "missing.torrent")
        with pytest.raises(ProcessError, match=r"(?s)show ended before it said 'ready'.*missing"):
            await process.says("ready", 60)
        with pytest.raises(ProcessError, match="show ended with exit code"):
            await process.ended(60)


@pytest.mark.parametrize("name", ["find", "runpeer", "test-peers"])
def test_the_powershell_twin_parses(name: str) -> None:
    tree_sitter = pytest.importorskip("tree_sitter")
    powershell = pytest.importorskip("tree_sitter_powershell")
    parser = tree_sitter.Parser(tree_sitter.Language(powershell.language()))
    tree = parser.parse((SCRIPTS / f"{name}.ps1").read_bytes())
    assert not tree.root_node.has_error
    assert (SCRIPTS / f"{name}.sh").is_file()
