"""The console in a terminal: live bars, and a line to type commands on.

Invariant: the screen's last lines are the input line and the bars; everything else is
printed above them, and what is being typed stays as it is while the bars move.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from p2pfs.cli import views
from p2pfs.cli.run import at_once
from p2pfs.cli.screen import PlainScreen
from p2pfs.cli.text import printable, write_out

if TYPE_CHECKING:
    from prompt_toolkit.application import Application
    from prompt_toolkit.key_binding.key_processor import KeyPressEvent

    from p2pfs.net.progress import Progress

__all__ = ["ConsoleScreen"]

_PROMPT = "p2pfs> "
_REDRAW_EVERY = 0.25


class ConsoleScreen(PlainScreen):
    """Lines above, the input line and the bars below."""

    live = True
    colour = True

    def __init__(self, role: str) -> None:
        super().__init__(role)
        self._prompt = _PROMPT
        self._snapshot: Callable[[], Sequence[Progress]] = lambda: self.latest
        self._application: Application[None] | None = None
        self._printing: asyncio.Future[None] | None = None

    def ready(self, addresses: Sequence[tuple[str, int]], **detail: Any) -> None:
        _erase_echo()
        super().ready(addresses, **detail)

    def watch(self, snapshot: Callable[[], Sequence[Progress]]) -> None:
        self._snapshot = snapshot

    def ask(self, prompt: str) -> None:
        self._prompt = prompt

    def write_error(self, text: str) -> None:
        self.write(text)

    def write(self, text: str) -> None:
        application = self._application
        if application is None or not application.is_running:
            super().write(text)
            return
        from prompt_toolkit.application import run_in_terminal

        def above() -> None:
            out = application.output
            out.enable_autowrap()
            out.write_raw(text.replace("\n", "\r\n") + "\r\n")
            out.flush()

        self._printing = asyncio.ensure_future(run_in_terminal(above))

    def _bars(self) -> list[str]:
        progress = self._snapshot()
        if not progress or self._application is None:
            return [self.status()]
        return views.bar_lines(progress, self._application.output.get_size().columns - 1)

    def _build(self, handle: Callable[[str], None], ended: Callable[[], None]) -> Application[None]:
        from prompt_toolkit.application import Application
        from prompt_toolkit.buffer import Buffer
        from prompt_toolkit.history import InMemoryHistory
        from prompt_toolkit.key_binding import KeyBindings
        from prompt_toolkit.layout import (
            BufferControl,
            Dimension,
            FormattedTextControl,
            HSplit,
            Layout,
            Window,
        )

        def accept(buffer: Buffer) -> bool:
            for text in buffer.text.splitlines() or [""]:  # several when they were pasted
                self.write(self._prompt + printable(text))
                handle(text)
            return False

        keys = KeyBindings()

        @keys.add("c-c")
        def _interrupt(_: KeyPressEvent) -> None:
            signal.raise_signal(signal.SIGINT)

        @keys.add("c-d", eager=True)
        def _end_of_input(event: KeyPressEvent) -> None:
            """On an empty line the end of input, which some take for `exit`; not the last one."""
            if event.current_buffer.text:
                event.current_buffer.delete()
            else:
                ended()

        @keys.add("c-z")
        def _suspend(event: KeyPressEvent) -> None:
            event.app.suspend_to_background()

        line = Buffer(multiline=False, accept_handler=accept, history=InMemoryHistory())
        typed = Window(BufferControl(line), height=1, get_line_prefix=lambda *_: self._prompt)
        bar = Window(
            FormattedTextControl(lambda: "\n".join(self._bars())),
            height=lambda: Dimension.exact(len(self._bars())),
            style="reverse",
        )
        application: Application[None] = Application(
            layout=Layout(HSplit([typed, bar]), focused_element=typed),
            key_bindings=keys,
            refresh_interval=_REDRAW_EVERY,
            erase_when_done=True,
        )
        if hasattr(application.output, "enable_cpr"):
            application.output.enable_cpr = False
        return application

    async def commands(
        self, handle: Callable[[str], None], ended: Callable[[], None] = lambda: None
    ) -> None:
        from prompt_toolkit.patch_stdout import patch_stdout

        application: Application[Any] = self._build(handle, ended)
        with patch_stdout(raw=True), at_once(_terminal_as_it_is(application)):
            self._application = application
            running = asyncio.ensure_future(application.run_async(_erase_echo, handle_sigint=False))
            try:
                await asyncio.shield(running)
            finally:
                await self._close(application, running)
                self._application = None
        sys.stdout.flush()

    async def _close(self, application: Application[Any], running: asyncio.Future[Any]) -> None:
        """Print what is still to be printed, then give the terminal back as it was."""
        if self._printing is not None and not self._printing.done():
            await asyncio.wait([self._printing], timeout=1)
        if not running.done():
            if application.is_running:
                application.exit()
            else:
                running.cancel()
            await asyncio.wait([running], timeout=2)


def _erase_echo() -> None:
    """What was typed before the prompt is there comes again, on its line."""
    if sys.platform != "win32":  # where nothing is echoed before it is read
        write_out("\r\x1b[K")


def _terminal_as_it_is(application: Application[Any]) -> Callable[[], None]:
    """What gives the terminal back as it is now, when there is no time to close in order."""
    try:
        import termios

        number = sys.stdin.fileno()
        before = termios.tcgetattr(number)
    except (ImportError, OSError, ValueError):  # Windows, whose console is per program
        return lambda: None

    def restore() -> None:
        application.renderer.erase()
        application.output.disable_bracketed_paste()
        application.output.flush()
        termios.tcsetattr(number, termios.TCSADRAIN, before)

    return restore
