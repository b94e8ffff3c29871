"""
One writer against a network that loses, repeats and lies: what the caller is told, what is stored, what was sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.core.support import EPOCH, PROFILES, Script, add, job, make_site, result_of
from toolkit.core.compose import body
from toolkit.core.model import ABSENT, UNSENT, Outcome, Reply, Row, Write
from toolkit.core.judge import Receipt
from toolkit.core.policy import RetryPolicy
from toolkit.core.resolve import outcome_of, resolve_receipt
from toolkit.core.stamp import MAX_SLOTS, Slot, Stamp
from toolkit.core.steps import Get, Put, Step
from toolkit.core.value import digest, encode
from toolkit.errors import (
    AttemptsExhaustedError,
    CorruptValueError,
    InvalidValueError,
    OutcomeUnknownError,
    StoreUnavailableError,
    ValueTooLargeError,
)
from toolkit.testing.memory import MemoryWorld

LOST = Reply("UNAVAILABLE", "lost")
BROKEN = Reply("INTERNAL", "something odd")
AT_ONCE = RetryPolicy(deadline=10.0)


def stored(profile: str, value: dict[str, Any] | None = None, **stamp: Any) -> MemoryWorld:
    world = MemoryWorld(profile)
    members = {"n": 0} if value is None else value
    whole = {"version": "v1", "incarnation": "absent", "digest": digest(members), **stamp}
    world.put(Write("k", body("k", members, Stamp(**whole)), ttl=-1))
    return world


def puts(script: Script) -> list[Write]:
    return [step.write for step in script.steps if isinstance(step, Put)]


def befall(script: Script, *plan: str) -> None:
    """
    Plan what befalls the writes, in order; afterwards all goes well.

    ``lost``: not applied, no answer. ``silent``: applied, no answer. ``odd``: applied, INTERNAL. ``twice``: the second
    copy's answer.
    """
    left = list(plan)

    def hook(_number: int, step: Step[Any]) -> Row | Reply | None:
        if not isinstance(step, Put) or not left:
            return None
        match left.pop(0):
            case "lost":
                return LOST
            case "silent":
                script.ask(step)
                return LOST
            case "odd":
                script.ask(step)
                return BROKEN
            case "twice":
                script.ask(step)
                return script.ask(step)  # type: ignore[no-any-return]
            case "unsent":
                return Reply(UNSENT, "no connection")
        return None

    script.befall = hook


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("plan", "sent"),
    [
        ((), 1),
        (("silent",), 1),
        (("odd",), 1),
        (("twice",), 1),
        (("lost",), 2),
        (("unsent",), 2),
        (("lost", "silent"), 2),
        (("lost", "twice"), 2),
        (("lost", "lost", "lost"), 4),
    ],
)
def test_one_effect_whatever_becomes_of_the_answers(profile: str, plan: tuple[str, ...], sent: int) -> None:
    """The caller hears of success once, the value moved by one, and no more was sent than needed."""
    script = Script(stored(profile))
    befall(script, *plan)
    writer = script.run(make_site(profile), job("update", change=add()))
    assert (result_of(writer), script.value(), len(puts(script))) == ({"n": 1}, {"n": 1}, sent)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("plan", [("silent",), ("odd",), ("twice",), ("lost", "silent")])
def test_a_create_recognises_itself(profile: str, plan: tuple[str, ...]) -> None:
    """A creator whose answer is lost does not hear that the key exists: it made it."""
    script = Script(MemoryWorld(profile))
    befall(script, *plan)
    writer = script.run(make_site(profile), job("create", value={"n": 7}))
    assert (result_of(writer), script.value()) == (None, {"n": 7})


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("plan", [("silent",), ("odd",), ("twice",)])
def test_a_delete_recognises_itself(profile: str, plan: tuple[str, ...]) -> None:
    """A conditional delete whose answer is lost is told apart from somebody else's."""
    script = Script(stored(profile))
    etag = script.look().version(EPOCH)
    befall(script, *plan)
    writer = script.run(make_site(profile), job("delete", etag=etag))
    assert (result_of(writer), script.value()) == (None, ABSENT)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_clean_call_costs_two_round_trips(profile: str) -> None:
    """One read and one write where nothing goes wrong; one more read for a conflict."""
    script = Script(stored(profile))
    site = make_site(profile)
    script.run(site, job("update", change=add()))
    assert [type(step) for step in script.steps] == [Get, Put]

    def rival(number: int, step: Step[Any]) -> None:
        if number == 1:
            Script(script.world).run(make_site(profile, name="rival"), job("update", change=add(10)))

    again = Script(script.world, befall=rival)
    again.run(site, job("update", change=add()))
    assert ([type(step) for step in again.steps], again.value()) == ([Get, Put, Get, Put], {"n": 12})


def test_a_resend_is_byte_identical() -> None:
    """The second copy is the first one: time, ids and bytes are not made anew."""
    script = Script(stored("in-memory"))
    befall(script, "lost", "lost")
    script.run(make_site(), job("update", change=add(), op_id="m-1"))
    first, *others = puts(script)
    assert others == [first, first]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("present", [True, False])
def test_at_the_deadline_a_fence_makes_sure(profile: str, present: bool) -> None:
    """
    Where the write never arrives and time runs out, the version it was built on is moved, and the call failed.

    A copy that turns up afterwards changes nothing.
    """
    script = Script(stored(profile) if present else MemoryWorld(profile))
    late: list[Write] = []

    def hook(_number: int, step: Step[Any]) -> Row | Reply | None:
        if isinstance(step, Put):
            if not late or step.write == late[0]:
                late.append(step.write)
                script.pass_time(min(2.9, step.timeout))
                return LOST
        return None

    script.befall = hook
    before = script.value()
    writer = script.run(make_site(profile, policy=AT_ONCE), job("update", change=add(), default={"n": 0}))
    assert isinstance(result_of(writer), StoreUnavailableError)
    assert script.value() == before
    for write in late:
        assert not script.world.put(write).ok
    assert script.value() == before
    assert script.mono <= 10.5


def test_a_fence_does_not_change_the_version() -> None:
    """An entry read before a fence is still good for compare-and-set after it."""
    script = Script(stored("redis"))
    etag = script.look().version(EPOCH)
    sent: list[Write] = []

    def hook(_number: int, step: Step[Any]) -> Row | Reply | None:
        if isinstance(step, Put) and (not sent or step.write == sent[0]):
            sent.append(step.write)
            script.pass_time(min(2.9, step.timeout))
            return LOST
        return None

    script.befall = hook
    script.run(make_site("redis"), job("update", change=add()))
    script.befall = lambda _number, _step: None
    assert script.look().version(script.world.now) == etag
    writer = script.run(make_site("redis", name="b"), job("compare_and_set", value={"n": 5}, etag=etag))
    assert (result_of(writer), script.value()) == (None, {"n": 5})


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("applied", [True, False])
def test_silence_to_the_end_is_an_unknown_outcome(profile: str, applied: bool) -> None:
    """Nothing answers any more: the error carries a receipt, and the receipt finds the truth later, from anywhere."""
    script = Script(stored(profile))

    def hook(number: int, step: Step[Any]) -> Row | Reply | None:
        if number == 0:
            return None
        if applied and number == 1:
            script.ask(step)
        script.pass_time(1.0)
        return LOST

    script.befall = hook
    writer = script.run(make_site(profile, policy=RetryPolicy(deadline=5.0)), job("update", deadline=5.0, change=add()))
    error = result_of(writer)
    assert isinstance(error, OutcomeUnknownError)
    script.befall = lambda _number, _step: None
    receipt = Receipt.parse(error.receipt)
    told = script.drive(resolve_receipt(make_site(profile, name="b"), receipt, script.mono + 10, may_write=True))
    assert told is (Outcome.COMMITTED if applied else Outcome.NOT_COMMITTED)
    assert script.value() == {"n": int(applied)}
    assert script.world.put(puts(script)[0]).ok is False


def test_a_reading_handle_does_not_fence() -> None:
    """Without the right to write a receipt that may still land is unknowable, and nothing is sent."""
    script = Script(stored("in-memory"))
    receipt = Receipt("k", make_site().writers.fresh().next_id(), base_of(script), EPOCH)
    told = script.drive(resolve_receipt(make_site(name="b"), receipt, 10.0, may_write=False))
    assert (told, puts(script)) == (Outcome.UNKNOWABLE, [])


def base_of(script: Script) -> Any:
    from toolkit.core.judge import Base

    return Base.of(script.look())


@pytest.mark.parametrize("profile", PROFILES)
def test_a_network_error_worded_as_a_conflict_is_no_conflict(profile: str) -> None:
    """The version still stands: the write is sent again and counts once (row 10)."""
    script = Script(stored(profile))
    text = "possible etag mismatch. error from state store: ERR user_script:14: failed to set key k"

    def hook(number: int, step: Step[Any]) -> Row | Reply | None:
        return Reply("ABORTED", text) if number == 1 else None

    script.befall = hook
    writer = script.run(make_site(profile), job("update", change=add()))
    assert (result_of(writer), script.value()) == ({"n": 1}, {"n": 1})


def test_absence_after_an_early_drop_proves_nothing() -> None:
    """More processes than a stamp holds slots for: an own slot may have been pushed out (rule R9)."""
    script = Script(stored("redis", slots=tuple(Slot(f"x{number}", 1, int(EPOCH)) for number in range(MAX_SLOTS))))

    def hook(number: int, step: Step[Any]) -> Row | Reply | None:
        if number != 1:
            return None
        script.ask(step)
        for rival in range(MAX_SLOTS):
            Script(script.world).run(make_site("redis", name=f"y{rival}"), job("update", change=add(10)))
        return LOST

    script.befall = hook
    writer = script.run(make_site("redis"), job("update", change=add()))
    assert isinstance(result_of(writer), OutcomeUnknownError)
    assert script.value() == {"n": 1 + 10 * MAX_SLOTS}


@pytest.mark.parametrize("profile", PROFILES)
def test_absence_after_delete_and_recreate_proves_nothing(profile: str) -> None:
    """A plain writer deletes for real, another creates: the new incarnation knows nothing of the old one's writes."""
    script = Script(stored(profile))

    def hook(number: int, step: Step[Any]) -> Row | Reply | None:
        if number != 1:
            return None
        script.ask(step)
        script.world.put(Write("k", None))
        script.world.put(Write("k", encode({"n": 50}, "k")))
        Script(script.world).run(make_site(profile, name="b"), job("update", change=add()))
        script.world.put(Write("k", script.world.get("k").data))
        return LOST

    script.befall = hook
    writer = script.run(make_site(profile), job("update", change=add()))
    assert isinstance(result_of(writer), OutcomeUnknownError)
    assert script.value() == {"n": 51}


@pytest.mark.parametrize("landed", [True, False])
def test_an_etag_that_comes_back_is_not_the_old_version(landed: bool) -> None:
    """Redis counts again from one after a plain delete: equal ETags over other bytes are another version (ABA)."""
    script = Script(MemoryWorld("redis"))
    script.world.put(Write("k", body("k", {"n": 0}, Stamp("v1", "absent", digest({"n": 0}))), ttl=-1))

    def hook(number: int, step: Step[Any]) -> Row | Reply | None:
        if number != 1:
            return None
        if landed:
            script.ask(step)
        script.world.put(Write("k", None))
        script.world.put(Write("k", encode({"n": 70}, "k")))
        return LOST

    script.befall = hook
    writer = script.run(make_site("redis"), job("update", change=add()))
    assert isinstance(result_of(writer), OutcomeUnknownError)
    assert script.value() == {"n": 70}


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


@pytest.mark.parametrize("landed", [True, False])
def test_a_plain_scalar_with_a_lost_answer(landed: bool) -> None:
    """A scalar carries no id: unmoved it is sent again, moved nobody can know and the caller is told so."""
    script = Script(MemoryWorld("in-memory"))
    script.world.put(Write("k", b"5"))
    befall(script, "silent" if landed else "lost")
    writer = script.run(make_site(), job("update", change=lambda value: value + 1))
    assert script.value() == 6
    if landed:
        assert isinstance(result_of(writer), OutcomeUnknownError)
    else:
        assert result_of(writer) == 6


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
        make_site(), job("update", change=add()), big, job("update", change=add()), job("update", change=add())
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
