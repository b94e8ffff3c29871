"""
Updates built on a row that was read before they were asked for.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.core.support import PROFILES, Script, add, job, make_site, once, result_of
from tests.core.test_interleavings import CALLS, alone, perform, start, told, visible, why
from toolkit.core.ahead import MAX_AGE, PATIENCE
from toolkit.core.jobs import Failed, Job
from toolkit.core.model import UNCHANGED, Reply, Write
from toolkit.core.policy import RetryPolicy
from toolkit.core.seen import see
from toolkit.core.site import Site
from toolkit.core.steps import Get, Put, Step
from toolkit.errors import OutcomeUnknownError
from toolkit.testing.interleave import interleavings
from toolkit.testing.memory import MemoryWorld

# A stale row is refused by its ETag, or read like any other: it may be used everywhere but where ETags come back.
STEADY = [profile for profile in PROFILES if profile != "redis"]


def early(site: Site, world: MemoryWorld) -> Site:
    """The site of a process that has read the key."""
    site.ahead.put(see("k", world.get("k")), 0.0)
    return site


def run(site: Site, world: MemoryWorld, *jobs: Job, **script: Any) -> tuple[Any, list[type[Step[Any]]]]:
    """The answer to the first job, and the store steps it took."""
    writer, drive = once(site, *jobs), Script(world, **script)
    drive.drive(writer.run())
    return result_of(writer), [type(step) for step in drive.steps if isinstance(step, (Get, Put))]


@pytest.mark.parametrize("profile", STEADY)
@pytest.mark.parametrize("stale", [False, True], ids=["current", "stale"])
def test_every_pair_of_calls_on_early_rows(profile: str, stale: bool) -> None:
    """Writers that begin with a row read early, current or not: each pair is as if one call came after the other."""
    for names in itertools.combinations_with_replacement(CALLS, 2):
        makes = [CALLS[name] for name in names]
        orders = [alone(profile, makes, order, present=True) for order in ((0, 1), (1, 0))]

        def writers(makes: Any = makes) -> list[Any]:
            sites = [early(make_site(profile, name=f"w{who}"), start(profile)) for who in range(2)]
            return [once(site, make()).run() for site, make in zip(sites, makes, strict=True)]

        def world() -> MemoryWorld:
            now = start(profile)
            if stale:
                now.put(Write("k", now.get("k").data, ttl=-1))  # the same again, under another ETag
            return now

        for execution in interleavings(writers, world, perform):
            outcome = (told(execution.results), visible(execution.world))
            assert outcome in orders, why(profile, execution, outcome, orders)


def test_an_update_on_a_current_row_does_not_read() -> None:
    """One write, and the row is used up: the next update reads."""
    world = start("in-memory")
    site = early(make_site(), world)
    assert run(site, world, job("update", change=add())) == ({"n": 2}, [Put])
    assert run(site, world, job("update", change=add())) == ({"n": 3}, [Get, Put])


def test_a_stale_row_is_no_conflict() -> None:
    """The update is made on what is there, as the first attempt of a call that may make only one."""
    world = start("in-memory")
    site = early(make_site(policy=RetryPolicy(attempts=1), observed=True), world)
    world.put(Write("k", b'{"n": 5}'))
    one = job("update", change=add(), policy_attempts=1)
    assert run(site, world, one) == ({"n": 6}, [Put, Get, Put])
    assert (one.attempts, one.conflicts) == (1, 0)


def test_nothing_is_answered_from_an_early_row_alone() -> None:
    """A change that leaves the value, and one that raises, run again on a row that is read then."""

    def keep(value: Any) -> Any:
        seen.append(value["n"])
        return UNCHANGED

    def refuse(value: Any) -> Any:
        raise ValueError(str(value["n"]))

    seen: list[int] = []
    for change, expected in ((keep, "{'n': 5}"), (refuse, "5")):
        world = start("in-memory")
        site = early(make_site(), world)
        world.put(Write("k", b'{"n": 5}'))
        answer, steps = run(site, world, job("update", change=change))
        assert (str(answer), steps) == (expected, [Get])
    assert seen == [1, 5]


def test_a_refusal_beside_an_unknown_write_is_tried_again() -> None:
    """When the write of a batch stays unknown, a job that was refused on the early row hears of the current one."""
    world = start("in-memory")
    site = early(make_site(), world)
    outage = Reply("UNAVAILABLE", "")

    def refuse(value: Any) -> Any:
        raise ValueError(str(value["n"]))

    def befall(number: int, step: Step[Any]) -> Reply | None:
        if number == 0:
            world.put(Write("k", b'{"n": 5}'))
            return outage
        return None

    writer = once(site, job("update", change=refuse), job("update", change=add()))
    Script(world, befall=befall).drive(writer.run())
    heard = {
        type(result.error): str(result.error) for _, result in writer.answers if isinstance(result, Failed)
    }
    assert heard.keys() == {OutcomeUnknownError, ValueError}
    assert heard[ValueError] == "5"


def test_an_old_row_is_not_used() -> None:
    """After two seconds the update reads for itself."""
    world = start("in-memory")
    site = early(make_site(), world)
    assert site.ahead.take("k", MAX_AGE + 0.001) is None
    assert run(site, world, job("update", change=add())) == ({"n": 2}, [Get, Put])


def test_a_key_that_others_write_is_left_alone_for_a_while() -> None:
    """After a miss it does not pay for some updates, then it does."""
    ahead = make_site().ahead
    assert ahead.pays("k")
    ahead.miss("k")
    assert [ahead.pays("k") for _ in range(PATIENCE + 1)] == [False] * PATIENCE + [True]
