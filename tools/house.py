"""
The rules of this house that no linter knows; `python -m tools.house` checks every tracked file.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

MAX_FILE = 350
MAX_FUNCTION = 40

# Longer on purpose; each with the reason that was accepted in review.
LONG_FILES: dict[str, str] = {
    "toolkit/cli/_log_views.py": "one short view for each command of the log",
    "toolkit/combine.py": "both colours of one concept, side by side",
    "toolkit/review/engine.py": "one pass over a log; split, its state would be passed around whole",
    "toolkit/testing/memory.py": "the fake: one store, its faults and both ports",
    "tests/actors/test_fenced.py": "the contract of one class",
    "tests/stores/test_classify.py": "the classifier's table, row by row",
    "tests/transactions/test_bodies.py": "what a body may do, in both colours",
}
LONG_FUNCTIONS: dict[str, str] = {
    "bench/bench_transactions.py:contended": "both sides of one measurement, alternating",
    "tests/transactions/test_live.py:test_bank": "one story: transfers, snapshots, a kill, the sum",
    "toolkit/cli/doctor.py:doctor": "its parameters are the command's options",
    "toolkit/doctor/derive.py:derive": "one field of a profile after the other",
    "toolkit/review/live.py:snapshot": "one picture, put together from the live state",
    "toolkit/review/report/html.py:attempts": "one table of the report",
    "toolkit/review/story.py:tell": "one story, told line by line",
}

# Folders that exist on one machine only. The slashes stand apart so that this file passes its own check.
_FOLDERS = ("work", "root", "farm", "Users", r"home/(?!\w*\*)\w+")
MACHINE_PATH = re.compile(r"(?<![\w.)\]}-])/(?:" + "|".join(_FOLDERS) + r")/")
# An address of a registry or a mirror of one: dependencies are named, never located.
REGISTRY = re.compile(
    r"pypi\.org|pythonhosted\.org|registry\.npmjs\.org|npmmirror|proxy\.golang\.org|sum\.golang\.org|goproxy\."
    r"|repo\d?\.maven|crates\.io|--(?:extra-)?index-url[ =]\S*//|GOPROXY=http",
)
LOCK_FILES = frozenset({"uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock"})
MARKS = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")


def tracked() -> list[Path]:
    """
    Give the files git knows, without those deleted in the work tree.
    """
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def name_of(path: Path) -> str:
    """
    Name a file as git does.
    """
    return path.relative_to(ROOT).as_posix()


def functions(tree: ast.Module) -> Iterator[tuple[str, int, int]]:
    """
    Yield each function's name, first line and length; its signature and its docstring do not count.
    """
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        documented = ast.get_docstring(node, clean=False) is not None
        body = node.body[1:] if documented else node.body
        length = (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1 if body else 0
        yield node.name, node.lineno, length


def check_python(path: Path, text: str) -> Iterator[str]:
    """
    Files and functions stay short enough to be read at once, and say nothing that is left to do.
    """
    name = name_of(path)
    lines = text.splitlines()
    if len(lines) > MAX_FILE and name not in LONG_FILES:
        yield f"{name}: {len(lines)} lines, over {MAX_FILE}: split it, or give the reason in LONG_FILES"
    if len(lines) <= MAX_FILE and name in LONG_FILES:
        yield f"{name}: {len(lines)} lines are not over {MAX_FILE}: take it out of LONG_FILES"
    try:
        tree = ast.parse(text, filename=name)
    except SyntaxError as error:
        yield f"{name}:{error.lineno}: not Python: {error.msg}"
        return
    long = {function: (line, length) for function, line, length in functions(tree) if length > MAX_FUNCTION}
    for function, (line, length) in long.items():
        if f"{name}:{function}" not in LONG_FUNCTIONS:
            yield f"{name}:{line}: {function} has {length} lines, over {MAX_FUNCTION}: split it"
    for exempt in LONG_FUNCTIONS:
        file, _, function = exempt.rpartition(":")
        if file == name and function not in long:
            yield f"{exempt}: it is not over {MAX_FUNCTION} lines: take it out of LONG_FUNCTIONS"
    if path != Path(__file__).resolve():
        for number, line_text in enumerate(lines, 1):
            if MARKS.search(line_text):
                yield f"{name}:{number}: a left-over mark: {line_text.strip()[:60]}"


def check_text(path: Path, text: str) -> Iterator[str]:
    """
    Nothing in the repository holds on one machine only, or says where packages come from.
    """
    name = name_of(path)
    for number, line in enumerate(text.splitlines(), 1):
        if MACHINE_PATH.search(line):
            yield f"{name}:{number}: a path of one machine: {line.strip()[:80]}"
        if path != Path(__file__).resolve() and REGISTRY.search(line):
            yield f"{name}:{number}: an address of a package registry: {line.strip()[:80]}"


def check_decisions(names: set[str]) -> Iterator[str]:
    """
    The decisions are numbered without a gap, have the three sections, and stand in the index and the navigation.
    """
    records = sorted(name for name in names if re.fullmatch(r"docs/adr/\d{4}-[a-z0-9-]+\.md", name))
    index = (ROOT / "docs/adr/index.md").read_text(encoding="utf-8")
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for expected, name in enumerate(records, 1):
        file = name.rsplit("/", 1)[1]
        if int(file[:4]) != expected:
            yield f"{name}: expected number {expected:04d}"
        text = (ROOT / name).read_text(encoding="utf-8")
        missing = [head for head in ("Context", "Decision", "Consequences") if f"\n## {head}\n" not in text]
        if missing:
            yield f"{name}: lacks the section {', '.join(missing)}"
        if f"({file})" not in index:
            yield f"docs/adr/index.md: does not list {file}"
        if f"adr/{file}" not in navigation:
            yield f"mkdocs.yml: the navigation lacks adr/{file}"


def problems() -> Iterator[str]:
    """
    Yield everything that breaks a rule, one sentence each.
    """
    files = tracked()
    names = {name_of(path) for path in files}
    yield from (
        f"{name}: lock files record download addresses" for name in names if Path(name).name in LOCK_FILES
    )
    yield from check_decisions(names)
    exempt = {*LONG_FILES, *[function.rpartition(":")[0] for function in LONG_FUNCTIONS]}
    yield from (f"tools/house.py: there is no {name} any more" for name in sorted(exempt - names))
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture or another binary
        yield from check_text(path, text)
        if path.suffix == ".py":
            yield from check_python(path, text)


def main() -> int:
    """
    Print the problems; 0 when there is none.
    """
    found = list(problems())
    for problem in found:
        print(problem)
    print(f"{len(found)} problems with the house rules" if found else "house rules kept")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
