"""How a command runs and ends: event loop, signals, logs, error lines, exit codes.

Invariant: a command ends in one of five ways: 0 done, 1 failed with one line on standard
error, 2 wrong usage, 130 after Ctrl-C, 143 after SIGTERM; the last two after the same
clean stop as `exit`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from p2pfs.cli.text import printable
from p2pfs.errors import P2pfsError, UsageError

if TYPE_CHECKING:
    import asyncio

__all__ = ["at_once", "error_text", "exit_code_for", "print_error", "run_async", "start_logging"]

_log = logging.getLogger(__name__)

_HURRY = 2.0

_STOP_SIGNALS = [
    number
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if (number := getattr(signal, name, None)) is not None
]


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what standard error is now: the console replaces it while it draws."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class _LogFile(logging.FileHandler):
    """A disk that is full keeps no command from its work: that is said once."""

    _failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._failed:
            self._failed = True
            reason = f"cannot write the log file {self.baseFilename}: {error.strerror or error}"
            with contextlib.suppress(OSError, ValueError):
                print(f"p2pfs: {printable(reason)}", file=sys.stderr, flush=True)  # noqa: T201


class _OneLine(logging.Formatter):
    """Log lines hold text from peers and trackers: nothing of it may steer a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).split("\n") if record.exc_info else [super().format(record)]
        return "\n".join(printable(line) for line in lines)


def start_logging(verbose: int, log_file: Path | None) -> None:
    """Log to standard error (0: nothing below errors, 1: INFO, 2: DEBUG) and to `log_file`.

    Raises `UsageError` when the file cannot be opened.
    """
    handlers: list[logging.Handler] = []
    level = logging.DEBUG if verbose > 1 else logging.INFO
    if verbose:
        handlers.append(_StandardError())
    if log_file is not None:
        try:
            handlers.append(_LogFile(log_file, encoding="utf-8", errors="replace"))
        except OSError as error:
            raise UsageError(f"cannot write the log file {log_file}: {error.strerror}") from error
    root = logging.getLogger()
    for handler in handlers:
        handler.setLevel(level)
        handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.addHandler(handler)
    if handlers:
        logging.getLogger("p2pfs").setLevel(level)
    elif not root.handlers:
        root.addHandler(logging.NullHandler())


def exit_code_for(error: BaseException) -> int:
    """2 for what the user chose wrongly, 1 for everything else that went wrong."""
    return 2 if isinstance(error, UsageError) else 1


def error_text(error: BaseException) -> str:
    """One printable line that says what went wrong."""
    if isinstance(error, P2pfsError):
        return printable(str(error))
    if isinstance(error, OSError):
        what = error.strerror or str(error)
        return printable(f"{error.filename}: {what}" if error.filename else what)
    return printable(f"internal error, please report it: {type(error).__name__}: {error}")


def print_error(error: BaseException) -> None:
    """Write the one line, and the traceback of a bug to the log."""
    if isinstance(error, BrokenPipeError):
        _silence_broken_output()
        return
    if not isinstance(error, P2pfsError | OSError):
        _log.error("internal error", exc_info=error)
    with contextlib.suppress(OSError, ValueError):
        print(f"p2pfs: {error_text(error)}", file=sys.stderr, flush=True)  # noqa: T201


def _silence_broken_output() -> None:
    """The reader of our output went away: nothing more can be said there."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_LEAVING_AT_ONCE: list[Callable[[], object]] = []


@contextlib.contextmanager
def at_once(mend: Callable[[], object]) -> Iterator[None]:
    """While the block runs, call `mend` before the program is left without its clean-up."""
    _LEAVING_AT_ONCE.append(mend)
    try:
        yield
    finally:
        _LEAVING_AT_ONCE.remove(mend)


class _Signals:
    """The first signal cancels the work, which then cleans up; a second one ends at once.

    With `patient` work, whose clean-up waits for others, the second signal cancels that too,
    and the program ends when the rest takes longer than `_HURRY` seconds, or at a third.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, work: asyncio.Task[int], *, patient: bool
    ) -> None:
        self._loop = loop
        self._work = work
        self._patient = patient
        self.code: int | None = None

    def __enter__(self) -> _Signals:
        for number in _STOP_SIGNALS:
            hangup = number == getattr(signal, "SIGHUP", None)
            if hangup and signal.getsignal(number) is signal.SIG_IGN:
                continue
            try:
                self._loop.add_signal_handler(number, self._stop, number)
            except (NotImplementedError, RuntimeError, ValueError):
                with contextlib.suppress(ValueError, OSError):
                    signal.signal(number, self._stop_from_handler)
        return self

    def __exit__(self, *_: object) -> None:
        for number in _STOP_SIGNALS:
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                self._loop.remove_signal_handler(number)

    def _stop_from_handler(self, number: int, _frame: object) -> None:
        self._loop.call_soon_threadsafe(self._stop, number)

    def _stop(self, number: int) -> None:
        if self.code is not None:
            if not self._patient:
                self._leave()
            self._patient = False
            self._loop.call_later(_HURRY, self._leave)
            self._work.cancel()
            return
        self.code = 128 + (number if number != getattr(signal, "SIGBREAK", 0) else signal.SIGINT)
        _log.info("stopping: signal %d", number)
        self._work.cancel()

    def _leave(self) -> None:
        for mend in _LEAVING_AT_ONCE:
            with contextlib.suppress(Exception):
                mend()
        os._exit(1 if self.code is None else self.code)


def _new_event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def run_async(
    work: Callable[[], Coroutine[Any, Any, int]],
    finish: Callable[[int, str | None], None],
    *,
    patient: bool = False,
) -> None:
    """Run a command's coroutine to its exit code, and raise `typer.Exit` with it.

    A signal cancels the coroutine; what it holds open is closed by its own clean-up. A
    `patient` one may catch that and take its time; a second signal cancels it again. At the
    end `finish` gets the exit code, and the error line if there is one; errors go on.
    """
    import asyncio

    async def supervised() -> int:
        task = asyncio.ensure_future(work())
        with _Signals(asyncio.get_running_loop(), task, patient=patient) as signals:
            try:
                return await task
            except (asyncio.CancelledError, KeyboardInterrupt):
                return 130 if signals.code is None else signals.code
            except Exception:
                if signals.code is None:
                    raise
                _log.exception("while stopping")
                return signals.code

    try:
        with asyncio.Runner(loop_factory=_new_event_loop()) as runner:
            code = runner.run(supervised())
    except Exception as error:
        finish(exit_code_for(error), error_text(error))
        raise
    finish(code, None)
    raise typer.Exit(code)
