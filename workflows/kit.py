"""
Effects and workflows on a Dapr workflow runtime: what registers them, runs them and starts and stops the worker.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from toolkit.core.policy import RetryPolicy
from toolkit.errors import OperationVoidedError, SidecarUnavailableError
from toolkit.facade import Dapr
from toolkit.log import bind
from toolkit.store import AsyncStateStore, StateStore
from toolkit.transaction import AsyncTransaction, Transaction, transactional
from workflows._payload import Delivery, delivery_of, reader_of
from workflows._stores import Stores
from workflows.effects import RETRIED, NonRetryableError
from workflows.errors import EffectVoidedError
from workflows.logging import default_logger
from workflows.ports import Runtime

R = TypeVar("R")

# A short conflict is over in milliseconds; a long one must not hold a worker's thread: it goes on as a durable timer.
IN_ACTIVITY: Final = RetryPolicy(attempts=8, deadline=5.0)


class EffectTransaction(Transaction):
    """
    The ``tx`` of an effect: a transaction that knows what it is run for.

    Attributes:
        op: The operation id, to pass on as the idempotency key of a remote call.
        workflow_id: The workflow instance.
        attempt: The durable attempt, from 1.
        log: A structlog logger that carries these.
    """

    def __init__(self, tx: Transaction, effect: str, delivery: Delivery) -> None:
        # Another view of the same run: buffered writes and reads are shared.
        self.__dict__.update(vars(tx))
        self.workflow_id, self.attempt = delivery.workflow_id, delivery.attempt
        self.log = _logger(effect, delivery)

    def end(self) -> None:
        """
        Refuse use from now on; the body is over.
        """
        self._over = True


class AsyncEffectTransaction(AsyncTransaction):
    """
    ``EffectTransaction`` for effects that are ``async def``.
    """

    def __init__(self, tx: AsyncTransaction, effect: str, delivery: Delivery) -> None:
        self.__dict__.update(vars(tx))
        self.workflow_id, self.attempt = delivery.workflow_id, delivery.attempt
        self.log = _logger(effect, delivery)

    def end(self) -> None:
        """
        Refuse use from now on; the body is over.
        """
        self._over = True


def _logger(effect: str, delivery: Delivery) -> Any:
    return default_logger().bind(
        effect=effect, workflow_id=delivery.workflow_id, op=delivery.op, attempt=delivery.attempt
    )


class Effect(Generic[R]):
    """
    A function of ``tx`` registered as an activity; what ``@kit.effect`` makes of it.

    Called with a ``tx`` it runs as part of that transaction, as any function does.
    """

    def __init__(
        self,
        fn: Callable[..., R],
        name: str,
        record_errors: tuple[type[BaseException], ...],
        retry: RetryPolicy,
    ) -> None:
        self.fn, self.name, self.record_errors, self.retry = fn, name, record_errors, retry
        self.is_async = inspect.iscoroutinefunction(fn)
        self._arguments = reader_of(fn)
        functools.update_wrapper(self, fn)
        # What ctx.call_activity(effect) looks at.
        self.__dict__["_dapr_alternate_name"] = name

    def __repr__(self) -> str:
        return f"<effect {self.name!r}>"

    def __call__(self, tx: Any, *args: Any, **kwargs: Any) -> R:
        return self.fn(tx, *args, **kwargs)

    def apply(self, store: StateStore, delivery: Delivery) -> Any:
        """
        Apply one delivery, unless it was applied before.
        """

        def body(tx: Transaction) -> Any:
            own = EffectTransaction(tx, self.name, delivery)
            try:
                return self.fn(own, *self._arguments(delivery.input))
            finally:
                own.end()

        run = transactional(name=self.name, retry=self.retry)(body)
        with self._bound(delivery):
            return store.transact(run, op_id=delivery.op, record_errors=self.record_errors)

    async def apply_async(self, store: AsyncStateStore, delivery: Delivery) -> Any:
        """
        ``apply`` for an async body.
        """
        fn: Callable[..., Any] = self.fn

        async def body(tx: AsyncTransaction) -> Any:
            own = AsyncEffectTransaction(tx, self.name, delivery)
            try:
                return await fn(own, *self._arguments(delivery.input))
            finally:
                own.end()

        run = transactional(name=self.name, retry=self.retry)(body)
        with self._bound(delivery):
            return await store.transact(run, op_id=delivery.op, record_errors=self.record_errors)

    def _bound(self, delivery: Delivery) -> Any:
        return bind(
            workflow_id=delivery.workflow_id,
            effect=self.name,
            durable_attempt=delivery.attempt,
            task_execution_id=delivery.task_execution_id,
        )

    def failure(self, error: Exception, delivery: Delivery) -> Exception:
        """
        The error as the engine should see it.
        """
        if isinstance(error, OperationVoidedError):
            error = EffectVoidedError(f"effect {self.name!r}: {error}")
        if delivery.by_engine and type(error).__name__ not in RETRIED:
            # The engine's retry knows one way to stop: the name of the class.
            return NonRetryableError(f"{type(error).__name__}: {error}")
        return error


class KitWorkflow:
    """
    A workflow function registered under a name; pass it to ``schedule_new_workflow`` or ``call_child_workflow``.
    """

    def __init__(self, fn: Callable[..., Any], name: str) -> None:
        self.fn, self.name = fn, name
        functools.update_wrapper(self, fn)
        self.__dict__["_dapr_alternate_name"] = name

    def __repr__(self) -> str:
        return f"<workflow {self.name!r}>"

    def __call__(self, ctx: Any, *args: Any) -> Any:
        return self.fn(ctx, *args)


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
        self._names: set[str] = set()
        self._asynchronous = False

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

    def effect(
        self,
        *,
        name: str | None = None,
        record_errors: tuple[type[BaseException], ...] = (),
        retry: RetryPolicy | None = None,
    ) -> Callable[[Callable[..., R]], Effect[R]]:
        """
        Make a function of ``tx`` (and one input) an activity whose changes are applied exactly once.

        It may run more than once, on fresh data each time, so it must have no effect but on ``tx``; a redelivery after
        the commit returns the recorded result without running it. An input annotated with a dataclass, a
        ``msgspec.Struct`` or a pydantic model comes as one.

        Args:
            name: The activity's name; by default the function's.
            record_errors: Exceptions that are an outcome: recorded under the op and raised as ``RecordedError``, now and
                on every redelivery, in the workflow too.
            retry: How long to try inside the activity before a durable timer takes over.
        """

        def decorate(fn: Callable[..., R]) -> Effect[R]:
            given: Any = fn
            body: Callable[..., R] = given.fn if isinstance(given, Effect) else fn
            effect = Effect(body, name or _name_of(given), tuple(record_errors), retry or IN_ACTIVITY)
            self._take(effect.name)
            self._asynchronous = self._asynchronous or effect.is_async
            activity = self._async_activity(effect) if effect.is_async else self._activity(effect)
            self.runtime.register_activity(activity, name=effect.name)
            return effect

        return decorate

    def workflow(self, *, name: str | None = None) -> Callable[[Callable[..., Any]], KitWorkflow]:
        """
        Register a workflow function, usually a generator of ``ctx`` and one input.
        """

        def decorate(fn: Callable[..., Any]) -> KitWorkflow:
            found = KitWorkflow(fn.fn if isinstance(fn, KitWorkflow) else fn, name or _name_of(fn))
            arguments = reader_of(found.fn)
            self._take(found.name)

            # A wrapper of its own: the SDK marks what it registers and refuses it a second time.
            def run(ctx: Any, inp: Any = None) -> Any:
                return found.fn(ctx, *arguments(inp))

            self.runtime.register_workflow(run, name=found.name)
            return found

        return decorate

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
        Open the store and start the worker; returns when it is ready for work.

        Raises:
            SidecarUnavailableError: No sidecar within ``timeout`` seconds; nothing was left running.
        """
        try:
            self._stores.limit(timeout)
            self._stores.sync()
            if self._asynchronous:
                self._stores.on_loop()
            self._start_worker(timeout)
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

    @property
    def ready(self) -> bool:
        """
        Whether the worker has its stream of work from the sidecar right now; for a readiness probe.
        """
        return self.runtime.wait_for_worker_ready(timeout=0.05)

    def stop(self) -> None:
        """
        Stop the worker, then close the store; work whose result was not sent is delivered again later, and applied once.
        """
        self.runtime.shutdown()
        self._stores.close()


def _name_of(fn: Any) -> str:
    return str(fn.name if hasattr(fn, "_dapr_alternate_name") and hasattr(fn, "name") else fn.__name__)
