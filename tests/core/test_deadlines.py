"""
The deadlines of a batch: each caller has the whole time of its own, and no more.
"""

from __future__ import annotations

from typing import Any

from tests.core.line import stored
from tests.core.support import Script, add, job, make_site
from toolkit.core.jobs import Done, Failed, Job
from toolkit.core.model import Reply, Row
from toolkit.core.steps import Get, Put, Step
from toolkit.core.update import KeyWriter
from toolkit.errors import AttemptsExhaustedError, StoreUnavailableError

DOWN = Reply("UNAVAILABLE", "connection refused")


def taken(waiting: list[Job]) -> list[Job]:
    """All that wait, once."""
    jobs = waiting[:]
    waiting.clear()
    return jobs


def told(answers: list[tuple[Job, Any]], one: Job) -> Any:
    (result,) = [result for job, result in answers if job is one]
    return result.error if isinstance(result, Failed) else result


def test_who_came_later_outlives_an_outage() -> None:
    """
    The store is out of reach until the first caller's time is up: he is told then, the second one waits on and is served.
    """
    script = Script(stored("in-memory"))
    early, late = job("update", change=add(), deadline=2.0), job("update", change=add(10), deadline=10.0)
    waiting, answers, moments = [early, late], list[tuple[Job, Any]](), list[float]()

    def tell(one: Job, result: Any) -> None:
        answers.append((one, result))
        moments.append(script.mono)

    def hook(_number: int, step: Step[Any]) -> Row | Reply | None:
        return DOWN if isinstance(step, Get) and script.mono < 4.0 else None

    script.befall = hook
    writer = KeyWriter(make_site(observed=True), "k", early.deadline, lambda: taken(waiting), tell)
    script.drive(writer.run())
    assert isinstance(told(answers, early), StoreUnavailableError)
    assert moments[0] <= 2.0
    assert isinstance(told(writer.answers, late), Done)
    assert {"n": 10} == script.value()
    assert ["occ.gave_up", "occ.committed"] == [event.name for event in script.events]


def test_who_may_not_try_again_is_told_at_once() -> None:
    """
    A batch that loses goes on for those who may; one out of attempts need not wait for them.
    """
    script = Script(stored("in-memory"))
    few, many = job("update", change=add(), policy_attempts=1), job("update", change=add(10))
    lost = [0]

    def hook(_number: int, step: Step[Any]) -> Row | Reply | None:
        if isinstance(step, Put) and lost[0] < 3:
            lost[0] += 1
            Script(script.world).run(make_site(name="rival"), job("update", change=add(100)))
        return None

    told_at: dict[int, int] = {}
    waiting = [few, many]

    def tell(one: Job, _result: Any) -> None:
        told_at[id(one)] = lost[0]

    script.befall = hook
    writer = KeyWriter(make_site(), "k", 10.0, lambda: taken(waiting), tell)
    script.drive(writer.run())
    assert {id(few): 1} == told_at
    assert isinstance(told(writer.answers, few), AttemptsExhaustedError)
    assert {"n": 310} == script.value()


def test_a_caller_that_has_left_is_not_written() -> None:
    """
    Its call lost twice and nothing is under way: who leaves in the pause is dropped before the next attempt.
    """

    class Leaving(Script):
        def pass_time(self, seconds: float) -> None:
            assert not writer.making
            gone.deadline = 0.0
            super().pass_time(seconds)

    script = Leaving(stored("in-memory"))
    gone, stays = job("update", change=add()), job("update", change=add(10))
    waiting, lost = [gone, stays], [0]

    def hook(_number: int, step: Step[Any]) -> Row | Reply | None:
        if isinstance(step, Put):
            assert writer.making
            lost[0] += 1
            if lost[0] < 3:
                Script(script.world).run(make_site(name="rival"), job("update", change=add(100)))
        return None

    script.befall = hook
    writer = KeyWriter(make_site(), "k", 10.0, lambda: taken(waiting))
    script.drive(writer.run())
    assert isinstance(told(writer.answers, stays), Done)
    assert {"n": 210} == script.value()
