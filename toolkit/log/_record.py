"""
From an event to a record of the log: who, when, which race; never a value.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from toolkit.core.events import Event
from toolkit.log._context import MAX_TEXT, active_span, everything_bound
from toolkit.log._keys import KeyNames
from toolkit.log._settings import LogSettings

VERSION: Final = 1
LEVELS: Final[Mapping[str, str]] = {
    "occ.conflict": "info",
    "occ.committed": "info",
    "occ.gave_up": "error",
    "occ.outcome_unknown": "error",
    "occ.access_denied": "warning",
    "occ.warning": "warning",
    "occ.summary": "info",
}
SAMPLED: Final = frozenset({"occ.conflict", "occ.committed"})
ABSENT: Final = "absent"

# These take another form when keys are not logged as they are.
_KEY_FIELDS: Final = frozenset(
    {"key", "keys", "op_id", "base_etag", "base_etags", "seen_etag", "incarnation", "receipt", "actor_id"}
)
_SCALARS: Final = (str, int, float, bool)


class Timestamps:
    """
    ISO 8601 in UTC with microseconds; the part up to the second is kept between calls.
    """

    def __init__(self) -> None:
        self._second: int = -1
        self._text = ""

    def __call__(self, nanoseconds: int) -> str:
        second, rest = divmod(nanoseconds, 1_000_000_000)
        text = self._text
        if second != self._second:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            # Text first: a thread between the two lines formats again instead of using the wrong second.
            self._second, self._text = -1, text
            self._second = second
        return f"{text}.{rest // 1000:06d}Z"


def instance() -> str:
    """
    This process, as ``host:pid``.
    """
    return f"{socket.gethostname()}:{os.getpid()}"


class RecordBuilder:
    """
    Completes events; one per configuration and process.
    """

    def __init__(self, settings: LogSettings, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._names = KeyNames(settings)
        self._plain = settings.keys == "plain"
        self._warn_attempt = settings.warn_attempt
        self._wall_ns = wall_ns
        self._iso = Timestamps()
        self._app, self._inst = settings.app, instance()
        self._writer = settings.writer

    def base(self, name: str, level: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """
        The fields every line begins with.
        """
        app = fields.get("app") or self._app
        return {
            "v": VERSION,
            "event": name,
            "level": level,
            "timestamp": self._iso(self._wall_ns()),
            "app": app,
            "inst": self._inst,
            "writer": self._writer or app or self._inst,
        }

    def races(self, fields: Mapping[str, Any]) -> list[str]:
        """
        One race per key whose base version is known; computed from the real key, whatever is logged of it.
        """
        store, incarnation = fields.get("store", ""), fields.get("incarnation", "")
        race = self._names.race
        keys, etags = fields.get("keys"), fields.get("base_etags")
        if keys and etags:
            return [race(f"{store}\0{key}\0{etag}") for key, etag in zip(keys, etags, strict=False)]
        key, etag = fields.get("key"), fields.get("base_etag")
        if not key or not etag:
            return []
        if etag == ABSENT and incarnation:
            etag = f"{ABSENT}\0{incarnation}"
        return [race(f"{store}\0{key}\0{etag}")]

    def template(self, fields: Mapping[str, Any]) -> str:
        """
        The template of the (first) key, or nothing.
        """
        key = fields.get("key") or next(iter(fields.get("keys") or ()), "")
        return self._names.template(key) if key else ""

    def level(self, event: Event) -> str:
        """
        The level by name; a conflict that lasts is a warning.
        """
        if event.name == "occ.conflict" and 0 < self._warn_attempt <= (event.fields.get("attempt") or 0):
            return "warning"
        return LEVELS.get(event.name, "info")

    def build(self, event: Event, *, races: list[str], weight: float, context: bool) -> dict[str, Any]:
        """
        The whole record; with *context* also what is bound around the call.
        """
        fields = event.fields
        record = self.base(event.name, self.level(event), fields)
        plain = self._plain
        for name, value in fields.items():
            # The bulk of a line, without a call each.
            kind = type(value)  # pyright: ignore[reportUnknownVariableType] - values are of any type
            if (kind is str and plain and len(value) <= MAX_TEXT) or kind is int:
                record[name] = value
            elif kind is float:
                record[name] = round(value, 6)
            else:
                self._add(record, name, value)
        if len(races) == 1:
            record["race"] = races[0]
        elif races:
            record["races"] = races
        if (template := self.template(fields)) and self._names.mode != "template":
            record["key_tpl"] = template
        if weight < 1.0:
            record["sample"] = round(weight, 6)
        if context:
            for name, value in everything_bound().items():
                if name == "writer" or name not in record:
                    self._add(record, name, value)
        record.update(active_span())
        return record

    def _add(self, record: dict[str, Any], name: str, value: Any) -> None:
        if name in _KEY_FIELDS and not self._plain:
            self._add_hidden(record, name, value)
        elif isinstance(value, float):
            record[name] = round(value, 6)
        elif isinstance(value, str):
            record[name] = value if len(value) <= MAX_TEXT else value[:MAX_TEXT] + "…"
        elif isinstance(value, (int, bool)):
            record[name] = value
        elif isinstance(value, (list, tuple)):
            # Anything but a flat list could be a stored value on its way into the log.
            parts = cast("list[object] | tuple[object, ...]", value)
            record[name] = [part for part in parts if isinstance(part, _SCALARS)]

    def _add_hidden(self, record: dict[str, Any], name: str, value: Any) -> None:
        names = self._names
        if name == "key":
            record["key"] = names.name(value)
            record.setdefault("key_tpl", names.template(value))
        elif name == "keys":
            record["keys"] = [names.name(key) for key in value]
        elif name in ("op_id", "actor_id") and isinstance(value, str):
            record[name] = names.op(value)
        # ETags can count writes and a receipt spells its key: neither is logged beside hidden keys.
