"""
The public API of `workflows` as a type checker sees it; checked by mypy and pyright, never run.
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import Any, assert_type

from dapr.ext.workflow import DaprWorkflowClient, DaprWorkflowContext
from dapr.ext.workflow.aio import DaprWorkflowClient as AsyncClient

from toolkit import AsyncStateStore, StateError, StateStore
from workflows import (
    Checkpoint,
    CheckpointFencedError,
    CheckpointInfo,
    Checkpoints,
    CheckpointVersionError,
    Effect,
    KitWorkflow,
    Saga,
    SagaAbortedError,
    StartResult,
    StartTimeoutError,
    WorkflowKit,
    continue_with,
    load_checkpoint,
    raise_event,
    resolve_saga,
    resume_saga,
    saga_record,
    save_checkpoint,
    start_once,
    wait_event,
    workflow_logger,
)


def upgrade(data: dict[str, int]) -> dict[str, int]:
    return {**data, "rows": 0}


def job(ctx: DaprWorkflowContext, month: str) -> Generator[Any, Any, Any]:
    checkpoint = yield from load_checkpoint(
        ctx, "job", month, version=2, migrate={1: upgrade}, default={"page": 0}, take_over=False
    )
    assert_type(checkpoint, Checkpoint)
    assert_type(checkpoint.next({"page": 1}), Checkpoint)
    assert_type(checkpoint.seq, int)
    info = yield from save_checkpoint(ctx, checkpoint.next({"page": 1}))
    assert_type(info, CheckpointInfo)
    assert_type((yield from continue_with(ctx, checkpoint, every=100, input=month)), CheckpointInfo)
    yield from wait_event(ctx, "go", timeout=timedelta(seconds=1))
    workflow_logger(ctx).bind(month=month).info("done")


def registered(kit: WorkflowKit) -> None:
    """
    With and without arguments, the result's type is kept.
    """

    @kit.effect
    def one(tx: Any) -> int:
        return 1

    @kit.effect(name="two", record_errors=ValueError)
    def two(tx: Any, order: str) -> str:
        return order

    @kit.workflow
    def plain(ctx: DaprWorkflowContext) -> None: ...

    assert_type(one, Effect[int])
    assert_type(two, Effect[str])
    assert_type(plain, KitWorkflow)
    assert_type(kit.workflow(name="job")(job), KitWorkflow)


def outside(client: DaprWorkflowClient, store: StateStore) -> None:
    checkpoints = Checkpoints(store)
    assert_type(checkpoints.get("job", "2026-10"), dict[str, Any] | None)
    assert_type(checkpoints.list("job"), list[str])
    assert_type(checkpoints.drop("job", "2026-10"), bool)
    assert_type(start_once(client, "job", key="k", input=1, store=store, timeout=5), StartResult)
    raise_event(client, "k", "go", data=0)


async def outside_async(client: AsyncClient, store: AsyncStateStore, sync: StateStore) -> None:
    assert_type(await start_once(client, "job", key="k", input=1, store=store), StartResult)
    await raise_event(client, "k", "go", data=0)
    # The record and the engine are reached in one colour.
    await start_once(client, "job", key="k", store=sync)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def errors(error: CheckpointFencedError | CheckpointVersionError | StartTimeoutError) -> StateError:
    return error


def order(
    ctx: DaprWorkflowContext, reserve: Effect[int], release: Effect[None], key: str
) -> Generator[Any, Any, dict[str, Any]]:
    """
    A saga, whose steps are effects or their names.
    """
    saga = Saga(ctx, "order")
    try:
        yield from saga.step(reserve, input=key, undo=release, timeout=timedelta(hours=1))
        yield from saga.step("ship", input=key, pivot=True)
        yield from saga.complete()
    except SagaAbortedError as aborted:
        assert_type(aborted.report, dict[str, Any])
        return aborted.report
    return saga.report


def operators(client: DaprWorkflowClient, store: StateStore) -> None:
    """
    What is done to sagas from outside.
    """
    assert_type(saga_record(store, "order-17"), dict[str, Any])
    assert_type(resume_saga(client, store, "order-17"), StartResult)
    resolve_saga(client, "order-17", "retry", step="ship")
    resolve_saga(client, "order-17", "forget")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
