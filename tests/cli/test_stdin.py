"""Standard input: a terminal which others use too, and more than anybody asks for."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfs.cli.stdin import read_lines

pty = pytest.importorskip("pty", reason="pseudo-terminals need a POSIX system")
fcntl = pytest.importorskip("fcntl")
termios = pytest.importorskip("termios")

READER = """
import asyncio
from p2pfs.cli.stdin import read_lines

async def main():
    print("waiting", flush=True)
    async for line in read_lines():
        print("read", line, flush=True)
        return

asyncio.run(main())
"""

SHELL = f"""
import os, signal, subprocess, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = subprocess.Popen([sys.executable, "-c", {READER!r}], process_group=0, stdout=1)
print("own", sys.stdin.readline().strip(), flush=True)
assert job.poll() is None
os.tcsetpgrp(0, job.pid)
print("foreground", flush=True)
print("ended", job.wait(), flush=True)
"""


def test_a_job_in_the_background_leaves_the_terminal_alone_until_it_is_in_front() -> None:
    master, slave = pty.openpty()
    shell = subprocess.Popen(
        [sys.executable, "-c", SHELL],
        stdin=slave,
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        text=True,
    )
    try:
        assert shell.stdout is not None
        assert shell.stdout.readline() == "waiting\n"
        os.write(master, b"for the shell\n")
        assert shell.stdout.readline() == "own for the shell\n"
        assert shell.stdout.readline() == "foreground\n"
        os.write(master, b"exit\n")
        assert shell.stdout.readline() == "read exit\n"
        assert shell.stdout.readline() == "ended 0\n"
    finally:
        shell.kill()
        shell.communicate()
        os.close(slave)
        os.close(master)


async def test_no_more_is_read_than_is_taken_and_no_line_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lines"
    path.write_text("".join(f"{number}\n" for number in range(200_000)))
    with path.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        lines = read_lines()
        taken = [await anext(lines)]
        await asyncio.sleep(0.2)  # in which a reader without bounds gets far

        position = os.lseek(file.fileno(), 0, os.SEEK_CUR)
        taken += [await anext(lines) for _ in range(199_999)]
        await lines.aclose()

    assert position < 64 * 1024
    assert taken == [str(number) for number in range(200_000)]
