import io
import sys
import threading

from p2pfs.cli.hashing import hash_bar


class FakeTerminal(io.StringIO):
    def isatty(self):
        return True


def test_a_still_bar_is_drawn_in_a_terminal_without_a_thread_of_its_own(monkeypatch):
    terminal = FakeTerminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    before = threading.active_count()
    with hash_bar("hashing [photos]", still=True) as draw:
        assert draw is not None
        draw(512, 1024)
        assert threading.active_count() == before
        drawn = terminal.getvalue()
    assert "hashing [photos]" in drawn
    assert "0.5/1.0 KiB" in drawn


def test_nothing_is_drawn_where_nobody_looks(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with hash_bar("hashing") as draw:
        assert draw is None


def test_with_json_every_tenth_is_told_once(capsys):
    with hash_bar("hashing", as_json=True) as tell:
        for done in range(101):
            tell(done, 100)
    assert len(capsys.readouterr().out.splitlines()) == 11
