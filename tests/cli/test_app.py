"""The command table: help, names of options, completion, and what start-up costs."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from p2pfs import __version__
from p2pfs.cli import main
from p2pfs.cli.app import COMMANDS


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "p2pfs", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1", **environment},
        check=False,
    )


def help_of(capsys: Any, *arguments: str) -> str:
    with pytest.raises(SystemExit) as ending:
        main([*arguments, "--help"])
    assert not ending.value.code
    out: str = capsys.readouterr().out
    return out


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    out = help_of(capsys)
    for name, command in COMMANDS.items():
        assert name in out
        assert command.summary in out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = help_of(capsys, name)
    assert f"p2pfs {name} " in out.partition("Example")[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_long_name(name: str) -> None:
    from typer.main import get_command

    from p2pfs.cli.app import build_app

    group: Any = get_command(build_app([name]))
    for parameter in group.commands[name].params:
        if parameter.param_type_name == "option":
            assert any(option.startswith("--") for option in parameter.opts), parameter.opts


def test_the_flags_of_the_older_programs_are_all_there(capsys: pytest.CaptureFixture[str]) -> None:
    out = help_of(capsys, "peer")
    for flag in ("-i", "-S", "-p", "-d", "-f", "-m", "-r1", "-r2"):
        assert f" {flag} " in out


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    import tomllib

    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"p2pfs {__version__}\n"
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["version"] == __version__


@pytest.mark.parametrize(
    "line", [["dance"], ["seed", "--dance"], ["show"], ["tracker", "-d", "65536"], ["seed", "x"]]
)
def test_wrong_usage_exits_with_2(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(line)
    assert ending.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Usage" in captured.err
    assert "Traceback" not in captured.err


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from p2pfs.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "print(sorted(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    heavy = ("aiohttp", "asyncio", "bencodepy", "prompt_toolkit", "starlette", "uvloop")
    for module in (*heavy, "p2pfs.net", "p2pfs.storage", "p2pfs.formats", "p2pfs.cli.options"):
        assert f"'{module}'" not in done.stderr


def test_importing_the_library_imports_nothing_else() -> None:
    program = (
        "import sys, typing; before = set(sys.modules)\n"
        "import p2pfs\nprint(*(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    packages = {name.partition(".")[0] for name in done.stdout.split()}
    assert packages <= {"p2pfs", "collections", "__future__"}
    assert [name for name in done.stdout.split() if name.startswith("p2pfs")] == ["p2pfs"]


def test_completion_knows_commands_options_and_shared_names(tmp_path: Path) -> None:
    def complete(line: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-m", "p2pfs"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={
                **os.environ,
                "_P2PFS_COMPLETE": "complete_bash",
                "COMP_WORDS": line,
                "COMP_CWORD": str(len(line.split(" ")) - 1),
            },
            check=False,
        )
        assert done.stderr == ""
        return done.stdout.split()

    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "story.txt").write_bytes(b"x")
    assert complete("p2pfs do") == ["download"]
    assert "--up-limit" in complete("p2pfs seed --up")
    assert complete("p2pfs seed -f st") == ["story.txt"]
    assert complete("p2pfs seed -m 3 7 -f st") == ["story.txt"]


def test_a_bug_is_one_line_and_its_traceback_goes_to_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from p2pfs.cli import torrent_files

    def broken(_: Path) -> None:
        raise RuntimeError("the roof\nis gone")

    monkeypatch.setattr(torrent_files, "read_torrent", broken)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with pytest.raises(SystemExit) as ending:
        main(["show", "x.torrent", "--log-file", str(tmp_path / "log")])
    assert ending.value.code == 1
    error = capsys.readouterr().err
    assert error == "p2pfs: internal error, please report it: RuntimeError: the roof\\x0ais gone\n"
    assert "Traceback" in (tmp_path / "log").read_text(encoding="utf-8")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
def test_a_log_that_cannot_be_written_is_said_once_and_the_command_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from p2pfs.cli import torrent_files

    def busy(_: Path) -> None:
        for number in range(3):
            logging.getLogger("p2pfs.test").info("step %d", number)
        raise RuntimeError("that is all")

    monkeypatch.setattr(torrent_files, "read_torrent", busy)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with pytest.raises(SystemExit) as ending:
        main(["show", "x.torrent", "--log-file", "/dev/full"])
    assert ending.value.code == 1
    assert capsys.readouterr().err.splitlines() == [
        "p2pfs: cannot write the log file /dev/full: No space left on device",
        "p2pfs: internal error, please report it: RuntimeError: that is all",
    ]
