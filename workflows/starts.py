"""
Start a workflow once per key, also when an instance of that id ended long ago.
"""

from __future__ import annotations

import inspect
import time
import uuid
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, Final, Literal, overload

import anyio

from toolkit import AsyncStateStore, StateStore
from toolkit.errors import AlreadyExistsError, ConflictError, StateError
from workflows._bounded import ask, ask_async
from workflows._payload import plain
from workflows.bodies import KitWorkflow
from workflows.ports import AsyncClient, Client

# Who claimed a key and did not start its workflow for so long is taken to be dead.
CLAIM_LIFE: Final = 60.0
# An engine that has a worker starts an instance in milliseconds.
START_TIMEOUT: Final = 30.0
# What a cancelled start may still spend on its claim.
GIVE_BACK: Final = 1.0


class StartTimeoutError(StateError):
    """
    The engine did not answer in time; whether the workflow was started is not known.

    Call ``start_once`` again with the same key: it looks first, and starts nothing twice.

    Attributes:
        key: The key that was to be started.
    """

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True)
class StartResult:
    """
    What ``start_once`` found or did.

    Attributes:
        instance_id: The workflow instance.
        started: Whether this call started it.
        state: What Dapr says of an instance that was there; ``None`` when it was purged, or is being started right now.
    """

    instance_id: str
    started: bool
    state: Any


@dataclass(frozen=True, slots=True)
class _Ask:
    """
    A call to make: of the engine, which may never answer, or of the store.
    """

    call: Callable[[], Any]
    engine: bool = False


_Steps = Generator[_Ask, Any, StartResult]


@overload
def start_once(
    client: Client,
    workflow: KitWorkflow | str,
    *,
    key: str,
    input: Any = None,
    store: StateStore,
    on_existing: Literal["return", "raise"] = "return",
    timeout: float = START_TIMEOUT,
) -> StartResult: ...
@overload
def start_once(
    client: AsyncClient,
    workflow: KitWorkflow | str,
    *,
    key: str,
    input: Any = None,
    store: AsyncStateStore,
    on_existing: Literal["return", "raise"] = "return",
    timeout: float = START_TIMEOUT,
) -> Coroutine[Any, Any, StartResult]: ...
def start_once(
    client: Any,
    workflow: KitWorkflow | str,
    *,
    key: str,
    input: Any = None,
    store: Any,
    on_existing: Literal["return", "raise"] = "return",
    timeout: float = START_TIMEOUT,
) -> Any:
    """
    Schedule a workflow with ``key`` as its instance id, unless that was done before.

    Dapr itself replaces an instance that ended when its id is used again; a record in ``store``, made by exactly one
    caller, tells that it was there. A process that dies between its claim and the start is succeeded after a minute.
    With the SDK's async client and an ``AsyncStateStore`` it is awaited.

    Args:
        client: The SDK's ``DaprWorkflowClient``, sync or async.
        workflow: What ``@kit.workflow`` returned, or its name.
        key: The instance id.
        input: Its input.
        store: Where the record is kept; of the same colour as the client.
        on_existing: What to do when it was started before.
        timeout: Seconds the engine may take to answer.

    Raises:
        AlreadyExistsError: It was started before and ``on_existing="raise"``.
        StartTimeoutError: The engine did not answer; the same call, made again, finds out.
        TypeError: The client and the store are not of one colour.
    """
    # Before anything is written: told later, the claim would stand and the workflow not run.
    if inspect.iscoroutinefunction(client.schedule_new_workflow) != isinstance(store, AsyncStateStore):
        raise TypeError(
            f"{type(client).__module__}.{type(client).__name__} and {store!r} are not of one colour: the async client goes "
            "with an AsyncStateStore, the sync one with a StateStore"
        )
    name = workflow if isinstance(workflow, str) else workflow.name
    end = time.monotonic() + timeout
    steps = _bounded(_start(client, store, name, key, plain(input), on_existing), name, key, timeout)
    return _drive_async(steps, end) if isinstance(store, AsyncStateStore) else _drive(steps, end)


def _bounded(steps: _Steps, name: str, key: str, timeout: float) -> _Steps:
    try:
        return (yield from steps)
    except TimeoutError as error:
        raise StartTimeoutError(
            f"the engine did not answer within {timeout:g} s when workflow {name!r} was started under the key {key!r}; "
            "whether it runs is not known: is a worker running, with placement and scheduler? Start it again with the same "
            f"key: after {CLAIM_LIFE:g} s that looks, and starts it only when it is not there",
            key=key,
        ) from error


def _start(client: Any, store: Any, name: str, key: str, value: Any, on_existing: str) -> _Steps:
    record = f"_wf-start-{key}"
    claim = {
        "workflow": name,
        "instance_id": key,
        "claimed_at": time.time(),
        "by": uuid.uuid4().hex,
        "started": False,
    }
    if not (yield from _claim(client, store, record, claim)):
        if on_existing == "raise":
            raise AlreadyExistsError(
                f"workflow {name!r} was started before under the key {key!r}; its record is {record!r}",
                key=record,
            )
        state = yield _Ask(lambda: client.get_workflow_state(key), engine=True)
        return StartResult(key, started=False, state=state)
    try:
        yield from _schedule(client, name, key, value)
    except TimeoutError:
        # The start may still be on its way: until the claim is old, nobody else sends a second one after it.
        raise
    except BaseException:
        # Whoever asks next need not wait until the claim is old; whether it landed after all is looked at then.
        yield _Ask(lambda: store.update(record, _with(claimed_at=0.0), default=claim))
        raise
    yield _Ask(lambda: store.update(record, _with(started=True), default=claim))
    return StartResult(key, started=True, state=None)


def _claim(client: Any, store: Any, record: str, claim: dict[str, Any]) -> Generator[_Ask, Any, bool]:
    """
    Whether it falls to this caller to start the workflow.
    """
    try:
        yield _Ask(lambda: store.create(record, claim))
    except AlreadyExistsError:
        entry = yield _Ask(lambda: store.read(record))
        found: dict[str, Any] = entry.value
        if found["started"] or time.time() - found["claimed_at"] < CLAIM_LIFE:
            return False
        instance: str = claim["instance_id"]
        state = yield _Ask(lambda: client.get_workflow_state(instance, fetch_payloads=False), engine=True)
        if state is not None:
            yield _Ask(lambda: store.update(record, _with(started=True), default=found))
            return False
        try:
            yield _Ask(lambda: store.compare_and_set(record, claim, entry.etag))
        except ConflictError:
            return False
    return True


def _with(**fields: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda record: {**record, **fields}


def _schedule(client: Any, name: str, key: str, value: Any) -> Generator[_Ask, Any, None]:
    try:
        yield _Ask(
            lambda: client.schedule_new_workflow(name, input=value, instance_id=key),
            engine=True,
        )
    except Exception as error:
        code: Any = getattr(error, "code", None)
        if code is None or getattr(code(), "name", "") != "ALREADY_EXISTS":
            raise


def _drive(steps: _Steps, end: float) -> StartResult:
    answer: Any = None
    failed: BaseException | None = None
    while True:
        try:
            step = steps.send(answer) if failed is None else steps.throw(failed)
        except StopIteration as over:
            result: StartResult = over.value
            return result
        answer, failed = None, None
        try:
            answer = ask(step.call, end) if step.engine else step.call()
        except BaseException as error:  # noqa: BLE001  the steps say what it means
            failed = error


async def _drive_async(steps: _Steps, end: float) -> StartResult:
    answer: Any = None
    failed: BaseException | None = None
    while True:
        try:
            step = steps.send(answer) if failed is None else steps.throw(failed)
        except StopIteration as over:
            result: StartResult = over.value
            return result
        # Cancelled, it still gives its claim back; that must not be cancelled in turn.
        cancelled = failed is not None and not isinstance(failed, Exception)
        answer, failed = None, None
        try:
            with anyio.move_on_after(GIVE_BACK if cancelled else None, shield=cancelled):
                answer = await (ask_async(step.call, end) if step.engine else step.call())
        except BaseException as error:  # noqa: BLE001  the steps say what it means
            failed = error
