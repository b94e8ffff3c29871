"""
``retry_on_conflict`` on the Dapr SDK, through a real sidecar: nothing lost, what may apply twice, what protects nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from typing import Any

import pytest
from dapr.aio.clients import DaprClient as AsyncDaprClient
from dapr.clients import DaprClient
from dapr.clients.grpc._request import TransactionalStateOperation
from dapr.clients.grpc._state import Concurrency, StateItem, StateOptions
from dapr.conf import settings

from toolkit import (
    RetryPolicy,
    StateStore,
    retry_on_conflict,
)
from toolkit.log import capture
from toolkit.testing.proxy import FaultProxy


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
