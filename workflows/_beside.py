"""
Refuse to start beside packages that overwrite or hide parts of this one.
"""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from typing import Final

LEGACY: Final = "dapr-ext-workflow"
# Distributions known to install a top-level package of this name.
FOREIGN: Final = ("llama-index-workflows",)
MARK: Final = "dapr-occ"


def refuse_legacy() -> None:
    """
    Raise ``ImportError`` when the old workflow extension is installed: it overwrites files of ``dapr.ext.workflow``.
    """
    if _version(LEGACY) is not None:
        raise ImportError(
            f"{LEGACY} {_version(LEGACY)} is installed and overwrites files of dapr.ext.workflow, which dapr 1.19 brings "
            f"itself; run: pip uninstall {LEGACY} && pip install --force-reinstall 'dapr[workflow]>=1.19,<1.20'"
        )


def refuse_foreign(own: Path) -> None:
    """
    Raise ``ImportError`` when another package named ``workflows`` is installed here or stands on ``sys.path``.
    """
    for name in FOREIGN:
        if _version(name) is not None:
            raise ImportError(
                f"{name} {_version(name)} installs a package named workflows too, and the two overwrite each other; "
                f"use an environment of its own for one of them, or: pip uninstall {name}"
            )
    found = foreign_on_path(own, sys.path)
    if found is not None:
        raise ImportError(
            f"another package named workflows is at {found}, beside that of dapr-occ at {own}: which one is imported "
            "depends on the order of sys.path; rename it or take it off the path"
        )


def foreign_on_path(own: Path, entries: list[str]) -> Path | None:
    """
    The first package named ``workflows`` on the path that is not a copy of this one.
    """
    for entry in entries:
        there = Path(entry or ".").absolute() / "workflows" / "__init__.py"
        if there.parent.resolve() == own.resolve() or not there.is_file():
            continue
        if MARK not in there.read_text(encoding="utf-8", errors="replace")[:400]:
            return there.parent
    return None


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
