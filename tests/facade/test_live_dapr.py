"""
``Dapr`` through a real sidecar: secrets, configuration, tokens, addresses, a late sidecar, a silent metadata API.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.facade.sidecars import BACKENDS, run, secret_store
from toolkit import (
    Access,
    AsyncDapr,
    Dapr,
    NotFoundError,
    StateStore,
    StoreError,
    UnknownStoreError,
    UnsafeStoreError,
)
from toolkit.dapr.configuration import ConfigItem
from toolkit.sidecar import Sidecar, component


def test_secrets(sidecar):
    """
    One secret with its parts, all of them, and a missing one as NotFoundError with its name.
    """
    with Dapr(address=sidecar.grpc_endpoint, secret_store="secrets") as dapr:
        assert {"plain": "p1"} == dapr.secrets.get("plain")
        assert {"user": "u1", "password": "p2"} == dapr.secrets.get("db")
        assert {"plain": {"plain": "p1"}, "db": {"user": "u1", "password": "p2"}} == dapr.secrets.get_all()
        with pytest.raises(NotFoundError, match="'nope'") as caught:
            dapr.secrets.get("nope")
        assert "nope" == caught.value.key
        with pytest.raises(TypeError):
            dapr.secrets.get("")
        assert "p1" not in repr(dapr.secrets)


@BACKENDS
def test_secrets_async(sidecar, backend):
    """
    The same in the async colour, beside a store and the configuration of one object.
    """

    async def call() -> None:
        async with AsyncDapr(
            address=sidecar.grpc_endpoint, state_store="states", secret_store="env", config_store="config"
        ) as dapr:
            assert {"DB": "from-env"} == await dapr.secrets.get("DB")
            assert {"DB": {"DB": "from-env"}} == await dapr.secrets.get_all()
            assert await dapr.states.get("nothing") is None

    run(backend, call)


@pytest.mark.parametrize(
    ("names", "kind", "loaded"),
    [
        ({"secret_store": "nope"}, "secret store", ("env", "secrets")),
        ({"config_store": "nope"}, "configuration store", ("config",)),
        ({"state_store": "nope"}, "state store", ("states",)),
    ],
)
def test_an_unknown_store_names_those_that_are_there(sidecar, names, kind, loaded):
    """
    Entering names the kind, the name, and what is loaded.
    """
    with pytest.raises(UnknownStoreError, match=f"no {kind} 'nope'; loaded for this app: ") as caught:
        Dapr(address=sidecar.grpc_endpoint, **names).__enter__()
    assert loaded == caught.value.available


def test_configuration(sidecar, config):
    """
    Items with value and version; those that are missing are left out; without keys, all.
    """
    config.set("a", "1||v7")
    config.set("b", "2")
    with Dapr(address=sidecar.grpc_endpoint, config_store="config") as dapr:
        found = {"a": ConfigItem("1", "v7"), "b": ConfigItem("2")}
        assert found == dapr.configs.get("a", "b", "c")
        assert found == dapr.configs.get()
        with pytest.raises(TypeError):
            dapr.configs.get("")


def silent_configuration(directory: Path) -> Path:
    """
    A Dapr configuration that denies the metadata API.
    """
    resolver = {
        "component": "sqlite",
        "version": "v1",
        "configuration": {"connectionString": f"file:{directory / 'names.db'}"},
    }
    spec = {
        "api": {"denied": [{"name": "metadata", "version": "v1", "protocol": "grpc"}]},
        "nameResolution": resolver,
    }
    path = directory / "config.yaml"
    text = yaml.safe_dump(
        {
            "apiVersion": "dapr.io/v1alpha1",
            "kind": "Configuration",
            "metadata": {"name": "silent"},
            "spec": spec,
        }
    )
    path.write_text(text, encoding="utf-8")
    return path


def test_with_the_metadata_api_switched_off(daprd, tmp_path):
    """
    Without metadata a state store needs profile= and then works; secrets work, and a wrong name is told by the call.
    """
    components = [component("states", "state.in-memory"), secret_store(tmp_path)]
    sidecar = daprd(components=components, config=silent_configuration(tmp_path))
    where = {"address": sidecar.grpc_endpoint}
    with pytest.raises(UnsafeStoreError, match="profile="):
        Dapr(**where, state_store="states").__enter__()
    with Dapr(
        **where, state_store="states", profile="in-memory", secret_store="secrets", access=Access.ALL
    ) as dapr:
        dapr.states.create("k", {"n": 1})
        assert {"n": 1} == dapr.states.get("k")
        assert {"plain": "p1"} == dapr.secrets.get("plain")
        with pytest.raises(UnsafeStoreError, match="profile="):
            dapr.state("states").get("k")
    with Dapr(**where, secret_store="nope") as dapr, pytest.raises(UnknownStoreError, match="'nope'"):
        dapr.secrets.get("plain")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["sync", "asyncio", "trio"])
def test_a_sidecar_that_comes_ten_seconds_late(daprd_binaries, tmp_path, backend):
    """
    Entering waits for a sidecar that starts 10 s after the application, then everything works.
    """
    late_by = 10.0
    components = [component("states", "state.in-memory"), secret_store(tmp_path)]
    probe = Sidecar(binaries=daprd_binaries, components=components)
    # The port is only known once it has started: start it, learn the ports, end it, and start it late on the same ones.
    with probe:
        endpoint = probe.grpc_endpoint
        probe.kill()
        timer = threading.Timer(late_by, probe.restart)
        began = time.monotonic()
        timer.start()
        try:
            options = {"address": endpoint, "state_store": "states", "secret_store": "secrets"}
            if backend == "sync":
                with Dapr(**options) as dapr:
                    assert {"plain": "p1"} == dapr.secrets.get("plain")
                    assert dapr.states.get("k") is None
            else:

                async def call() -> None:
                    async with AsyncDapr(**options) as dapr:
                        assert {"plain": "p1"} == await dapr.secrets.get("plain")
                        assert await dapr.states.get("k") is None

                run(backend, call)
            assert time.monotonic() - began >= late_by
        finally:
            timer.join()


def test_a_read_waits_out_a_restart(daprd, tmp_path):
    """
    A secret asked for while the sidecar is away is given when it is back.
    """
    sidecar = daprd(components=[secret_store(tmp_path)])
    with Dapr(address=sidecar.grpc_endpoint, secret_store="secrets") as dapr:
        sidecar.kill()
        timer = threading.Timer(0.3, sidecar.restart)
        timer.start()
        assert {"plain": "p1"} == dapr.secrets.get("plain")
        timer.join()


@pytest.mark.parametrize("where", ["argument", "file", "callable", "environment"])
def test_a_token_from_everywhere(daprd, tmp_path, monkeypatch, where):
    """
    The token may be a text, a file, a callable or the environment's; it belongs to one object: another has its own.
    """
    token = "right-token-71c4"
    sidecar = daprd(
        components=[component("states", "state.in-memory"), secret_store(tmp_path)], api_token=token
    )
    path = tmp_path / "token"
    path.write_text(f"{token}\n", encoding="utf-8")
    sources: dict[str, Any] = {
        "argument": token,
        "file": path,
        "callable": lambda: token,
        "environment": None,
    }
    if where == "environment":
        monkeypatch.setenv("DAPR_API_TOKEN", token)
    options = {"address": sidecar.grpc_endpoint, "state_store": "states", "secret_store": "secrets"}
    with Dapr(**options, api_token=sources[where]) as dapr:
        assert {"plain": "p1"} == dapr.secrets.get("plain")
        assert dapr.states.get("k") is None
        assert dapr.state("states", access=Access.ALL).read("k").value is None
        with pytest.raises(StoreError, match="API token"):
            Dapr(**options, api_token="wrong").__enter__()
        with pytest.raises(StoreError, match="API token"):
            StateStore("states", address=sidecar.grpc_endpoint, api_token="wrong").__enter__()


def test_a_token_file_that_is_rotated(daprd, tmp_path):
    """
    A token file is read for each call: a new token is used from the next call on.
    """
    sidecar = daprd(
        components=[component("states", "state.in-memory"), secret_store(tmp_path)], api_token="second"
    )
    path = tmp_path / "token"
    path.write_text("second", encoding="utf-8")
    with Dapr(address=sidecar.grpc_endpoint, api_token=path, secret_store="secrets") as dapr:
        path.write_text("first", encoding="utf-8")
        with pytest.raises(StoreError, match="API token"):
            dapr.secrets.get("plain")
        path.write_text("second", encoding="utf-8")
        assert {"plain": "p1"} == dapr.secrets.get("plain")


@pytest.mark.parametrize("form", ["{host}", "http://{host}", "dns:{host}", "{host}?tls=false"])
def test_address_forms(sidecar, monkeypatch, form):
    """
    All forms of an address reach the sidecar, from the argument and from the environment.
    """
    address = form.format(host=sidecar.grpc_endpoint)
    with Dapr(address=address, secret_store="secrets") as dapr:
        assert {"plain": "p1"} == dapr.secrets.get("plain")
    monkeypatch.setenv("DAPR_GRPC_ENDPOINT", address)
    with Dapr(secret_store="secrets") as dapr:
        assert {"plain": "p1"} == dapr.secrets.get("plain")


def test_host_and_port_from_the_environment(sidecar, monkeypatch):
    """
    Without an endpoint the host and the port of Dapr's variables are taken.
    """
    monkeypatch.delenv("DAPR_GRPC_ENDPOINT", raising=False)
    monkeypatch.setenv("DAPR_RUNTIME_HOST", "127.0.0.1")
    monkeypatch.setenv("DAPR_GRPC_PORT", str(sidecar.grpc_port))
    with Dapr(secret_store="secrets") as dapr:
        assert {"plain": "p1"} == dapr.secrets.get("plain")
