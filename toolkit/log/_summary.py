"""
Exact totals every few seconds, whatever the sampling leaves out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from toolkit.core.events import Event

MAX_GROUPS: Final = 1000
_SUMS: Final = ("lost_s", "wait_s", "total_s")


class Group:
    """
    What happened to one (store, operation, key template) in this window.
    """

    __slots__ = (
        "attempts",
        "conflicts",
        "gave_up",
        "max_attempt",
        "noop",
        "ops",
        "sums",
        "unknown",
        "updates",
    )

    def __init__(self) -> None:
        self.ops = self.updates = self.attempts = self.conflicts = 0
        self.gave_up = self.noop = self.unknown = self.max_attempt = 0
        self.sums = [0.0, 0.0, 0.0]

    def add(self, name: str, fields: dict[str, Any]) -> None:
        """
        Count one event.
        """
        attempt = fields.get("attempt") or 0
        self.max_attempt = max(self.max_attempt, attempt)
        if name == "occ.conflict":
            self.conflicts += 1
            return
        self.ops += 1
        self.attempts += attempt
        if name == "occ.committed":
            self.updates += fields.get("combined") or 1
            self.noop += bool(fields.get("noop"))
        elif name == "occ.gave_up":
            self.gave_up += 1
        else:
            self.unknown += 1
        for index, field in enumerate(_SUMS):
            self.sums[index] += fields.get(field) or 0.0

    def fields(self) -> dict[str, Any]:
        """
        The counts under their names in the schema.
        """
        counts = {name: getattr(self, name) for name in Group.__slots__ if name != "sums"}
        return counts | {field: round(value, 6) for field, value in zip(_SUMS, self.sums, strict=True)}


class SummaryWindow:
    """
    Collects groups; hands them over when the window is closed.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._groups: dict[tuple[str, str, str], Group] = {}
        self._opened = 0.0
        self.dropped = 0

    def add(self, event: Event, template: str) -> bool:
        """
        Count an event; true when it opened the window.
        """
        fields = event.fields
        group_key = (fields.get("store", ""), fields.get("op", ""), template)
        with self._lock:
            opened = not self._groups
            if opened:
                self._opened = self._clock()
            group = self._groups.get(group_key)
            if group is None:
                if len(self._groups) >= MAX_GROUPS:
                    group_key = ("_other", "_other", "_other")
                group = self._groups.setdefault(group_key, Group())
            group.add(event.name, fields)
        return opened

    def drop(self) -> None:
        """
        Count a line that could not be written.
        """
        with self._lock:
            self.dropped += 1

    def close(self) -> list[dict[str, Any]]:
        """
        Take the groups and begin anew.
        """
        with self._lock:
            groups, self._groups = self._groups, {}
            seconds, dropped, self.dropped = self._clock() - self._opened, self.dropped, 0
        rows: list[dict[str, Any]] = []
        for (store, op, template), group in groups.items():
            row = {
                "store": store,
                "op": op,
                "key_tpl": template,
                "window_s": round(seconds, 3),
                **group.fields(),
            }
            # A process has one count of lines it could not write; it stands on one line, so that sums are right.
            row["dropped"], dropped = dropped, 0
            rows.append(row)
        return rows
