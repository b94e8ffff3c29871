"""
The doctor on a fake store: it finds every lie, derives careful profiles and leaves nothing behind.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.stores.fake_wire import FakeWire
from toolkit import StateStore
from toolkit.core.model import Reply
from toolkit.doctor import PROBES, Match, Op, Report, disagreements, examine
from toolkit.doctor.bench import Bench
from toolkit.doctor.derive import derive
from toolkit.doctor.evidence import of_report, problems, write_if_asked
from toolkit.doctor.expiry import expiry
from toolkit.stores import Call, find, profiles
from toolkit.stores._evidence import path_of, read, write
from toolkit.stores.saved import choose, dumps, load, loads


def run(wire: FakeWire) -> Report:
    """
    Examine a fake store under its own clock.
    """

    def timed(bench: Bench) -> None:
        bench.clock, bench.sleep = lambda: wire.now, wire.sleep
        expiry(bench)

    return examine(wire, "s", probes={**PROBES, "expiry": timed})


def test_an_honest_store_is_as_its_profile_says() -> None:
    """
    No finding differs, nothing is skipped and no scratch key stays.
    """
    wire = FakeWire()
    report = run(wire)
    assert {Match.SAME} == {finding.match for finding in report.findings}
    assert ({}, (), (), {}) == (report.skipped, report.warnings, report.left, wire.rows)


@pytest.mark.parametrize(
    ("lie", "fact", "found"),
    [
        ("blind", "stale-compare-and-set", "written"),
        ("blind", "raced-compare-and-sets", "several winners"),
        ("blind", "stale-delete", "deleted"),
        ("blind", "transaction", "all applied"),
        ("blind", "malformed-etag", "OK"),
        ("false success", "stale-compare-and-set", "acknowledged, not written"),
        ("false success", "create", "acknowledged, not written"),
        ("raced creates", "raced-creates", "several winners"),
        ("drops some", "counter", "lost updates"),
        ("resurrection", "compare-and-set-on-deleted", "creates"),
        ("etags repeat", "etag-repeats", True),
        ("sticky etag", "blind-write-moves-etag", False),
        ("first-write overwrites", "create", "overwrites"),
        ("partial transactions", "transaction", "partly applied"),
        ("encrypted", "transaction-bytes", "changed"),
        ("no transactions", "transaction", "unsupported"),
        ("no etags", "etags", False),
        ("no ttl", "ttl", "ignored"),
        ("ttl kept", "ttl-kept-by-update", True),
        ("ghosts", "ghost", True),
        ("case", "case-insensitive-keys", True),
        ("dollar", "dollar", "changed"),
        ("bulk", "bulk", "wrong"),
    ],
)
def test_every_lie_is_found(lie: str, fact: str, found: str | bool) -> None:
    """
    A store that is worse than its profile in one place is told so, with the place.
    """
    wire = FakeWire(lies=frozenset({lie}))
    report = run(wire)
    worse = {finding.fact: finding.found for finding in report.worse}
    assert found == worse[fact]
    assert {} == wire.rows


@pytest.mark.parametrize(
    ("type", "lie", "one_key", "several_keys", "word"),
    [
        ("state.sqlite", None, "single", "native", "proved on scratch keys"),
        ("state.sqlite", "encrypted", "single", "intents", "do not keep their word"),
        ("state.sqlite", "partial transactions", "single", "intents", "do not keep their word"),
        ("state.redis", None, "single", "intents", "do not keep their word"),
        ("state.etcd", None, None, None, "refused"),
        ("state.sqlserver", None, "single", "native", "if that fails: none"),
        ("state.sqlserver", "encrypted", "single", None, "cannot be created safely"),
        ("state.oracledatabase", None, "single", "native", "accept_unverified=True"),
    ],
)
def test_the_commit_paths_are_named(
    type: str, lie: str | None, one_key: str | None, several_keys: str | None, word: str
) -> None:
    """By what the profile allows and what was seen; in words and in JSON."""
    report = run(FakeWire(type=type, lies=frozenset([lie] if lie else [])))
    told = report.to_json()["commit_paths"]
    assert (told["one_key"], told["several_keys"]) == (one_key, several_keys)
    assert word in told["why"]
    assert str(report.paths).startswith("commit paths: one key: ")


def test_the_wording_of_a_conflict_must_be_known() -> None:
    """
    A refusal the classifier would not take for a conflict is worse than the profile, and quoted.
    """

    class Rude(FakeWire):
        def send(self, op: Op) -> Reply:
            reply = super().send(op)
            return reply if reply.ok else Reply("INTERNAL", "go away")

    report = run(Rude())
    assert "wording" in {finding.fact for finding in report.worse}
    assert any("go away" in warning for warning in report.warnings)


def test_a_store_that_is_better_than_its_profile_is_no_danger() -> None:
    """
    Redis' profile promises little; an honest store behind the name breaks none of it.
    """
    report = run(FakeWire(type="state.azure.tablestorage"))
    better = {finding.fact for finding in report.findings if finding.match is Match.BETTER}
    assert "compare-and-set-on-deleted" in better
    assert "compare-and-set-on-deleted" not in {finding.fact for finding in report.worse}


def test_claims_and_policies_are_told() -> None:
    """
    A capability that does not hold and a resiliency policy beside the store are worth a sentence each.
    """
    report = run(FakeWire(lies=frozenset({"partial transactions", "encrypted"}), policies=("retries",)))
    told = " ".join(report.warnings)
    for words in ("claims TRANSACTIONAL", "encrypted", "retries"):
        assert words in told


def test_a_dead_store_is_reported_not_raised() -> None:
    """
    Probes that cannot start are listed with the reason.
    """

    class Dead(FakeWire):
        def send(self, op: Op) -> Reply:
            return Reply("UNAVAILABLE", "connection refused")

    report = run(Dead())
    assert "connection refused" in report.skipped["compare-and-set with a stale ETag"]


def test_an_interrupted_examination_cleans_up() -> None:
    """
    Scratch keys are removed whatever ends the run.
    """
    wire = FakeWire()

    def stop(bench: Bench) -> None:
        bench.made()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        examine(wire, "s", probes={"stop": stop})
    assert {} == wire.rows


def test_the_profile_of_an_honest_unknown_store(tmp_path: Path) -> None:
    """
    What was found safe is used, what one run cannot prove is not counted on, and the file reads back equal.
    """
    report = run(FakeWire(type="state.new"))
    assert not report.known
    profile = derive(report)
    assert ("state.new", "B", "first-write", "truthful") == (
        profile.type,
        profile.tier,
        profile.create,
        profile.native,
    )
    assert "source" == profile.evidence
    assert Call.CAS in profile.suspects
    path = tmp_path / "profile.json"
    path.write_text(dumps(profile))
    assert profile == load(path)


@pytest.mark.parametrize(
    ("lie", "tier", "reason"),
    [
        ("blind", "D", "stale ETag was not refused"),
        ("no etags", "D", "no ETags"),
        ("sticky etag", "D", "left the ETag as it was"),
        ("false success", "D", "Several writers"),
        ("first-write overwrites", "C", ""),
        ("partial transactions", "C", ""),
        ("encrypted", "C", ""),
    ],
)
def test_the_profile_of_a_lying_unknown_store(lie: str, tier: str, reason: str) -> None:
    """
    A lie costs what rests on it: the whole store, its creates, or its transactions.
    """
    profile = derive(run(FakeWire(type="state.new", lies=frozenset({lie}))))
    assert tier == profile.tier
    assert reason in " ".join(profile.reasons)
    assert (profile.create == "none") == (lie not in ("partial transactions", "encrypted"))
    assert "none" == profile.native or lie == "first-write overwrites"


def test_a_store_takes_a_profile_by_name_or_file(tmp_path: Path) -> None:
    """
    A short name as the table has it, or a file of any name; a type's own default version needs not be named.
    """
    mine = replace(find("state.redis"), type="state.mine")
    plain, suffixed = tmp_path / "mine", tmp_path / "mine.json"
    for file in (plain, suffixed):
        file.write_text(dumps(mine))
    for choice in (mine, plain, suffixed, str(plain), str(suffixed)):
        assert "state.mine" == choose(choice).type
    for name in ("redis", "state.redis", "redis/v1", "Redis"):
        assert find("state.redis") == choose(name)
    assert ("state.yugabytedb", "v2") == (choose("yugabytedb").type, choose("yugabytedb").version)
    assert not choose("nosuch").accepted
    with pytest.raises(OSError, match="no-file"):
        choose(str(tmp_path / "no-file.json"))
    with pytest.raises(TypeError, match="profile="):
        StateStore("s", profile=7)  # type: ignore[arg-type]


def test_every_profile_can_be_saved_and_read() -> None:
    """
    The file format holds every field; evidence does not travel.
    """
    for profile in profiles.values():
        assert replace(profile, evidence="source") == loads(dumps(profile))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "not a saved profile"),
        ("{", "not a saved profile"),
        ('{"format": 2}', "format 2"),
        ('{"format": 1, "type": "state.x", "version": "v1", "tier": "A", "colour": 1}', "colour"),
        ('{"format": 1, "type": "state.x", "version": "v1", "tier": "Z"}', "tier"),
        ('{"format": 1, "type": "state.x"}', "not a saved profile"),
    ],
)
def test_a_broken_profile_file_is_named(text: str, words: str) -> None:
    """
    What is wrong with the file is said.
    """
    with pytest.raises(ValueError, match=words):
        loads(text)


def test_evidence_is_written_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Only OCC_WRITE_EVIDENCE=1 changes the repository.
    """
    monkeypatch.setattr("toolkit.doctor.evidence.path_of", partial(path_of, directory=tmp_path))
    report = run(FakeWire())
    assert not write_if_asked(report, "a fake", {})
    assert [] == list(tmp_path.iterdir())
    assert write_if_asked(report, "a fake", {"OCC_WRITE_EVIDENCE": "1"})
    evidence = read(find("state.sqlite"), tmp_path)
    assert evidence is not None
    assert dict(report.facts) == evidence.facts


def test_a_runtime_the_profile_was_not_made_for_is_told() -> None:
    """
    The facts may have changed there, so the report says so; at the runtime of the profile it says nothing.
    """
    wire = FakeWire()
    for runtime, told in (("1.20.0", True), ("1.18.3", False), ("unknown", False)):
        report = examine(wire, "s", about=replace(wire.about(), runtime=runtime), probes={})
        assert told == any(runtime in warning for warning in report.warnings)


def test_profiles_are_held_against_evidence(tmp_path: Path) -> None:
    """
    Live without a file, a file without live, and a file that disagrees are each told.
    """
    profile = find("state.sqlite")
    live, source = replace(profile, evidence="live"), replace(profile, evidence="source")
    key = (profile.type, profile.version)
    assert "no evidence file" in problems({key: live}, tmp_path)[0]
    day = dt.date(2026, 1, 2)
    write(of_report(run(FakeWire()), "a fake", day), path_of(profile, tmp_path))
    assert [] == problems({key: live}, tmp_path)
    assert "does not say live" in problems({key: source}, tmp_path)[0]
    older = replace(live, runtime=">=1.16,<1.17")
    assert "holds for daprd >=1.16,<1.17, its evidence is of 1.18.2" in problems({key: older}, tmp_path)[0]
    write(
        of_report(run(FakeWire(lies=frozenset({"resurrection"}))), "a fake", day), path_of(profile, tmp_path)
    )
    assert "compare-and-set-on-deleted" in problems({key: live}, tmp_path)[0]
    assert any("belongs to no profile" in text for text in problems({}, tmp_path))


def test_the_profiles_agree_with_the_evidence_of_this_repository() -> None:
    """
    No profile says more, or less, than its evidence file.
    """
    assert [] == problems()


def test_a_race_that_was_won_fairly_by_luck_is_no_disagreement() -> None:
    """
    Etcd loses updates in most runs, not in all.
    """
    assert [] == disagreements(find("state.etcd", "v2"), {"raced-creates": "one winner", "counter": "exact"})
    assert disagreements(find("state.sqlite"), {"raced-creates": "several winners"})
