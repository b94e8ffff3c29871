"""
What importing loads, and who may import whom.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINT_IMPORTS = Path(sysconfig.get_path("scripts")) / "lint-imports"


def loaded_by(statement: str) -> set[str]:
    """
    Give the modules that a fresh interpreter has loaded after the statement.
    """
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(ran.stdout))


@pytest.mark.parametrize("heavy", ["grpc", "dapr", "google.protobuf", "typer"])
def test_importing_the_toolkit_is_light(heavy: str):
    """
    ``import toolkit`` loads neither the wire nor the command line.
    """
    assert heavy not in loaded_by("import toolkit")


def test_importing_the_errors_loads_nothing_else():
    """
    Code that only catches errors pays for no other part of the toolkit than the package itself.
    """
    ours = {name for name in loaded_by("import toolkit.errors") if name.split(".")[0] == "toolkit"}
    assert ours <= loaded_by("import toolkit") | {"toolkit.errors"}


def test_the_unit_test_form_needs_no_wire():
    """
    A store over ``MemoryStore`` works without ever loading grpc or dapr.
    """
    statement = (
        "from toolkit import StateStore\n"
        "from toolkit.testing import MemoryStore\n"
        "with StateStore('s', port=MemoryStore(profile='sqlite')) as store:\n"
        "    store.create('k', {'n': 1})\n"
    )
    assert {"grpc", "dapr"} & loaded_by(statement) == set()


def lint_imports(where: Path) -> subprocess.CompletedProcess[str]:
    """
    Check the contracts of the tree that lies in a folder.
    """
    command = [str(LINT_IMPORTS), "--no-cache"]
    return subprocess.run(command, cwd=where, capture_output=True, text=True, check=False, timeout=100)


def test_import_contracts_hold():
    """
    Every import contract of ``pyproject.toml`` is kept: layers point down, the core is pure.
    """
    ran = lint_imports(ROOT)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]


@pytest.mark.parametrize(
    ("module", "statement", "seen"),
    [
        ("core/model.py", "import time", "toolkit.core.model -> time"),
        ("stores/profile.py", "import random", "toolkit.stores.profile -> random"),
        ("errors.py", "import toolkit.ports", "toolkit.errors -> toolkit.ports"),
        ("ports.py", "import toolkit.testing", "toolkit.ports -> toolkit.testing"),
    ],
)
def test_import_contracts_catch_a_planted_import(tmp_path: Path, module: str, statement: str, seen: str):
    """
    A forbidden import planted into a copy of the tree breaks a contract, which names it.
    """
    for package in ("toolkit", "workflows"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    planted = tmp_path / "toolkit" / module
    planted.write_text(planted.read_text(encoding="utf-8") + f"\n{statement}\n", encoding="utf-8")
    ran = lint_imports(tmp_path)
    assert (ran.returncode, seen in ran.stdout) == (1, True), ran.stdout[-4000:] + ran.stderr[-2000:]
