"""
What the documentation shows is true: its examples run, its other Python blocks parse, docstrings keep their doctests.
"""

from __future__ import annotations

import doctest
import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MARK = "<!-- example -->"
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Block:
    """
    A fenced Python block: where it starts, what it says, whether it is marked as an example that runs.
    """

    page: Path
    line: int
    code: str
    runs: bool

    def compiled(self) -> Any:
        # Blank lines first, so that a failure points at the line of the page.
        return compile("\n" * self.line + self.code, str(self.page), "exec", flags=0x2000)


def blocks_of(page: Path) -> list[Block]:
    """
    Give the Python blocks of a page, in their order.
    """
    text = page.read_text(encoding="utf-8")
    found = []
    for fence in FENCE.finditer(text):
        if fence["language"] not in {"python", "py"}:
            continue
        indent = len(fence["indent"])
        code = "".join(line[indent:] for line in fence["code"].splitlines(keepends=True))
        before = text[: fence.start()].rstrip().rsplit("\n", 1)[-1].strip()
        found.append(Block(page, text.count("\n", 0, fence.start()) + 1, code, runs=before == MARK))
    return found


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


PARSED = [block for page in PAGES for block in blocks_of(page) if not block.runs]
RUNNING = [page for page in PAGES if any(block.runs for block in blocks_of(page))]
DOCTESTED = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for package in ("toolkit", "workflows")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("block", PARSED, ids=lambda block: f"{name_of(block.page)}:{block.line}")
def test_block_parses(block: Block):
    """
    A Python block that is only shown is still Python (``await`` at its top is allowed).
    """
    assert block.compiled() is not None


@pytest.mark.parametrize("page", RUNNING, ids=name_of)
def test_examples_of_a_page_run(page: Path):
    """
    The marked blocks of a page run one after the other, in one namespace, as a reader would type them.
    """
    names: dict[str, Any] = {"__name__": "__example__"}
    ran = 0
    for block in blocks_of(page):
        if block.runs:
            exec(block.compiled(), names)  # noqa: S102
            ran += 1
    assert ran > 0


def test_the_tutorial_runs():
    """
    The tutorial is among the pages that run: a mark that is misspelt would silence it.
    """
    assert "docs/tutorial.md" in [name_of(page) for page in RUNNING]


@pytest.mark.parametrize("name", DOCTESTED)
def test_doctests(name: str):
    """
    The doctests of a module run, and there are some.
    """
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


def test_readme_starts_with_the_two_commands():
    """
    The first code block of the README is the two commands, and the Makefile has both targets.
    """
    first = FENCE.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert first is not None
    commands = re.findall(r"^make (\w+)", first["code"], re.MULTILINE)
    assert commands == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert [name for name in commands if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_links_between_files_resolve():
    """
    Every relative link of the files outside of ``docs/`` leads somewhere (mkdocs checks those inside).
    """
    broken = [
        f"{page}: {target}"
        for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
        for target in re.findall(r"\]\(([^)#\s]+)", (ROOT / page).read_text(encoding="utf-8"))
        if "://" not in target and not (ROOT / target).exists()
    ]
    assert broken == []
