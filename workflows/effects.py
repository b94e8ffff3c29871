"""
Calling effects from a workflow: one operation id through all attempts, and durable timers when a conflict lasts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from toolkit.errors import RecordedError
from workflows._payload import envelope
from workflows.errors import EffectTimeoutError, EffectVoidedError
from workflows.ports import Context

if TYPE_CHECKING:
    from workflows.bodies import Effect

# By class name, as the engine hands them over: a later attempt under the same op is safe and may fare better.
RETRIED: Final = frozenset(
    {
        "AttemptsExhaustedError",
        "ConflictError",
        "OutcomeUnknownError",
        "SidecarUnavailableError",
        "SnapshotUnstableError",
        "StoreUnavailableError",
    }
)


class NonRetryableError(Exception):
    """
    Named so that the engine's own retry stops: it knows no other way.
    """


@dataclass(frozen=True, slots=True)
class Escalation:
    """
    How an effect goes on when the tries inside the activity were not enough: later, by durable timer, holding no thread.

    Attributes:
        attempts: Activities scheduled in all; ``None`` for no limit.
        first: The wait before the second one.
        coefficient: By how much each wait is longer than the one before.
        maximum: The longest wait.
        retry_on: Class names of errors to try again after.
    """

    attempts: int | None = 8
    first: timedelta = timedelta(milliseconds=250)
    coefficient: float = 2.0
    maximum: timedelta = timedelta(minutes=1)
    retry_on: frozenset[str] = RETRIED

    def __post_init__(self) -> None:
        if self.attempts is not None and self.attempts < 1:
            raise ValueError(f"attempts must be at least 1 or None, not {self.attempts}")
        if self.first <= timedelta(0) or self.maximum < self.first or self.coefficient < 1:
            raise ValueError("waits must be positive and grow: 0 < first <= maximum, coefficient >= 1")

    def wait(self, op: str, attempt: int) -> timedelta:
        """
        The wait after this attempt: between half and the whole of its step, the same in every replay.
        """
        step = min(
            self.first.total_seconds() * self.coefficient ** min(attempt - 1, 64),
            self.maximum.total_seconds(),
        )
        return timedelta(seconds=step * (0.5 + 0.5 * random.Random(f"{op}:{attempt}").random()))  # noqa: S311


def new_op(ctx: Context) -> str:
    """
    A new operation id, the same one when this point of the workflow is replayed.
    """
    make: Any = ctx  # the SDK forwards new_guid to its inner context
    return f"{ctx.instance_id}:{make.new_guid()}"


def call_effect(
    ctx: Context,
    effect: Effect[Any] | str,
    *,
    input: Any = None,
    op: str | None = None,
    policy: Escalation = Escalation(),
    timeout: timedelta | None = None,
) -> Generator[Any, Any, Any]:
    """
    Apply an effect exactly once and return its result.

    In a workflow: ``result = yield from call_effect(ctx, debit, input=order)``. Conflicts that the activity could not settle in milliseconds are tried again by durable timer, under the same
    operation id, so that an attempt that did commit is recognised.

    Args:
        ctx: The workflow context.
        effect: What ``@kit.effect`` returned, or its name.
        input: JSON types, a dataclass, a struct or a model.
        op: The operation id, when it should mean the same beyond this call (a business key); by default a new one.
        policy: When to try again, and when to give up.
        timeout: For the call as a whole.

    Raises:
        RecordedError: The effect raised an error of its ``record_errors``.
        EffectVoidedError: ``store.void(op)`` came first.
        EffectTimeoutError: ``timeout`` ran out; the effect may still land.
        TaskFailedError: The SDK's error for anything else, after the last attempt.
    """
    op = op or new_op(ctx)
    name = effect if isinstance(effect, str) else effect.name
    return (yield from attempts(ctx, name, op, lambda attempt: envelope(op, attempt, input), policy, timeout))


def attempts(
    ctx: Context,
    name: str,
    op: str,
    sent: Callable[[int], dict[str, Any]],
    policy: Escalation,
    timeout: timedelta | None = None,
) -> Generator[Any, Any, Any]:
    """
    Schedule an effect's activity under one operation id until it answers; ``sent`` gives the input of each attempt.
    """
    bell = None if timeout is None else ctx.create_timer(timeout)
    attempt = 1
    while True:
        task = ctx.call_activity(name, input=sent(attempt))
        try:
            return (yield from _until(task, bell, name, op))
        except Exception as error:
            kind, message = _details(error)
            if not kind:  # not an answer of the activity
                raise
            if kind not in policy.retry_on or attempt == policy.attempts:
                raise _translated(error, kind, message) from error
        yield from _until(ctx.create_timer(policy.wait(op, attempt)), bell, name, op)
        attempt += 1


def effect_task(
    ctx: Context,
    effect: Effect[Any] | str,
    *,
    input: Any = None,
    op: str | None = None,
    policy: Escalation = Escalation(),
) -> Any:
    """
    The same as a task, for ``when_all`` and ``when_any``: the engine retries it, under one operation id.

    The first wait is spread by the operation id, so that a fan-out does not retry in step. An error that is not worth
    another attempt ends the task at once, as ``NonRetryableError`` with the error's name in its message.
    """
    from dapr.ext.workflow import RetryPolicy

    op = op or new_op(ctx)
    retry = RetryPolicy(
        first_retry_interval=policy.wait(op, 1),
        max_number_of_attempts=policy.attempts or 2**31 - 1,
        backoff_coefficient=policy.coefficient,
        max_retry_interval=policy.maximum,
    )
    name = effect if isinstance(effect, str) else effect.name
    return ctx.call_activity(name, input=envelope(op, 1, input, by_engine=True), retry_policy=retry)


def _until(task: Any, bell: Any, name: str, op: str) -> Generator[Any, Any, Any]:
    """
    Wait for the task, or for the bell of the whole call.
    """
    if bell is None:
        return (yield task)
    sdk: Any = import_module("dapr.ext.workflow")
    first = yield sdk.when_any([task, bell])
    if first is bell and not task.is_complete:
        raise EffectTimeoutError(
            f"effect {name!r} did not answer in time; it may still be applied: ask store.outcome({op!r}), or close it with "
            f"store.void({op!r})",
            op=op,
        )
    return task.get_result()


def _details(error: Exception) -> tuple[str, str]:
    details: Any = getattr(error, "details", None)
    return (str(details.error_type), str(details.message)) if hasattr(details, "error_type") else ("", "")


def _translated(error: Exception, kind: str, message: str) -> Exception:
    if kind == "RecordedError":
        recorded, _, text = message.partition(": ")
        return RecordedError(recorded, text)
    if kind == "EffectVoidedError":
        return EffectVoidedError(message)
    return error
