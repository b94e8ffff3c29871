"""
What `make setup` installs stays installable after its packages have had newer releases.
"""

from __future__ import annotations

import re
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PINS = Path(__file__).resolve().parent.parent / "requirements" / "dev.txt"


def pinned() -> dict[str, set[str]]:
    """
    Give the extras with which each package is pinned.
    """
    pins = re.findall(r"^([A-Za-z0-9._-]+)(?:\[([^]]*)\])?==", PINS.read_text(encoding="utf-8"), re.MULTILINE)
    return {canonicalize_name(name): set(extras.split(",")) for name, extras in pins}


def wanted_with_extras() -> dict[str, set[str]]:
    """
    Give the extras that installed packages ask of pinned ones.
    """
    wanted: dict[str, set[str]] = {}
    for distribution in distributions():
        for line in distribution.requires or ():
            needed = Requirement(line)
            if needed.extras and (needed.marker is None or needed.marker.evaluate({"extra": ""})):
                wanted.setdefault(canonicalize_name(needed.name), set()).update(needed.extras)
    return wanted


def test_a_package_is_pinned_with_the_extras_others_ask_of_it() -> None:
    """Pip takes a pin without the extra for no pin, and ends when a newer release has come out since."""
    pins = pinned()
    missing = {name: extras - pins[name] for name, extras in wanted_with_extras().items() if name in pins}
    assert {} == {name: extras for name, extras in missing.items() if extras}
    assert "toml" in pins["coverage"]
