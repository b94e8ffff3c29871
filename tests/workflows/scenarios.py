"""
Workflows that use the engine in every way, and what must come of them: run on the test kit and on a real daprd alike.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from toolkit.errors import RecordedError
from workflows import WorkflowKit, call_effect, effect_task, wait_event

SOON = timedelta(milliseconds=300)
LATER = timedelta(hours=1)


class RefusedError(Exception):
    """
    An outcome.
    """


def register(kit: WorkflowKit, runtime: Any) -> None:
    """
    Put all of them on a kit; those without effects on the runtime itself.
    """

    @kit.effect(name="same-add")
    def add(tx, given):
        value = tx.get(given["key"], {"n": 0})["n"] + given["amount"]
        tx.put(given["key"], {"n": value})
        return value

    @kit.effect(name="same-refuse", record_errors=(RefusedError,))
    def refuse(tx):
        raise RefusedError("not for you")

    def double(ctx, number):
        return 2 * number

    def fail(ctx, _):
        raise ValueError("always")

    runtime.register_activity(double, name="same-double")
    runtime.register_activity(fail, name="same-fail")
    _register_calls(kit, add, refuse)
    _register_events(kit)
    _register_families(kit)
    _register_failures(kit)


def _register_calls(kit, add, refuse):
    from dapr.ext.workflow import when_all, when_any

    @kit.workflow(name="same-effects")
    def effects(ctx, key):
        first = yield from call_effect(ctx, add, input={"key": key, "amount": 5})
        yield when_all([effect_task(ctx, add, input={"key": key, "amount": n}) for n in range(3)])
        last = yield from call_effect(ctx, add, input={"key": key, "amount": 0})
        try:
            yield from call_effect(ctx, refuse)
        except RecordedError as refused:
            return [first, last, refused.type, refused.message]

    @kit.workflow(name="same-timers")
    def timers(ctx, _):
        before = ctx.current_utc_datetime
        yield ctx.create_timer(SOON)
        lost = ctx.create_timer(LATER)
        won = yield when_any([ctx.call_activity("same-double", input=4), lost])
        return [ctx.current_utc_datetime - before >= SOON, won.get_result()]


def _register_events(kit):
    @kit.workflow(name="same-events")
    def events(ctx, _):
        ctx.set_custom_status("waiting")
        first = yield from wait_event(ctx, "go", timeout=LATER)
        second = yield ctx.wait_for_external_event("raw")
        try:
            yield from wait_event(ctx, "never", timeout=SOON)
        except TimeoutError:
            return [first, second]

    @kit.workflow(name="same-waiter")
    def waiter(ctx, _):
        return (yield ctx.call_child_workflow("same-sleeper", instance_id=f"{ctx.instance_id}-child"))

    @kit.workflow(name="same-sleeper")
    def sleeper(ctx, _):
        return (yield ctx.wait_for_external_event("wake"))


def _register_families(kit):
    @kit.workflow(name="same-child")
    def child(ctx, number):
        if number < 0:
            raise RuntimeError("negative")
        return (yield ctx.call_activity("same-double", input=number))

    @kit.workflow(name="same-parent")
    def parent(ctx, number):
        good = yield ctx.call_child_workflow(child, input=number, instance_id=f"{ctx.instance_id}-child")
        try:
            yield ctx.call_child_workflow(child, input=-1)
        except Exception as error:
            return [good, error.details.error_type]

    @kit.workflow(name="same-generations")
    def generations(ctx, left):
        if left:
            yield ctx.call_activity("same-double", input=left)
            ctx.continue_as_new(left - 1, save_events=True)
            return None
        return (yield ctx.wait_for_external_event("kept"))


def _register_failures(kit):
    from dapr.ext.workflow import RetryPolicy

    @kit.workflow(name="same-retries")
    def retries(ctx, _):
        policy = RetryPolicy(first_retry_interval=timedelta(milliseconds=50), max_number_of_attempts=3)
        try:
            yield ctx.call_activity("same-fail", retry_policy=policy)
        except Exception as error:
            return [error.details.error_type, error.details.message]

    @kit.workflow(name="same-failure")
    def failure(ctx, _):
        yield ctx.call_activity("same-fail")
