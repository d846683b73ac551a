"""Figures: what a test measured, shown at the end of the run, also of tests that pass.

Nobody looks for peers on the network of this machine, where other tests may run, except
where that is what is tested. Ctrl-C works in what the tests start, also where they were
themselves started in the background, where a shell has it ignored.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

os.environ["P2PFS_NO_LSD"] = "1"
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Takes a line of what was measured."""
    return lambda line: record_property("figures", line)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [
        report
        for kind in ("passed", "failed")
        for report in terminalreporter.stats.get(kind, ())
        if any(name == "figures" for name, _ in getattr(report, "user_properties", ()))
    ]
    if not reports:
        return
    terminalreporter.section("figures")
    for report in sorted(reports, key=lambda report: report.nodeid):
        terminalreporter.write_line(report.nodeid.removeprefix("tests/"))
        for name, line in report.user_properties:
            if name == "figures":
                terminalreporter.write_line(f"    {line}")
