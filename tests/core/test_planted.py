"""
Bugs planted in the decisions of the core: the simulator finds each of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec.structs
import pytest

from toolkit.core import compose
from toolkit.core import judge as judging
from toolkit.core import seen as seeing
from toolkit.core import settle as settling
from toolkit.core import stamp as stamping
from toolkit.core.judge import Base, Fate, judge
from toolkit.core.model import ABSENT, Reply, Row, Write
from toolkit.core.seen import Seen, see
from toolkit.core.settle import Settled
from toolkit.core.stamp import WriteId
from toolkit.core.steps import Put, Steps
from toolkit.stores import Call
from toolkit.testing import _scenario as base
from toolkit.testing.memory import profile_of
from toolkit.testing.scenarios import Finding, Plan, plan_of, scenario
from toolkit.testing.simulate import Hazards, Network

ROUGH = Network(
    drop_request=0.1,
    drop_reply=0.3,
    duplicate=0.15,
    late=0.1,
    late_duplicate=0.15,
    fail_read=0.05,
    late_after=(0.05, 9.0),
)


def hunt(most: int, **changes: Any) -> Finding | None:
    """The first seed of a plan that shows a problem, if one does."""
    for seed in range(most):
        plan: Plan = replace(plan_of(seed), **changes)
        finding = scenario(seed, plan)
        if finding.problems:
            return finding
    return None


def plan(kind: str, profile: str = "in-memory", **changes: Any) -> dict[str, Any]:
    """A plan that is hard on writers, apart from what is said."""
    hard: dict[str, Any] = {
        "kind": kind,
        "profile": profile_of(profile),
        "network": ROUGH,
        "hazards": Hazards(),
        "clients": 3,
        "calls": 3,
        "plain": (),
        "op_ids": True,
        "dressed": 0.0,
        "ack_only": 0.0,
        "bare": False,
    }
    return hard | changes


def trust_a_conflict(patch: pytest.MonkeyPatch) -> None:
    """Take any conflict answer for a miss, without looking whether the own id is there."""
    honest = settling._fate

    def trusting(site: Any, sent: Any, seen: Seen, *, refused: bool) -> Fate:
        return Fate.LOST if refused else honest(site, sent, seen, refused=refused)

    patch.setattr(settling, "_fate", trusting)


def trust_a_liar(patch: pytest.MonkeyPatch) -> None:
    """Take an OK for a success on a store that says so without doing it."""
    original = base.site_of

    def gullible(profile: Any, name: str) -> Any:
        return original(replace(profile, lies=frozenset()), name)

    patch.setattr(base, "site_of", gullible)


def resending(patch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Send a write again with another stamp than the first time."""

    def put(write: Write, timeout: float) -> Put:
        assert write.data is not None
        body = json.loads(write.data)
        if "_occ" in body and body["_occ"].get("k") != "fence":
            body["_occ"] = change(body["_occ"])
        return Put(msgspec.structs.replace(write, data=json.dumps(body).encode()), timeout)

    patch.setattr(settling, "Put", put)


def drop_the_id(patch: pytest.MonkeyPatch) -> None:
    """Leave ids and slots out of what is sent again."""
    resending(patch, lambda stamp: {name: part for name, part in stamp.items() if name not in ("w", "ops")})


def recompute(patch: pytest.MonkeyPatch) -> None:
    """Make what is sent again anew, with the next number of the process."""

    def renumbered(stamp: dict[str, Any]) -> dict[str, Any]:
        return {**stamp, "w": {who: [pair[0] + 1, pair[1]] for who, pair in stamp.get("w", {}).items()}}

    resending(patch, renumbered)


def skip_the_fence(patch: pytest.MonkeyPatch) -> None:
    """At the deadline, take what has not landed yet for lost."""

    def unfenced(_site: Any, _sent: Any, reply: Reply) -> Steps[Settled]:
        yield from ()
        return Settled(Fate.LOST, None, reply)

    patch.setattr(settling, "fence", unfenced)


def judging_as(patch: pytest.MonkeyPatch, believe: Callable[[Base, Seen], Base]) -> None:
    """Judge a write as if it had been built on another read."""

    def decided(base: Base, write: WriteId, seen: Seen, *, refused: bool, counts: bool = False) -> Fate:
        if seen.stamp is not None and seen.valid:
            base = believe(base, seen)
        return judge(base, write, seen, refused=refused, counts=counts)

    patch.setattr(settling, "judge", decided)
    patch.setattr(judging, "judge", decided)


def ignore_drops(patch: pytest.MonkeyPatch) -> None:
    """Take absence after an early drop as proof, in a stamp with few slots."""
    few_slots(patch)
    judging_as(patch, lambda base, seen: msgspec.structs.replace(base, drops=seen.drops))


def few_slots(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stamping, "MAX_SLOTS", 1)


def ignore_the_incarnation(patch: pytest.MonkeyPatch) -> None:
    """Take absence in another life of the key as proof."""
    judging_as(
        patch,
        lambda base, seen: msgspec.structs.replace(base, incarnation=seen.incarnation, drops=seen.drops),
    )


def ignore_the_digest(patch: pytest.MonkeyPatch) -> None:
    """Believe any stamp, also one beside members that a plain writer has changed."""
    patch.setattr(seeing, "_digest", lambda _value, _key: "same")
    patch.setattr(compose, "digest", lambda _members: "same")
    honest = compose.successor

    def blind(seen: Seen, content: Any, write: WriteId, now: float, **parts: Any) -> Any:
        return msgspec.structs.replace(
            honest(seen, content, write, now, **parts), version=str(write), last="", kind=""
        )

    patch.setattr(compose, "successor", blind)
    patch.setattr(settling, "successor", blind)


def compare_values(patch: pytest.MonkeyPatch) -> None:
    """Take the own value under the key for the own write."""
    honest = settling._fate

    def comparing(site: Any, sent: Any, seen: Seen, *, refused: bool) -> Fate:
        mine = see(seen.key, Row(sent.write.data, "mine"))
        if not seen.row.missing and seen.members == mine.members:
            return Fate.LANDED
        return honest(site, sent, seen, refused=refused)

    patch.setattr(settling, "_fate", comparing)


def empty_etag(patch: pytest.MonkeyPatch) -> None:
    """Create with an empty ETag, which Dapr takes for none."""
    patch.setattr(compose, "create_write", lambda _profile, key, data, ttl=None: Write(key, data, ttl=ttl))


def really_delete(patch: pytest.MonkeyPatch) -> None:
    """Delete for real where a stale ETag creates the key again."""
    honest = compose.conditional

    def deleting(profile: Any, seen: Seen, data: bytes, ttl: float | None) -> Write:
        write = honest(profile, seen, data, ttl)
        gone = see(seen.key, Row(data, "?")).value is ABSENT
        return msgspec.structs.replace(write, data=None, ttl=None) if gone and not seen.row.missing else write

    patch.setattr(compose, "conditional", deleting)


def disown_a_bare_value(patch: pytest.MonkeyPatch) -> None:
    """Take a value without an id for another's, also where it is just what was sent."""
    patch.setattr(settling, "_may_be_mine", lambda _sent, _seen: False)


CALM = Network()
REORDERED = Network(late=0.2, late_duplicate=0.3, drop_reply=0.2, late_after=(0.01, 2.0))
SLOW_LOSS = Network(drop_request=0.5, late=0.4, late_after=(1.0, 9.0))

PLANTED: list[tuple[Callable[[pytest.MonkeyPatch], None], dict[str, Any]]] = [
    (trust_a_conflict, plan("tokens")),
    (trust_a_liar, plan("register", ack_only=0.5, network=CALM)),
    (drop_the_id, plan("tokens")),
    (recompute, plan("tokens")),
    (skip_the_fence, plan("tokens", network=SLOW_LOSS, calls=2)),
    (ignore_drops, plan("tokens", network=Network(drop_reply=0.5))),
    (
        ignore_the_incarnation,
        plan("tokens", plain=("drop", "drop"), op_ids=False, network=Network(drop_reply=0.4)),
    ),
    (ignore_the_digest, plan("tokens", plain=("keep", "keep"), network=CALM)),
    (compare_values, plan("register", network=Network(drop_request=0.3, drop_reply=0.2))),
    (empty_etag, plan("register", network=CALM)),
    (really_delete, plan("register", "redis", network=REORDERED)),
    (disown_a_bare_value, plan("tokens", "redis", network=Network(drop_reply=0.3), op_ids=False, bare=True)),
]


@pytest.mark.parametrize(("plant", "under"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_a_planted_bug_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], under: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the same plans are clean; with it one of a few hundred seeds shows a broken promise."""
    under = dict(under)
    if under["ack_only"]:
        under["profile"] = replace(under["profile"], lies=frozenset(Call))
    if plant is ignore_drops:
        few_slots(monkeypatch)
    assert hunt(60, **under) is None
    plant(monkeypatch)
    found = hunt(600, **under)
    assert found is not None, f"{plant.__name__} was not found"
    # A plant that no longer fits the code crashes: that is no broken promise, and proves nothing.
    crashed = [problem for problem in found.problems if "ended with" in problem]
    assert not crashed, f"{plant.__name__} does not fit the code any more: {crashed}"
