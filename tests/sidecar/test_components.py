"""
Every file of ``components/`` is a resource that the real daprd takes, and works where its server runs here.
"""

from __future__ import annotations

import contextlib
import http.client
import json
from pathlib import Path

import grpc
import pytest
from dapr.proto import api_service_v1, api_v1, common_v1

from tests.conftest import missing
from toolkit.sidecar import ProcessStartError, ServerUnavailable, Sidecar, read_resources
from toolkit.stores import find as find_profile
from toolkit.stores import profiles
from toolkit.testing.servers import EtcdServer, MariaDBServer, MemcachedServer, PostgresServer, RedisServer

COMPONENTS = Path(__file__).parents[2] / "components"
FILES = sorted(path.name for path in COMPONENTS.glob("*.yaml"))

# What each file needs to work: the server, and what of the file has to point at it.
SERVERS = {
    "in-memory.yaml": (None, lambda _: ({}, {})),
    "sqlite.yaml": (None, lambda _: ({}, {})),
    "redis.yaml": (
        RedisServer,
        lambda s: ({"redisHost": f"{s.host}:{s.port}"}, {"REDIS_PASSWORD": s.password}),
    ),
    "postgresql-v1.yaml": (PostgresServer, lambda s: ({}, {"POSTGRES_CONNECTION": s.dsn})),
    "postgresql-v2.yaml": (PostgresServer, lambda s: ({}, {"POSTGRES_CONNECTION": s.dsn})),
    # CockroachDB and YugabyteDB speak PostgreSQL's protocol, and version 2 of their components is PostgreSQL's.
    "cockroachdb-v2.yaml": (PostgresServer, lambda s: ({}, {"COCKROACH_CONNECTION": s.dsn})),
    "yugabytedb.yaml": (PostgresServer, lambda s: ({}, {"YUGABYTE_CONNECTION": s.dsn})),
    "mysql.yaml": (MariaDBServer, lambda s: ({}, {"MYSQL_CONNECTION": s.dsn})),
    "etcd.yaml": (EtcdServer, lambda s: ({"endpoints": f"{s.host}:{s.port}"}, {})),
    "memcached.yaml": (MemcachedServer, lambda s: ({"hosts": f"{s.host}:{s.port}"}, {})),
}
# These stay without a server here: daprd has to know the type and read the settings.
WITHOUT_SERVER = {
    "aws-dynamodb.yaml",
    "azure-blobstorage-v1.yaml",
    "azure-blobstorage.yaml",
    "azure-cosmosdb.yaml",
    "azure-tablestorage.yaml",
    "cassandra.yaml",
    "cockroachdb-v1.yaml",
    "mongodb.yaml",
    "zookeeper.yaml",
}
# The daprd that is built here lacks these components; a stock one has them.
NOT_BUILT_IN = {
    "couchbase.yaml",
    "oracledatabase.yaml",
    "ravendb.yaml",
    "sqlserver-v1.yaml",
    "sqlserver-v2.yaml",
}
STORES = sorted({*SERVERS, *WITHOUT_SERVER, *NOT_BUILT_IN})
OTHER = {
    "configuration-postgres.yaml",
    "configuration-redis.yaml",
    "resiliency.yaml",
    "secrets-env.yaml",
    "secrets-file.yaml",
}


def only(name: str) -> dict:
    """
    The one resource of a file, to be changed freely.
    """
    (resource,) = read_resources(COMPONENTS / name)
    return json.loads(json.dumps(resource))


def pointed(resource: dict, values: dict[str, str]) -> dict:
    """
    The same resource with other values for some metadata.
    """
    for entry in resource["spec"]["metadata"]:
        if entry["name"] in values:
            entry["value"] = values[entry["name"]]
    return resource


def call(running: Sidecar, method: str, path: str, body: object = None) -> tuple[int, object]:
    connection = http.client.HTTPConnection("127.0.0.1", running.http_port, timeout=10)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, f"/v1.0/{path}", data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None
    finally:
        connection.close()


@contextlib.contextmanager
def started(kind):
    """
    The server, or a skip with its reason.
    """
    try:
        server = kind()
        server.find()
    except ServerUnavailable as error:
        missing(kind.package, str(error))
        raise
    with server:
        yield server


def test_every_file_is_in_one_of_the_tests():
    """
    A new file cannot be forgotten here.
    """
    assert set(FILES) == {*STORES, *OTHER}


def test_every_supported_store_has_a_file():
    """
    Whoever swaps the store finds what the new one guarantees and needs.
    """
    specs = [only(name)["spec"] for name in STORES]
    served = {(spec["type"], spec["version"]) for spec in specs}
    assert len(specs) == len(served)
    assert set() == {key for key, profile in profiles.items() if profile.accepted} - served


@pytest.mark.parametrize("name", FILES)
def test_every_file_says_what_it_guarantees_and_needs(name):
    """
    The header is for the reader who copies the file.
    """
    header = (COMPONENTS / name).read_text().split("apiVersion")[0]
    assert header.startswith("# ")
    if name != "resiliency.yaml":
        assert "# Guarantees: " in header
        assert "# Needs" in header
    only(name)


@pytest.mark.parametrize("name", STORES)
def test_every_store_file_is_named_statestore(name):
    """
    Programs change their store by changing the file alone.
    """
    assert "statestore" == only(name)["metadata"]["name"]


@pytest.mark.parametrize("name", STORES)
def test_a_file_says_refused_exactly_when_the_profile_does(name):
    """
    The header and the profile are two places for one fact.
    """
    spec = only(name)["spec"]
    tier = find_profile(spec["type"], spec["version"]).tier
    assert ("REFUSED" in (COMPONENTS / name).read_text()) == (tier == "D")


@pytest.mark.parametrize("name", SERVERS)
def test_a_store_file_works_with_its_server(name, daprd_binaries, monkeypatch, tmp_path):
    """
    A value is written and read back through the component of the file.
    """
    # The SQLite file is relative to where daprd starts.
    monkeypatch.chdir(tmp_path)
    kind, settings = SERVERS[name]
    with started(kind) if kind else contextlib.nullcontext() as server:
        values, env = settings(server)
        with Sidecar(components=[pointed(only(name), values)], env=env, binaries=daprd_binaries) as running:
            assert (204, None) == call(running, "POST", "state/statestore", [{"key": "a", "value": {"n": 1}}])
            assert (200, {"n": 1}) == call(running, "GET", "state/statestore/a")


@pytest.mark.parametrize("name", sorted(WITHOUT_SERVER))
def test_a_file_without_its_server_is_understood(name, daprd_binaries):
    """
    The sidecar knows the component's type and version; what it lacks is the server or the credentials.
    """
    resource = only(name)
    resource["spec"]["initTimeout"] = "1s"
    # The component may fail, the sidecar starts nevertheless: what it says about the component is the test.
    resource["spec"]["ignoreErrors"] = True
    with Sidecar(components=[resource], binaries=daprd_binaries) as running:
        log = running.log_path.read_text()
    assert "couldn't find state store" not in log
    assert f"({resource['spec']['type']}/{resource['spec']['version']})" in log


def test_the_other_version_of_a_single_version_store_is_refused(daprd_binaries):
    """
    The component of YugabyteDB has a version 2 only: a file that says v1 is not served by something else.
    """
    resource = only("yugabytedb.yaml")
    resource["spec"]["version"] = "v1"
    with pytest.raises(ProcessStartError, match=r"couldn't find state store state\.yugabytedb/v1"):
        Sidecar(components=[resource], binaries=daprd_binaries).__enter__()


def test_secrets_from_the_environment(daprd):
    """
    Only variables with the prefix are secrets.
    """
    env = {"SECRET_DB": "one", "OTHER_DB": "two"}
    running = daprd(components=[only("secrets-env.yaml"), only("in-memory.yaml")], env=env)
    assert (200, {"DB": "one"}) == call(running, "GET", "secrets/my-secret-store/DB")
    assert (200, {"OTHER_DB": ""}) == call(running, "GET", "secrets/my-secret-store/OTHER_DB")


def test_secrets_from_a_file(daprd, tmp_path, monkeypatch):
    """
    Nested names are joined by the separator.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secrets.json").write_text(json.dumps({"db": {"password": "one"}}))
    running = daprd(components=[only("secrets-file.yaml"), only("in-memory.yaml")])
    assert (200, {"db:password": "one"}) == call(running, "GET", "secrets/my-secret-store/db:password")


def test_an_encrypted_store_takes_its_key_from_the_secret_store(daprd, tmp_path, monkeypatch):
    """
    The metadata that encrypts a state store is served by the built-in secret stores: at rest nothing is readable.
    """
    monkeypatch.chdir(tmp_path)
    store = only("sqlite.yaml")
    key = {"name": "primaryEncryptionKey", "secretKeyRef": {"name": "STATE_KEY", "key": "STATE_KEY"}}
    store["spec"]["metadata"].append(key)
    store["auth"] = {"secretStore": "my-secret-store"}
    running = daprd(
        components=[store, only("secrets-env.yaml")], env={"SECRET_STATE_KEY": "0123456789abcdef" * 2}
    )
    # Through gRPC: over HTTP daprd encrypts Go's notation of the value instead of its JSON.
    with grpc.insecure_channel(running.grpc_endpoint) as channel:
        stub = api_service_v1.DaprStub(channel)
        item = common_v1.StateItem(key="a", value=b'"plainly visible"')
        stub.SaveState(api_v1.SaveStateRequest(store_name="statestore", states=[item]), timeout=10)
        found = stub.GetState(api_v1.GetStateRequest(store_name="statestore", key="a"), timeout=10)
    assert b'"plainly visible"' == found.data
    at_rest = b"".join(path.read_bytes() for path in tmp_path.glob("state.db*"))
    assert b"||a" in at_rest
    assert b"plainly visible" not in at_rest


def test_configuration_from_redis(daprd):
    """
    An item is the value and its version.
    """
    with started(RedisServer) as server:
        resource = pointed(only("configuration-redis.yaml"), {"redisHost": f"{server.host}:{server.port}"})
        running = daprd(
            components=[resource, only("in-memory.yaml")], env={"REDIS_PASSWORD": server.password}
        )
        import redis

        with redis.Redis(server.host, server.port, password=server.password) as client:
            client.set("colour", "green||7")
        status, answer = call(running, "GET", "configuration/my-config-store?key=colour")
        assert (200, "green", "7") == (status, answer["colour"]["value"], answer["colour"]["version"])


def test_configuration_from_postgresql(daprd):
    """
    The table is the user's; an item is a row.
    """
    with started(PostgresServer) as server:
        import psycopg

        with psycopg.connect(server.dsn) as connection:
            connection.execute(
                "CREATE TABLE configuration (key varchar, value varchar, version varchar, metadata json)"
            )
            connection.execute("INSERT INTO configuration VALUES ('colour', 'green', '7', '{}')")
        resource = only("configuration-postgres.yaml")
        running = daprd(
            components=[resource, only("in-memory.yaml")], env={"POSTGRES_CONNECTION": server.dsn}
        )
        status, answer = call(running, "GET", "configuration/my-config-store?key=colour")
        assert (200, "green", "7") == (status, answer["colour"]["value"], answer["colour"]["version"])


def test_the_resiliency_file_is_taken_and_retries_nothing(daprd):
    """
    The sidecar loads the policy; it has a timeout for the store and no retry and no circuit breaker.
    """
    resource = only("resiliency.yaml")
    assert {"timeouts"} == set(resource["spec"]["policies"])
    assert {"outbound": {"timeout": "state"}} == resource["spec"]["targets"]["components"]["statestore"]
    running = daprd(components=[resource, only("in-memory.yaml")], log_level="debug")
    assert "state-timeouts" in running.log_path.read_text()
