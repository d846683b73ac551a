"""Bytes to values and back. No clock, no file, no socket."""
