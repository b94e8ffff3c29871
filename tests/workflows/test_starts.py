"""
Starting a workflow once, in both colours, also when the engine does not answer.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from types import SimpleNamespace

import pytest

from toolkit import AlreadyExistsError, AsyncStateStore, StateStore
from toolkit.testing import MemoryStore
from workflows import StartTimeoutError, raise_event, start_once
from workflows._payload import event_data

CLAIM = "_wf-start-k1"


class TakenError(Exception):
    def code(self):
        return SimpleNamespace(name="ALREADY_EXISTS")


class Engine:
    """
    What a client talks to: it notes what was started, and may be told to fail or to be silent.
    """

    def __init__(self) -> None:
        self.started, self.events, self.fails = [], [], []
        self.silent = threading.Event()
        self.silent.set()

    def schedule_new_workflow(self, workflow, *, input=None, instance_id=None):
        self.silent.wait(60)
        if self.fails:
            raise self.fails.pop()
        self.started.append((workflow, instance_id, input))
        return instance_id

    def get_workflow_state(self, instance_id, *, fetch_payloads=True):
        self.silent.wait(60)
        return next((name for name, instance, _ in self.started if instance == instance_id), None)

    def raise_workflow_event(self, instance_id, event_name, *, data=None):
        self.events.append((instance_id, event_name, data))


class AsyncEngine:
    """
    The same for the async client.
    """

    def __init__(self, engine) -> None:
        self.engine, self.asked = engine, asyncio.Event()

    async def _answer(self, call, *args, **kwargs):
        self.asked.set()
        if not self.engine.silent.is_set():
            await asyncio.Event().wait()
        return call(*args, **kwargs)

    async def schedule_new_workflow(self, *args, **kwargs):
        return await self._answer(self.engine.schedule_new_workflow, *args, **kwargs)

    def get_workflow_state(self, *args, **kwargs):
        return self._answer(self.engine.get_workflow_state, *args, **kwargs)

    def raise_workflow_event(self, *args, **kwargs):
        return self._answer(self.engine.raise_workflow_event, *args, **kwargs)


class Sync:
    """
    Calls as they are.
    """

    def __init__(self, port) -> None:
        self.engine, self.port = Engine(), port

    def start(self, **options):
        with StateStore("s", port=self.port) as store:
            return start_once(self.engine, "w", key="k1", input={"n": 1}, store=store, **options)

    def send(self, data):
        raise_event(self.engine, "k1", "go", data)


class Async:
    """
    The same calls awaited, on a loop of their own.
    """

    def __init__(self, port) -> None:
        self.engine, self.port = Engine(), port
        self.client = AsyncEngine(self.engine)

    def start(self, **options):
        async def run():
            async with AsyncStateStore("s", port=self.port) as store:
                return await start_once(self.client, "w", key="k1", input={"n": 1}, store=store, **options)

        return asyncio.run(run())

    def send(self, data):
        async def run():
            await raise_event(self.client, "k1", "go", data)

        asyncio.run(run())


@pytest.fixture
def port():
    return MemoryStore()


@pytest.fixture(params=[Sync, Async])
def side(request, port):
    side = request.param(port)
    yield side
    side.engine.silent.set()


def claim_of(port):
    with StateStore("s", port=port) as store:
        return store.get(CLAIM)


def age_claim(port):
    """
    As if the claim were an hour old.
    """
    with StateStore("s", port=port) as store:
        store.update(CLAIM, lambda found: {**found, "claimed_at": found["claimed_at"] - 3600})


def test_the_second_start_finds_the_first(side):
    """
    The workflow is started once, with its input; the second call says what is there, or raises where that is wanted.
    """
    first, second = side.start(), side.start()
    assert [("w", "k1", {"n": 1})] == side.engine.started
    assert [(True, None), (False, "w")] == [(first.started, first.state), (second.started, second.state)]
    with pytest.raises(AlreadyExistsError, match="'k1'"):
        side.start(on_existing="raise")


def test_an_engine_that_is_silent_is_not_waited_for(side, port):
    """
    The error says what is not known; the claim stays, so that nobody sends a second start after one on its way.
    """
    side.engine.silent.clear()
    with pytest.raises(StartTimeoutError, match=r"within 0\.2 s .* under the key 'k1'.*same key") as caught:
        side.start(timeout=0.2)
    assert "k1" == caught.value.key == copy.copy(caught.value).key
    assert (False, True) == (claim_of(port)["started"], claim_of(port)["claimed_at"] > 0)
    side.engine.silent.set()


def test_a_start_that_landed_late_is_not_repeated(side, port):
    """
    When the claim is old the next caller looks first, and finds what the silent engine did after all.
    """
    side.engine.silent.clear()
    with pytest.raises(StartTimeoutError):
        side.start(timeout=0.2)
    side.engine.silent.set()
    side.engine.started[:] = [("w", "k1", {"n": 1})]
    age_claim(port)
    assert not side.start().started
    assert claim_of(port)["started"]


def test_a_start_that_never_landed_is_made_up_for(side, port):
    """
    When the claim is old and nothing is there, the next caller starts it.
    """
    side.engine.fails.append(ConnectionError("refused"))
    with pytest.raises(ConnectionError):
        side.start()
    assert 0.0 == claim_of(port)["claimed_at"]
    assert side.start().started
    assert [("w", "k1", {"n": 1})] == side.engine.started


def test_an_instance_that_the_engine_knows_counts_as_started(side):
    """
    The answer that the id is taken is no failure.
    """
    side.engine.fails.append(TakenError())
    assert side.start().started


@pytest.mark.parametrize("data", [0, False, "", [], None, {"a": 1}])
def test_events_keep_their_payload(side, data):
    """
    In both colours it arrives as it was sent.
    """
    side.send(data)
    ((_, _, sent),) = side.engine.events
    assert data == event_data(sent)
    assert sent or data is None  # the SDK drops what is falsy


def test_a_cancelled_start_gives_its_claim_back(port):
    """
    Whoever asks next need not wait until the claim is old.
    """
    side = Async(port)
    side.engine.silent.clear()

    async def run():
        async with AsyncStateStore("s", port=port) as store:
            starting = asyncio.ensure_future(start_once(side.client, "w", key="k1", store=store))
            await side.client.asked.wait()
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting

    asyncio.run(run())
    assert 0.0 == claim_of(port)["claimed_at"]


def test_client_and_store_are_of_one_colour(port):
    """
    The wrong pair is refused before anything is written.
    """
    with pytest.raises(TypeError, match="not of one colour"), StateStore("s", port=port) as store:
        start_once(AsyncEngine(Engine()), "w", key="k1", store=store)
    with pytest.raises(TypeError, match="not of one colour"):
        start_once(Engine(), "w", key="k1", store=AsyncStateStore("s", port=port))
    assert claim_of(port) is None
