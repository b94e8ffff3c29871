"""
``python -m toolkit.sidecar``: find a usable Dapr sidecar or build one, and say which it is.
"""

from __future__ import annotations

import argparse
import sys

from toolkit.sidecar.binaries import SUPPORTED, TESTED, Binaries, find
from toolkit.sidecar.build import build, ensure
from toolkit.sidecar.errors import SidecarError
from toolkit.sidecar.progress import Progress


def describe(binaries: Binaries) -> str:
    """
    One line on a found sidecar, and one on what it lacks.
    """
    line = f"daprd {binaries.version} ({binaries.origin}): {binaries.daprd}"
    if not binaries.version.startswith(TESTED):
        line += f"\nsupported is {SUPPORTED}; this project is tested with {TESTED}"
    if binaries.placement is None or binaries.scheduler is None:
        line += (
            "\nplacement or scheduler is missing: workflows and actors cannot run; --build makes all three"
        )
    return line


def main() -> int:
    """
    Return the exit code: 0 when a sidecar is there, 1 when not.
    """
    parser = argparse.ArgumentParser(
        prog="python -m toolkit.sidecar",
        description="Find a usable Dapr sidecar, or build one from the pinned sources.",
        epilog="example: python -m toolkit.sidecar --build",
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--find", action="store_true", help="only look; build nothing")
    choice.add_argument("--build", action="store_true", help="build, whatever else is on this machine")
    options = parser.parse_args()
    try:
        if options.build:
            sys.stdout.write(f"built: {build(Progress())}\n")
        binaries = find() if options.find else ensure()
    except SidecarError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(describe(binaries) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
