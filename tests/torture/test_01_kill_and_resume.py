"""Case 1: kill -9 of a downloader at 20 random moments; no verified piece is fetched again."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.e2e.processes import Lab
from tests.support.kill_and_resume import assert_nothing_was_fetched_twice, kill_and_resume

pytestmark = pytest.mark.torture


def test_a_download_killed_20_times_fetches_no_verified_piece_again(
    lab: Lab, figures: Callable[[str], None]
) -> None:
    count = kill_and_resume(
        lab,
        size=64 << 20,
        piece="256KiB",
        rate="6M",
        kills=20,
        seed=time.time_ns() % 2**32,
        say=figures,
    )
    assert_nothing_was_fetched_twice(count)
