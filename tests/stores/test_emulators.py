"""
The doctor on emulators and on servers few machines have: `make test-stores`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import pytest

from tests.stores.reports import assert_as_profiled, versioned
from toolkit import StateStore
from toolkit.doctor import GrpcWire, Op, Report, examine
from toolkit.doctor.evidence import write_if_asked
from toolkit.sidecar import ServerUnavailable, Sidecar
from toolkit.stores import Call, Verdict, classify, find
from toolkit.testing import emulators
from toolkit.testing._server import Server
from toolkit.testing.servers import EtcdServer

pytestmark = [pytest.mark.stores, pytest.mark.sidecar, pytest.mark.timeout(300)]

NO_EXPIRY = {"expiry": "the emulator expires nothing"}


@pytest.fixture
def started() -> Iterator[Callable[[Callable[[], Server]], Any]]:
    """
    Start an emulator, or skip with what to install; ``OCC_REQUIRE_STORES=all`` makes that a failure.
    """
    with contextlib.ExitStack() as stack:

        def start(kind: Callable[[], Server]) -> Any:
            try:
                return stack.enter_context(kind())
            except ServerUnavailable as error:
                if os.environ.get("OCC_REQUIRE_STORES") == "all":
                    pytest.fail(str(error), pytrace=False)
                pytest.skip(str(error))

        yield start


@pytest.fixture
def probe(daprd: Callable[..., Sidecar]) -> Iterator[Callable[..., Report]]:
    """
    Examine the store of a component through a sidecar of its own, and keep the evidence when asked.
    """
    with contextlib.ExitStack() as stack:

        def run(component: dict[str, Any], server: str, **options: Any) -> Report:
            sidecar = daprd(components=[component], app_id="live")
            channel = stack.enter_context(grpc.insecure_channel(sidecar.grpc_endpoint))
            name = component["metadata"]["name"]
            report = examine(GrpcWire(channel, name), name, **options)
            write_if_asked(report, server)
            return report

        yield run


def test_blob_storage(started: Callable[..., Any], probe: Callable[..., Report]) -> None:
    """
    Azure Blob Storage on Azurite.
    """
    assert_as_profiled(probe(started(emulators.Azurite).component("blob"), "Azurite 3.37.0"))


def test_blob_storage_version_1(started: Callable[..., Any], probe: Callable[..., Report]) -> None:
    """
    The older version differs in the name under which it keeps a key, and in nothing else.
    """
    assert_as_profiled(probe(started(emulators.Azurite).component_v1("blob"), "Azurite 3.37.0"))


def test_table_storage(started: Callable[..., Any], probe: Callable[..., Report]) -> None:
    """
    Azure Table Storage on Azurite: a deleted key comes back.
    """
    report = probe(started(emulators.Azurite).component_table("table"), "Azurite 3.37.0")
    assert_as_profiled(report)
    assert "creates" == report.facts["compare-and-set-on-deleted"]


def test_cosmos_db(started: Callable[..., Any], probe: Callable[..., Report]) -> None:
    """
    Cosmos DB's single keys on a stand-in without expiry and batches.
    """
    server = started(emulators.CosmosServer)
    server.make_collection()
    assert_as_profiled(probe(server.component("cosmos"), "cosmosdb-server 1.0.1", omit=NO_EXPIRY))


def test_dynamodb(started: Callable[..., Any], probe: Callable[..., Report]) -> None:
    """
    DynamoDB Local: deletes inside a transaction ignore their ETag, expired items refuse a create.
    """
    server = started(emulators.DynamoServer)
    server.make_table()
    report = probe(server.component("dynamo"), "DynamoDB Local 3.3.1")
    assert_as_profiled(report)
    assert "ignored" == report.facts["transaction-stale-delete"]


def test_mongodb(started: Callable[..., Any], probe: Callable[..., Report]) -> None:
    """
    MongoDB on a stand-in with a replica set's greeting and transactions.
    """
    report = probe(
        started(emulators.MongoServer).component("mongo"), "mongo-java-server 1.47.0 with additions"
    )
    assert_as_profiled(report)
    assert "changed" == report.facts["dollar"]


def test_mongodb_acknowledges_a_lost_commit(
    started: Callable[..., Any], daprd: Callable[..., Sidecar]
) -> None:
    """
    The component drops the error of a failed commit, so the OK of a transaction there proves nothing.
    """
    server = started(partial(emulators.MongoServer, lose_commits=True))
    sidecar = daprd(components=[server.component("mongo")], app_id="live")
    with grpc.insecure_channel(sidecar.grpc_endpoint) as channel:
        wire = GrpcWire(channel, "mongo")
        reply = wire.multi([Op("a", b"{}"), Op("b", b"{}")])
        assert ("OK", False, False) == (reply.code, wire.get("a").present, wire.get("b").present)
    assert Verdict.UNKNOWN == classify(find("state.mongodb"), Call.MULTI, reply.code, reply.text)


def test_cockroachdb(started: Callable[..., Any], probe: Callable[..., Report]) -> None:
    """
    Both versions of CockroachDB's component on PostgreSQL: version 1 loses updates, version 2 does not.
    """
    server = started(emulators.CockroachStandIn)
    server.make_functions()
    first = probe(server.component_v1("crdb1"), "PostgreSQL in the place of CockroachDB")
    second = probe(server.component("crdb2"), "PostgreSQL in the place of CockroachDB")
    assert_as_profiled(first)
    assert_as_profiled(second)
    assert (False, True) == (first.facts["blind-write-moves-etag"], second.facts["blind-write-moves-etag"])


def test_yugabytedb(started: Callable[..., Any], probe: Callable[..., Report]) -> None:
    """
    YugabyteDB's component on PostgreSQL: it is version 2 of PostgreSQL's own.
    """
    component = started(emulators.CockroachStandIn).component_yugabytedb("yugabyte")
    assert_as_profiled(probe(component, "PostgreSQL in the place of YugabyteDB"))


def test_etcd_version_1(started: Callable[..., Any], probe: Callable[..., Report]) -> None:
    """
    Version 1 of etcd's component is refused for the same reasons as version 2.
    """
    component = started(EtcdServer).component("etcd")
    component["spec"]["version"] = "v1"
    report = probe(component, versioned("etcd", EtcdServer))
    assert_as_profiled(report)
    assert not report.profile.accepted


def test_jetstream(started: Callable[..., Any], probe: Callable[..., Report]) -> None:
    """
    JetStream knows no ETags, and reads a missing key with an error.
    """
    server = started(emulators.NatsServer)
    server.make_bucket()
    report = probe(server.component("jetstream"), versioned("NATS", emulators.NatsServer))
    assert_as_profiled(report)
    assert "lost updates" == report.facts["counter"]


def test_a_missing_key_of_jetstream(started: Callable[..., Any], daprd: Callable[..., Sidecar]) -> None:
    """
    The error by which the component says that a key is missing is no outage.
    """
    server = started(emulators.NatsServer)
    server.make_bucket()
    sidecar = daprd(components=[server.component("jetstream")])
    with StateStore("jetstream", address=sidecar.grpc_endpoint, last_write=True) as store:
        assert store.get("k") is None
        store.set("k", {"n": 1})
        assert {"k": {"n": 1}} == store.get_many(["k", "missing"]) == dict(store.snapshot(["k", "missing"]))
        store.delete("k")
        assert not store.read("k").exists


def test_memcached(started: Callable[..., Any], probe: Callable[..., Report]) -> None:
    """
    Memcached knows no ETags: every conditional write is written.
    """
    report = probe(started(emulators.MemcachedServer).component("memcached"), "memcached 1.6")
    assert_as_profiled(report)
    assert "lost updates" == report.facts["counter"]


def test_zookeeper(started: Callable[..., Any], daprd: Callable[..., Sidecar]) -> None:
    """
    ZooKeeper's component cannot create a key, so the doctor has nothing to probe and the profile refuses it.
    """
    component = started(emulators.ZooKeeperServer).component("zookeeper")
    sidecar = daprd(components=[component], app_id="live")
    with grpc.insecure_channel(sidecar.grpc_endpoint) as channel:
        wire = GrpcWire(channel, "zookeeper")
        end = time.monotonic() + 20
        while "could not connect" in wire.send(Op("_occ-doctor-first", b"{}")).text:
            assert time.monotonic() < end, "the component never connected"
        report = examine(wire, "zookeeper")
    write_if_asked(report, "ZooKeeper 3.8")
    assert not report.profile.accepted
    assert "invalid ACL" in report.skipped["compare-and-set with the current ETag"]
    assert () == report.worse
