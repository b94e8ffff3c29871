"""
When the sidecar is missing, wrong, frozen or dying: a typed error that names the cure, in every colour.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LiveStore
from tests.contract.caller import COLOURS, opened
from tests.contract.common import inc
from toolkit import CLEAR, Outcome, RetryPolicy, StateStore
from toolkit.core.model import Row
from toolkit.dapr.address import Token, address_of
from toolkit.dapr.port import GrpcPort
from toolkit.errors import (
    OutcomeUnknownError,
    SidecarUnavailableError,
    StoreError,
    StoreUnavailableError,
    UnknownStoreError,
)
from toolkit.sidecar import Sidecar, component
from toolkit.sidecar.ports import free_ports
from toolkit.testing.proxy import FaultProxy


def sqlite(name: str, directory: Path, **more: Any) -> dict[str, Any]:
    path = directory / f"{name}.db"
    return {**component(name, "state.sqlite", metadata={"connectionString": f"file:{path}"}), **more}


@pytest.mark.parametrize("colour", COLOURS)
def test_an_unknown_store(daprd: Callable[..., Sidecar], tmp_path: Path, colour: str) -> None:
    """The loaded stores are listed, and the hint that one with scopes for other apps is not among them."""
    mine = sqlite("orders", tmp_path)
    theirs = sqlite("billing", tmp_path, scopes=["somebody-else"])
    sidecar = daprd(components=[mine, theirs], app_id="shop")
    told = pytest.raises(UnknownStoreError, match=r"'billing'.*loaded for this app: orders.*scopes")
    with told as caught, opened(colour, "billing", address=sidecar.grpc_endpoint):
        pass
    assert caught.value.available == ("orders",)
    other = daprd(components=[sqlite("parcels", tmp_path, scopes=["shop"]), theirs], app_id="somebody-else")
    with opened(colour, "billing", address=other.grpc_endpoint) as store:
        store.set("k", {"n": 1})
        assert store.get("k") == {"n": 1}


@pytest.mark.parametrize("colour", COLOURS)
def test_a_wrong_token(daprd: Callable[..., Sidecar], tmp_path: Path, colour: str) -> None:
    """Refused at once, the cure named, the token nowhere in the error."""
    sidecar = daprd(components=[sqlite("orders", tmp_path)], api_token="right")
    for token in ("not-the-right-one", None):
        refused = pytest.raises(StoreError, match=r"api_token")
        with refused as caught, opened(colour, "orders", address=sidecar.grpc_endpoint, api_token=token):
            pass
        assert "not-the-right-one" not in str(caught.value)
    with opened(colour, "orders", address=sidecar.grpc_endpoint, api_token="right") as store:
        assert store.get("k") is None


@pytest.mark.parametrize("colour", COLOURS)
def test_no_sidecar(colour: str) -> None:
    """Bounded waiting, then the address and the last reason."""
    (port,) = free_ports(1)
    started = time.monotonic()
    told = pytest.raises(SidecarUnavailableError, match=rf"127.0.0.1:{port}.*occ run")
    with told, opened(colour, "orders", address=f"127.0.0.1:{port}", startup_timeout=0.3):
        pass
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("colour", COLOURS)
def test_a_sidecar_that_dies_and_comes_back(
    daprd: Callable[..., Sidecar], tmp_path: Path, colour: str
) -> None:
    """Killed in the middle: calls end by their deadline with a typed error; started again the same store works."""
    sidecar = daprd(components=[sqlite("orders", tmp_path)])
    retry = RetryPolicy(deadline=1.5)
    with opened(colour, "orders", address=sidecar.grpc_endpoint, retry=retry) as store:
        store.create("k", {"n": 0})
        sidecar.kill()
        started = time.monotonic()
        for call in (lambda: store.get("k"), lambda: store.update("k", inc)):
            with pytest.raises(StoreUnavailableError, match="sidecar"):
                call()
        assert time.monotonic() - started < 5
        sidecar.restart()
        until = time.monotonic() + 20
        while True:
            try:
                value = store.update("k", inc, op_id="after")
            except StoreUnavailableError:
                assert time.monotonic() < until
            else:
                break
        assert value == {"n": 1}


def test_a_sidecar_that_dies_under_a_write(daprd: Callable[..., Sidecar], tmp_path: Path) -> None:
    """The write is on its way and nobody answers any more: a receipt, and the truth once the sidecar is back."""
    sidecar = daprd(components=[sqlite("orders", tmp_path)])
    with FaultProxy(sidecar.grpc_port) as proxy:
        retry = RetryPolicy(deadline=1.5)
        with StateStore("orders", address=f"127.0.0.1:{proxy.port}", retry=retry) as store:
            store.create("k", {"n": 0})

            def dies(value: Any) -> Any:
                proxy.next("GetState", *["drop_request"] * 50)
                return inc(value)

            proxy.next("SaveState", "drop_reply", *["drop_request"] * 50)
            with pytest.raises(OutcomeUnknownError) as caught:
                store.update("k", dies)
            sidecar.kill()
            sidecar.restart()
    with StateStore("orders", address=sidecar.grpc_endpoint) as again:
        assert again.resolve(caught.value.receipt) is Outcome.COMMITTED
        assert again.get("k") == {"n": 1}


def test_keeping_an_expiry_a_thousand_times(live_store: LiveStore) -> None:
    """1,000 updates that keep a TTL move the expiry by at most a second, on every store."""
    key = f"ttl-{uuid.uuid4().hex}"
    port = GrpcPort(live_store.name, address_of(live_store.address), Token(None))
    port.connect(10.0)

    def expires() -> Any:
        row = port.get(key, strong=True, timeout=5.0)
        assert isinstance(row, Row)
        return json.loads(row.data)["_occ"].get("exp")

    with StateStore(live_store.name, address=live_store.address) as store:
        store.create(key, {"n": 0}, ttl=600)
        first = expires()
        for _ in range(1000):
            store.update(key, inc)
        assert (store.get(key), abs(expires() - first) <= 1.0) == ({"n": 1000}, True)
        store.update(key, inc, ttl=CLEAR)
        assert expires() is None
    port.close()
