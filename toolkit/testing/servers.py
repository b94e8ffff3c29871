"""
Real database servers for tests, on free ports of loopback, removed without a trace.

Each is a context manager with a ``component`` method that says how a sidecar reaches it. A server that is not
installed raises ``ServerUnavailable`` with the name of its package. They run with what makes an answer true and not with
what makes it survive a power cut (no fsync where a test would only wait for it).
"""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from typing_extensions import override

from toolkit.sidecar.errors import ServerUnavailable
from toolkit.sidecar.ports import free_ports
from toolkit.sidecar.resources import component
from toolkit.testing._server import Server, say


class RedisServer(Server):
    """
    Redis as Dapr needs it: append-only file, no eviction, a password.
    """

    package = "redis-server"
    programs = ("redis-server",)

    @override
    def component(self, name: str) -> dict[str, Any]:
        settings = {
            "redisHost": f"{self.host}:{self.port}",
            "redisPassword": self.password,
            "actorStateStore": False,
        }
        return component(name, "state.redis", metadata=settings)

    def configuration(self, name: str) -> dict[str, Any]:
        """
        The Dapr configuration component of this name.
        """
        settings = {"redisHost": f"{self.host}:{self.port}", "redisPassword": self.password}
        return component(name, "configuration.redis", metadata=settings)

    @override
    def _command(self) -> Sequence[str]:
        settings = self._directory / "data" / "redis.conf"
        # In a file of its own, since arguments are visible to every account of the machine.
        settings.write_text(f"requirepass {self.password}\n", encoding="utf-8")
        command = [
            self._programs["redis-server"],
            str(settings),
            "--port",
            str(self.port),
            "--bind",
            self.host,
        ]
        command += ["--dir", str(self.data), "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]
        return [*command, "--maxmemory-policy", "noeviction", "--daemonize", "no"]

    @override
    def _ready(self) -> bool:
        # It answers PING without a password by asking for one, and by -LOADING while it reads its file.
        return say(self.port, b"PING\r\n", 7) == b"-NOAUTH"


class PostgresServer(Server):
    """
    PostgreSQL; ``component`` is v2, ``component_v1`` the older one.
    """

    package = "postgresql"
    programs = ("postgres", "initdb", "pg_isready")
    accounts = ("postgres",)
    default_user = "postgres"
    default_database = "postgres"

    @property
    def dsn(self) -> str:
        """
        Connection parameters in libpq's words.
        """
        place = f"host={self.host} port={self.port} user={self.user} password={self.password}"
        return f"{place} dbname={self.database} connect_timeout=10"

    @override
    def component(self, name: str) -> dict[str, Any]:
        settings = {"connectionString": self.dsn, "tablePrefix": f"{_identifier(name)}_", "maxConns": 20}
        return component(name, "state.postgresql", version="v2", metadata=settings)

    def component_v1(self, name: str) -> dict[str, Any]:
        """
        The same server through version 1 of the component, in tables of its own.
        """
        table = _identifier(name)
        tables = {"tableName": f"{table}_state", "metadataTableName": f"{table}_metadata"}
        settings = {"connectionString": self.dsn, "maxConns": 20, **tables}
        return component(name, "state.postgresql", version="v1", metadata=settings)

    def configuration(self, name: str, table: str = "configuration") -> dict[str, Any]:
        """
        The Dapr configuration component of this name; the table has to exist (key, value, version, metadata).
        """
        return component(
            name, "configuration.postgresql", metadata={"connectionString": self.dsn, "table": table}
        )

    @override
    def _prepare(self) -> None:
        secret = self.data.parent / "password"
        secret.write_text(self.password, encoding="utf-8")
        secret.chmod(0o600)
        if self._account is not None:
            shutil.chown(secret, self._account)
        command = [self._programs["initdb"], "--pgdata", str(self.data), "--username", self.user]
        command += [
            "--pwfile",
            str(secret),
            "--auth",
            "scram-sha-256",
            "--no-sync",
            "--no-locale",
            "--encoding",
            "UTF8",
        ]
        self._run(command)
        secret.unlink()

    @override
    def _command(self) -> Sequence[str]:
        command = [self._programs["postgres"], "-D", str(self.data), "-p", str(self.port), "-h", self.host]
        command += ["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=200"]
        return [*command, "-c", "shared_buffers=32MB"]

    @override
    def _ready(self) -> bool:
        command = [self._programs["pg_isready"], "-q", "-h", self.host, "-p", str(self.port)]
        answer = subprocess.run(command, check=False, timeout=10)  # noqa: S603 - found by find()
        return answer.returncode == 0

    @override
    def _crash_signal(self) -> int:
        # "Immediate shutdown": no checkpoint, recovery at the next start, yet its shared memory is given back.
        return signal.SIGQUIT


class MariaDBServer(Server):
    """
    MariaDB, for Dapr's MySQL component.
    """

    package = "mariadb-server"
    programs = ("mariadbd|mysqld", "mariadb-install-db|mysql_install_db")
    accounts = ("mysql",)
    default_user = "occ"
    default_database = "dapr_state_store"

    @property
    def dsn(self) -> str:
        """
        Connection string in the words of Go's MySQL driver.
        """
        return f"{self.user}:{self.password}@tcp({self.host}:{self.port})/?allowNativePasswords=true"

    @override
    def component(self, name: str) -> dict[str, Any]:
        table = _identifier(name)
        tables = {"tableName": f"{table}_state", "metadataTableName": f"{table}_metadata"}
        settings = {"connectionString": self.dsn, "schemaName": self.database, **tables}
        return component(name, "state.mysql", metadata=settings)

    @override
    def _prepare(self) -> None:
        command = [self._programs["mariadb-install-db"], "--no-defaults", f"--datadir={self.data}"]
        self._run([*command, "--auth-root-authentication-method=normal", "--skip-test-db"])

    @override
    def _command(self) -> Sequence[str]:
        start = self._directory / "start.sql"
        start.write_text(
            f"CREATE OR REPLACE USER '{self.user}'@'{self.host}' IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO '{self.user}'@'{self.host}';\n",
            encoding="utf-8",
        )
        start.chmod(0o600)
        if self._account is not None:
            shutil.chown(start, self._account)
        command = [
            self._programs["mariadbd"],
            "--no-defaults",
            f"--datadir={self.data}",
            f"--port={self.port}",
        ]
        command += [f"--bind-address={self.host}", f"--socket={self.data / 'socket'}", f"--init-file={start}"]
        command += ["--skip-name-resolve", "--skip-log-bin", "--innodb-flush-log-at-trx-commit=2"]
        return [*command, "--innodb-buffer-pool-size=32M", "--max-connections=200"]

    @override
    def _ready(self) -> bool:
        # The greeting of protocol 10; it is sent only after the init file was run.
        greeting = say(self.port, b"", 5)
        return len(greeting) == 5 and greeting[4] == 10


class EtcdServer(Server):
    """
    One etcd member.
    """

    package = "etcd-server"
    programs = ("etcd",)

    @override
    def component(self, name: str) -> dict[str, Any]:
        settings = {"endpoints": f"{self.host}:{self.port}", "keyPrefixPath": _identifier(name)}
        return component(name, "state.etcd", version="v2", metadata=settings)

    @override
    def _command(self) -> Sequence[str]:
        (peer_port,) = free_ports(1)
        client, peer = f"http://{self.host}:{self.port}", f"http://{self.host}:{peer_port}"
        command = [
            self._programs["etcd"],
            "--data-dir",
            str(self.data / "etcd"),
            "--listen-client-urls",
            client,
        ]
        command += ["--advertise-client-urls", client, "--listen-peer-urls", peer]
        return [*command, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]

    @override
    def _ready(self) -> bool:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=2)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class MemcachedServer(Server):
    """
    memcached, for the components without ETags.
    """

    package = "memcached"
    programs = ("memcached",)
    accounts = ("memcache",)

    @override
    def component(self, name: str) -> dict[str, Any]:
        return component(name, "state.memcached", metadata={"hosts": f"{self.host}:{self.port}"})

    @override
    def _command(self) -> Sequence[str]:
        return [self._programs["memcached"], "-l", self.host, "-p", str(self.port), "-U", "0"]

    @override
    def _ready(self) -> bool:
        return say(self.port, b"version\r\n", 7) == b"VERSION"


class NatsServer(Server):
    """
    NATS with JetStream and the one bucket that the component expects, for another component without ETags.
    """

    package = "nats-server"
    programs = ("nats-server",)
    _BUCKET: ClassVar[str] = "occ"

    @override
    def component(self, name: str) -> dict[str, Any]:
        settings = {"natsURL": f"nats://{self.host}:{self.port}", "bucket": self._BUCKET}
        return component(name, "state.jetstream", metadata=settings)

    def make_bucket(self) -> None:
        """
        Make the bucket: a stream of its own shape, that the client libraries of NATS make by this request.
        """
        stream = f"KV_{self._BUCKET}"
        options: dict[str, Any] = {"max_msgs_per_subject": 1, "allow_rollup_hdrs": True, "deny_delete": True}
        body = json.dumps({"name": stream, "subjects": [f"$KV.{self._BUCKET}.>"], **options}).encode()
        request = b"CONNECT {}\r\nSUB answers 1\r\n"
        request += f"PUB $JS.API.STREAM.CREATE.{stream} answers {len(body)}\r\n".encode() + body + b"\r\n"
        with socket.create_connection((self.host, self.port), timeout=10) as connection:
            connection.sendall(request)
            with connection.makefile("rb") as lines:
                # An answer is the line after the one that announces it.
                next(line for line in lines if line.startswith(b"MSG answers"))
                answer = json.loads(lines.readline())
        if "error" in answer:
            raise ServerUnavailable(f"NATS made no bucket: {answer['error']}")

    @override
    def _command(self) -> Sequence[str]:
        return [
            self._programs["nats-server"],
            "-a",
            self.host,
            "-p",
            str(self.port),
            "-js",
            "-sd",
            str(self.data),
        ]

    @override
    def _ready(self) -> bool:
        return say(self.port, b"", 4) == b"INFO"


SERVERS: Final[dict[str, type[Server]]] = {
    "redis": RedisServer,
    "postgresql": PostgresServer,
    "mariadb": MariaDBServer,
    "etcd": EtcdServer,
}


def _identifier(name: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in name.lower())
