"""
Which lines are asked for: by time, key, store, writer, cause, or any bound field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

from toolkit.review.axis import seconds_of, text_of
from toolkit.review.reading import InputError
from toolkit.review.records import Committed, Record

_AGO: Final = re.compile(r"-?(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_LOOSE: Final = msgspec.json.Decoder(dict[str, Any])
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def moment(text: str, now: datetime | None = None) -> float:
    """
    Read ``2026-11-24T15:00``, ``15:00``, ``-15m``, ``today`` or ``yesterday`` as Unix time.

    Raises:
        InputError: It is none of these.
    """
    now = now or datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if text == "now":
        return now.timestamp()
    if text in ("today", "yesterday"):
        return (midnight - timedelta(days=text == "yesterday")).timestamp()
    if ago := _AGO.fullmatch(text):
        return now.timestamp() - float(ago[1]) * _UNITS[ago[2]]
    if re.fullmatch(r"\d\d:\d\d(:\d\d(\.\d+)?)?", text):
        text = f"{midnight.date().isoformat()}T{text}"
    seconds = seconds_of(text)
    if seconds is None:
        raise InputError(f"{text!r} is no moment: write 2026-11-24T15:00, 15:00, -15m, today or yesterday")
    return seconds


def seconds_in(text: str) -> float:
    """
    Read ``100ms``, ``10s``, ``5m``, ``1h`` or a number of seconds.

    Raises:
        InputError: It is none of these.
    """
    if found := _AGO.fullmatch(text.strip()):
        return float(found[1]) * _UNITS[found[2]]
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise InputError(f"{text!r} is no length of time: write 100ms, 10s, 5m or 1h")
    return seconds


def conditions(pairs: Sequence[str]) -> dict[str, str]:
    """
    Read ``name=value`` conditions; a value may be a glob.

    Raises:
        InputError: One has no ``=``.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InputError(f"--where {pair!r}: write NAME=VALUE, for example workflow_id=order-7")
        found[name.strip()] = value.strip()
    return found


@dataclass(frozen=True, slots=True)
class Query:
    """
    Conditions that must all hold; text conditions are globs. An empty query keeps every line.
    """

    since: float | None = None
    until: float | None = None
    key: str = ""
    store: str = ""
    op: str = ""
    template: str = ""
    writer: str = ""
    cause: str = ""
    min_attempt: int = 0
    where: Mapping[str, str] = field(default_factory=dict[str, str])
    rename: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def raw(self) -> bool:
        """
        Whether a line must be looked at as a whole, with fields no record knows.
        """
        return bool(self.where or self.rename or self.template)

    def told(self) -> str:
        """
        The query in words, for a page that must say what it shows.
        """
        parts = [
            f"{name.replace('_', ' ')} {value}"
            for name in ("key", "store", "op", "template", "writer", "cause", "min_attempt")
            if (value := getattr(self, name))
        ]
        parts += [
            f"{name} {text_of(at)}"
            for name, at in (("since", self.since), ("until", self.until))
            if at is not None
        ]
        return ", ".join([*parts, *(f"{name}={value}" for name, value in self.where.items())])

    def decoder(
        self, passed_over: Callable[[Committed], None] | None = None
    ) -> Callable[[bytes], Record | None]:
        """
        A function from a line to its record, or None where the query leaves it out.

        It raises ``msgspec.DecodeError`` for what is no record of this schema, as the plain decoder does. *passed_over* is
        told of every commit that is left out: it may have beaten an attempt that is not.
        """
        keep = self._predicate()

        def chosen(record: Record, fits: bool) -> Record | None:  # noqa: FBT001 - called with every line
            if fits and keep(record):
                return record
            if passed_over is not None and isinstance(record, Committed):
                passed_over(record)
            return None

        if not self.raw:
            decode = msgspec.json.Decoder(Record).decode
            return lambda line: chosen(decode(line), True)
        bound = {**self.where, **({"key_tpl": self.template} if self.template else {})}

        def whole(line: bytes) -> Record | None:
            fields = self.fields(line)
            fits = all(_matches(fields.get(name), pattern) for name, pattern in bound.items())
            return chosen(msgspec.convert(fields, Record), fits)

        return whole

    def fields(self, line: bytes) -> dict[str, Any]:
        """
        All fields of a line, those that were to be read under another name under that.
        """
        fields = _LOOSE.decode(line)
        for theirs, ours in self.rename.items():
            if theirs in fields:
                fields[ours] = fields.pop(theirs)
        return fields

    def _predicate(self) -> Callable[[Record], bool]:
        tests: list[Callable[[Record], bool]] = []
        if self.since is not None or self.until is not None:
            low = -float("inf") if self.since is None else self.since
            high = float("inf") if self.until is None else self.until
            tests.append(lambda record: low <= (seconds_of(record.timestamp) or 0.0) < high)
        if self.key:
            key = self.key
            tests.append(lambda record: any(_is_like(one, key) for one in (record.key, *record.keys) if one))
        for name, pattern in (
            ("store", self.store), ("op", self.op), ("writer", self.writer),
        ):  # fmt: skip
            if pattern:
                tests.append(_field_test(name, pattern))
        if self.cause:
            cause = self.cause
            # A commit has no cause; it stays, since it may be the winner of a loss that has.
            tests.append(lambda record: fnmatchcase(getattr(record, "cause", cause) or cause, cause))
        if self.min_attempt:
            least = self.min_attempt
            tests.append(lambda record: record.attempt >= least)
        return lambda record: all(test(record) for test in tests)


EVERYTHING: Final = Query()


def _field_test(name: str, pattern: str) -> Callable[[Record], bool]:
    return lambda record: _is_like(getattr(record, name), pattern)


def _is_like(text: str, pattern: str) -> bool:
    """
    A text is like itself, whatever brackets it has.
    """
    return text == pattern or fnmatchcase(text, pattern)


def _matches(value: Any, pattern: str) -> bool:
    if isinstance(value, bool):
        value = str(value).lower()
    return value is not None and _is_like(str(value), pattern)
