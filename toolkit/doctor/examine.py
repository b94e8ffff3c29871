"""
One examination: run every probe on scratch keys, clean up, and report.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from toolkit.doctor.bench import Bench, ProbeError
from toolkit.doctor.expiry import EXPIRY
from toolkit.doctor.facts import Finding, Match, compare
from toolkit.doctor.paths import CommitPaths, commit_paths
from toolkit.doctor.probes import SEQUENTIAL
from toolkit.doctor.races import RACES
from toolkit.doctor.wire import About, Wire
from toolkit.stores import Profile, find, profiles
from toolkit.stores._evidence import Fact

PROBES: Mapping[str, Callable[[Bench], None]] = {**SEQUENTIAL, **RACES, **EXPIRY}


@dataclass(frozen=True, slots=True)
class Report:
    """
    What an examination found.

    Attributes:
        name: The component's name.
        known: Whether the table has a profile for its type and version.
        findings: One for each fact.
        facts: What was found, by the name of the fact.
        answers: The raw answers behind them.
        skipped: Probes that could not be made, with the reason.
        warnings: What the sidecar's metadata and the probes say beside the facts.
        left: Scratch keys that could not be removed.
    """

    name: str
    about: About
    profile: Profile
    known: bool
    findings: tuple[Finding, ...]
    facts: Mapping[str, Fact]
    answers: Mapping[str, str]
    skipped: Mapping[str, str]
    warnings: tuple[str, ...]
    left: tuple[str, ...]

    @property
    def worse(self) -> tuple[Finding, ...]:
        """
        The findings that break what the profile promises.
        """
        return tuple(finding for finding in self.findings if finding.match is Match.WORSE)

    @property
    def paths(self) -> CommitPaths:
        """
        How the toolkit commits here.
        """
        return commit_paths(self.profile, self.facts)

    def to_json(self) -> dict[str, Any]:
        """
        Give the report as the object ``occ doctor --json`` prints.
        """
        return {
            "store": self.name,
            "type": self.profile.type,
            "version": self.profile.version,
            "daprd": self.about.runtime,
            "capabilities": list(self.about.capabilities or ()),
            "known": self.known,
            "tier": self.profile.tier,
            "accepted": self.profile.accepted,
            "reasons": list(self.profile.reasons),
            "commit_paths": asdict(self.paths),
            "worse": len(self.worse),
            "findings": [
                {"fact": f.fact, "expected": list(f.expected), "found": f.found, "match": f.match.value}
                for f in self.findings
            ],
            "answers": dict(self.answers),
            "skipped": dict(self.skipped),
            "warnings": list(self.warnings),
            "left": list(self.left),
        }


def _silent(_: str) -> None:
    """
    Report no progress.
    """


def examine(
    wire: Wire,
    name: str,
    *,
    about: About | None = None,
    probes: Mapping[str, Callable[[Bench], None]] = PROBES,
    omit: Mapping[str, str] = MappingProxyType({}),
    progress: Callable[[str], None] = _silent,
) -> Report:
    """
    Probe a store; scratch keys are removed whatever happens.

    Args:
        wire: The store.
        name: Its component name, for the report.
        about: What the sidecar says of it, when that is known already.
        probes: The experiments to make.
        omit: Experiments to leave out, with the reason, such as what an emulator does not play.
        progress: Told the name of each probe before it starts.
    """
    about = about or wire.about()
    profile = find(about.type, about.version)
    known = (profile.type, profile.version) in profiles
    bench = Bench(wire, profile, secrets.token_hex(4))
    left: list[str] = []
    try:
        for title, probe in probes.items():
            if title in omit:
                bench.skipped[title] = omit[title]
                continue
            progress(title)
            try:
                probe(bench)
            except ProbeError as error:
                bench.skipped[title] = bench.tidy(str(error))
    finally:
        progress("cleaning up")
        left = bench.clean()
    if known:
        bench.facts["wording"] = "unrecognised" if bench.unrecognised else "recognised"
    return Report(
        name,
        about,
        profile,
        known,
        tuple(compare(profile, bench.facts, known=known)),
        bench.facts,
        bench.answers,
        bench.skipped,
        (*_age(about, profile), *_claims(about, bench), *bench.notes, *bench.unrecognised),
        tuple(left),
    )


def _age(about: About, profile: Profile) -> list[str]:
    """
    Tell when the profile is not about this version of the runtime.
    """
    if about.runtime == "unknown" or profile.covers(about.runtime):
        return []
    return [
        f"The profile was made for daprd {profile.runtime}, this is {about.runtime}: what is not probed here may differ."
    ]


def _claims(about: About, bench: Bench) -> list[str]:
    """
    Hold the capabilities the component claims against what was found, and tell what lies around the store.
    """
    warnings: list[str] = []
    claims = set(about.capabilities or ())
    facts = bench.facts
    if "TRANSACTIONAL" in claims and facts.get("transaction") in ("partly applied", "all applied", "fails"):
        warnings.append(
            f"The component claims TRANSACTIONAL; a transaction with a stale ETag: {facts['transaction']}."
        )
    if "ETAG" in claims and facts.get("stale-compare-and-set") == "written":
        warnings.append("The component claims ETAG; a write with a stale ETag was written.")
    if about.capabilities is not None and "ETAG" not in claims and facts.get("etags"):
        warnings.append("The component claims no ETAG and gives some; Dapr does not stand behind them.")
    if facts.get("transaction-bytes") == "changed":
        warnings.append(
            "A value written in a transaction is read back changed: an encrypted store. Its transactions are of no "
            "use; the toolkit commits several keys by its own protocol there."
        )
    if about.policies:
        warnings.append(
            f"The sidecar has resiliency policies ({', '.join(about.policies)}): a retry on a state store turns a "
            "lost reply into a conflict with oneself. The toolkit resolves that; hand-written loops do not."
        )
    return warnings
