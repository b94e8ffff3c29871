"""
Faults below a real daprd: connections to the store cut after a write, stores that lie, and a sidecar that retries.

Each row fires at least twenty times; the counts are printed.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from tests.faults.table import COMPONENT
from tests.faults.table import ENOUGH as TIMES
from tests.faults.worker import inc
from toolkit import RetryPolicy, StateStore
from toolkit.core.model import Row, Write
from toolkit.dapr.address import Token, address_of
from toolkit.dapr.port import GrpcPort
from toolkit.errors import ConflictError, OutcomeUnknownError
from toolkit.sidecar import Binaries, Sidecar
from toolkit.stores import Call, find
from toolkit.testing.component import StoreComponent
from toolkit.testing.proxy import FaultProxy
from toolkit.testing.tcp import TcpProxy

STORE: Final = "statestore"
PATIENT: Final = RetryPolicy(deadline=20.0)


def fresh_key() -> str:
    return f"b-{uuid.uuid4().hex}"


# Below the sidecar -------------------------------------------------------------------------------------------------------


@dataclass
class Below:
    store: StateStore
    wire: TcpProxy
    name: str


@pytest.fixture(params=["redis", "postgresql", "mariadb"])
def below(
    request: pytest.FixtureRequest, server_named: Callable[[str], Any], daprd: Callable[..., Sidecar]
) -> Iterator[Below]:
    """A store whose sidecar talks to it through a proxy that can cut."""
    server = server_named(request.param)
    with TcpProxy(server.port) as wire:
        resource = json.loads(json.dumps(server.component(STORE)).replace(str(server.port), str(wire.port)))
        sidecar = daprd(components=[resource])
        with StateStore(STORE, address=sidecar.grpc_endpoint, retry=PATIENT) as store:
            yield Below(store, wire, request.param)


def marking(mark: str) -> Callable[[Any], Any]:
    return lambda value: {"n": value["n"] + 1, "mark": mark}


ROW_OF: Final = {
    "cut": "8 connection cut after the write",
    "reset": "10 connection reset, worded as a conflict",
}


@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_connections_that_break_under_a_write(below: Below, fault: str, fired: Callable[..., None]) -> None:
    """
    The store has the write and its driver or the sidecar sees a broken connection, or the write never arrived.

    Whatever is retried or worded as a conflict on the way up (rows 8 and 10), each update counts once.
    """
    key = fresh_key()
    below.store.create(key, {"n": 0})
    break_on = below.wire.cut_after if fault == "cut" else below.wire.reset_on
    for number in range(1, TIMES + 1):
        mark = uuid.uuid4().hex
        break_on(mark.encode())
        assert below.store.update(key, marking(mark)) == {"n": number, "mark": mark}
        assert below.store.get(key) == {"n": number, "mark": mark}
    assert below.wire.faults == {fault: TIMES}
    fired(ROW_OF[fault], below.name, TIMES)


@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_a_create_whose_connection_breaks(below: Below, fault: str) -> None:
    """The creator is not told that the key exists: it made it itself."""
    break_on = below.wire.cut_after if fault == "cut" else below.wire.reset_on
    for _ in range(5):
        key, mark = fresh_key(), uuid.uuid4().hex
        break_on(mark.encode())
        below.store.create(key, {"mark": mark})
        assert below.store.get(key) == {"mark": mark}


# A store that sins -------------------------------------------------------------------------------------------------------

RETRIES: Final = {
    "apiVersion": "dapr.io/v1alpha1",
    "kind": "Resiliency",
    "metadata": {"name": "stubborn"},
    "spec": {
        "policies": {"retries": {"again": {"policy": "constant", "duration": "5ms", "maxRetries": 5}}},
        "targets": {"components": {STORE: {"outbound": {"retry": "again"}}}},
    },
}


@dataclass
class Sinful:
    component: StoreComponent
    sidecar: Sidecar
    port: GrpcPort

    def open(self, address: str | None = None, *, lies: bool = False) -> StateStore:
        profile = replace(
            find("state.in-memory", "v1"), lies=frozenset({Call.CREATE, Call.CAS} if lies else ())
        )
        return StateStore(
            STORE, address=address or self.sidecar.grpc_endpoint, profile=profile, retry=PATIENT
        )

    def row(self, key: str) -> Row:
        row = self.port.get(key, strong=True, timeout=5.0)
        assert isinstance(row, Row)
        return row


@pytest.fixture(scope="module")
def sinful(daprd_binaries: Binaries) -> Iterator[Sinful]:
    with StoreComponent() as component:
        resources = [component.resource(STORE), RETRIES]
        with Sidecar(components=resources, env=component.environment, binaries=daprd_binaries) as sidecar:
            port = GrpcPort(STORE, address_of(sidecar.grpc_endpoint), Token(None))
            port.connect(10.0)
            yield Sinful(component, sidecar, port)
            port.close()


def test_a_sidecar_that_retries_what_was_applied(sinful: Sinful, fired: Callable[..., None]) -> None:
    """Row 7: the first try lands and fails, the sidecar's own retry is refused: a conflict that hides a success."""
    before = sinful.component.sinned["fail_after_apply"]
    with sinful.open() as store:
        key = fresh_key()
        store.create(key, {"n": 0})
        for number in range(1, TIMES + 1):
            sinful.component.sin("fail_after_apply", key=key)
            assert store.update(key, inc) == {"n": number}
        for _ in range(TIMES):
            fresh = fresh_key()
            sinful.component.sin("fail_after_apply", key=fresh)
            store.create(fresh, {"n": 1})
    assert sinful.component.sinned["fail_after_apply"] == before + 2 * TIMES
    fired("7 sidecar retries what was applied", COMPONENT, 2 * TIMES)


def test_an_etag_that_a_foreign_write_leaves_alone(sinful: Sinful, fired: Callable[..., None]) -> None:
    """Row 14: the store keeps its ETag over a blind write; the version of the value tells all the same."""
    before = sinful.component.sinned["frozen_etag"]
    with sinful.open() as store:
        for number in range(TIMES):
            key = fresh_key()
            store.create(key, {"n": 0})
            old, etag = store.read(key).etag, sinful.row(key).etag
            sinful.component.sin("frozen_etag", key=key)
            assert sinful.port.put(Write(key, json.dumps({"n": 50 + number}).encode()), timeout=5.0).ok
            assert sinful.row(key).etag == etag
            with pytest.raises(ConflictError):
                store.compare_and_set(key, {"n": 1}, old)
            assert store.get(key) == {"n": 50 + number}
    assert sinful.component.sinned["frozen_etag"] == before + TIMES
    fired("14 ETag unchanged by a foreign write", COMPONENT, TIMES)


def test_a_write_under_way_when_the_etag_stays(sinful: Sinful) -> None:
    """
    Row 14, in the middle of a call: the request is lost and another value stands under the same ETag.

    It is not overwritten by sending again: the caller hears that nobody can know.
    """
    with FaultProxy(sinful.sidecar.grpc_port) as proxy, sinful.open(f"127.0.0.1:{proxy.port}") as store:
        for _ in range(TIMES):
            key = fresh_key()
            store.create(key, {"n": 0})

            def outrun(value: Any, key: str = key) -> Any:
                sinful.component.sin("frozen_etag", key=key)
                sinful.port.put(Write(key, b'{"n": 50}'), timeout=5.0)
                return inc(value)

            proxy.next("SaveState", "drop_request")
            with pytest.raises(OutcomeUnknownError):
                store.update(key, outrun)
            assert store.get(key) == {"n": 50}


@pytest.mark.parametrize("sin", ["ack_without_apply", "ack_conflict"])
def test_a_success_that_is_none(sinful: Sinful, sin: Any, fired: Callable[..., None]) -> None:
    """Row 17: where the profile says that the store lies, every yes is read back; nothing is lost."""
    before = sinful.component.sinned[sin]
    with sinful.open(lies=True) as store, sinful.open(lies=True) as rival:
        key = fresh_key()
        store.create(key, {"n": 0})
        for number in range(TIMES):
            sinful.component.sin(sin, key=key)
            if sin == "ack_conflict":
                outran = threading.Event()
                with ThreadPoolExecutor(1) as pool:

                    def outrun(value: Any, outran: threading.Event = outran, pool: Any = pool) -> Any:
                        if not outran.is_set():
                            outran.set()
                            pool.submit(rival.update, key, inc).result(10)
                        return inc(value)

                    store.update(key, outrun)
                assert store.get(key) == {"n": 2 * number + 2}
            else:
                assert store.update(key, inc) == {"n": number + 1}
                assert store.get(key) == {"n": number + 1}
    assert sinful.component.sinned[sin] == before + TIMES
    if sin == "ack_conflict":
        fired("17 raced write acknowledged", COMPONENT, TIMES)
