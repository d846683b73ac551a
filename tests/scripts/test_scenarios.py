"""The eight scenarios: the bash ones run; the PowerShell ones are the same, line for line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
NUMBERS = range(1, 9)
WORDS = {
    "title",
    "sample",
    "run",
    "launch",
    "ready",
    "says",
    "finished",
    "stop",
    "same",
    "gave",
    "sent_at_most",
    "timer_on",
    "timer_off",
    "ratio_at_most",
    "passed",
}


def run_script(*command: str) -> str:
    environment = {
        **os.environ,
        "P2PFS_BIN": str(Path(sys.executable).parent),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=environment,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def steps(script: Path) -> list[list[str]]:
    """The lines that do something, as words, without the quotes of either shell."""
    found = []
    for line in script.read_text(encoding="utf-8").splitlines():
        words = line.replace('"', "").replace("'", "").split()
        if words and words[0] in WORDS:
            found.append(words)
    return found


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
@pytest.mark.parametrize("number", NUMBERS)
def test_the_scenario_holds(number: int) -> None:
    out = run_script("bash", str(SCRIPTS / f"test{number}.sh"))
    assert out.splitlines()[-1] == "passed"
    assert "byte for byte" in out
    assert "received" in out


@pytest.mark.skipif(shutil.which("pwsh") is None, reason="no pwsh on this machine")
@pytest.mark.parametrize("number", NUMBERS)
def test_the_scenario_holds_in_powershell(number: int) -> None:
    out = run_script("pwsh", "-NoProfile", "-File", str(SCRIPTS / f"test{number}.ps1"))
    assert out.splitlines()[-1] == "passed"


@pytest.mark.parametrize("name", [*(f"test{number}" for number in NUMBERS), "lib"])
def test_the_powershell_script_parses(name: str) -> None:
    tree_sitter = pytest.importorskip("tree_sitter")
    powershell = pytest.importorskip("tree_sitter_powershell")
    parser = tree_sitter.Parser(tree_sitter.Language(powershell.language()))
    tree = parser.parse((SCRIPTS / f"{name}.ps1").read_bytes())
    assert not tree.root_node.has_error


@pytest.mark.parametrize("number", NUMBERS)
def test_the_twins_run_the_same_commands(number: int) -> None:
    bash, powershell = steps(SCRIPTS / f"test{number}.sh"), steps(SCRIPTS / f"test{number}.ps1")
    assert sum(words[0] == "launch" for words in bash) >= 3
    assert powershell == bash


def test_every_word_of_the_scenarios_is_known_to_both_libraries() -> None:
    bash = (SCRIPTS / "lib.sh").read_text(encoding="utf-8")
    powershell = (SCRIPTS / "lib.ps1").read_text(encoding="utf-8")
    for word in WORDS:
        assert f"\n{word}() {{" in bash
        assert f"\nfunction {word}" in powershell


@pytest.mark.parametrize("number", NUMBERS)
def test_every_process_of_a_scenario_has_its_own_port(number: int) -> None:
    ports = [
        words[words.index("-p") + 1]
        for words in steps(SCRIPTS / f"test{number}.sh")
        if words[0] == "launch" and words[2] != "tracker"
    ]
    assert len(ports) == len(set(ports)) >= 2
