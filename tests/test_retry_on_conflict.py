"""
``retry_on_conflict``: one test for each sentence of its docstring, with errors made by hand.
"""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest
from dapr.clients.exceptions import DaprGrpcError

from tests.disguises import ABORTED, DISGUISES, OTHERS, Refusal, made
from toolkit import (
    AttemptsExhaustedError,
    RetryPolicy,
    retry_on_conflict,
)
from toolkit.conflict import is_conflict

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.mark.parametrize("name", DISGUISES)
def test_a_conflict_in_any_disguise_is_retried(name):
    """
    It is re-run on a conflict in any of its disguises.
    """
    runs: list[int] = []

    @retry_on_conflict
    def work() -> str:
        runs.append(1)
        if len(runs) < 3:
            raise made(DISGUISES, name)
        return "done"

    assert ("done", 3) == (work(), len(runs))


@pytest.mark.parametrize("name", OTHERS)
def test_nothing_else_is_retried(name):
    """
    ... and on nothing else; the error comes out as it is.
    """
    runs: list[int] = []
    error = OTHERS[name]()

    @retry_on_conflict
    def work() -> None:
        runs.append(1)
        raise error

    with pytest.raises(type(error)) as caught:
        work()
    assert (error, 1) == (caught.value, len(runs))


def test_an_error_with_an_endless_chain_is_no_conflict():
    """
    Causes are followed a few steps, not for ever.
    """
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert not is_conflict(first)


def test_a_response_that_cannot_be_read_is_judged_by_its_status():
    """
    A streamed httpx response nobody has read does not break the judgement.
    """
    request = httpx.Request("POST", "http://127.0.0.1:3500/v1.0/state/s")
    response = httpx.Response(409, stream=httpx.ByteStream(b"x"), request=request)
    assert is_conflict(httpx.HTTPStatusError("refused", request=request, response=response))


@BACKENDS
def test_an_async_function_is_retried(backend):
    """
    The function may be ``async def``, on asyncio and trio.
    """
    runs: list[int] = []

    @retry_on_conflict(policy=RetryPolicy(attempts=4))
    async def work(result: str) -> str:
        runs.append(1)
        await anyio.lowlevel.checkpoint()
        if len(runs) < 4:
            raise made(DISGUISES, "aio SDK save_state")
        return result

    assert ("done", 4) == (anyio.run(work, "done", backend=backend), len(runs))


@BACKENDS
def test_an_async_function_gives_up_too(backend):
    """
    The policy holds in the async colour.
    """

    @retry_on_conflict(policy=RetryPolicy(attempts=2))
    async def work() -> None:
        raise made(DISGUISES, "raw aio stub")

    with pytest.raises(AttemptsExhaustedError):
        anyio.run(work, backend=backend)


@BACKENDS
def test_an_async_function_is_not_retried_on_other_errors(backend):
    """
    Cancellation and other errors come out of the async colour as they are.
    """

    @retry_on_conflict
    async def work() -> None:
        raise made(OTHERS, "timeout")

    @retry_on_conflict
    async def wait() -> None:
        await anyio.sleep_forever()

    async def call() -> None:
        with pytest.raises(DaprGrpcError):
            await work()
        with anyio.move_on_after(0.05) as scope:
            await wait()
        assert scope.cancelled_caught

    anyio.run(call, backend=backend)


def test_the_whole_function_runs_again():
    """
    It is run again from its first line, with the same arguments: whatever else it does happens again too.
    """
    mails: list[str] = []
    outcomes = iter([Refusal(ABORTED, ""), None])

    @retry_on_conflict
    def work(name: str, *, greeting: str) -> None:
        mails.append(f"{greeting} {name}")
        if (error := next(outcomes)) is not None:
            raise error

    work("Ada", greeting="Dear")
    assert ["Dear Ada", "Dear Ada"] == mails


def test_the_last_conflict_is_the_cause_when_attempts_end():
    """
    When the policy ends, AttemptsExhaustedError is raised from the last conflict and counts what was tried.
    """
    raised: list[Exception] = []

    @retry_on_conflict(policy=RetryPolicy(attempts=3))
    def rename() -> None:
        raised.append(Refusal(ABORTED, str(len(raised))))
        raise raised[-1]

    with pytest.raises(AttemptsExhaustedError, match="rename: lost 3 conflicts in 3 attempts") as caught:
        rename()
    assert raised[2] is caught.value.__cause__
    assert (3, 3, 3) == (caught.value.attempts, caught.value.conflicts, caught.value.attempt)


def test_a_loop_inside_a_loop_does_not_multiply():
    """
    An exhausted inner loop ends the outer one: 2 attempts, not 4.
    """
    runs: list[int] = []

    @retry_on_conflict(policy=RetryPolicy(attempts=2))
    def inner() -> None:
        runs.append(1)
        raise Refusal(ABORTED, "")

    outer = retry_on_conflict(policy=RetryPolicy(attempts=2))(inner)
    with pytest.raises(AttemptsExhaustedError):
        outer()
    assert 2 == len(runs)


def test_the_deadline_bounds_the_start_of_an_attempt(monkeypatch):
    """
    No attempt starts after the deadline; one that runs is not cut.
    """
    now = [100.0]
    monkeypatch.setattr("toolkit.conflict.time.monotonic", lambda: now[0])
    monkeypatch.setattr("toolkit.conflict.time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    runs: list[float] = []

    @retry_on_conflict(policy=RetryPolicy(deadline=5.0))
    def slow() -> None:
        runs.append(now[0] - 100)
        now[0] += 2
        raise Refusal(ABORTED, "")

    with pytest.raises(AttemptsExhaustedError) as caught:
        slow()
    assert max(runs) < 5.0
    assert caught.value.elapsed == pytest.approx(now[0] - 100)


@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_generators_are_refused(kind):
    """
    Generators are refused at decoration.
    """

    def generator():
        yield 1

    async def async_generator():
        yield 1

    fn: Any = generator if kind == "generator" else async_generator
    with pytest.raises(TypeError, match="is a generator"):
        retry_on_conflict(fn)


@pytest.mark.parametrize("use", [lambda: retry_on_conflict(5), lambda: retry_on_conflict(policy=5)])
def test_misuse_is_a_type_error(use):
    """
    What is no function, and what is no policy.
    """
    with pytest.raises(TypeError, match="retry_on_conflict"):
        use()


def test_the_function_keeps_its_name():
    """
    The decorated function is known by its own name, and works as a method.
    """

    class Service:
        @retry_on_conflict
        def rename(self, name: str) -> str:
            """Its own words."""
            return name

    assert ("rename", "Its own words.", "Ada") == (
        Service.rename.__name__,
        Service.rename.__doc__,
        Service().rename("Ada"),
    )
