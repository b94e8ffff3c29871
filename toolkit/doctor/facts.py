"""
Profile against found: what each fact should be, and whether a difference is a danger.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from toolkit.stores import Call, Profile
from toolkit.stores._evidence import Fact

TITLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "etags": "returns ETags",
        "blind-write-moves-etag": "a write without an ETag changes the ETag",
        "stale-compare-and-set": "write with a stale ETag",
        "compare-and-set": "write with the current ETag",
        "compare-and-set-on-deleted": "write with the ETag of a deleted key",
        "etag-repeats": "an ETag comes back after delete and create",
        "create": "create, as the profile words it",
        "create-by-first-write": "create by first-write",
        "create-by-impossible-etag": "create by an impossible ETag",
        "first-write": "first-write over an existing key",
        "malformed-etag": "write with a malformed ETag",
        "stale-delete": "delete with a stale ETag",
        "delete-gone": "delete with an ETag, key gone",
        "transaction": "transaction with a stale ETag",
        "transaction-bytes": "values written in a transaction",
        "transaction-first-write": "first-write inside a transaction",
        "transaction-stale-delete": "delete with a stale ETag inside a transaction",
        "raced-creates": "8 creates of one key at once",
        "raced-compare-and-sets": "8 writes with one ETag at once",
        "raced-transactions": "8 transactions over two keys at once",
        "delete-against-compare-and-set": "a delete and 4 writes with one ETag at once",
        "counter": "8 x 40 increments of a counter",
        "ttl": "key with a TTL",
        "ttl-shown": "a read shows the expiry",
        "ttl-kept-by-update": "an update without a TTL keeps the old one",
        "ttl-minus-one": "a TTL of -1",
        "ghost": "an expired key refuses a create",
        "binary": "bytes that are no text",
        "dollar": "a raw value that begins with $",
        "large-integer": "JSON integers above 2**53",
        "case-insensitive-keys": "keys ignore case",
        "bulk": "bulk read",
        "wording": "wording of conflicts",
    }
)


class Match(enum.Enum):
    """
    How a fact compares: WORSE a promise would be broken, BETTER the store does more than the profile counts on,
    DIFFERS neither, NEW the profile says nothing.
    """

    SAME = "same"
    WORSE = "worse"
    BETTER = "better"
    DIFFERS = "differs"
    NEW = "new"


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One line of the report.

    Attributes:
        fact: Its name.
        expected: The values the profile allows, the usual one first; empty when it says nothing.
        found: What the probe found.
    """

    fact: str
    expected: tuple[Fact, ...]
    found: Fact
    match: Match


# What the protocols rely on. Anything else is a difference, not a danger.
_SAFE: Final[Mapping[str, tuple[Fact, ...]]] = {
    "etags": (True,),
    "blind-write-moves-etag": (True,),
    "stale-compare-and-set": ("refused",),
    "compare-and-set": ("written",),
    "compare-and-set-on-deleted": ("refused",),
    "etag-repeats": (False,),
    "create": ("safe",),
    "stale-delete": ("refused",),
    "transaction": ("none applied",),
    "transaction-bytes": ("kept",),
    "transaction-first-write": ("honoured",),
    "transaction-stale-delete": ("honoured",),
    "raced-creates": ("one winner",),
    "raced-transactions": ("one winner",),
    "raced-compare-and-sets": ("one winner",),
    "delete-against-compare-and-set": ("one winner",),
    "counter": ("exact",),
    "ttl": ("expires",),
    "ttl-kept-by-update": (False,),
    "ttl-minus-one": ("clears",),
    "ghost": (False,),
    "binary": ("kept",),
    "dollar": ("kept", "rewritten"),
    "large-integer": ("kept", "rewritten"),
    "case-insensitive-keys": (False,),
    "bulk": ("right",),
    "wording": ("recognised",),
}


def expected(profile: Profile) -> dict[str, tuple[Fact, ...]]:
    """
    Say which values of each fact the profile allows.

    A race that a store can lose is not lost every time, so those facts allow both.
    """
    refused = not profile.accepted
    facts: dict[str, tuple[Fact, ...]] = {
        "etags": (profile.etags,),
        "first-write": (profile.first_write,),
        "delete-gone": (profile.delete_gone,),
        "malformed-etag": (profile.malformed_etag,),
        "compare-and-set": ("written", "not written") if refused else ("written",),
        "compare-and-set-on-deleted": ("creates",)
        if profile.recreates or not profile.etags
        else ("refused",),
        "case-insensitive-keys": (profile.case_insensitive_keys,),
        "bulk": ("right",),
        "ttl": ("expires",) if profile.has_ttl else ("ignored", "refused"),
        "ttl-shown": (profile.shows_ttl,),
        "ttl-kept-by-update": (profile.keeps_ttl,),
        "ghost": (profile.ghosts,),
        "binary": ("changed", "refused") if "binary" in profile.mangles else ("kept",),
        "dollar": ("changed", "refused") if "dollar" in profile.mangles else ("kept", "rewritten"),
        "large-integer": ("changed",) if "large-integer" in profile.mangles else ("kept", "rewritten"),
        "wording": ("recognised",),
    }
    if profile.etags:
        facts["etag-repeats"] = (profile.etag_repeats,)
        facts["stale-compare-and-set"] = ("refused",)
        facts["stale-delete"] = ("refused",)
    else:
        facts["stale-compare-and-set"] = ("written",)
        facts["etag-repeats"] = (True,)
        facts["stale-delete"] = ("deleted",)
    if profile.etags:
        facts["blind-write-moves-etag"] = (not profile.blind_keeps_etag,)
    facts |= _expected_ttl(profile) | _expected_transactions(profile) | _expected_races(profile)
    facts["create"] = ("safe",) if profile.safe_create else ("not offered",)
    return facts


def _expected_ttl(profile: Profile) -> dict[str, tuple[Fact, ...]]:
    if not profile.has_ttl:
        return {}
    if profile.send_ttl == "never":
        return {"ttl-minus-one": ("clears", "expires", "refused")}
    return {"ttl-minus-one": ("clears",)}


def _expected_transactions(profile: Profile) -> dict[str, tuple[Fact, ...]]:
    ignores = profile.multi_ignores
    facts: dict[str, tuple[Fact, ...]] = {
        "transaction-bytes": ("kept",),
        "transaction-first-write": ("ignored",) if Call.CREATE in ignores else ("honoured",),
        "transaction-stale-delete": ("ignored",) if Call.DELETE in ignores else ("honoured",),
    }
    if profile.native != "none":
        facts["transaction"] = ("none applied",)
    else:
        facts["transaction"] = ("unsupported", "fails", "partly applied", "none applied", "all applied")
    return facts


def _expected_races(profile: Profile) -> dict[str, tuple[Fact, ...]]:
    both: tuple[Fact, ...] = ("several winners", "one winner")
    one: tuple[Fact, ...] = ("one winner",)
    any_outcome: tuple[Fact, ...] = (*both, "torn")
    lossy = Call.CAS in profile.lies or not profile.etags
    return {
        "raced-creates": one if profile.safe_create else both,
        "raced-transactions": one if profile.native != "none" else any_outcome,
        "raced-compare-and-sets": both if lossy else one,
        "delete-against-compare-and-set": both if lossy or profile.recreates else one,
        "counter": ("lost updates", "exact") if lossy else ("exact",),
    }


def create_fact(profile: Profile, facts: Mapping[str, Fact]) -> Fact | None:
    """
    Reduce the two recipes of a create to the one the profile uses.
    """
    if profile.create == "none":
        return "not offered"
    return facts.get(f"create-by-{profile.create}")


def compare(profile: Profile, facts: Mapping[str, Fact], *, known: bool) -> list[Finding]:
    """
    Compare what was found with what the profile says.

    Args:
        profile: The profile, or the empty one of an unknown store.
        facts: What was found.
        known: Whether the profile comes from the table; an unknown store has nothing to be compared with.
    """
    allowed = expected(profile) if known else {}
    found = dict(facts)
    create = create_fact(profile, facts)
    if known:
        found = {name: value for name, value in facts.items() if not name.startswith("create-by-")}
        if create is not None:
            found["create"] = create
    order = {name: place for place, name in enumerate(TITLES)}
    names = sorted(found, key=lambda name: (order.get(name, len(order)), name))
    return [_finding(name, allowed.get(name, ()), found[name]) for name in names]


def _finding(name: str, allowed: tuple[Fact, ...], value: Fact) -> Finding:
    if not allowed:
        return Finding(name, allowed, value, Match.NEW)
    if value in allowed:
        return Finding(name, allowed, value, Match.SAME)
    safe = _SAFE.get(name)
    if name == "malformed-etag" and value == "OK":
        match = Match.WORSE
    elif safe is None:
        match = Match.DIFFERS
    else:
        match = Match.BETTER if value in safe else Match.WORSE
    return Finding(name, allowed, value, match)


def disagreements(profile: Profile, facts: Mapping[str, Fact]) -> list[str]:
    """
    List the facts of an evidence file that the profile does not allow, in either direction.
    """
    return [
        f"{finding.fact}: the profile says {' or '.join(map(str, finding.expected))}, found {finding.found}"
        for finding in compare(profile, facts, known=True)
        if finding.match not in (Match.SAME, Match.NEW)
    ]
