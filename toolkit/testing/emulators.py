"""
Stand-ins for cloud stores, and servers few machines have, on free ports of loopback.

They prove what the Dapr component does, not what the cloud service does. The programs come from npm and Maven
into a directory of their own (``OCC_EMULATORS``, by default ``.sidecar/emulators``)::

    python -m toolkit.testing.emulators install
"""

from __future__ import annotations

import base64
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from typing_extensions import override

from toolkit.sidecar import ServerUnavailable
from toolkit.sidecar.ports import free_ports
from toolkit.sidecar.resources import component
from toolkit.testing._emulator import Emulator, install, jar
from toolkit.testing._server import Server, say
from toolkit.testing.servers import MemcachedServer, NatsServer, PostgresServer

_TABLE: Final = "occ"


class Azurite(Emulator):
    """
    Azure Blob Storage and Table Storage.
    """

    programs = ("node", "env")
    program = "node_modules/azurite/dist/src/azurite.js"

    def __init__(self) -> None:
        super().__init__()
        self._account_key = base64.b64encode(secrets.token_bytes(64)).decode()
        self._table_port = self._queue_port = 0

    @override
    def component(self, name: str) -> dict[str, Any]:
        """
        Blob storage, version 2 of the component.
        """
        return self._blobs(name, "v2")

    def component_v1(self, name: str) -> dict[str, Any]:
        """
        Blob storage, version 1 of the component.
        """
        return self._blobs(name, "v1")

    def _blobs(self, name: str, version: str) -> dict[str, Any]:
        settings = {
            "containerName": f"{_TABLE}-blobs-{version}",
            "endpoint": f"http://{self.host}:{self.port}",
        }
        return component(
            name, "state.azure.blobstorage", version=version, metadata=self._account_of(settings)
        )

    def component_table(self, name: str) -> dict[str, Any]:
        """
        Table storage.
        """
        url = f"http://{self.host}:{self._table_port}/occaccount"
        return component(
            name,
            "state.azure.tablestorage",
            metadata=self._account_of({"tableName": _TABLE, "serviceURL": url}),
        )

    def _account_of(self, settings: Mapping[str, str]) -> dict[str, str]:
        return {"accountName": "occaccount", "accountKey": self._account_key, **settings}

    @override
    def _command(self) -> Sequence[str]:
        self._table_port, self._queue_port = free_ports(2)
        command = [self._programs["env"], f"AZURITE_ACCOUNTS=occaccount:{self._account_key}"]
        command += [self._programs["node"], self._programs["program"], "--inMemoryPersistence", "--silent"]
        command += ["--blobHost", self.host, "--blobPort", str(self.port)]
        command += ["--queueHost", self.host, "--queuePort", str(self._queue_port)]
        command += ["--tableHost", self.host, "--tablePort", str(self._table_port)]
        return [*command, "--disableTelemetry", "--skipApiVersionCheck"]

    @override
    def _ready(self) -> bool:
        return self._answers(self.port) and self._answers(self._table_port)


class CosmosServer(Emulator):
    """
    Azure Cosmos DB, for single keys: no batches, no expiry, no consistency levels.
    """

    programs = ("node",)
    program = "node_modules/@vercel/cosmosdb-server/lib/index.js"

    # The server fails with 500 on a read of a missing item, which the SDK then repeats for seconds.
    _SCRIPT: ClassVar[str] = """
const [, , root, host, port] = process.argv;
const path = root + "/handler/read-document.js";
const handler = require(path);
const original = handler.default;
handler.default = (account, req, res, params) => {
  try {
    return original(account, req, res, params);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    res.statusCode = 404;
    return { code: "NotFound", message: "no such item" };
  }
};
require(root + "/index.js").createHttpServer().listen(Number(port), host);
"""

    @override
    def component(self, name: str) -> dict[str, Any]:
        key = base64.b64encode(b"any key will do").decode()
        settings = {"url": f"http://{self.host}:{self.port}", "masterKey": key}
        return component(
            name, "state.azure.cosmosdb", metadata={**settings, "database": _TABLE, "collection": _TABLE}
        )

    def make_collection(self) -> None:
        """
        Make the database and the container the component expects.
        """
        headers = {"Content-Type": "application/json"}
        self._post("/dbs", {"id": _TABLE}, headers)
        partition = {"paths": ["/partitionKey"], "kind": "Hash"}
        self._post(
            f"/dbs/{_TABLE}/colls", {"id": _TABLE, "partitionKey": partition, "defaultTtl": -1}, headers
        )

    @override
    def _command(self) -> Sequence[str]:
        script = self.data / "server.js"
        script.write_text(self._SCRIPT, encoding="utf-8")
        root = str(Path(self._programs["program"]).parent)
        return [self._programs["node"], str(script), root, self.host, str(self.port)]

    @override
    def _ready(self) -> bool:
        return self._answers(self.port)


class DynamoServer(Emulator):
    """
    Amazon DynamoDB, by Amazon's own local server: no eventual reads, no throttling.
    """

    package = "default-jre-headless"
    programs = ("java",)
    program = jar("dynamodb")

    @override
    def component(self, name: str) -> dict[str, Any]:
        settings = {"table": _TABLE, "endpoint": f"http://{self.host}:{self.port}", "region": "us-east-1"}
        settings |= {"accessKey": "test", "secretKey": "test", "ttlAttributeName": "ttl"}
        return component(name, "state.aws.dynamodb", metadata=settings)

    def make_table(self) -> None:
        """
        Make the table the component expects.
        """
        signature = (
            "Credential=test/20200101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=x"
        )
        headers = {
            "X-Amz-Target": "DynamoDB_20120810.CreateTable",
            "Content-Type": "application/x-amz-json-1.0",
            "Authorization": f"AWS4-HMAC-SHA256 {signature}",
        }
        keys = {
            "AttributeDefinitions": [{"AttributeName": "key", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "key", "KeyType": "HASH"}],
        }
        self._post("/", {"TableName": _TABLE, "BillingMode": "PAY_PER_REQUEST", **keys}, headers)

    @override
    def _command(self) -> Sequence[str]:
        libraries = Path(self._programs["program"]).parent
        command = [
            self._programs["java"],
            "-Xmx256m",
            f"-Djava.library.path={libraries}",
            "-cp",
            f"{libraries}/*",
        ]
        command += ["software.amazon.dynamodb.services.local.main.ServerRunner", "-inMemory"]
        return [*command, "-port", str(self.port), "-disableTelemetry"]

    @override
    def _ready(self) -> bool:
        return self._answers(self.port)


class MongoServer(Emulator):
    """
    MongoDB as a replica set of one, played by mongo-java-server: what it lacks is in ``MongoStandIn.java``.

    Args:
        lose_commits: Roll every commit back and say so; Dapr's component answers OK all the same.
    """

    package = "default-jdk-headless"
    programs = ("java",)
    program = jar("mongodb")

    def __init__(self, *, lose_commits: bool = False) -> None:
        super().__init__()
        self._options = ["lose-commits"] if lose_commits else []

    @override
    def component(self, name: str) -> dict[str, Any]:
        url = f"mongodb://{self.host}:{self.port}/?replicaSet=rs0&directConnection=true"
        return component(name, "state.mongodb", metadata={"connectionString": url})

    @override
    def _command(self) -> Sequence[str]:
        jars = str(Path(self._programs["program"]).parent / "*")
        source = str(Path(__file__).with_name("MongoStandIn.java"))
        return [self._programs["java"], "-Xmx128m", "-cp", jars, source, str(self.port), *self._options]

    @override
    def _ready(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=2):
                return True
        except OSError:
            return False


class ZooKeeperServer(Server):
    """
    One ZooKeeper.
    """

    package = "zookeeper"
    programs = ("java",)
    _JAR: ClassVar[Path] = Path("/usr/share/java/zookeeper.jar")

    @classmethod
    @override
    def find(cls) -> dict[str, str]:
        found = super().find()
        if not cls._JAR.exists():
            raise ServerUnavailable(
                "ZooKeeperServer needs zookeeper.jar; on Debian and Ubuntu: RUNLEVEL=1 apt-get install zookeeper"
            )
        return found

    @override
    def component(self, name: str) -> dict[str, Any]:
        settings = {"servers": f"{self.host}:{self.port}", "sessionTimeout": "5s", "keyPrefixPath": "/dapr"}
        return component(name, "state.zookeeper", metadata=settings)

    @override
    def _command(self) -> Sequence[str]:
        lines = {
            "dataDir": self.data,
            "clientPort": self.port,
            "clientPortAddress": self.host,
            "tickTime": 2000,
        }
        more = {"admin.enableServer": "false", "4lw.commands.whitelist": "ruok,srvr"}
        settings = self.data / "zoo.cfg"
        settings.write_text("".join(f"{k}={v}\n" for k, v in {**lines, **more}.items()), encoding="utf-8")
        classes = f"/etc/zookeeper/conf:{self._JAR}"
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        return [self._programs["java"], "-Xmx128m", "-cp", classes, main, str(settings)]

    @override
    def _ready(self) -> bool:
        return say(self.port, b"ruok", 4) == b"imok"


class CockroachStandIn(PostgresServer):
    """
    PostgreSQL in the place of CockroachDB and YugabyteDB: all versions of Dapr's components, at READ COMMITTED.
    """

    @override
    def component(self, name: str) -> dict[str, Any]:
        settings = {"connectionString": self.dsn, "tablePrefix": "crdb_v2_"}
        return component(name, "state.cockroachdb", version="v2", metadata=settings)

    @override
    def component_v1(self, name: str) -> dict[str, Any]:
        settings = {"connectionString": self.dsn, "tableName": "crdb_v1", "metadataTableName": "crdb_v1_meta"}
        return component(name, "state.cockroachdb", version="v1", metadata=settings)

    def component_yugabytedb(self, name: str) -> dict[str, Any]:
        """
        YugabyteDB, whose component is the one of PostgreSQL.
        """
        settings = {"connectionString": self.dsn, "tablePrefix": "yugabyte_"}
        return component(name, "state.yugabytedb", version="v2", metadata=settings)

    def make_functions(self) -> None:
        """
        Make the function of CockroachDB that version 1 of the component calls.
        """
        import psycopg

        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("create sequence rowid_seq")
            connection.execute(
                "create function unique_rowid() returns int8 language sql as 'select nextval(''rowid_seq'')'"
            )


EMULATORS: Final[dict[str, type[Server]]] = {
    "azurite": Azurite,
    "cockroachdb": CockroachStandIn,
    "cosmosdb": CosmosServer,
    "dynamodb": DynamoServer,
    "memcached": MemcachedServer,
    "mongodb": MongoServer,
    "nats": NatsServer,
    "zookeeper": ZooKeeperServer,
}


def main(arguments: Sequence[str]) -> int:
    """
    Install the emulators; anything else prints the usage.
    """
    if list(arguments) != ["install"]:
        sys.stderr.write("usage: python -m toolkit.testing.emulators install\n")
        return 2
    try:
        install()
    except (ServerUnavailable, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
