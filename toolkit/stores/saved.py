"""
Profiles in files: what ``occ doctor --save`` writes and ``StateStore(..., profile=FILE)`` reads.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Final

import msgspec

from toolkit.stores.profile import Profile
from toolkit.stores.table import named, profiles

FORMAT: Final = 1


def dumps(profile: Profile) -> str:
    """
    Write a profile as JSON text; only what differs from the defaults.
    """
    required = {"type", "version", "tier"}
    fields: dict[str, Any] = {"format": FORMAT}
    for field in dataclasses.fields(profile):
        value = getattr(profile, field.name)
        if field.name in required or value != field.default:
            fields[field.name] = msgspec.to_builtins(value)
            if isinstance(value, frozenset):
                fields[field.name] = sorted(fields[field.name])
    return msgspec.json.format(msgspec.json.encode(fields), indent=2).decode() + "\n"


def loads(text: str | bytes, source: str = "profile") -> Profile:
    """
    Read what ``dumps`` wrote.

    Raises:
        ValueError: It is not a profile; the message names the field.
    """
    try:
        fields = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ValueError(f"{source} is not a saved profile: {error}") from error
    found = fields.pop("format", None)
    if found != FORMAT:
        raise ValueError(
            f"{source} is a saved profile of format {found!r}; this version reads format {FORMAT}"
        )
    strange = sorted(set(fields) - {field.name for field in dataclasses.fields(Profile)})
    if strange:
        raise ValueError(f"{source} names fields no profile has: {', '.join(strange)}")
    # Only this repository's evidence files make a profile live.
    fields["evidence"] = "source"
    try:
        return msgspec.convert(fields, Profile)
    except msgspec.ValidationError as error:
        raise ValueError(f"{source} is not a saved profile: {error}") from error


def choose(choice: Profile | Path | str) -> Profile:
    """
    Give the profile that ``StateStore(..., profile=...)`` means: itself, a file, or a short name such as ``redis``.

    Raises:
        ValueError: The file holds no profile.
        OSError: The file cannot be read.
    """
    if isinstance(choice, Profile):
        return choice
    if isinstance(choice, Path) or choice.endswith(".json"):
        return load(choice)
    profile = named(choice)
    known = (profile.type, profile.version) in profiles
    return load(choice) if not known and Path(choice).is_file() else profile


def load(path: str | Path) -> Profile:
    """
    Read a profile from a file.

    Raises:
        ValueError: The file holds no profile.
        OSError: The file cannot be read.
    """
    return loads(Path(path).read_bytes(), str(path))
