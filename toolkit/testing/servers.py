"""
Real database servers for tests, on free ports of loopback, removed without a trace.

Each is a context manager with a ``component`` method that says how a sidecar reaches it. A server that is not
installed raises ``ServerUnavailable`` with the name of its package. They run with what makes an answer true and not with
what makes it survive a power cut (no fsync where a test would only wait for it).
"""

from __future__ import annotations

import abc
import contextlib
import http.client
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from typing_extensions import override

from toolkit.sidecar.errors import ProcessStartError, ServerUnavailable, SidecarError
from toolkit.sidecar.ports import free_ports
from toolkit.sidecar.process import ProcessSet, signal_group, tail, wait_until
from toolkit.sidecar.resources import component

LOOPBACK: Final = "127.0.0.1"
_ATTEMPTS: Final = 3
_START_TIMEOUT: Final = 60.0
# Where distributions put programs that are not meant for everybody's PATH.
_PROGRAM_PLACES: Final = (
    "/usr/sbin",
    "/usr/local/sbin",
    "/usr/libexec",
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
)


class Server(abc.ABC):
    """
    One server process with a data directory of its own.

    ``kill``, ``freeze``, ``resume`` and ``restart`` are for tests of faults; a restart keeps port and data.

    Attributes:
        host: Always loopback.
        port: Its port, new for every run.
        user: The account to log in with; empty when the server has none.
        password: Its password, drawn for every run.
        database: The database, where there is such a thing.
    """

    package: ClassVar[str]
    programs: ClassVar[tuple[str, ...]]
    accounts: ClassVar[tuple[str, ...]] = ()
    stop_signal: ClassVar[int] = signal.SIGTERM
    default_user: ClassVar[str] = ""
    default_database: ClassVar[str] = ""

    def __init__(self) -> None:
        self.host = LOOPBACK
        self.port = 0
        self.user = self.default_user
        self.password = secrets.token_hex(12)
        self.database = self.default_database
        self._stack = contextlib.ExitStack()
        self._processes: ProcessSet | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._account: str | None = None
        self._directory = Path()
        self._programs: dict[str, str] = {}

    @classmethod
    def find(cls) -> dict[str, str]:
        """
        The paths of the server's programs, or ``ServerUnavailable`` naming the package to install.
        """
        found: dict[str, str] = {}
        for names in cls.programs:
            path = _which(names.split("|"))
            if path is None:
                raise ServerUnavailable(
                    f"{cls.__name__} needs {names.replace('|', ' or ')}, which is not installed here; on Debian and "
                    f"Ubuntu: RUNLEVEL=1 apt-get install {cls.package}"
                )
            found[names.split("|")[0]] = path
        return found

    def __enter__(self) -> Self:
        self._programs = self.find()
        self._account = _unprivileged(self.accounts)
        with contextlib.ExitStack() as stack:
            self._directory = Path(tempfile.mkdtemp(prefix=f"occ-{type(self).__name__.lower()}-"))
            stack.callback(shutil.rmtree, self._directory, ignore_errors=True)
            self._processes = stack.enter_context(ProcessSet(self._directory))
            self._make_data()
            self._start_on_a_free_port()
            # The data is scrap from here on: an orderly end would only write it out.
            stack.callback(self.kill)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @abc.abstractmethod
    def component(self, name: str) -> dict[str, Any]:
        """
        The Dapr state component of this name that reaches the server.
        """

    @abc.abstractmethod
    def _command(self) -> Sequence[str]: ...

    @abc.abstractmethod
    def _ready(self) -> bool: ...

    def _prepare(self) -> None:
        """
        Fill the empty data directory, where the server does not do so itself.
        """

    @property
    def data(self) -> Path:
        return self._directory / "data"

    # -- faults ----------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """
        Crash the server; harmless when it is down already.
        """
        process, processes = self._running()
        signal_group(process, self._crash_signal())
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            signal_group(process, signal.SIGKILL)
            process.wait()
        processes.forget(process)

    def freeze(self) -> None:
        """
        Stop the server without ending it: connections stay open, nothing answers.
        """
        signal_group(self._running()[0], signal.SIGSTOP)

    def resume(self) -> None:
        """
        Let a frozen server go on.
        """
        signal_group(self._running()[0], signal.SIGCONT)

    def restart(self) -> None:
        """
        Start the server again, on the same port and data, ending it first when it still runs.
        """
        process, processes = self._running()
        if process.poll() is None:
            processes.stop(process, grace=10.0, first=self.stop_signal)
        self._launch()

    def _crash_signal(self) -> int:
        return signal.SIGKILL

    # -- starting --------------------------------------------------------------------------------------------------

    def _running(self) -> tuple[subprocess.Popen[bytes], ProcessSet]:
        if self._process is None or self._processes is None:
            raise RuntimeError(f"{type(self).__name__} does not run: enter it first")
        return self._process, self._processes

    def _make_data(self) -> None:
        self.data.mkdir(mode=0o700)
        if self._account is not None:
            self._directory.chmod(0o711)
            shutil.chown(self.data, self._account, pwd.getpwnam(self._account).pw_gid)
        self._prepare()

    def _run(self, command: Sequence[str]) -> None:
        """
        Run a program that prepares the data, under the account of the server.
        """
        processes = self._processes
        if processes is None:
            raise RuntimeError(f"{type(self).__name__} does not run: enter it first")
        process = processes.start("prepare", command, cwd=self.data, user=self._account)
        code = process.wait(_START_TIMEOUT)
        processes.forget(process)
        if code != 0:
            log = processes.log_path("prepare")
            raise ProcessStartError(f"{command[0]} ended with code {code}", log_path=log, log_tail=tail(log))

    def _start_on_a_free_port(self) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            (self.port,) = free_ports(1)
            try:
                self._launch()
            except ProcessStartError as error:
                if attempt == _ATTEMPTS or "in use" not in error.log_tail:
                    raise
            else:
                return

    def _launch(self) -> None:
        processes = self._processes
        if processes is None:
            raise RuntimeError(f"{type(self).__name__} does not run: enter it first")
        name = type(self).__name__.lower()
        self._process = processes.start(name, self._command(), cwd=self.data, user=self._account)
        try:
            log = processes.log_path(name)
            wait_until(self._ready, self._process, name=name, log=log, timeout=_START_TIMEOUT)
        except BaseException:
            processes.stop(self._process, grace=1.0)
            raise


def _which(names: Sequence[str]) -> str | None:
    root = Path("/")
    places = [str(path) for place in _PROGRAM_PLACES for path in sorted(root.glob(place[1:]), reverse=True)]
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), *places])
    return next((path for name in names if (path := shutil.which(name, path=search)) is not None), None)


def _unprivileged(accounts: Sequence[str]) -> str | None:
    """
    The account to run a server under that refuses root: the first that exists; None when this is not root anyway.
    """
    if not accounts or os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in (*accounts, "nobody"):
        if name in known:
            return name
    raise SidecarError(
        f"none of the accounts {', '.join(accounts)}, nobody exists; the server refuses to run as root"
    )


def _say(port: int, request: bytes, count: int) -> bytes:
    """
    Connect, send, and return the first bytes of the answer; empty when nothing listens.
    """
    try:
        with socket.create_connection((LOOPBACK, port), timeout=2) as connection:
            connection.sendall(request)
            return connection.recv(count)
    except OSError:
        return b""


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
        return _say(self.port, b"PING\r\n", 7) == b"-NOAUTH"


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
        return subprocess.run(command, check=False, timeout=10).returncode == 0

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
        greeting = _say(self.port, b"", 5)
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
        return _say(self.port, b"version\r\n", 7) == b"VERSION"


SERVERS: Final[dict[str, type[Server]]] = {
    "redis": RedisServer,
    "postgresql": PostgresServer,
    "mariadb": MariaDBServer,
    "etcd": EtcdServer,
}


def _identifier(name: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in name.lower())
