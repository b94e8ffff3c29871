"""
Evidence taken and held against the profiles.

The tests that run the doctor on live stores write the files when ``OCC_WRITE_EVIDENCE=1`` is set; the check that no
profile says more than its evidence is a test too.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from toolkit.doctor.examine import Report
from toolkit.doctor.facts import disagreements
from toolkit.stores import Profile, profiles
from toolkit.stores._evidence import DIRECTORY, Evidence, path_of, read, write

SWITCH: Final = "OCC_WRITE_EVIDENCE"


def of_report(report: Report, server: str, today: dt.date) -> Evidence:
    """
    Make the evidence of a report.
    """
    return Evidence(
        report.profile.type,
        report.profile.version,
        report.about.runtime,
        today.isoformat(),
        server,
        dict(sorted(report.facts.items())),
        dict(sorted(report.answers.items())),
        dict(sorted(report.skipped.items())),
    )


def write_if_asked(report: Report, server: str, environ: Mapping[str, str] = os.environ) -> bool:
    """
    Write the evidence of a report when ``OCC_WRITE_EVIDENCE=1`` asks for it.
    """
    if environ.get(SWITCH) != "1":
        return False
    today = dt.datetime.now(dt.UTC).date()
    write(of_report(report, server, today), path_of(report.profile))
    return True


def problems(table: Mapping[tuple[str, str], Profile] = profiles, directory: Path = DIRECTORY) -> list[str]:
    """
    Hold the profiles against the evidence, in both directions; an empty list is good.
    """
    found: list[str] = []
    for profile in table.values():
        name = f"{profile.type} {profile.version}"
        evidence = read(profile, directory)
        if evidence is None:
            if profile.evidence == "live":
                found.append(f"{name} says live and has no evidence file {path_of(profile, directory).name}")
            continue
        if profile.evidence != "live":
            found.append(f"{name} has an evidence file and does not say live")
        if not profile.covers(evidence.daprd):
            found.append(f"{name} holds for daprd {profile.runtime}, its evidence is of {evidence.daprd}")
        found.extend(f"{name}: {text}" for text in disagreements(profile, evidence.facts))
    known = {path_of(profile, directory).name for profile in table.values()}
    found.extend(
        f"{p.name} belongs to no profile" for p in sorted(directory.glob("*.json")) if p.name not in known
    )
    return found
