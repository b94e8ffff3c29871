"""
Every interleaving of two and three writers of one key, without an event loop and without a clock.

A writer is one call as a process of its own makes it. After each schedule the answers must be explained by some order
of the calls: the same calls made one after the other in that order, with the same answers and the same value left.
That one property holds every rule: no lost update, one creator, no resurrection after a delete, no ABA.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pytest

from tests.core.support import PROFILES, Script, add, job, make_site, once
from toolkit.core.compose import body
from toolkit.core.jobs import Done, Job
from toolkit.core.model import ABSENT, DELETE, ETag, Write
from toolkit.core.seen import see
from toolkit.core.stamp import Stamp
from toolkit.core.steps import Instant, Now, Put, Step
from toolkit.core.value import digest
from toolkit.testing.interleave import Execution, Returned, answer, interleavings, replay
from toolkit.testing.memory import MemoryWorld

Make: TypeAlias = Callable[[], Job]

START = {"n": 1}
VERSION = ETag("v1")


def start(profile: str, *, present: bool = True) -> MemoryWorld:
    """A store with one stamped object, or nothing."""
    world = MemoryWorld(profile)
    if present:
        world.put(Write("k", body("k", START, Stamp("v1", "absent", digest(START))), ttl=-1))
    return world


def perform(world: MemoryWorld, who: int, step: Step[Any]) -> Any:
    """The answers of the instrument, with the clock of the world."""
    if isinstance(step, Now):
        return Instant(world.now, 0.0)
    return answer(world, who, step)


def visible(world: MemoryWorld) -> Any:
    seen = see("k", world.get("k"))
    return seen.value if seen.exists(world.now) else ABSENT


def told(results: Sequence[Any]) -> list[Any]:
    """What each caller heard: a value or the name of an error."""
    heard: list[Any] = []
    for result in results:
        assert isinstance(result, Returned), result
        ((_, one),) = result.value
        heard.append(one.value if isinstance(one, Done) else type(one.error).__name__)
    return heard


def alone(
    profile: str, makes: Sequence[Make], order: Sequence[int], *, present: bool
) -> tuple[list[Any], Any]:
    """The answers and the value of the same calls made one after the other."""
    script = Script(start(profile, present=present))
    heard: list[Any] = [None] * len(makes)
    for who in order:
        writer = once(make_site(profile, name=f"w{who}"), makes[who]())
        script.drive(writer.run())
        ((_, one),) = writer.answers
        heard[who] = one.value if isinstance(one, Done) else type(one.error).__name__
    return heard, visible(script.world)


def explore(profile: str, makes: Sequence[Make], *, present: bool = True) -> Counter[str]:
    """Run every interleaving and hold each against every order; tells how often each set of answers came."""
    orders = [
        alone(profile, makes, order, present=present) for order in itertools.permutations(range(len(makes)))
    ]
    seen: Counter[str] = Counter()

    def writers() -> list[Any]:
        return [once(make_site(profile, name=f"w{who}"), make()).run() for who, make in enumerate(makes)]

    def world() -> MemoryWorld:
        return start(profile, present=present)

    for execution in interleavings(writers, world, perform):
        outcome = (told(execution.results), visible(execution.world))
        assert outcome in orders, why(profile, execution, outcome, orders)
        seen[str(outcome[0])] += 1
    return seen


def why(profile: str, execution: Execution[Any], outcome: Any, orders: Any) -> str:
    steps = "\n".join(f"  {who}: {step} -> {answered}" for who, step, answered in execution.trace)
    return f"{profile}: schedule {execution.schedule} ends as {outcome}, which no order explains: {orders}\n{steps}"


UPDATE: Make = lambda: job("update", change=add())  # noqa: E731
DOUBLE: Make = lambda: job("update", change=lambda value: {"n": value["n"] * 10})  # noqa: E731
UPSERT: Make = lambda: job("update", change=add(), default={"n": 0})  # noqa: E731
REMOVE: Make = lambda: job("update", change=lambda _value: DELETE)  # noqa: E731
CREATE: Make = lambda: job("create", value={"n": 100})  # noqa: E731
CREATE_OTHER: Make = lambda: job("create", value={"n": 200})  # noqa: E731
SET: Make = lambda: job("set", value={"n": 300})  # noqa: E731
CAS: Make = lambda: job("compare_and_set", value={"n": 400}, etag=VERSION)  # noqa: E731
CAS_OTHER: Make = lambda: job("compare_and_set", value={"n": 500}, etag=VERSION)  # noqa: E731
CLAIM: Make = lambda: job("compare_and_set", value={"n": 600}, etag=ABSENT)  # noqa: E731
DELETE_ANY: Make = lambda: job("delete")  # noqa: E731
DELETE_IF: Make = lambda: job("delete", etag=VERSION)  # noqa: E731
SAME_OP: Make = lambda: job("update", change=add(), op_id="m-1")  # noqa: E731

CALLS = {
    "update": UPDATE,
    "double": DOUBLE,
    "upsert": UPSERT,
    "remove": REMOVE,
    "create": CREATE,
    "set": SET,
    "cas": CAS,
    "claim": CLAIM,
    "delete": DELETE_ANY,
    "delete-if": DELETE_IF,
}
PAIRS = list(itertools.combinations_with_replacement(CALLS, 2))
TRIPLES = [
    ("update", "double", "upsert"),
    ("create", "create", "create"),
    ("claim", "create", "upsert"),
    ("cas", "cas", "cas"),
    ("cas", "update", "delete"),
    ("delete", "create", "cas"),
    ("delete-if", "upsert", "create"),
    ("remove", "upsert", "cas"),
    ("set", "delete", "double"),
    ("delete", "set", "delete-if"),
]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("present", [True, False], ids=["present", "absent"])
def test_every_pair_of_calls(profile: str, present: bool) -> None:
    """All pairs of ten kinds of calls, all interleavings: each is as if one call came after the other."""
    schedules = sum(
        sum(explore(profile, [CALLS[one], CALLS[other]], present=present).values()) for one, other in PAIRS
    )
    assert schedules >= 3 * len(PAIRS)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("calls", TRIPLES, ids="-".join)
def test_three_calls(profile: str, calls: tuple[str, ...]) -> None:
    """Three writers of one key, all interleavings, on a key that is there and on one that is not."""
    for present in (True, False):
        assert explore(profile, [CALLS[name] for name in calls], present=present)


@pytest.mark.parametrize("profile", PROFILES)
def test_one_operation_from_two_processes_counts_once(profile: str) -> None:
    """The same op_id at once from two processes beside a third writer: one effect, both hear that it is done."""
    for answers in explore(profile, [SAME_OP, SAME_OP, DOUBLE]):
        assert "Error" not in answers


@pytest.mark.parametrize("profile", PROFILES)
def test_of_several_creators_one_wins(profile: str) -> None:
    """Whatever the order, one create succeeds and the other hears that the key exists."""
    answers = explore(profile, [CREATE, CREATE_OTHER], present=False)
    assert set(answers) == {"[None, 'AlreadyExistsError']", "['AlreadyExistsError', None]"}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_schedule_replays(profile: str) -> None:
    """The schedule an error names leads to the same trace again."""

    def writers() -> list[Any]:
        return [
            once(make_site(profile, name=f"w{who}"), make()).run()
            for who, make in enumerate((UPDATE, DOUBLE))
        ]

    first = list(interleavings(writers, lambda: start(profile), perform))[-2]
    again = replay(first.schedule, writers, lambda: start(profile), perform)
    assert again.trace == first.trace


def test_a_plain_loop_would_be_caught() -> None:
    """The property is not empty: a writer that skips the ETag loses an update in some schedule."""

    def blind(world_step: Step[Any]) -> Step[Any]:
        if isinstance(world_step, Put):
            return Put(Write(world_step.write.key, world_step.write.data, ttl=-1))
        return world_step

    def unsafe(world: MemoryWorld, who: int, step: Step[Any]) -> Any:
        return perform(world, who, blind(step))

    def writers() -> list[Any]:
        return [once(make_site(name=f"w{who}"), UPDATE()).run() for who in range(2)]

    ends = {visible(run.world)["n"] for run in interleavings(writers, lambda: start("in-memory"), unsafe)}
    assert ends == {2, 3}


def test_a_physical_delete_on_redis_would_be_caught() -> None:
    """Where a stale ETag re-creates a deleted key, deleting for real brings a deleted value back."""

    def unsafe(world: MemoryWorld, who: int, step: Step[Any]) -> Any:
        if isinstance(step, Put) and step.write.data is not None and b'"gone":1' in step.write.data:
            return world.put(Write(step.write.key, None, etag=step.write.etag))
        return perform(world, who, step)

    def writers() -> list[Any]:
        calls = (DELETE_ANY, CAS)
        return [once(make_site("redis", name=f"w{who}"), make()).run() for who, make in enumerate(calls)]

    orders = [alone("redis", (DELETE_ANY, CAS), order, present=True) for order in ((0, 1), (1, 0))]
    outcomes = [
        (told(run.results), visible(run.world))
        for run in interleavings(writers, lambda: start("redis"), unsafe)
    ]
    assert any(outcome not in orders for outcome in outcomes)
