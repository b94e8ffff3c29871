"""
One writer among others: plain writers, newer formats, rubbish, and the neighbours in its own batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.core.line import LOST, befall, puts, stored
from tests.core.support import EPOCH, PROFILES, Script, add, job, make_site, result_of
from toolkit.core.model import Outcome, Reply, Row, Write
from toolkit.core.policy import RetryPolicy
from toolkit.core.resolve import outcome_of
from toolkit.core.steps import Multi, Put, Step
from toolkit.core.value import encode
from toolkit.errors import (
    AttemptsExhaustedError,
    CorruptValueError,
    InvalidValueError,
    OutcomeUnknownError,
    StoreUnavailableError,
    ValueTooLargeError,
)
from toolkit.testing.memory import MemoryWorld

PLAIN: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "keep": lambda stored: {**stored, "n": stored["n"] + 100},
    "drop": lambda stored: {"n": stored["n"] + 100},
    "echo": lambda stored: {"n": stored["n"] + 100, "_occ": stored.get("_occ")},
}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("manner", PLAIN)
@pytest.mark.parametrize("landed", [True, False])
def test_a_plain_writer_is_never_taken_for_us(profile: str, manner: str, landed: bool) -> None:
    """
    A plain write with its ETag after ours, or instead of ours, with the answer lost.

    Where it kept the stamp, our id in it tells; where it dropped it nobody can know. Both effects are there either way.
    """
    import msgspec

    script = Script(stored(profile))

    def hook(number: int, step: Step[Any]) -> Row | Reply | None:
        if number != 1:
            return None
        if landed:
            script.ask(step)
        row = script.world.get("k")
        after = msgspec.json.encode(PLAIN[manner](msgspec.json.decode(row.data)))
        assert script.world.put(Write("k", after, etag=row.etag)).ok
        return LOST

    script.befall = hook
    writer = script.run(make_site(profile, observed=True), job("update", change=add()))
    if landed and manner != "drop":
        assert (result_of(writer), script.value()) == ({"n": 1}, {"n": 101})
    elif not landed and profile == "redis":
        # Its ETag counts: one write since the read, and it was not ours.
        assert (result_of(writer), script.value()) == ({"n": 101}, {"n": 101})
    else:
        assert isinstance(result_of(writer), OutcomeUnknownError)
        assert script.value() == {"n": 101 if landed else 100}


@pytest.mark.parametrize("manner", PLAIN)
def test_a_plain_write_is_logged_as_foreign(manner: str) -> None:
    """A conflict with a plain writer names it foreign, and the update goes on from its value."""
    import msgspec

    script = Script(stored("in-memory"))

    def hook(number: int, step: Step[Any]) -> Row | Reply | None:
        if number == 1:
            row = script.world.get("k")
            script.world.put(Write("k", msgspec.json.encode(PLAIN[manner](msgspec.json.decode(row.data)))))
        return None

    script.befall = hook
    writer = script.run(make_site(observed=True), job("update", change=add()))
    assert (result_of(writer), script.value()) == ({"n": 101}, {"n": 101})
    (conflict,) = [event for event in script.events if event.name == "occ.conflict"]
    assert (conflict.fields["winner_kind"], "winner" in conflict.fields) == ("foreign", False)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("landed", [True, False])
@pytest.mark.parametrize(
    ("before", "call", "after"),
    [
        (b"5", {"verb": "update", "change": lambda value: value + 1}, b"6"),
        (b"[1]", {"verb": "update", "change": lambda value: [*value, 2]}, b"[1,2]"),
        (b'{"n": 5}', {"verb": "update", "change": lambda value: value["n"] + 1}, b"6"),
        (None, {"verb": "create", "value": 5}, b"5"),
    ],
    ids=["scalar", "list", "object to scalar", "create"],
)
def test_a_plain_value_with_a_lost_answer(
    profile: str, landed: bool, before: bytes | None, call: dict[str, Any], after: bytes
) -> None:
    """It carries no id: unmoved it is sent again, moved nobody can know and the caller is told so."""
    script = Script(MemoryWorld(profile))
    if before is not None:
        script.world.put(Write("k", before))
    befall(script, "silent" if landed else "lost")
    result = result_of(script.run(make_site(profile), job(**call)))
    assert script.world.get("k").data == after
    assert isinstance(result, OutcomeUnknownError) if landed else not isinstance(result, Exception)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("theirs", [6, 7])
def test_a_plain_value_that_lost_a_race(profile: str, theirs: int) -> None:
    """A definite conflict is a miss (ADR 12), also where the winner wrote the very same value."""
    script = Script(MemoryWorld(profile))
    script.world.put(Write("k", b"5"))

    def rival(number: int, _step: Step[Any]) -> None:
        if number == 1:
            script.world.put(Write("k", b"%d" % theirs))

    script.befall = rival
    writer = script.run(make_site(profile), job("update", change=lambda value: value + 1))
    assert (result_of(writer), script.value()) == (theirs + 1, theirs + 1)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_conflict_while_the_version_stands_proves_nothing(profile: str) -> None:
    """
    An outage worded as a conflict, then the resend arrives twice: its second copy is refused by its first.

    Two conflicts were answered and the value moved: it is not taken for another's, nothing is counted twice.
    """
    script = Script(MemoryWorld(profile))
    script.world.put(Write("k", b"5"))
    refused = Reply("ABORTED", "possible etag mismatch. error from state store: failed to set key k")
    sends = 0

    def hook(_number: int, step: Step[Any]) -> Row | Reply | None:
        nonlocal sends
        if not isinstance(step, Put):
            return None
        sends += 1
        if sends == 2:
            script.ask(step)
        return refused if sends <= 2 else None

    script.befall = hook
    result = result_of(script.run(make_site(profile), job("update", change=lambda value: value + 1)))
    assert isinstance(result, OutcomeUnknownError)
    assert script.value() == 6


def test_another_value_one_write_later_is_a_miss() -> None:
    """Where ETags count, a lost answer and another value one write later prove that the own write did not land."""
    script = Script(MemoryWorld("redis"))
    script.world.put(Write("k", b"5"))

    def outrun(number: int, _step: Step[Any]) -> Row | Reply | None:
        if number != 1:
            return None
        script.world.put(Write("k", b"70"))
        return LOST

    script.befall = outrun
    writer = script.run(make_site("redis"), job("update", change=lambda value: value + 1))
    assert (result_of(writer), script.value()) == (71, 71)


def test_a_sweep_under_way_deletes_nothing_that_came_since() -> None:
    """
    The delete of an expired row is not answered, and the store collects the row itself.

    When the delete arrives the key has been created anew: it is refused.
    """
    script = Script(MemoryWorld("mysql"))
    script.world.put(Write("k", b'{"n": 1}', ttl=1))
    script.world.advance(2)
    late: list[Multi] = []

    def hook(_number: int, step: Step[Any]) -> Row | Reply | None:
        if isinstance(step, Multi) and not late:
            late.append(step)
            script.world.rows.pop("k")
            return LOST
        return None

    script.befall = hook
    assert result_of(script.run(make_site("mysql"), job("create", value={"n": 2}))) is None
    assert not script.world.multi(late[0].writes).ok
    assert script.value() == {"n": 2}


def test_a_later_format_is_read_and_never_written() -> None:
    """A value of a newer toolkit is refused by every writing call, with the cure; its bytes stay as they are."""
    data = encode({"n": 3, "_occ": {"f": 2, "v": "x", "zz": [1]}}, "k")
    world = MemoryWorld("in-memory")
    world.put(Write("k", data))
    script = Script(world)
    for call in (
        job("update", change=add()),
        job("set", value={}),
        job("delete"),
        job("update", change=add(), op_id="m-1"),
    ):
        error = result_of(script.run(make_site(), call))
        assert isinstance(error, InvalidValueError)
        assert "format 2" in str(error)
    assert (script.value(), world.get("k").data, puts(script)) == ({"n": 3}, data, [])


def test_a_later_format_that_wins_is_not_called_foreign() -> None:
    """A newer toolkit wrote in between: the conflict names its write, and the call ends with the cure."""
    script = Script(stored("in-memory"))

    def hook(number: int, step: Step[Any]) -> Row | Reply | None:
        if number == 1:
            script.world.put(Write("k", encode({"n": 3, "_occ": {"f": 2, "v": "x-1", "h": "?"}}, "k")))
        return None

    script.befall = hook
    writer = script.run(make_site(observed=True), job("update", change=add()))
    assert isinstance(result_of(writer), InvalidValueError)
    (conflict,) = [event for event in script.events if event.name == "occ.conflict"]
    assert (conflict.fields["winner"], conflict.fields["winner_kind"]) == ("x-1", "committed")


@pytest.mark.parametrize("data", [b"not json", b'{"n": 1, "_occ": 5}', b'{"n": 1, "_occ": {"f": 1}}'])
def test_what_cannot_be_read_is_never_overwritten(data: bytes) -> None:
    """Rubbish under the key: every call says so, and the bytes stay."""
    world = MemoryWorld("in-memory")
    world.put(Write("k", data))
    script = Script(world)
    for call in (job("update", change=add()), job("set", value={}), job("create", value={}), job("delete")):
        assert isinstance(result_of(script.run(make_site(), call)), CorruptValueError)
    assert (world.get("k").data, puts(script)) == (data, [])


def test_who_outgrew_the_store_pays() -> None:
    """In a batch with one oversized value only its caller is refused; the others are written."""
    script = Script(stored("in-memory"))
    big = job("update", change=lambda value: {**value, "pad": "x" * (5 * 1024 * 1024)})
    writer = script.run(
        make_site(),
        job("update", change=add()),
        big,
        job("update", change=add()),
        job("update", change=add()),
    )
    told = {id(one): result for one, result in writer.answers}
    assert isinstance(told[id(big)].error, ValueTooLargeError)  # type: ignore[union-attr]
    assert script.value() == {"n": 3}


def test_attempts_are_counted_in_conflicts_not_in_waits() -> None:
    """With one attempt allowed, waiting for clocks to agree on an expiry does not use it up."""
    script = Script(stored("in-memory", expires=EPOCH - 1))
    writer = script.run(
        make_site(policy=RetryPolicy(attempts=1)), job("create", value={"n": 9}, policy_attempts=1)
    )
    assert (result_of(writer), script.value()) == (None, {"n": 9})
    assert 4.0 <= script.mono <= 4.2


def test_attempts_run_out() -> None:
    """Every attempt loses: the error counts them, and nothing of the caller is stored."""
    script = Script(stored("in-memory"))

    def hook(_number: int, step: Step[Any]) -> Row | Reply | None:
        if isinstance(step, Put):
            Script(script.world).run(make_site(name="rival"), job("update", change=add(10)))
        return None

    script.befall = hook
    writer = script.run(make_site(), job("update", change=add(), policy_attempts=3))
    error = result_of(writer)
    assert isinstance(error, AttemptsExhaustedError)
    assert (error.conflicts, error.attempts, script.value()) == (3, 3, {"n": 30})


def test_a_batch_of_unknown_outcome_does_not_lie_to_those_who_only_looked() -> None:
    """
    A create that met another create of its own batch, whose write is never heard of again, is not told "exists".

    Nobody knows whether the key exists; it certainly wrote nothing.
    """
    script = Script(MemoryWorld("in-memory"))

    def hook(number: int, step: Step[Any]) -> Row | Reply | None:
        if number == 0:
            return None
        script.pass_time(1.0)
        return LOST

    script.befall = hook
    first, second = job("create", value={"n": 1}, deadline=5.0), job("create", value={"n": 2}, deadline=5.0)
    writer = script.run(make_site(policy=RetryPolicy(deadline=5.0)), first, second)
    told = {id(one): result for one, result in writer.answers}
    assert isinstance(told[id(first)].error, OutcomeUnknownError)  # type: ignore[union-attr]
    assert isinstance(told[id(second)].error, StoreUnavailableError)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("stamp", "told"),
    [
        ({}, Outcome.NOT_COMMITTED),
        ({"drops": 1}, Outcome.UNKNOWABLE),
        ({"incarnation": "7"}, Outcome.UNKNOWABLE),
    ],
)
def test_an_operation_that_is_not_recorded(stamp: dict[str, Any], told: Outcome) -> None:
    """Absence of an id says "not applied" only where the stamp has lost nothing."""
    script = Script(stored("in-memory", **stamp))
    assert outcome_of(script.look(), "m-1") is told


def test_an_operation_that_is_recorded() -> None:
    """Presence of an id is proof, also where a plain writer has changed the value since."""
    script = Script(stored("in-memory"))
    script.run(make_site(), job("update", change=add(), op_id="m-1"))
    assert outcome_of(script.look(), "m-1") is Outcome.COMMITTED
    row = script.world.get("k")
    script.world.put(Write("k", row.data.replace(b'"n":1', b'"n":8'), etag=row.etag))
    assert outcome_of(script.look(), "m-1") is Outcome.COMMITTED
    script.world.put(Write("k", b'{"n":9}'))
    assert outcome_of(script.look(), "m-1") is Outcome.UNKNOWABLE
