"""
``retry_on_conflict``: one test for each sentence of its docstring, with fake errors and through a real sidecar.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
import urllib.error
from collections.abc import Callable
from email.message import Message
from typing import Any

import anyio
import grpc
import httpx
import pytest
import requests
from dapr.aio.clients import DaprClient as AsyncDaprClient
from dapr.clients import DaprClient
from dapr.clients.exceptions import DaprGrpcError, DaprHttpError, DaprInternalError
from dapr.clients.grpc._request import TransactionalStateOperation
from dapr.clients.grpc._state import Concurrency, StateItem, StateOptions
from dapr.conf import settings
from dapr.serializers import DefaultJSONSerializer

from toolkit import (
    AlreadyExistsError,
    AttemptsExhaustedError,
    ConflictError,
    NotFoundError,
    OutcomeUnknownError,
    RetryPolicy,
    StateStore,
    StoreUnavailableError,
    retry_on_conflict,
)
from toolkit.conflict import is_conflict
from toolkit.log import capture
from toolkit.testing.proxy import FaultProxy

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Refusal(grpc.RpcError):
    """
    What a stub raises, as far as anybody looks at it.
    """

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> tuple[()]:
        return ()


def aio_refusal(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def http_error(status: int, error_code: str, message: str) -> DaprHttpError:
    body = json.dumps({"errorCode": error_code, "message": message}).encode()
    return DaprHttpError(DefaultJSONSerializer(), body, status, "reason")


def httpx_error(status: int, text: str, path: str = "/v1.0/state/s") -> httpx.HTTPStatusError:
    request = httpx.Request("POST", f"http://127.0.0.1:3500{path}")
    return httpx.HTTPStatusError(
        f"status {status}", request=request, response=httpx.Response(status, text=text, request=request)
    )


def requests_error(status: int, text: str) -> requests.HTTPError:
    response = requests.Response()
    response.status_code, response._content, response.url = (
        status,
        text.encode(),
        "http://127.0.0.1:3500/v1.0/state/s",
    )
    return requests.HTTPError(f"{status}", response=response)


def aiohttp_error(status: int, path: str) -> Exception:
    import aiohttp
    from multidict import CIMultiDict, CIMultiDictProxy
    from yarl import URL

    url = URL(f"http://127.0.0.1:3500{path}")
    info = aiohttp.RequestInfo(url, "POST", CIMultiDictProxy(CIMultiDict()), url)
    return aiohttp.ClientResponseError(info, (), status=status, message="")


def urllib_error(status: int, path: str) -> urllib.error.HTTPError:
    return urllib.error.HTTPError(f"http://127.0.0.1:3500{path}", status, "refused", Message(), io.BytesIO())


ABORTED, INTERNAL = grpc.StatusCode.ABORTED, grpc.StatusCode.INTERNAL
MISMATCH = "failed saving state in state store s: possible etag mismatch. error from state store: x"
MULTI = "error while executing state transaction: "

DISGUISES: dict[str, Callable[[], BaseException]] = {
    "sync SDK": lambda: DaprGrpcError(Refusal(ABORTED, MISMATCH)),
    "aio SDK save_state": lambda: caused(DaprInternalError(MISMATCH), aio_refusal(ABORTED, MISMATCH)),
    "aio SDK other calls": lambda: DaprGrpcError(aio_refusal(ABORTED, MISMATCH)),
    "raw stub": lambda: Refusal(ABORTED, ""),
    "raw aio stub": lambda: aio_refusal(ABORTED, ""),
    "transaction": lambda: DaprGrpcError(Refusal(INTERNAL, MULTI + "possible etag mismatch. error")),
    "transaction on Redis": lambda: DaprGrpcError(Refusal(INTERNAL, MULTI + "failed to set key a")),
    "delete in a transaction on Redis": lambda: Refusal(INTERNAL, MULTI + "failed to delete key a"),
    "create on PostgreSQL": lambda: DaprGrpcError(Refusal(INTERNAL, "no item was updated")),
    "create on Redis": lambda: aio_refusal(INTERNAL, "failed to set key a: ERR user_script"),
    "Cosmos DB": lambda: Refusal(INTERNAL, MULTI + "failed with status code 412"),
    "deadlock of the database": lambda: Refusal(INTERNAL, "... SQLSTATE 40P01 ..."),
    "SDK over HTTP": lambda: http_error(409, "ERR_STATE_SAVE", MISMATCH),
    "transaction over HTTP": lambda: http_error(
        500, "ERR_STATE_TRANSACTION", MULTI + "possible etag mismatch."
    ),
    "httpx": lambda: httpx_error(409, MISMATCH),
    "httpx, transaction": lambda: httpx_error(500, MULTI + "no item was updated"),
    "requests": lambda: requests_error(409, MISMATCH),
    "aiohttp": lambda: aiohttp_error(409, "/v1.0/state/s"),
    "urllib": lambda: urllib_error(409, "/v1.0/state/s"),
    "the toolkit's own": lambda: ConflictError("lost"),
    "wrapped by the application": lambda: caused(KeyError("x"), DaprGrpcError(Refusal(ABORTED, MISMATCH))),
    "several tasks": lambda: ExceptionGroup("g", [Refusal(ABORTED, ""), ConflictError("lost")]),
}


def made(table: dict[str, Callable[[], BaseException]], name: str) -> BaseException:
    return table[name]()


OTHERS: dict[str, Callable[[], BaseException]] = {
    "exhausted": lambda: AttemptsExhaustedError("lost 3"),
    "exists": lambda: AlreadyExistsError("there"),
    "exhausted, from a conflict": lambda: caused(
        AttemptsExhaustedError("lost 3"), Refusal(ABORTED, MISMATCH)
    ),
    "wrapped exhausted": lambda: caused(ValueError("x"), AttemptsExhaustedError("lost 3")),
    "unknown outcome": lambda: OutcomeUnknownError("who knows"),
    "missing": lambda: NotFoundError("gone"),
    "unavailable": lambda: caused(StoreUnavailableError("away"), Refusal(ABORTED, MISMATCH)),
    "timeout": lambda: DaprGrpcError(Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "possible etag mismatch")),
    "sidecar away": lambda: aio_refusal(grpc.StatusCode.UNAVAILABLE, "connection refused"),
    "invalid ETag": lambda: DaprGrpcError(Refusal(grpc.StatusCode.INVALID_ARGUMENT, "invalid etag value")),
    "any other INTERNAL": lambda: DaprGrpcError(Refusal(INTERNAL, "disk full")),
    "no cause": lambda: DaprInternalError("something"),
    "HTTP 500": lambda: http_error(500, "ERR_STATE_SAVE", "disk full"),
    "HTTP 400": lambda: http_error(400, "ERR_STATE_SAVE", "invalid etag"),
    "somebody else's 409": lambda: httpx_error(409, "user exists", "/users"),
    "somebody else's 409, aiohttp": lambda: aiohttp_error(409, "/users"),
    "an error of the function": lambda: ValueError("possible etag mismatch"),
    "several tasks, one of them different": lambda: ExceptionGroup("g", [Refusal(ABORTED, ""), ValueError()]),
}


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


# -- through the real sidecar -------------------------------------------------------------------------------------------


@pytest.fixture
def sdk(live, monkeypatch):
    """
    The settings of Dapr's SDK, pointed at the shared sidecar.
    """
    sidecar = live.sidecar
    monkeypatch.setattr(settings, "DAPR_HTTP_ENDPOINT", sidecar.http_endpoint)
    monkeypatch.setattr(settings, "DAPR_HTTP_PORT", sidecar.http_port)
    monkeypatch.setattr(settings, "DAPR_API_TOKEN", None)
    return sidecar.grpc_endpoint


@retry_on_conflict(policy=RetryPolicy(deadline=30.0))
def count_up(client: DaprClient, store: str, key: str) -> None:
    state = client.get_state(store, key)
    value = state.json()
    client.save_state(store, key, json.dumps({"n": value["n"] + 1}), etag=state.etag)


@retry_on_conflict(policy=RetryPolicy(deadline=30.0))
async def count_up_async(client: AsyncDaprClient, store: str, key: str) -> None:
    state = await client.get_state(store, key)
    value = state.json()
    await client.save_state(store, key, json.dumps({"n": value["n"] + 1}), etag=state.etag)


@retry_on_conflict(policy=RetryPolicy(deadline=30.0))
def count_up_in_a_transaction(client: DaprClient, store: str, key: str) -> None:
    state = client.get_state(store, key)
    data = json.dumps({"n": state.json()["n"] + 1})
    client.execute_state_transaction(
        store, [TransactionalStateOperation(key=key, data=data, etag=state.etag)]
    )


@pytest.mark.parametrize("store", ["in-memory", "sqlite", "redis", "postgresql-v2"])
@pytest.mark.parametrize("work", [count_up, count_up_in_a_transaction])
def test_nothing_is_lost_through_the_sync_sdk(sdk, live_named, store, work):
    """
    Four threads on the sync SDK count to 40 together, by saves and by transactions.
    """
    name, key = live_named(store).name, f"roc-{work.__name__}"
    with DaprClient(sdk) as client:
        client.save_state(name, key, json.dumps({"n": 0}))
        threads = [
            threading.Thread(target=lambda: [work(client, name, key) for _ in range(10)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {"n": 40} == client.get_state(name, key).json()


@pytest.mark.parametrize("store", ["in-memory", "redis"])
def test_nothing_is_lost_through_the_aio_sdk(sdk, live_named, store):
    """
    Four tasks on the async SDK, whose save_state hides the code, count to 40 together.
    """
    name = live_named(store).name

    async def call() -> Any:
        async with AsyncDaprClient(sdk) as client:
            await client.save_state(name, "roc-aio", json.dumps({"n": 0}))

            async def worker() -> None:
                for _ in range(10):
                    await count_up_async(client, name, "roc-aio")

            await asyncio.gather(*[worker() for _ in range(4)])
            return (await client.get_state(name, "roc-aio")).json()

    assert {"n": 40} == asyncio.run(call())


def test_a_lost_reply_may_apply_twice_and_where_to_go_instead(sdk, live_named, monkeypatch):
    """
    A repeat below turns a success into a conflict with oneself: this function applies twice, update(op_id=) once.
    """
    name = live_named("in-memory").name
    with FaultProxy(sdk) as proxy, DaprClient(f"127.0.0.1:{proxy.port}") as client:
        client.save_state(name, "roc-twice", json.dumps({"n": 0}))
        proxy.next("SaveState", "duplicate")
        count_up(client, name, "roc-twice")
        assert {"n": 2} == client.get_state(name, "roc-twice").json()
        with StateStore(name, address=f"127.0.0.1:{proxy.port}") as store:
            proxy.next("SaveState", "duplicate")
            store.update("roc-twice", lambda value: {"n": value["n"] + 1}, op_id="one")
            assert {"n": 3} == store.get("roc-twice")


# -- what protects nothing ---------------------------------------------------------------------------------------------


def no_etag(client: DaprClient, store: str) -> None:
    client.save_state(store, "roc-plain", "1")


def with_empty_etag(client: DaprClient, store: str) -> None:
    client.save_state(store, "roc-plain", "1", etag="")


def delete_without(client: DaprClient, store: str) -> None:
    client.delete_state(store_name=store, key="roc-plain")


def bulk_without(client: DaprClient, store: str) -> None:
    client.save_bulk_state(store, [StateItem("roc-plain", "1")])


def transaction_without(client: DaprClient, store: str) -> None:
    client.execute_state_transaction(store, [TransactionalStateOperation(key="roc-plain", data="1")])


def own_client(client: DaprClient, store: str) -> None:
    with DaprClient(client._uri.endpoint) as mine:
        mine.save_state(store, "roc-plain", "1")


UNGUARDED = [no_etag, with_empty_etag, delete_without, bulk_without, transaction_without, own_client]


@pytest.mark.parametrize("work", UNGUARDED)
def test_a_success_without_an_etag_is_logged_once(sdk, live_named, work):
    """
    A function that succeeds without ever sending an ETag is told so, once, wherever its client comes from.
    """
    store = live_named("in-memory").name
    decorated = retry_on_conflict(work)
    with DaprClient(sdk) as client, capture() as events:
        for _ in range(3):
            decorated(client, store)
    assert [("occ.warning", work.__name__)] == [(event.name, event.fields["op"]) for event in events]
    assert "without ever sending an ETag" in events[0].fields["message"]


def test_without_a_conflict_log_it_goes_to_the_logger(sdk, live_named, caplog):
    """
    Where nobody listens to events, the standard logger says it, once.
    """
    store = live_named("in-memory").name
    decorated = retry_on_conflict(lambda client: client.save_state(store, "roc-plain", "1"))
    with DaprClient(sdk) as client, caplog.at_level(logging.WARNING, "occ"):
        decorated(client)
        decorated(client)
    assert 1 == sum("without ever sending an ETag" in record.getMessage() for record in caplog.records)


def with_etag(client: DaprClient, store: str) -> None:
    state = client.get_state(store, "roc-guarded")
    client.save_state(store, "roc-guarded", "2", etag=state.etag)
    client.save_state(store, "roc-other", "2")


def guarded_bulk(client: DaprClient, store: str) -> None:
    state = client.get_state(store, "roc-guarded")
    client.save_bulk_state(
        store, [StateItem("roc-other", "1"), StateItem("roc-guarded", "2", etag=state.etag)]
    )


def guarded_transaction(client: DaprClient, store: str) -> None:
    state = client.get_state(store, "roc-guarded")
    operation = TransactionalStateOperation(key="roc-guarded", data="2", etag=state.etag)
    client.execute_state_transaction(store, [operation])


def create(client: DaprClient, store: str) -> None:
    client.delete_state(store, "roc-created")
    client.save_state(store, "roc-created", "1", options=StateOptions(concurrency=Concurrency.first_write))


def only_reads(client: DaprClient, store: str) -> None:
    client.get_state(store, "roc-guarded")


@pytest.mark.parametrize("work", [with_etag, guarded_bulk, guarded_transaction, create, only_reads])
def test_a_guarded_success_is_not_logged(sdk, live_named, work):
    """
    One ETag, or a first-write, is enough; a function that writes nothing is left alone.
    """
    store = live_named("in-memory").name
    with DaprClient(sdk) as client, capture() as events:
        client.save_state(store, "roc-guarded", "1")
        retry_on_conflict(work)(client, store)
    assert [] == events


def test_the_advice_in_the_async_colour(sdk, live_named):
    """
    The async client is seen too, and its methods stay coroutine functions.
    """
    store = live_named("in-memory").name

    @retry_on_conflict
    async def work(client: AsyncDaprClient) -> None:
        await client.save_state(store, "roc-plain", "1")

    async def call() -> None:
        async with AsyncDaprClient(sdk) as client:
            await work(client)
            await work(client)
            assert asyncio.iscoroutinefunction(client.save_state)

    with capture() as events:
        asyncio.run(call())
    assert ["occ.warning"] == [event.name for event in events]


def test_outside_of_a_decorated_function_the_sdk_is_as_it_was(sdk, live_named):
    """
    Calls of the SDK elsewhere say nothing and fail as they did.
    """
    store = live_named("in-memory").name
    with DaprClient(sdk) as client, capture() as events:
        retry_on_conflict(lambda: None)()
        client.save_state(store, "roc-plain", "1")
        with pytest.raises(TypeError):
            client.save_state()
        with pytest.raises(TypeError):
            retry_on_conflict(client.save_state)()
        assert "save_state" == client.save_state.__name__
    assert [] == events
