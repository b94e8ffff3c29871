"""
One writer against a network that loses, repeats and lies: what the caller is told, what is stored, what was sent.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.line import AT_ONCE, LOST, befall, puts, stored
from tests.core.support import EPOCH, PROFILES, Script, add, job, make_site, result_of
from toolkit.core.compose import body
from toolkit.core.judge import Receipt
from toolkit.core.model import ABSENT, Outcome, Reply, Row, Write
from toolkit.core.policy import RetryPolicy
from toolkit.core.resolve import resolve_receipt
from toolkit.core.stamp import MAX_SLOTS, Slot, Stamp
from toolkit.core.steps import Get, Put, Step
from toolkit.core.value import digest, encode
from toolkit.errors import (
    OutcomeUnknownError,
    StoreUnavailableError,
)
from toolkit.testing.memory import MemoryWorld


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
        if isinstance(step, Put) and (not late or step.write == late[0]):
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
    writer = script.run(
        make_site(profile, policy=RetryPolicy(deadline=5.0)), job("update", deadline=5.0, change=add())
    )
    error = result_of(writer)
    assert isinstance(error, OutcomeUnknownError)
    script.befall = lambda _number, _step: None
    receipt = Receipt.parse(error.receipt)
    told = script.drive(
        resolve_receipt(make_site(profile, name="b"), receipt, script.mono + 10, may_write=True)
    )
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
    script = Script(
        stored("redis", slots=tuple(Slot(f"x{number}", 1, int(EPOCH)) for number in range(MAX_SLOTS)))
    )

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
