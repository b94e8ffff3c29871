"""
Every Dapr state store the toolkit knows, by component type and version.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from toolkit.stores.nonrelational import NONRELATIONAL
from toolkit.stores.profile import Profile
from toolkit.stores.refused import REFUSED
from toolkit.stores.relational import RELATIONAL

profiles: Final[Mapping[tuple[str, str], Profile]] = MappingProxyType(
    {(profile.type, profile.version): profile for profile in (*RELATIONAL, *NONRELATIONAL, *REFUSED)}
)

aliases: Final[Mapping[str, str]] = MappingProxyType(
    {
        "state.postgres": "state.postgresql",
        "state.yugabyte": "state.yugabytedb",
        "state.sqlite3": "state.sqlite",
        "state.consul": "state.hashicorp.consul",
    }
)

# daprd takes a missing version for the component's default, which is v1 but for this one.
_DEFAULT_VERSIONS: Final = MappingProxyType({"state.yugabytedb": "v2"})


def find(type: str, version: str = "v1") -> Profile:
    """
    Give the profile of a component as its file or the sidecar's metadata names it.

    Types and versions are compared as daprd does: without regard to case, ``v0`` and nothing for the default version.
    A type or version nobody has examined gets a profile of its own: readable, refused for protected writes.
    """
    name = type.strip().lower()
    name = aliases.get(name, name)
    given = version.strip().lower()
    wanted = _DEFAULT_VERSIONS.get(name, "v1") if given in ("", "v0") else given
    return profiles.get((name, wanted)) or unknown(name, wanted)


def named(name: str) -> Profile:
    """
    Give the profile of a short name: ``redis``, ``postgresql/v2``, ``state.sqlite``.
    """
    kind, _, version = name.removeprefix("state.").partition("/")
    return find(f"state.{kind}", version)


def unknown(type: str, version: str) -> Profile:
    """
    Make the profile of a store nobody has examined.
    """
    known = sorted(other for known_type, other in profiles if known_type == type)
    fact = (
        f"Version {version} of {type} has not been examined (known: {', '.join(known)})."
        if known
        else f"{type} {version} is an unknown type: nobody has examined how it treats ETags."
    )
    return Profile(
        type,
        version,
        "D",
        create="none",
        native="none",
        linearizable=False,
        first_write="unknown",
        delete_gone="unknown",
        malformed_etag="unknown",
        reads="unknown",
        reasons=(
            fact,
            (
                "Reading is fine. To write, let 'occ doctor --store NAME --save FILE' probe it and pass the profile it "
                "saves as profile=FILE."
            ),
        ),
    )
