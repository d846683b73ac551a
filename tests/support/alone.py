"""Python in a process of its own, which has one thread."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def run_python(*code: str, arguments: tuple[object, ...] = ()) -> str:
    """What it says on standard output; an exit code other than 0 is an error with its stderr."""
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(map(textwrap.dedent, code)), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
