"""
What registered functions become: effects with their ``tx``, and workflows.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from toolkit import AsyncStateStore, StateStore
from toolkit.core.model import Outcome
from toolkit.core.policy import RetryPolicy
from toolkit.errors import OperationVoidedError, RecordedError
from toolkit.log import bind
from toolkit.transaction import AsyncTransaction, Transaction, transactional
from workflows._payload import Delivery, plain, reader_of
from workflows._saga_record import REFUSED
from workflows.effects import RETRIED, NonRetryableError
from workflows.errors import EffectVoidedError
from workflows.logging import default_logger

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
        Apply one delivery, unless it was applied before; or close its operation, when that is what was sent.
        """
        return self._close(store, delivery) if delivery.void else self._apply(store, delivery)

    def _close(self, store: StateStore, delivery: Delivery) -> str:
        outcome = store.void(delivery.op)
        if outcome is Outcome.COMMITTED:
            try:
                self._apply(store, delivery)  # a repeat: it runs no body and gives what was recorded
            except RecordedError:
                return REFUSED
        return outcome.value

    def _apply(self, store: StateStore, delivery: Delivery) -> Any:
        def body(tx: Transaction) -> Any:
            own = EffectTransaction(tx, self.name, delivery)
            try:
                return plain(self.fn(own, *self._arguments(delivery.input)))
            finally:
                own.end()

        run = transactional(name=self.name, retry=self.retry)(body)
        with self._bound(delivery):
            return store.transact(run, op_id=delivery.op, record_errors=self.record_errors)

    async def apply_async(self, store: AsyncStateStore, delivery: Delivery) -> Any:
        """
        ``apply`` for an async body.
        """
        if not delivery.void:
            return await self._apply_async(store, delivery)
        outcome = await store.void(delivery.op)
        if outcome is Outcome.COMMITTED:
            try:
                await self._apply_async(store, delivery)
            except RecordedError:
                return REFUSED
        return outcome.value

    async def _apply_async(self, store: AsyncStateStore, delivery: Delivery) -> Any:
        fn: Callable[..., Any] = self.fn

        async def body(tx: AsyncTransaction) -> Any:
            own = AsyncEffectTransaction(tx, self.name, delivery)
            try:
                return plain(await fn(own, *self._arguments(delivery.input)))
            finally:
                own.end()

        run = transactional(name=self.name, retry=self.retry)(body)
        with self._bound(delivery):
            return await store.transact(run, op_id=delivery.op, record_errors=self.record_errors)

    def _bound(self, delivery: Delivery) -> Any:
        return bind(
            workflow_id=delivery.workflow_id,
            activity=self.name,
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
