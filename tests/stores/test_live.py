"""
The doctor on real stores through a real daprd: each is what its profile says, and the evidence is written on demand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from tests.stores.reports import assert_as_profiled, versioned
from toolkit.doctor import GrpcWire, Report, examine
from toolkit.doctor.evidence import write_if_asked
from toolkit.sidecar import Sidecar, component
from toolkit.testing.live import LiveStores

SERVERS = {
    "in-memory": "in the sidecar",
    "sqlite": "embedded",
    "redis": "Redis",
    "postgresql-v1": "PostgreSQL",
    "postgresql-v2": "PostgreSQL",
    "mysql": "MariaDB",
    "etcd": "etcd",
}
# The rest take as long and run in `make test-all`.
QUICK = ("sqlite", "redis", "etcd")


@pytest.fixture
def probe() -> Iterator[Callable[[Sidecar, str], Report]]:
    """
    Examine a store of a sidecar.
    """
    channels: list[grpc.Channel] = []

    def run(sidecar: Sidecar, name: str) -> Report:
        channel = grpc.insecure_channel(sidecar.grpc_endpoint)
        channels.append(channel)
        return examine(GrpcWire(channel, name), name)

    yield run
    for channel in channels:
        channel.close()


def described(live: LiveStores, name: str) -> str:
    """
    Name the server with its version, as an evidence file does.
    """
    server = live.servers.get(name)
    return SERVERS[name] if server is None else versioned(SERVERS[name], type(server))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else (pytest.mark.slow,)) for name in SERVERS]
)
def test_a_store_is_what_its_profile_says(
    name: str, live: LiveStores, live_named: Callable[[str], Any], probe: Callable[[Sidecar, str], Report]
) -> None:
    """
    The seven stores that run on one machine answer every probe as the table has it.
    """
    store = live_named(name)
    report = probe(store.sidecar, store.name)
    write_if_asked(report, described(live, name))
    assert_as_profiled(report)


def test_etcd_loses_what_it_acknowledged(
    live_named: Callable[[str], Any], probe: Callable[[Sidecar, str], Report]
) -> None:
    """
    The reason why etcd is refused can be seen: of its races and its counter at least one goes wrong in any run.
    """
    store = live_named("etcd")
    report = probe(store.sidecar, store.name)
    assert not report.profile.accepted
    wrong = {"several winners", "lost updates", "torn"}
    assert wrong.intersection(str(value) for value in report.facts.values())


def test_the_transactions_of_an_encrypted_store_are_found_out(
    daprd: Callable[..., Sidecar], probe: Callable[[Sidecar, str], Report], tmp_path: Any
) -> None:
    """
    Daprd hands an encrypted store other bytes in a transaction than a read gives back.
    """
    store = component(
        "locked", "state.sqlite", metadata={"connectionString": f"file:{tmp_path / 'locked.db'}"}
    )
    store["auth"] = {"secretStore": "env"}
    reference = {"name": "OCC_TEST_KEY", "key": "OCC_TEST_KEY"}
    store["spec"]["metadata"].append({"name": "primaryEncryptionKey", "secretKeyRef": reference})
    sidecar = daprd(
        components=[component("env", "secretstores.local.env"), store], env={"OCC_TEST_KEY": "0f" * 32}
    )
    report = probe(sidecar, "locked")
    assert "changed" == report.facts["transaction-bytes"]
    assert any("encrypted" in warning for warning in report.warnings)
