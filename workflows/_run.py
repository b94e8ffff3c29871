"""
What a run of a workflow knows of itself, beyond what the SDK tells it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import msgspec

from workflows._payload import event_data

_MARK: Final = "_occ_continued"


class Run(msgspec.Struct):
    """
    What a run of a workflow knows of itself: its input, and the names of its loads by checkpoint.

    Attributes:
        input: As it was given.
        tokens: The name of the last load of each checkpoint, by key.
        kit: Whether a kit registered the workflow, and so knows the input and how a run ends.
    """

    input: Any = None
    tokens: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    kit: bool = False


def continued(run: Run, value: Any) -> dict[str, Any]:
    """
    The input of the run that continues this one.
    """
    return {_MARK: 1, "input": value, "tokens": run.tokens}


def begin(ctx: Any, raw: Any) -> Any:
    """
    Note on the context what the run begins with, and let it see events as they were sent; its input.
    """
    run = Run(raw, kit=True)
    if isinstance(raw, dict) and _MARK in raw:
        sent = cast("dict[str, Any]", raw)
        run = Run(sent["input"], dict(sent["tokens"]), kit=True)
    ctx.occ_run = run
    ctx.wait_for_external_event = _opening(ctx.wait_for_external_event)
    return run.input


def _opening(wait: Callable[..., Any]) -> Callable[..., Any]:
    """
    The same way to wait for an event, whose task gives it without the envelope in which ``raise_event`` sent it.
    """

    def opened(*args: Any, **kwargs: Any) -> Any:
        task = wait(*args, **kwargs)
        result: Callable[[], Any] = task.get_result
        task.get_result = lambda: event_data(result())
        return task

    return opened


def run_of(ctx: Any) -> Run:
    """
    What was noted; in a workflow that no kit registered, only what it loaded.
    """
    run: Run | None = getattr(ctx, "occ_run", None)
    if run is None:
        run = ctx.occ_run = Run()
    return run
