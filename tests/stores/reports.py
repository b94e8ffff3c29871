"""
What the tests of live stores demand of a doctor's report.
"""

from __future__ import annotations

from toolkit.doctor import Match, Report


def assert_as_profiled(report: Report) -> None:
    """
    Every fact is the profile's, every probe was made that can be, and no scratch key stays.
    """
    assert {} == {
        f.fact: (f.expected, f.found) for f in report.findings if f.match not in (Match.SAME, Match.NEW)
    }
    assert () == report.left
    assert set(report.skipped) <= {"raced-creates", "expiry"}
