"""
What the tests of live stores demand of a doctor's report.
"""

from __future__ import annotations

import re
import subprocess

from toolkit.doctor import Match, Report
from toolkit.testing._server import Server


def assert_as_profiled(report: Report) -> None:
    """
    Every fact is the profile's, every probe was made that can be, and no scratch key stays.
    """
    assert {} == {f.fact: (f.expected, f.found) for f in report.findings if f.match is not Match.SAME}
    assert () == report.left
    assert set(report.skipped) <= {"raced-creates", "expiry"}


def versioned(product: str, server: type[Server]) -> str:
    """
    Name a server with its version, as an evidence file does.
    """
    program = next(iter(server.find().values()))
    text = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=True, timeout=20
    ).stdout
    version = re.search(r"\d+\.\d+(\.\d+)?", text)
    return f"{product} {version.group() if version else 'of unknown version'}"
