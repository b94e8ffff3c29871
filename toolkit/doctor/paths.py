"""
How the toolkit commits on a store: what its profile allows, and what the examination found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from toolkit.stores import Profile
from toolkit.stores._evidence import Fact

# What the store's own transactions must have been seen to do, where it was looked for.
_KEPT: Final[Mapping[str, Fact]] = {
    "transaction": "none applied",
    "transaction-bytes": "kept",
    "raced-transactions": "one winner",
}


@dataclass(frozen=True, slots=True)
class CommitPaths:
    """
    The path of a write of one key, and of a transaction over several; ``None`` where there is none.

    Attributes:
        why: What decides the second; a sentence.
    """

    one_key: str | None
    several_keys: str | None
    why: str

    def __str__(self) -> str:
        one, several = self.one_key or "none", self.several_keys or "none"
        return f"commit paths: one key: {one}; several keys: {several}. {self.why}"


def commit_paths(profile: Profile, facts: Mapping[str, Fact]) -> CommitPaths:
    """
    Name the paths as a commit would choose them.
    """
    if not profile.accepted:
        return CommitPaths(None, None, "The store is refused for protected writes.")
    if not profile.linearizable:
        return CommitPaths("single", None, "Its reads are not linearizable.")
    broken = any(facts.get(name, kept) != kept for name, kept in _KEPT.items())
    unverified = " Its profile is known from source only: it takes accept_unverified=True."
    more = unverified if profile.evidence == "source" else ""
    if profile.native == "truthful" and not broken:
        instead = "intents" if profile.safe_create else "none"
        why = f"Its own transactions are proved on scratch keys before the first commit; if that fails: {instead}."
        return CommitPaths("single", "native", why + more)
    if not profile.safe_create:
        return CommitPaths("single", None, "Keys cannot be created safely, which intents need.")
    return CommitPaths("single", "intents", f"Its own transactions do not keep their word.{more}")
