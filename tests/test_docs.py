"""The documentation speaks of things that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def named_tests() -> set[str]:
    return {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }


def test_every_test_named_in_the_protocol_page_exists():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/protocol.md").read_text()))

    assert len(named) > 40
    assert named - named_tests() == set()


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_every_module_named_exists(page):
    text = (ROOT / page).read_text()
    named = set(re.findall(r"\b((?:p2pfs/)?(?:swarm|storage|net|formats|tracker)/\w+\.py)", text))

    assert named
    for path in named:
        assert (ROOT / "p2pfs" / path.removeprefix("p2pfs/")).is_file(), path


def test_every_link_between_pages_leads_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_example_of_the_readme_runs(tmp_path):
    code = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds/3lorem_ipsum.txt").write_bytes(b"something to share\n" * 50_000)

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "complete: output/3lorem_ipsum.txt" in done.stdout
    copy = tmp_path / "output/3lorem_ipsum.txt"
    assert copy.read_bytes() == (tmp_path / "seeds/3lorem_ipsum.txt").read_bytes()
