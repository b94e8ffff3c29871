"""
The Go sources of the sidecar, and where what is built from them is kept.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from pathlib import Path
from typing import Final

from toolkit.sidecar.errors import SidecarBuildError

PROGRAMS: Final = ("daprd", "placement", "scheduler")
# Inside an installed wheel the sources lie beside this file (see pyproject.toml, force-include).
_INSTALLED: Final = Path(__file__).with_name("_module")


def checkout_directory() -> Path | None:
    """
    The root of the checkout this package is imported from; None for an installed wheel.
    """
    root = Path(__file__).resolve().parents[2]
    return root if (root / "sidecar" / "go.mod").is_file() and (root / "pyproject.toml").is_file() else None


def module_directory() -> Path:
    """
    The Go module that builds the sidecar.
    """
    if not has_sources():
        raise SidecarBuildError(f"the sources of the sidecar are missing: there is no {_module() / 'go.mod'}")
    return _module()


def has_sources() -> bool:
    """
    Whether the sources are here at all; a repackaged toolkit may have dropped them.
    """
    return (_module() / "go.mod").is_file()


def _module() -> Path:
    checkout = checkout_directory()
    return _INSTALLED if checkout is None else checkout / "sidecar"


def source_hash() -> str:
    """
    A key of everything that decides what a build yields: the sources, and the machine it is for.
    """
    digest = hashlib.sha256(f"{sys.platform} {platform.machine()}\n".encode())
    directory = module_directory()
    for path in sorted(directory.iterdir()):
        if path.suffix in (".go", ".mod", ".sum"):
            digest.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def cache_directory() -> Path:
    """
    Where the binaries of these very sources are kept for every checkout of this user.
    """
    return cache_root() / f"sidecar-{source_hash()}"


def cache_root() -> Path:
    """
    The cache of this project, outside any checkout.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "dapr-occ"


def dapr_version() -> str:
    """
    The Dapr version that the sources pin.
    """
    return _pinned(r"^\s*github\.com/dapr/dapr v(\S+)$")


def go_version() -> tuple[int, int, int]:
    """
    The oldest Go that the sources can be built with.
    """
    major, minor, patch = (_pinned(r"^go (\d+\.\d+(?:\.\d+)?)$") + ".0").split(".")[:3]
    return int(major), int(minor), int(patch)


def _pinned(pattern: str) -> str:
    path = module_directory() / "go.mod"
    found = re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise SidecarBuildError(f"{path} does not say what {pattern!r} looks for")
    return found[1]
