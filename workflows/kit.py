"""
Effects and workflows on a Dapr workflow runtime: what registers them, runs them and starts and stops the worker.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, TypeVar, overload
from weakref import WeakSet

from toolkit.core.policy import RetryPolicy
from toolkit.errors import SidecarUnavailableError
from toolkit.facade import Dapr
from toolkit.store import StateStore
from workflows._builtin import register_builtins
from workflows._hosting import Hosting
from workflows._payload import delivery_of, reader_of
from workflows._run import begin
from workflows._stores import Stores
from workflows.bodies import IN_ACTIVITY, Effect, KitWorkflow
from workflows.errors import ContinuedAsNew
from workflows.ports import Runtime

R = TypeVar("R")
Errors: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]

# Two kits on one runtime serve two stores; what the package needs itself is registered by one of them.
_EQUIPPED: Final[WeakSet[Runtime]] = WeakSet()


class WorkflowKit:
    """
    Registers workflows and effects on a Dapr workflow runtime and starts and stops it with the store they need.

    One kit has one runtime and one store; a process may have several, also with the same functions. Register
    everything before the start.

    Args:
        runtime: A ``dapr.ext.workflow.WorkflowRuntime``.
        store: The name of a state store component, a ``StateStore`` (used as it is when open, else its settings), or a
            ``Dapr`` with ``state_store=`` and the right to write.
        address: The sidecar of a store given by name; else from the environment, as for ``StateStore``.
        port: Another port than the sidecar, such as ``MemoryStore()``, for a store given by name.
    """

    def __init__(
        self,
        runtime: Runtime,
        store: str | StateStore | Dapr,
        *,
        address: str | None = None,
        port: Any = None,
    ) -> None:
        self.runtime = runtime
        self._stores = Stores(store, address, port)
        self._hosting = Hosting(runtime)
        self._names: set[str] = set()
        self._asynchronous = self._stopped = False

    def __repr__(self) -> str:
        return f"<WorkflowKit on store {self._stores.name!r}, {len(self._names)} registered>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()

    # -- registering -----------------------------------------------------------------------------------------------

    @overload
    def effect(self, fn: Callable[..., R], /) -> Effect[R]: ...
    @overload
    def effect(
        self,
        *,
        name: str | None = None,
        record_errors: Errors = (),
        retry: RetryPolicy | None = None,
    ) -> Callable[[Callable[..., R]], Effect[R]]: ...
    def effect(
        self,
        fn: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        record_errors: Errors = (),
        retry: RetryPolicy | None = None,
    ) -> Any:
        """
        Make a function of ``tx`` (and one input) an activity whose changes are applied exactly once.

        It may run more than once, on fresh data each time, so it must have no effect but on ``tx``; a redelivery after
        the commit returns the recorded result without running it. An input annotated with a dataclass, a
        ``msgspec.Struct`` or a pydantic model comes as one; a result that is one travels as JSON types.

        Args:
            fn: The function, where the decorator is used without arguments.
            name: The activity's name; by default the function's.
            record_errors: Exceptions that are an outcome: recorded under the op and raised as ``RecordedError``, now and
                on every redelivery, in the workflow too.
            retry: How long to try inside the activity before a durable timer takes over.
        """
        errors = (record_errors,) if isinstance(record_errors, type) else tuple(record_errors)

        def decorate(fn: Callable[..., R]) -> Effect[R]:
            given: Any = fn
            body: Callable[..., R] = given.fn if isinstance(given, Effect) else fn
            effect = Effect(body, name or _name_of(given), errors, retry or IN_ACTIVITY)
            self._take(effect.name)
            self._asynchronous = self._asynchronous or effect.is_async
            activity = self._async_activity(effect) if effect.is_async else self._activity(effect)
            self.runtime.register_activity(activity, name=effect.name)
            return effect

        return decorate if fn is None else decorate(fn)

    @overload
    def workflow(self, fn: Callable[..., Any], /) -> KitWorkflow: ...
    @overload
    def workflow(self, *, name: str | None = None) -> Callable[[Callable[..., Any]], KitWorkflow]: ...
    def workflow(self, fn: Callable[..., Any] | None = None, *, name: str | None = None) -> Any:
        """
        Register a workflow function, usually a generator of ``ctx`` and one input; its name is by default the function's.
        """

        def decorate(fn: Callable[..., Any]) -> KitWorkflow:
            found = KitWorkflow(fn.fn if isinstance(fn, KitWorkflow) else fn, name or _name_of(fn))
            arguments = reader_of(found.fn)
            self._take(found.name)
            self._add_builtins()

            # A wrapper of its own: the SDK marks what it registers and refuses it a second time.
            def run(ctx: Any, inp: Any = None) -> Any:
                steps = found.fn(ctx, *arguments(begin(ctx, inp)))
                return _to_its_end(steps) if inspect.isgenerator(steps) else steps

            self.runtime.register_workflow(run, name=found.name)
            return found

        return decorate if fn is None else decorate(fn)

    def _add_builtins(self) -> None:
        """
        What sagas and checkpoints need; once per runtime, by the kit that has the first workflow, or starts without any.
        """
        if self.runtime not in _EQUIPPED:
            _EQUIPPED.add(self.runtime)
            register_builtins(self)

    def _take(self, name: str) -> None:
        if name in self._names:
            raise ValueError(f"{name!r} is registered on this kit already; give one of them another name=")
        self._names.add(name)

    def _activity(self, effect: Effect[Any]) -> Callable[..., Any]:
        def run(ctx: Any, inp: Any = None) -> Any:
            delivery = delivery_of(ctx, inp)
            try:
                return effect.apply(self._stores.sync(), delivery)
            except Exception as error:
                raise effect.failure(error, delivery) from error

        return run

    def _async_activity(self, effect: Effect[Any]) -> Callable[..., Any]:
        async def run(ctx: Any, inp: Any = None) -> Any:
            delivery = delivery_of(ctx, inp)
            try:
                # Opening waits for the sidecar: not on the worker's loop.
                portal, store = await asyncio.to_thread(self._stores.on_loop)
                future = portal.start_task_soon(effect.apply_async, store, delivery)
                return await asyncio.wrap_future(future)
            except Exception as error:
                raise effect.failure(error, delivery) from error

        return run

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self, timeout: float = 60.0) -> None:
        """
        Open the store and start the worker, unless it was started; returns when it is ready for work.

        Raises:
            SidecarUnavailableError: No sidecar within ``timeout`` seconds; nothing was left running.
            RuntimeError: The kit was stopped, or its worker failed to start before: the SDK's starts only once.
        """
        if self._stopped:
            raise RuntimeError(
                f"{self!r} was stopped, and a WorkflowRuntime starts only once; make a new runtime and a new kit"
            )
        self._add_builtins()
        try:
            self._stores.limit(timeout)
            self._stores.sync()
            if self._asynchronous:
                self._stores.on_loop()
        except BaseException:
            self._stores.close()  # the worker is as it was: a later start may fare better
            raise
        try:
            if not self._hosting.running:
                self._start_worker(timeout)
            self._await_hosting(timeout)
        except BaseException:
            self.stop()
            raise

    def _start_worker(self, timeout: float) -> None:
        failed: list[BaseException] = []

        def start() -> None:
            try:
                self.runtime.start()
            except BaseException as error:  # noqa: BLE001  raised in the caller's thread
                failed.append(error)

        # The SDK's start waits for a sidecar without end.
        starter = threading.Thread(target=start, name="occ-kit-start", daemon=True)
        starter.start()
        starter.join(timeout)
        if starter.is_alive():
            raise SidecarUnavailableError(
                f"the workflow worker got no work item stream within {timeout:g} s: is the sidecar running, with placement "
                "and scheduler and an actor state store? `occ run --workflows -- CMD` starts all of it"
            )
        if failed:
            raise failed[0]

    def _await_hosting(self, timeout: float) -> None:
        if not self._hosting.start(timeout):
            raise SidecarUnavailableError(
                f"the sidecar took the worker's stream and did not host its workflows within {timeout:g} s: are placement "
                "and scheduler running? daprd up to 1.18 can lock itself out when its only worker dies; restart the sidecar"
            )

    @property
    def ready(self) -> bool:
        """
        Whether the worker has its stream of work from the sidecar right now and is served; for a readiness probe.
        """
        return self.runtime.wait_for_worker_ready(timeout=0.05) and self._hosting.serves()

    def stop(self) -> None:
        """
        Stop the worker, then close the store; work whose result was not sent is delivered again later, and applied once.
        """
        self._stopped = True
        self._hosting.stop()
        self.runtime.shutdown()
        self._hosting.close()
        self._stores.close()


def _to_its_end(steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """
    The same workflow, which may end by continuing as new.
    """
    try:
        return (yield from steps)
    except ContinuedAsNew:
        return None


def _name_of(fn: Any) -> str:
    return str(fn.name if hasattr(fn, "_dapr_alternate_name") and hasattr(fn, "name") else fn.__name__)
