"""
Evidence files: what an examination on a real daprd found, kept beside the profiles it backs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from toolkit.stores.profile import Profile

DIRECTORY: Final = Path(__file__).parent / "evidence"

Fact: TypeAlias = str | bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """
    One file.

    Attributes:
        daprd: The version of the runtime it was taken through.
        date: The day, UTC.
        server: What stood behind the component, such as ``Redis 7.0`` or an emulator.
        facts: What was found.
        answers: The raw answers.
        skipped: What could not be probed, with the reason.
    """

    type: str
    version: str
    daprd: str
    date: str
    server: str
    facts: dict[str, Fact]
    answers: dict[str, str]
    skipped: dict[str, str]


def path_of(profile: Profile, directory: Path = DIRECTORY) -> Path:
    """
    Name the evidence file of a profile.
    """
    return directory / f"{profile.type.removeprefix('state.')}-{profile.version}.json"


def write(evidence: Evidence, path: Path) -> None:
    """
    Write one file, sorted and indented, so that a change of one answer is a change of one line.
    """
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(evidence), indent=2) + b"\n")


def read(profile: Profile, directory: Path = DIRECTORY) -> Evidence | None:
    """
    Read the evidence of a profile, if there is any.

    Raises:
        ValueError: The file is not evidence of this profile.
    """
    path = path_of(profile, directory)
    if not path.exists():
        return None
    try:
        evidence = msgspec.json.decode(path.read_bytes(), type=Evidence)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path.name} is not an evidence file: {error}") from error
    if (evidence.type, evidence.version) != (profile.type, profile.version):
        raise ValueError(f"{path.name} is evidence of {evidence.type} {evidence.version}")
    return evidence
