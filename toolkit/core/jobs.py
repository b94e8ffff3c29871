"""
What callers ask of one key, what they are told, and the value between two of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec

from toolkit.core.model import ABSENT, KEEP, TTL, Absent, ETag, Marker
from toolkit.core.stamp import Applied, OpId
from toolkit.core.value import Sealed

Verb: TypeAlias = Literal["update", "set", "create", "delete", "compare_and_set"]


class _NoDefault:
    def __repr__(self) -> str:
        return "<no default>"


NO_DEFAULT: Final = _NoDefault()


class Job(msgspec.Struct, eq=False):
    """
    One call on one key, with room for its answer.

    Attributes:
        change: The pure function of ``update``; may run more than once.
        value: What ``set``, ``create`` and ``compare_and_set`` write, sealed already or to be sealed for each run.
        default: What a change gets where there is no value; the same.
        etag: What ``compare_and_set`` and ``delete`` expect; ``None`` when the call is unconditional.
        deadline: On the monotonic clock of the driver.
        label: Operation name for the log.
        prefix, number: What its id in the log is made of, when it is asked for.
        attempts: Attempts made so far.
        may_remove: Raises where the caller may not remove; ``None`` for one who may.
    """

    verb: Verb
    key: str
    deadline: float
    policy_attempts: int | None = None
    change: Callable[[Any], Any] | None = None
    value: Any = None
    default: Any = NO_DEFAULT
    etag: ETag | Absent | None = None
    ttl: TTL = KEEP
    op: OpId | None = None
    op_id: str | None = None
    label: str = ""
    prefix: str = ""
    number: int = 0
    started: float = 0.0
    attempts: int = 0
    conflicts: int = 0
    may_remove: Callable[[], None] | None = None

    @property
    def call_id(self) -> str:
        """
        What joins the log lines of this call.
        """
        return f"{self.prefix}{self.number & 0xFFFFFFFF:08x}"

    @property
    def minds_expiry(self) -> bool:
        """
        Whether the answer depends on the value being alive or not.
        """
        return self.verb in ("update", "create", "compare_and_set") or self.etag is not None


class Done(msgspec.Struct, frozen=True):
    """
    The caller is to be told this value.
    """

    value: Any = None


class Failed(msgspec.Struct, frozen=True):
    """
    The caller is to be told this error; its call has changed nothing.
    """

    error: BaseException


Result: TypeAlias = Done | Failed


class Working(msgspec.Struct, frozen=True):
    """
    The value between two jobs of a batch.

    Attributes:
        sealed: The caller's value, or ``ABSENT``.
        bare: It is a list or a scalar.
        expires: Unix time, ``None`` for never.
        version: The version a compare-and-set is held against; ``None`` once the batch has changed the value, or where
            no job asks.
        ops: Ids the stamp will carry.
        fresh: How many of them this batch has added.
        dirty: Something is to be written.
    """

    sealed: Sealed | Absent
    bare: bool
    expires: float | None
    version: ETag | Absent | None
    ops: tuple[Applied, ...]
    fresh: int = 0
    dirty: bool = False

    @property
    def value(self) -> Any:
        """
        The value to look at, never to hand out.
        """
        return ABSENT if self.sealed is ABSENT else self.sealed.peek()


class Batch(msgspec.Struct, frozen=True):
    """
    The outcome of a batch on one read: the value to write, and each caller's answer should the write commit.

    Attributes:
        changed: How many jobs change something.
        firm: How many jobs come before the first of these: their answers hold whatever becomes of the write.
    """

    working: Working
    results: tuple[Result, ...]
    changed: int = 0
    firm: int = 0


class Rules(msgspec.Struct, frozen=True):
    """
    What of the store's profile and the store object's settings bears on applying a job.
    """

    can_create: bool = True
    create_reasons: tuple[str, ...] = ()
    has_ttl: bool = True
    envelope: bool = False
    op_window: float = 600.0


_ORDINARY: Final = frozenset({dict, list, str, int, float, bool})


def check_value(value: Any, key: str, source: str) -> None:
    """
    Refuse what is most likely a mistake and would erase data.

    Raises:
        TypeError: None, a marker, or something awaitable where a value belongs.
    """
    if type(value) in _ORDINARY:
        return
    if value is None:
        what = "returned None" if source == "change" else "is None"
        raise TypeError(
            f"key {key!r}: the {source} {what}; return the new value, UNCHANGED to leave it, or DELETE to remove the key"
        )
    if isinstance(value, Marker):
        raise TypeError(f"key {key!r}: {value!r} is not a value; a change may return UNCHANGED or DELETE")
    if isinstance(value, Awaitable):
        close = getattr(cast("object", value), "close", None)
        if close is not None:
            close()
        raise TypeError(f"key {key!r}: the {source} is async; it must be a plain function without I/O")
