"""
A real Dapr sidecar for development and tests: started on free ports, ready before the call returns, never left behind.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from toolkit.sidecar.binaries import Binaries, find
from toolkit.sidecar.control_plane import ControlPlane
from toolkit.sidecar.errors import ProcessStartError
from toolkit.sidecar.ports import PORT_ATTEMPTS, PORT_TAKEN, free_ports
from toolkit.sidecar.process import ProcessSet, signal_group, tail, wait_until, wait_until_stopped
from toolkit.sidecar.resources import Resource, check, default_component, write_resources

_LOOPBACK: Final = "127.0.0.1"


class Sidecar:
    """
    One daprd and, for workflows and actors, its placement and scheduler.

    Entering starts it and waits until its API answers; leaving ends everything it started. Should this process be
    killed, a watchdog ends the rest. Give components as dictionaries (see ``component``) and a directory of resource
    files, or neither: then it has embedded SQLite under the name ``statestore``.

    Not thread-safe, except that ``kill``, ``freeze`` and ``resume`` may come from another thread.

    Args:
        components: Dapr resources as dictionaries.
        resources: YAML files and directories of them, checked before daprd reads them.
        app_id: The app id; keys are prefixed with it.
        app_port: The port on which the app listens, when Dapr is to call it.
        app_protocol: ``http`` or ``grpc``.
        workflows: Start placement and scheduler too, for workflows, actors and reminders.
        control_plane: A running control plane to share instead, for several sidecars of one app.
        api_token: The token that callers of the sidecar have to show.
        config: A Dapr configuration file; by default a small one of its own (name resolution through SQLite, so that
            nothing is announced in the network).
        env: More environment variables for daprd, e.g. for the secret store ``local.env``.
        binaries: What ``find`` or ``ensure`` returned; by default ``find()``.
        arguments: More arguments for daprd.
        log_level: debug, info, warn or error.
        keep_log: Where to keep daprd's log; by default it goes with the working directory.
        startup_timeout: Seconds until the sidecar has to be ready.
    """

    def __init__(
        self,
        *,
        components: Sequence[Resource] = (),
        resources: Path | str | Sequence[Path | str] = (),
        app_id: str = "occ",
        app_port: int | None = None,
        app_protocol: str = "http",
        workflows: bool = False,
        control_plane: ControlPlane | None = None,
        api_token: str | None = None,
        config: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        binaries: Binaries | None = None,
        arguments: Sequence[str] = (),
        log_level: str = "info",
        keep_log: Path | str | None = None,
        startup_timeout: float = 30.0,
    ) -> None:
        self.app_id = app_id
        self.app_port = app_port
        self.api_token = api_token
        # Called again and again while something starts; it may raise to give up.
        self.on_wait: Callable[[], None] | None = None
        self.grpc_port = 0
        self.http_port = 0
        self._components = tuple(components)
        given = (resources,) if isinstance(resources, str | Path) else tuple(resources)
        self._resources = tuple(Path(path) for path in given)
        self._directories: tuple[Path, ...] = ()
        self._app_protocol = app_protocol
        self._workflows = workflows
        self._control_plane = control_plane
        self._config = None if config is None else Path(config)
        self._extra_env = dict(env or {})
        self._binaries = binaries
        self._arguments = tuple(arguments)
        self._log_level = log_level
        self._logs = {} if keep_log is None else {"daprd": Path(keep_log).absolute()}
        self._startup_timeout = startup_timeout
        self._stack = contextlib.ExitStack()
        self._directory: Path | None = None
        self._processes: ProcessSet | None = None
        self._process: subprocess.Popen[bytes] | None = None

    # -- life ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._directory is not None:
            raise RuntimeError("this sidecar runs already; use restart(), or make another one")
        with contextlib.ExitStack() as stack:
            checked = check(self._resources)
            self._directories = checked.directories
            binaries = self._binaries = self._binaries or find()
            directory = Path(tempfile.mkdtemp(prefix="occ-sidecar-"))
            stack.callback(self._forget_directory)
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            self._directory = directory
            self._processes = stack.enter_context(ProcessSet(directory, logs=self._logs))
            if self._workflows and self._control_plane is None:
                self._control_plane = stack.enter_context(
                    ControlPlane(binaries=binaries, on_wait=self.on_wait)
                )
                stack.callback(self._forget_control_plane)
            self._write_files(directory, (*checked.resources, *self._components))
            self._start_on_free_ports()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """
        End the sidecar and everything it started; harmless when it ended already.
        """
        self._process = None
        self._stack.close()

    def kill(self) -> None:
        """
        Crash daprd (SIGKILL); ``restart`` brings it back on the same ports, with the same data.
        """
        process = self._running()
        signal_group(process, signal.SIGKILL)
        process.wait()
        self._owned().forget(process)

    def freeze(self) -> None:
        """
        Stop daprd without ending it (SIGSTOP): connections stay open, nothing answers.
        """
        process = self._running()
        signal_group(process, signal.SIGSTOP)
        wait_until_stopped(process)

    def resume(self) -> None:
        """
        Let a frozen daprd go on (SIGCONT).
        """
        signal_group(self._running(), signal.SIGCONT)

    def restart(self) -> None:
        """
        End daprd if it still runs, and start it again on the same ports, with the same data directory.
        """
        process = self._running()
        if process.poll() is None:
            self._owned().stop(process, grace=5.0)
        self._launch()

    # -- what it says ----------------------------------------------------------------------------------------------

    @property
    def grpc_endpoint(self) -> str:
        """
        ``host:port`` of the gRPC API.
        """
        return f"{_LOOPBACK}:{self.grpc_port}"

    @property
    def http_endpoint(self) -> str:
        """
        The URL of the HTTP API.
        """
        return f"http://{_LOOPBACK}:{self.http_port}"

    @property
    def environment(self) -> dict[str, str]:
        """
        The variables by which an app and Dapr's SDKs find this sidecar.
        """
        found = {
            "APP_ID": self.app_id,
            "DAPR_GRPC_ENDPOINT": self.grpc_endpoint,
            "DAPR_GRPC_PORT": str(self.grpc_port),
            "DAPR_HTTP_ENDPOINT": self.http_endpoint,
            "DAPR_HTTP_PORT": str(self.http_port),
        }
        if self.app_port is not None:
            found["APP_PORT"] = str(self.app_port)
        if self.api_token is not None:
            found["DAPR_API_TOKEN"] = self.api_token
        return found

    @property
    def directory(self) -> Path:
        """
        Its working directory: log, resources, data. Removed at the end.
        """
        if self._directory is None:
            raise RuntimeError("the sidecar does not run: enter it first")
        return self._directory

    @property
    def log_path(self) -> Path:
        """
        Where daprd's log is.
        """
        return self._owned().log_path("daprd")

    def log_tail(self, lines: int = 20) -> str:
        """
        The last lines of daprd's log.
        """
        return tail(self.log_path, lines)

    @property
    def pid(self) -> int:
        """
        The process id of daprd.
        """
        return self._running().pid

    def returncode(self) -> int | None:
        """
        The code daprd ended with; None while it runs.
        """
        return self._running().poll()

    def ready(self) -> bool:
        """
        Whether its components are loaded and its API answers now.
        """
        # The plain health check also waits for the app; an app that is started after its sidecar would wait for ever.
        path = "/v1.0/healthz" if self.app_port is None else "/v1.0/healthz/outbound"
        connection = http.client.HTTPConnection(_LOOPBACK, self.http_port, timeout=2)
        try:
            connection.request(
                "GET", path, headers={"dapr-api-token": self.api_token} if self.api_token else {}
            )
            return connection.getresponse().status in (200, 204)
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    # -- how it starts ---------------------------------------------------------------------------------------------

    def _forget_directory(self) -> None:
        self._directory = self._processes = None

    def _forget_control_plane(self) -> None:
        self._control_plane = None

    def _owned(self) -> ProcessSet:
        if self._processes is None:
            raise RuntimeError("the sidecar does not run: enter it first")
        return self._processes

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the sidecar does not run: enter it first")
        return self._process

    def _write_files(self, directory: Path, resources: Sequence[Resource]) -> None:
        if not resources and not self._directories:
            resources = (default_component(directory),)
        if resources:
            write_resources(resources, directory / "resources")
        if self._config is None:
            settings = {"component": "sqlite", "version": "v1", "configuration": _name_resolution(directory)}
            own = {
                "apiVersion": "dapr.io/v1alpha1",
                "kind": "Configuration",
                "metadata": {"name": "config"},
                "spec": {"nameResolution": settings},
            }
            write_resources([own], directory / "config")

    def _start_on_free_ports(self) -> None:
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self._ports = free_ports(4)
            self.grpc_port, self.http_port = self._ports[:2]
            try:
                self._launch()
            except ProcessStartError as error:
                if attempt == PORT_ATTEMPTS or not PORT_TAKEN.search(error.log_tail):
                    raise
                self.log_path.unlink(missing_ok=True)
            else:
                return

    def _launch(self) -> None:
        owned = self._owned()
        process = self._process = owned.start("daprd", self._command(), env=self._environment_of_daprd())
        try:
            wait_until(
                self.ready,
                process,
                name="daprd",
                log=self.log_path,
                timeout=self._startup_timeout,
                on_wait=self.on_wait,
            )
        except BaseException:
            owned.stop(process, grace=2.0)
            raise

    def _environment_of_daprd(self) -> dict[str, str]:
        # Dapr variables around this process belong to another sidecar; a token among them would lock us out.
        env = {name: value for name, value in os.environ.items() if not name.startswith("DAPR_")}
        env["DAPR_HOST_IP"] = _LOOPBACK
        if self.api_token is not None:
            env["DAPR_API_TOKEN"] = self.api_token
        return {**env, **self._extra_env}

    def _command(self) -> list[str]:
        if self._binaries is None:
            raise RuntimeError("the sidecar does not run: enter it first")
        grpc_port, http_port, internal, metrics = self._ports
        command = [str(self._binaries.daprd), "--app-id", self.app_id, "--log-level", self._log_level]
        command += ["--dapr-grpc-port", str(grpc_port), "--dapr-http-port", str(http_port)]
        command += ["--dapr-internal-grpc-port", str(internal), "--metrics-port", str(metrics)]
        command += ["--dapr-listen-addresses", _LOOPBACK, "--dapr-internal-grpc-listen-address", _LOOPBACK]
        command += ["--metrics-listen-address", _LOOPBACK, "--dapr-graceful-shutdown-seconds", "3"]
        own = self.directory / "resources"
        for resources in (*self._directories, *((own,) if own.exists() else ())):
            command += ["--resources-path", str(resources)]
        config = self._config or next((self.directory / "config").iterdir())
        command += ["--config", str(config)]
        if self.app_port is not None:
            command += ["--app-port", str(self.app_port), "--app-protocol", self._app_protocol]
        if self._control_plane is not None:
            command += self._control_plane.arguments
        return [*command, *self._arguments]


def _name_resolution(directory: Path) -> dict[str, str]:
    return {"connectionString": f"file:{directory / 'names.db'}"}
