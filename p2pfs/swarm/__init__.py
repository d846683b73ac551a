"""Decisions. `now` and `rng` are arguments; no I/O."""
