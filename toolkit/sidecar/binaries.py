"""
Where the sidecar's binaries are, and whether their version will do.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from toolkit.sidecar.errors import SidecarNotFoundError, SidecarVersionError
from toolkit.sidecar.module import cache_directory, checkout_directory, has_sources, source_hash

ENVIRONMENT: Final = "OCC_DAPRD"
SUPPORTED: Final = ">=1.16,<2"
TESTED: Final = "1.18.2"
# Beside binaries that were built here: the key of their sources.
STAMP: Final = "SOURCES"
_MINIMUM: Final = (1, 16)
_LIMIT: Final = (2,)
# The history of a workflow is guarded by an ETag from here on, and the actor host speaks gRPC.
_WORKFLOW_MINIMUM: Final = (1, 18)


@dataclass(frozen=True, slots=True)
class Binaries:
    """
    The programs of one Dapr version.

    Attributes:
        daprd: The sidecar.
        version: What it says of itself, for example ``1.18.2``; ``edge`` for a build that was not told.
        placement: The placement service, when it is here; workflows and actors need it.
        scheduler: The scheduler service, likewise.
        origin: Where it was found, for a message.
    """

    daprd: Path
    version: str
    placement: Path | None
    scheduler: Path | None
    origin: str

    def require_control_plane(self) -> tuple[Path, Path]:
        """
        Placement and scheduler, or the reason why workflows cannot run.
        """
        numbers = parse_version(self.version)
        if numbers is not None and numbers < _WORKFLOW_MINIMUM:
            need = ".".join(map(str, _WORKFLOW_MINIMUM))
            raise SidecarVersionError(f"workflows need Dapr {need} or newer; {self.daprd} is {self.version}")
        if self.placement is None or self.scheduler is None:
            missing = "placement" if self.placement is None else "scheduler"
            raise SidecarNotFoundError(
                f"workflows need the {missing} binary; it is neither beside {self.daprd} nor in ~/.dapr/bin, on the "
                "PATH or in .sidecar/bin. `make setup` builds it."
            )
        return self.placement, self.scheduler


def parse_version(text: str) -> tuple[int, int, int] | None:
    """
    The numbers of a version; None for a build without one (``edge``, ``unknown``).
    """
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


def supported(text: str) -> bool:
    """
    Whether the toolkit works with this version; a build without a number is not vouched for.
    """
    numbers = parse_version(text)
    return numbers is not None and _MINIMUM <= numbers < _LIMIT


def version_of(daprd: Path) -> str:
    """
    Ask a daprd for its version.
    """
    try:
        answer = subprocess.run([daprd, "--version"], capture_output=True, text=True, timeout=20, check=False)  # noqa: S603 - the user names it
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SidecarNotFoundError(f"{daprd} cannot be run: {error}") from error
    lines = answer.stdout.split()
    if answer.returncode != 0 or not lines:
        said = (answer.stderr or answer.stdout).strip()[:300]
        raise SidecarNotFoundError(f"{daprd} --version ended with code {answer.returncode}: {said}")
    return lines[0]


def _places() -> Iterator[tuple[str, Path]]:
    yield "~/.dapr/bin", Path.home() / ".dapr" / "bin"
    on_path = shutil.which("daprd")
    if on_path is not None:
        yield "PATH", Path(on_path).parent
    checkout = checkout_directory()
    if checkout is not None:
        yield ".sidecar/bin of the checkout", checkout / ".sidecar" / "bin"
    if has_sources():
        yield "the user's cache", cache_directory()


def find() -> Binaries:
    """
    The first usable daprd of: ``$OCC_DAPRD``, ``~/.dapr/bin``, the PATH, ``.sidecar/bin``, the user's cache.

    ``$OCC_DAPRD`` (the binary, or the directory it is in) is a wish: it is used or refused, never passed over. Elsewhere
    a version outside the supported range is passed over, and named when nothing better is found.
    """
    wish = os.environ.get(ENVIRONMENT)
    if wish:
        return _wished(Path(wish).expanduser())
    passed_over: list[str] = []
    for origin, directory in _places():
        daprd = directory / "daprd"
        if not _runnable(daprd):
            continue
        if _outdated(directory):
            passed_over.append(f"{daprd} was built from older sources")
            continue
        try:
            version = version_of(daprd)
        except SidecarNotFoundError as error:
            passed_over.append(str(error))
            continue
        if supported(version):
            return _binaries(daprd, version, origin)
        passed_over.append(f"{daprd} is {version}, supported is {SUPPORTED}")
    raise SidecarNotFoundError(
        f"no daprd found in ${ENVIRONMENT}, ~/.dapr/bin, the PATH, .sidecar/bin or the user's cache; `make setup` "
        "builds one" + "".join(f"\n  passed over: {line}" for line in passed_over)
    )


def _wished(path: Path) -> Binaries:
    daprd = path / "daprd" if path.is_dir() else path
    if not _runnable(daprd):
        raise SidecarNotFoundError(
            f"${ENVIRONMENT} names {path}, where no executable daprd is; correct or unset it"
        )
    version = version_of(daprd)
    if parse_version(version) is not None and not supported(version):
        raise SidecarVersionError(
            f"${ENVIRONMENT} names {daprd}, which is Dapr {version}; supported is {SUPPORTED}, tested {TESTED}"
        )
    return _binaries(daprd, version, f"${ENVIRONMENT}")


def _binaries(daprd: Path, version: str, origin: str) -> Binaries:
    beside = [daprd.parent, *(directory for _, directory in _places())]
    return Binaries(daprd, version, _first(beside, "placement"), _first(beside, "scheduler"), origin)


def _first(directories: list[Path], name: str) -> Path | None:
    return next((directory / name for directory in directories if _runnable(directory / name)), None)


def _outdated(directory: Path) -> bool:
    stamp = directory / STAMP
    return has_sources() and stamp.is_file() and stamp.read_text(encoding="utf-8").strip() != source_hash()


def _runnable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
