"""kill -9 of a downloader: what was verified is not fetched again."""

from __future__ import annotations

from collections.abc import Callable

from tests.e2e.processes import Lab
from tests.support.kill_and_resume import assert_nothing_was_fetched_twice, kill_and_resume


def test_a_download_killed_three_times_fetches_no_verified_piece_again(
    lab: Lab, figures: Callable[[str], None]
) -> None:
    count = kill_and_resume(
        lab, size=4_000_011, piece="32KiB", rate="4M", kills=3, seed=1, say=figures
    )
    assert_nothing_was_fetched_twice(count)
