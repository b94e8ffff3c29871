"""
A profile for a store nobody has examined, made from what the doctor found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from toolkit.doctor.examine import Report
from toolkit.stores import Call, Profile
from toolkit.stores._evidence import Fact

_CONDITIONAL: Final = frozenset({Call.CREATE, Call.CAS, Call.DELETE, Call.MULTI})

# A fact that must hold for a protected write, and the reason to refuse when it does not.
_REQUIRED: Final[tuple[tuple[str, Fact, str], ...]] = (
    ("etags", True, "The store returned no ETags."),
    ("stale-compare-and-set", "refused", "A write with a stale ETag was not refused."),
    ("compare-and-set", "written", "A write with the current ETag was not written."),
    ("blind-write-moves-etag", True, "A write without an ETag left the ETag as it was."),
    ("raced-compare-and-sets", "one winner", "Several writers with one ETag were answered OK."),
    ("counter", "exact", "Acknowledged updates of a counter were lost."),
    ("stale-delete", "refused", "A delete with a stale ETag was not refused."),
)
_PREFIX: Final = re.compile(
    r"^(failed saving state in state store [^:]*: |error while executing state transaction: )"
)


def derive(report: Report) -> Profile:
    """
    Make a profile that counts on nothing the doctor did not see.

    It is careful where one run on one machine proves little: every conflict is confirmed by a re-read and drivers are
    taken to send twice. Whether strong reads are linearizable no run tells: transactions over several keys need the
    word of whoever passes ``accept_unverified=True``.
    """
    facts = report.facts
    reasons = tuple(
        reason if name in facts else f"Not found out: {name}."
        for name, value, reason in _REQUIRED
        if facts.get(name) != value
    )
    create = _create(facts)
    native = _native(facts)
    if reasons:
        create, native = "none", "none"
    has_ttl = facts.get("ttl") == "expires"
    return Profile(
        report.about.type,
        report.about.version or "v1",
        "D" if reasons else "B" if native == "truthful" and create != "none" else "C",
        create=create,
        native=native,
        send_ttl=_send_ttl(facts) if has_ttl else "never",
        has_ttl=has_ttl,
        etag_repeats=facts.get("etag-repeats") is not False,
        recreates=facts.get("compare-and-set-on-deleted") != "refused",
        suspects=_CONDITIONAL,
        resends=True,
        strong_reads=True,
        create_texts=_texts(report, "create-over-existing", "first-write-over-plain"),
        multi_conflict_texts=_texts(report, "transaction-stale", "transaction-first-write"),
        reasons=reasons,
        cautions=(f"Made by 'occ doctor' with daprd {report.about.runtime}; nobody has reviewed it.",),
        etags=facts.get("etags") is True,
        blind_keeps_etag=facts.get("blind-write-moves-etag") is False,
        keeps_ttl=facts.get("ttl-kept-by-update") is True,
        shows_ttl=facts.get("ttl-shown") is True,
        ghosts=facts.get("ghost") is True,
        case_insensitive_keys=facts.get("case-insensitive-keys") is True,
        bulk_false_missing=True,
        mangles=frozenset(
            name
            for name in ("binary", "dollar", "large-integer")
            if facts.get(name) in ("changed", "refused")
        ),
        reads="not examined",
    )


def _create(facts: Mapping[str, Fact]) -> Literal["first-write", "impossible-etag", "none"]:
    if facts.get("raced-creates") != "one winner":
        return "none"
    if facts.get("create-by-first-write") == "safe":
        return "first-write"
    return "impossible-etag" if facts.get("create-by-impossible-etag") == "safe" else "none"


def _native(facts: Mapping[str, Fact]) -> Literal["truthful", "none"]:
    wanted: tuple[tuple[str, Fact], ...] = (
        ("transaction", "none applied"),
        ("transaction-bytes", "kept"),
        ("transaction-first-write", "honoured"),
        ("raced-transactions", "one winner"),
    )
    return "truthful" if all(facts.get(name) == value for name, value in wanted) else "none"


def _send_ttl(facts: Mapping[str, Fact]) -> Literal["always", "when-set", "never"]:
    if facts.get("ghost") is not False:
        return "never"
    if facts.get("ttl-kept-by-update") is True:
        return "always" if facts.get("ttl-minus-one") == "clears" else "never"
    return "when-set"


def _texts(report: Report, *probes: str) -> tuple[str, ...]:
    """
    Take the wording of conflicts that came as INTERNAL, without daprd's prefix and anything about the key.
    """
    found: list[str] = []
    for probe in probes:
        code, _, text = report.answers.get(probe, "").partition(" ")
        wording = _PREFIX.sub("", text)
        if code == "INTERNAL" and len(wording) >= 8 and "RUN" not in wording and wording not in found:
            found.append(wording)
    return tuple(found)
