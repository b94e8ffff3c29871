"""
The store component keeps a store's rules, and each sin breaks exactly one of them, through a real sidecar.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from dapr.proto import api_service_v1, api_v1, common_v1

from toolkit.sidecar import Binaries, Sidecar
from toolkit.testing._mvcc import Change, MvccStore, StoreConflictError
from toolkit.testing.component import StoreComponent

STORE = "statestore"


@dataclass(frozen=True)
class Store:
    """
    Raw calls on the component through the sidecar; each answers the name of the status.
    """

    component: StoreComponent
    stub: Any

    def item(self, key: str, value: bytes = b"", etag: str | None = None, **metadata: str) -> Any:
        item = common_v1.StateItem(key=key, value=value, metadata=metadata)
        if etag is not None:
            item.etag.value = etag
        return item

    def call(self, method: str, request: Any) -> str:
        try:
            getattr(self.stub, method)(request, timeout=10)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"

    def save(
        self, key: str, value: bytes, etag: str | None = None, *, first: bool = False, **metadata: str
    ) -> str:
        item = self.item(key, value, etag, **metadata)
        item.options.concurrency = 1 if first else 0
        return self.call("SaveState", api_v1.SaveStateRequest(store_name=STORE, states=[item]))

    def delete(self, key: str, etag: str | None = None) -> str:
        request = api_v1.DeleteStateRequest(store_name=STORE, key=key)
        if etag is not None:
            request.etag.value = etag
        return self.call("DeleteState", request)

    def multi(self, *operations: tuple[str, Any]) -> str:
        listed = [
            api_v1.TransactionalStateOperation(operationType=kind, request=item) for kind, item in operations
        ]
        return self.call(
            "ExecuteStateTransaction",
            api_v1.ExecuteStateTransactionRequest(storeName=STORE, operations=listed),
        )

    def get(self, key: str) -> tuple[bytes, str]:
        found = self.stub.GetState(api_v1.GetStateRequest(store_name=STORE, key=key), timeout=10)
        return found.data, found.etag


@pytest.fixture(scope="module")
def running(daprd_binaries: Binaries) -> Iterator[Store]:
    with StoreComponent() as component:
        resources = [component.resource(STORE)]
        with (
            Sidecar(components=resources, env=component.environment, binaries=daprd_binaries) as sidecar,
            grpc.insecure_channel(sidecar.grpc_endpoint) as channel,
        ):
            yield Store(component, api_service_v1.DaprStub(channel))


@pytest.fixture
def store(running: Store) -> Iterator[Store]:
    yield running
    running.component.repent()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return request.node.name


def test_the_sidecar_loads_it_with_its_features(store: Store) -> None:
    """The component is listed by type, with ETags and transactions."""
    (component,) = store.stub.GetMetadata(api_v1.GetMetadataRequest(), timeout=10).registered_components
    assert (component.type, component.version) == ("state.sinful", "v1")
    assert {"ETAG", "TRANSACTIONAL", "TTL"} <= set(component.capabilities)


def test_without_sins_compare_and_set_and_first_write_hold(store: Store, key: str) -> None:
    """Right ETags pass, stale and malformed ones and second creates are refused in Dapr's codes."""
    answers = [store.save(key, b"1", first=True), store.save(key, b"2", first=True)]
    _, old = store.get(key)
    answers += [store.save(key, b"2", old), store.save(key, b"3", old), store.save(key, b"3", "letters")]
    answers += [store.delete(key, old), store.delete(key, store.get(key)[1]), store.save(key, b"4", old)]
    assert answers == ["OK", "ABORTED", "OK", "ABORTED", "INVALID_ARGUMENT", "ABORTED", "OK", "ABORTED"]
    assert store.get(key) == (b"", "")


def test_without_sins_a_transaction_is_all_or_nothing(store: Store, key: str) -> None:
    """A stale ETag in the middle leaves everything as it was."""
    store.save(key, b"0")
    stale = ("upsert", store.item(key, b"2", "999999"))
    write = ("upsert", store.item(f"{key}-x", b"1"))
    answers = [store.multi(write, stale), store.multi(write, ("delete", store.item(key)))]
    assert (answers, store.get(f"{key}-x")[0], store.get(key)) == (["INTERNAL", "OK"], b"1", (b"", ""))


def test_bulk_requests_work(store: Store, key: str) -> None:
    """A bulk get shows values, ETags and gaps."""
    store.save(f"{key}-a", b"1")
    request = api_v1.GetBulkStateRequest(store_name=STORE, keys=[f"{key}-a", f"{key}-b"])
    found = {
        item.key: (item.data, bool(item.etag)) for item in store.stub.GetBulkState(request, timeout=10).items
    }
    assert found == {f"{key}-a": (b"1", True), f"{key}-b": (b"", False)}


def test_fail_after_apply(store: Store, key: str) -> None:
    """The answer is an error and the value is there; the next write is honest."""
    store.component.sin("fail_after_apply", key=key)
    assert (store.save(key, b"1"), store.get(key)[0], store.save(key, b"2")) == ("INTERNAL", b"1", "OK")


def test_ack_without_apply(store: Store, key: str) -> None:
    """The answer is success and nothing is there."""
    store.component.sin("ack_without_apply", key=key, times=2)
    answers = [store.save(key, b"1"), store.multi(("upsert", store.item(key, b"2")))]
    assert (answers, store.get(key)) == (["OK", "OK"], (b"", ""))


def test_ack_conflict(store: Store, key: str) -> None:
    """A stale write is acknowledged and dropped."""
    store.save(key, b"1")
    store.component.sin("ack_conflict", key=key)
    assert (store.save(key, b"2", "999999"), store.get(key)[0]) == ("OK", b"1")


@pytest.mark.parametrize(
    ("sin", "answer"), [("partial_transaction", "INTERNAL"), ("partial_transaction_acked", "OK")]
)
def test_partial_transactions(store: Store, key: str, sin: Any, answer: str) -> None:
    """The neighbours of a refused operation are applied, whatever the answer."""
    store.component.sin(sin, key=key)
    operations = [
        ("upsert", store.item(f"{key}-a", b"1")),
        ("upsert", store.item(f"{key}-b", b"1", "999999")),
        ("upsert", store.item(f"{key}-c", b"1")),
    ]
    assert store.multi(*operations) == answer
    assert [store.get(f"{key}-{name}")[0] for name in "abc"] == [b"1", b"", b"1"]


def test_stale_read(store: Store, key: str) -> None:
    """One read answers the version before, with its ETag."""
    store.save(key, b"1")
    first = store.get(key)
    store.save(key, b"2")
    store.component.sin("stale_read", key=key)
    assert (store.get(key), store.get(key)[0]) == (first, b"2")


def test_reused_etag(store: Store, key: str) -> None:
    """After delete and recreate a stale ETag matches again."""
    store.component.sin("reused_etag", key=key, times=None)
    store.save(key, b"old")
    _, stale = store.get(key)
    store.delete(key)
    store.save(key, b"new")
    assert (store.save(key, b"lost", stale), store.get(key)[0]) == ("OK", b"lost")
    assert store.component.sinned["reused_etag"] == 1


def test_frozen_etag(store: Store, key: str) -> None:
    """A blind write changes the value and not the ETag."""
    store.component.sin("frozen_etag", key=key)
    store.save(key, b"1")
    _, before = store.get(key)
    store.save(key, b"2")
    assert store.get(key) == (b"2", before)


def test_expiry_and_its_lag(store: Store, key: str) -> None:
    """An expired row is gone; under the sin it lingers and refuses a create."""
    store.save(f"{key}-a", b"1", ttlInSeconds="10")
    store.save(f"{key}-b", b"1", ttlInSeconds="10")
    store.component.sin("ttl_lag", key=f"{key}-b", times=None)
    store.component.advance(11)
    assert (store.get(f"{key}-a"), store.get(f"{key}-b")[0]) == ((b"", ""), b"1")
    answers = [store.save(f"{key}-a", b"2", first=True), store.save(f"{key}-b", b"2", first=True)]
    store.component.advance(60)
    assert [*answers, store.save(f"{key}-b", b"2", first=True)] == ["OK", "ABORTED", "OK"]


def test_sins_hit_the_chosen_key_and_are_counted(store: Store, key: str) -> None:
    """Other keys are served truthfully."""
    before = store.component.sinned["fail_after_apply"]
    store.component.sin("fail_after_apply", key=f"{key}-b")
    assert [store.save(f"{key}-a", b"1"), store.save(f"{key}-b", b"1")] == ["OK", "INTERNAL"]
    assert store.component.sinned["fail_after_apply"] == before + 1


def test_an_unknown_sin_is_an_error() -> None:
    """A typing mistake in a test must not leave the store honest."""
    sin: Any = "fail_after_aply"
    with pytest.raises(ValueError, match="the store knows fail_after_apply"):
        MvccStore().arm(sin, "", 1)


def test_of_racing_writers_one_wins_each_round() -> None:
    """The store itself is linearizable: eight threads and one ETag have one winner."""
    store = MvccStore()
    store.write(Change("k", b"0"))
    for turn in range(20):
        etag = store.get("k").etag
        wins: list[int] = []
        barrier = threading.Barrier(8)

        def write(
            name: int, etag: str = etag, wins: list[int] = wins, barrier: threading.Barrier = barrier
        ) -> None:
            barrier.wait(10)
            try:
                store.write(Change("k", b"x", etag))
            except StoreConflictError:
                return
            wins.append(name)

        threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(wins) == 1, turn
