"""Measured figures: the median of the pairs, and the file that keeps the last of each.

Invariant: a result names what it was measured against and with; the file holds one for each
key, so that rows may be measured in several goes.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from targets import target

__all__ = ["Result", "load", "ratios", "save"]


@dataclass(frozen=True)
class Result:
    """`values`: of each pair or run, in the unit of the target; `ours` and `theirs` beside."""

    key: str
    values: list[float]
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    shown_in: str = ""
    note: str = ""

    @property
    def value(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        return min(self.values), max(self.values)

    @property
    def verdict(self) -> str:
        return target(self.key).verdict(self.value)


def ratios(
    key: str, ours: Sequence[float], theirs: Sequence[float], shown_in: str, note: str = ""
) -> Result:
    """Ours over theirs, pair by pair."""
    values = [one / other for one, other in zip(ours, theirs, strict=True)]
    return Result(key, values, list(ours), list(theirs), shown_in, note)


def load(path: Path) -> dict[str, Result]:
    """By key; empty when there is no such file."""
    if not path.exists():
        return {}
    return {one["key"]: Result(**one) for one in json.loads(path.read_text(encoding="utf-8"))}


def save(path: Path, results: Iterable[Result]) -> None:
    """The results of before with these in their places."""
    kept = load(path) | {one.key: one for one in results}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(one) for one in kept.values()], indent=1), encoding="utf-8")
