"""
What travels between a workflow and its effects: plain JSON, and the envelope that carries the operation id.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, cast, get_type_hints

import msgspec

_MARK: Final = "_occ_effect"
_EVENT: Final = "_occ_event"


@dataclasses.dataclass(frozen=True, slots=True)
class Delivery:
    """
    One delivery of an effect to a worker.

    Attributes:
        op: The operation id; the same through every attempt and redelivery.
        workflow_id: The workflow instance.
        attempt: The durable attempt, from 1.
        task_execution_id: What the engine calls the scheduled activity.
        input: The input as it came.
        by_engine: The engine retries it, not ``call_effect``.
        void: Close the operation instead of applying the effect.
    """

    op: str
    workflow_id: str
    attempt: int
    task_execution_id: str
    input: Any
    by_engine: bool = False
    void: bool = False


def envelope(op: str, attempt: int, value: Any, *, by_engine: bool = False) -> dict[str, Any]:
    """
    The input of an activity that is an effect.
    """
    return {_MARK: 1, "op": op, "attempt": attempt, "input": plain(value), "by_engine": by_engine}


def void_envelope(op: str, attempt: int) -> dict[str, Any]:
    """
    The input with which an effect's activity closes an operation, in the store where the effect would be applied.
    """
    return {_MARK: 1, "op": op, "attempt": attempt, "input": None, "void": True}


def delivery_of(ctx: Any, raw: Any) -> Delivery:
    """
    Read what an activity was given; scheduled by plain ``ctx.call_activity`` it has an id of the engine alone.
    """
    inner = ctx.get_inner_context()
    execution = str(getattr(inner, "task_execution_id", "") or "")
    workflow_id = str(ctx.workflow_id)
    sent = _marked(raw, _MARK)
    if sent is not None:
        return Delivery(
            sent["op"],
            workflow_id,
            sent["attempt"],
            execution,
            sent["input"],
            by_engine=bool(sent.get("by_engine")),
            void=bool(sent.get("void")),
        )
    if not execution:
        # The task id repeats after continue-as-new: keyed on it, a real effect would be taken for a repeat.
        raise RuntimeError(
            f"workflow {workflow_id}: the sidecar sent no task execution id, so a repeat cannot be told from a new call; "
            "call the effect with call_effect, which makes an operation id of its own"
        )
    return Delivery(f"{workflow_id}:{execution}", workflow_id, 1, execution, raw)


def event_payload(data: Any) -> Any:
    """
    An event payload in a form in which ``0``, ``False`` and ``''`` survive, on their way and when carried into a new run.
    """
    value = plain(data)
    return value if value or value is None else {_EVENT: 1, "data": value}


def event_data(raw: Any) -> Any:
    """
    The payload of an event, however it was sent.
    """
    sent = _marked(raw, _EVENT)
    return raw if sent is None else sent["data"]


def _marked(raw: Any, mark: str) -> dict[str, Any] | None:
    return cast("dict[str, Any]", raw) if isinstance(raw, dict) and mark in raw else None


def plain(value: Any) -> Any:
    """
    The value as JSON types: dataclasses, structs and pydantic models become objects, also those the SDK unpacked.
    """
    return msgspec.to_builtins(value, enc_hook=_plain_hook)


def _plain_hook(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    if isinstance(value, SimpleNamespace):
        return vars(value)
    raise TypeError(
        f"a {type(value).__name__} cannot travel in a workflow; use JSON types, a dataclass or a model"
    )


def reader_of(fn: Callable[..., Any]) -> Callable[[Any], tuple[Any, ...]]:
    """
    How to turn an input into the arguments of ``fn`` after its first one, by its annotation.
    """
    names = [
        name
        for name, parameter in inspect.signature(fn).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if not names or len(names) > 2:
        raise TypeError(f"{fn.__name__} must take one or two arguments: (tx) or (tx, input)")
    if len(names) == 1:
        return lambda _raw: ()
    try:
        wanted: Any = get_type_hints(fn).get(names[1])
    except NameError:  # names known to the type checker alone
        wanted = None
    if inspect.isclass(wanted):
        validate: Callable[[Any], Any] | None = getattr(wanted, "model_validate", None)
        if validate is not None:
            return lambda raw: (validate(plain(raw)) if raw is not None else None,)
        if dataclasses.is_dataclass(wanted) or issubclass(wanted, msgspec.Struct):
            return lambda raw: (msgspec.convert(plain(raw), wanted) if raw is not None else None,)
    return lambda raw: (raw,)
