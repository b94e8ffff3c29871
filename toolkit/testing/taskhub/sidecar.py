"""
``WorkflowSidecar``: the SDK's own runtime and client, against an engine in this process, on virtual time.
"""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import dapr.ext.workflow._durabletask.internal.orchestrator_service_pb2_grpc as stubs
import grpc

from toolkit.testing.memory import MemoryStore
from toolkit.testing.taskhub.engine import Engine
from toolkit.testing.taskhub.faults import ContendedStore, WorkflowFaults
from toolkit.testing.taskhub.history import WorkflowHistory, status_name
from toolkit.testing.taskhub.replay import replay
from toolkit.testing.taskhub.server import Servicer

if TYPE_CHECKING:
    from dapr.ext.workflow import DaprWorkflowClient, WorkflowRuntime

# Every client that waits holds a thread of the server.
_THREADS: Final = 256
_ANY_SIZE: Final = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class WorkflowFailedError(AssertionError):
    """
    A workflow did not complete; the message says how it ended.
    """


class WorkflowSidecar:
    """
    A workflow engine in this process for tests of workflows, without daprd, placement, scheduler or waiting.

    The worker and the client are those of the Dapr SDK. The clock is virtual: it stands still while the worker has
    anything to do, and jumps to the next timer when it has not and somebody waits for a workflow (or ``advance`` is
    called), so 60 days of timers take as long as the code between them. Send an event before you wait for what comes of
    it: a wait lets a timeout win that the event would have beaten.

    Args:
        seed: Of all chance: which deliveries faults hit and, with ``in_flight``, the order of deliveries.
        start: What the clock shows first.
        profile: Whose rules ``state`` plays: a short name as for ``MemoryStore``.
        in_flight: How many deliveries may be under way at once. With 1 the schedule is the seed's alone; by default
            there is no limit and threads decide.
        skip_always: Let time skip even when nobody waits.

    Attributes:
        state: A state store in memory for the workflows under test: ``WorkflowKit(..., port=sidecar.state)``.
        faults: What befalls deliveries.

    >>> from toolkit.testing import WorkflowSidecar
    >>> with WorkflowSidecar() as sidecar:
    ...     runtime = sidecar.runtime()
    ...     def nap(ctx, days):
    ...         yield ctx.create_timer(timedelta(days=days))
    ...         return f"slept {days} days"
    ...     _ = runtime.register_workflow(nap)
    ...     runtime.start()
    ...     sidecar.run("nap", input=60)
    'slept 60 days'
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        start: datetime = datetime(2026, 1, 1, tzinfo=UTC),
        profile: str = "in-memory",
        in_flight: int | None = None,
        skip_always: bool = False,
    ) -> None:
        if in_flight is not None and in_flight < 1:
            raise ValueError(f"in_flight={in_flight}: the worker could be given nothing")
        self.seed = seed
        self.faults = WorkflowFaults(seed)
        self.state: MemoryStore = ContendedStore(self.faults, profile)
        self._engine = Engine(self.faults, start, in_flight=in_flight, skip_always=skip_always)
        self._port = 0
        self._server: grpc.Server | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._client: DaprWorkflowClient | None = None
        self._runtimes: list[WorkflowRuntime] = []

    def __repr__(self) -> str:
        return f"<WorkflowSidecar seed={self.seed}, {len(self._engine.instances)} instances>"

    def __enter__(self) -> Self:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="workflow-sidecar")
        self._server = grpc.server(self._threads, options=_ANY_SIZE)
        untyped: Any = stubs
        untyped.add_TaskHubSidecarServiceServicer_to_server(Servicer(self._engine), self._server)
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()
        if error is not None:
            error.add_note(f"WorkflowSidecar(seed={self.seed}); faults so far: {dict(self.faults.counts)}")

    def close(self) -> None:
        """
        End all workers, streams and calls.
        """
        # Left alone, a worker would look for its sidecar for ever, and its thread would keep the process.
        for runtime in self._runtimes:
            runtime.shutdown()
        with self._engine.changed:
            self._engine.closed = True
            self._engine.changed.notify_all()
        if self._client is not None:
            self._client.close()
        if self._server is not None:
            self._server.stop(0).wait()
        if self._threads is not None:
            self._threads.shutdown()
        for runtime in self._runtimes:
            _close_loop(runtime)

    # -- the SDK's own classes -------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """
        ``127.0.0.1:PORT``.
        """
        return f"127.0.0.1:{self._entered()}"

    def runtime(self, **options: Any) -> WorkflowRuntime:
        """
        A worker of this sidecar: a ``WorkflowRuntime`` to register workflows on, or to give to a ``WorkflowKit``.
        """
        from dapr.ext.workflow import WorkflowRuntime

        made = WorkflowRuntime(host="127.0.0.1", port=str(self._entered()), **options)
        self._runtimes.append(made)
        return made

    def client(self) -> DaprWorkflowClient:
        """
        A client of this sidecar; it is closed with it.
        """
        from dapr.ext.workflow import DaprWorkflowClient

        if self._client is None:
            self._client = DaprWorkflowClient(host="127.0.0.1", port=str(self._entered()))
        return self._client

    def _entered(self) -> int:
        if not self._port:
            raise RuntimeError("enter the WorkflowSidecar first: with WorkflowSidecar() as sidecar")
        return self._port

    # -- running ---------------------------------------------------------------------------------------------------

    def run(
        self, workflow: Any, *, input: Any = None, instance_id: str | None = None, timeout: float = 60.0
    ) -> Any:
        """
        Start a workflow, wait for its end, and return what it returned.

        Args:
            workflow: Its name, or what it was registered as.
            input: JSON types.
            instance_id: Its id; by default a new one.
            timeout: Real seconds.

        Raises:
            WorkflowFailedError: It failed, was terminated, or was not done in time: the message says what is missing.
        """
        client: Any = self.client()
        name = workflow if isinstance(workflow, str) else getattr(workflow, "name", workflow)
        return self.result(
            client.schedule_new_workflow(name, input=input, instance_id=instance_id), timeout=timeout
        )

    def result(self, instance_id: str, *, timeout: float = 60.0) -> Any:
        """
        Wait for a workflow that was started, and return what it returned; raises as ``run`` does.
        """
        found = self._engine.find(instance_id)
        if not self._engine.wait(lambda: found.over, _until(timeout), skip=True):
            last = self.history(instance_id).steps[-3:]
            raise WorkflowFailedError(
                f"workflow {found.name!r}, instance {instance_id!r}, is {status_name(found.status)} after {timeout:g} s; "
                f"its last steps: {', '.join(map(str, last)) or 'none'}; {self._engine.under_way()}. "
                "If it waits for an event, send it before you wait for the workflow"
            )
        done = found.completed
        assert done is not None
        if status_name(done.workflowStatus) != "COMPLETED":
            details = done.failureDetails
            told = f": {details.errorType}: {details.errorMessage}" if details.errorType else ""
            raise WorkflowFailedError(
                f"workflow {found.name!r}, instance {instance_id!r}, ended as {status_name(done.workflowStatus)}{told}"
            )
        return json.loads(done.result.value) if done.result.value else None

    @property
    def now(self) -> datetime:
        """
        What the virtual clock shows.
        """
        return self._engine.now

    def advance(self, by: timedelta, *, timeout: float = 60.0) -> None:
        """
        Let virtual time pass; returns when all that is due meanwhile has happened and the worker is idle.

        Raises:
            TimeoutError: The worker was not idle within ``timeout`` real seconds; the message says what it works on.
        """
        self._engine.advance(by, timeout)

    def settle(self, *, timeout: float = 60.0) -> None:
        """
        Wait until the worker is idle, with the clock where it is.
        """
        self._engine.advance(timedelta(0), timeout)

    def crash(self) -> None:
        """
        Cut the worker's stream now: no result of what is under way arrives, and all of it is delivered again.
        """
        self._engine.crash()

    @property
    def deliveries(self) -> Counter[str]:
        """
        How often each activity and workflow was delivered.
        """
        with self._engine.changed:
            return Counter(self._engine.deliveries)

    # -- histories -------------------------------------------------------------------------------------------------

    def history(self, instance_id: str) -> WorkflowHistory:
        """
        The history of an instance so far.
        """
        with self._engine.changed:
            return WorkflowHistory(instance_id, tuple(self._engine.find(instance_id).history))

    def replay(self, history: WorkflowHistory, *, payloads: bool = False, timeout: float = 60.0) -> None:
        """
        Run the code of the connected worker over a recorded history; no activity is run.

        Args:
            history: Recorded here or fetched from a real sidecar.
            payloads: Compare inputs and results too: data that an engine lets change.
            timeout: Real seconds for each turn.

        Raises:
            NonDeterminismError: The code asks for something else than what was recorded; the message names the step.
        """
        name = history.workflow
        replay(history, lambda request: self._engine.ask(name, request, timeout), payloads=payloads)


def _until(timeout: float) -> Any:
    import time

    end = time.monotonic() + timeout
    return lambda: time.monotonic() < end


def _close_loop(runtime: Any) -> None:
    """
    The SDK leaves the loop of a worker open, which is a warning in whichever test comes next.
    """
    worker: Any = getattr(runtime, "_WorkflowRuntime__worker", None)
    loop: Any = getattr(getattr(worker, "_async_worker_manager", None), "_queue_event_loop", None)
    if loop is not None and not loop.is_running():
        loop.close()
