"""Waiting for what has no event of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def until(
    condition: Callable[[], object], seconds: float = 15, what: Callable[[], object] | None = None
) -> None:
    """Return once `condition()` is true; after `seconds` fail, saying `what()`."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        assert loop.time() < end, f"not within {seconds} s" + (f": {what()}" if what else "")
        await asyncio.sleep(0.005)


async def eventually(ask: Callable[[], Awaitable[object]], answer: object) -> None:
    """Return once `ask()` gives `answer`; fails after 20 seconds, saying what it gave."""
    loop = asyncio.get_running_loop()
    end = loop.time() + 20
    while (got := await ask()) != answer:
        assert loop.time() < end, f"still {got!r}, not {answer!r}"
        await asyncio.sleep(0.02)
