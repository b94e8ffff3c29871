"""
What befalls deliveries: seeded chances and scripts, by the name of an activity, a workflow or a key.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Final, Self

from toolkit.core.model import Reply, Write
from toolkit.testing.memory import MemoryStore

_NO_WAIT: Final = timedelta(0)


@dataclass(slots=True)
class Rule:
    """
    One fault for deliveries of one name (``*``: any): by chance, or the next so many.
    """

    kind: str
    name: str
    p: float
    left: int | None
    by: timedelta


@dataclass(frozen=True, slots=True)
class Fired:
    """
    A fault that happened: its kind, the activity, workflow or key, and which delivery it hit.
    """

    kind: str
    name: str
    delivery: str


class WorkflowFaults:
    """
    The faults of a ``WorkflowSidecar``; each method adds one and returns the object, so that they can be chained.

    ``p`` is the chance of each delivery, ``times`` how many it hits at most; with ``times`` alone it hits the next ones.
    Chance is drawn from the seed, the instance, the step and the number of the delivery, so threads do not change it.

    Attributes:
        fired: What happened so far.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.fired: list[Fired] = []
        self._rules: list[Rule] = []
        self._conflicts: list[Rule] = []
        self._lock = threading.Lock()

    @property
    def counts(self) -> Counter[str]:
        """
        How often each kind of fault happened.
        """
        with self._lock:
            return Counter(fired.kind for fired in self.fired)

    def lose_result(self, activity: str = "*", *, p: float = 1.0, times: int | None = None) -> Self:
        """
        The activity runs, its result is lost, and it is delivered again.
        """
        return self._add("lose_result", activity, p, times)

    def crash_before(self, activity: str = "*", *, p: float = 1.0, times: int | None = None) -> Self:
        """
        The worker loses its stream as this is delivered: it does not run, and all that was under way comes again.
        """
        return self._add("crash_before", activity, p, times)

    def crash_after(self, activity: str = "*", *, p: float = 1.0, times: int | None = None) -> Self:
        """
        The worker loses its stream right after the activity ran: no result of anything under way arrives.
        """
        return self._add("crash_after", activity, p, times)

    def duplicate(
        self, activity: str = "*", *, p: float = 1.0, times: int | None = None, after: timedelta = _NO_WAIT
    ) -> Self:
        """
        It is delivered twice, at the same time or the second one later; the first answer counts.
        """
        return self._add("duplicate", activity, p, times, after)

    def delay(self, activity: str = "*", *, by: timedelta, p: float = 1.0, times: int | None = None) -> Self:
        """
        It is delivered so much later, on the virtual clock.
        """
        return self._add("delay", activity, p, times, by)

    def rerun_turn(self, workflow: str = "*", *, p: float = 1.0, times: int | None = None) -> Self:
        """
        The answer to a turn is lost, and the turn is run again: not as a replay.
        """
        return self._add("rerun_turn", workflow, p, times)

    def conflict(self, key: str, *, p: float = 1.0, times: int | None = None) -> Self:
        """
        Somebody moves the ETag of this key of ``WorkflowSidecar.state`` just before a write that names one.
        """
        with self._lock:
            self._conflicts.append(_rule("conflict", key, p, times, _NO_WAIT))
        return self

    def clear(self) -> None:
        """
        No more faults.
        """
        with self._lock:
            self._rules.clear()
            self._conflicts.clear()

    def _add(self, kind: str, name: str, p: float, times: int | None, by: timedelta = _NO_WAIT) -> Self:
        with self._lock:
            self._rules.append(_rule(kind, name, p, times, by))
        return self

    def draw(self, kinds: Sequence[str], name: str, delivery: str) -> Rule | None:
        """
        The fault that hits a delivery, if any; the engine asks this once for each.
        """
        return self._draw(self._rules, kinds, name, delivery)

    def draw_conflict(self, key: str, number: int) -> bool:
        """
        Whether a write to a key meets somebody else's; the store asks this.
        """
        return self._draw(self._conflicts, ("conflict",), key, str(number)) is not None

    def _draw(self, rules: list[Rule], kinds: Sequence[str], name: str, delivery: str) -> Rule | None:
        with self._lock:
            for rule in rules:
                if rule.kind not in kinds or rule.name not in ("*", name) or rule.left == 0:
                    continue
                chance = Random(f"{self.seed}|{rule.kind}|{name}|{delivery}")  # noqa: S311  a seed that replays
                if chance.random() >= rule.p:
                    continue
                if rule.left is not None:
                    rule.left -= 1
                self.fired.append(Fired(rule.kind, name, delivery))
                return rule
        return None


def _rule(kind: str, name: str, p: float, times: int | None, by: timedelta) -> Rule:
    if not 0 <= p <= 1:
        raise ValueError(f"{kind}: p={p} is no chance; it must be between 0 and 1")
    if times is None and p == 1 and kind not in {"duplicate", "delay"}:
        raise ValueError(f"{kind}({name!r}) would happen for ever: give it p= below 1, or times=")
    return Rule(kind, name, p, times, by)


class ContendedStore(MemoryStore):
    """
    A memory store in which somebody else writes where the faults say so.
    """

    def __init__(self, faults: WorkflowFaults, profile: str) -> None:
        super().__init__(profile)
        self._contention = faults
        self._tries: Counter[str] = Counter()

    def put(self, write: Write, *, timeout: float = 1.0) -> Reply:
        self._contend((write,))
        return super().put(write, timeout=timeout)

    def multi(self, writes: Sequence[Write], *, timeout: float = 1.0) -> Reply:
        self._contend(writes)
        return super().multi(writes, timeout=timeout)

    def _contend(self, writes: Sequence[Write]) -> None:
        with self._lock:
            for write in writes:
                held = self.world.rows.get(write.key)
                if not write.etag or held is None:
                    continue
                self._tries[write.key] += 1
                if self._contention.draw_conflict(write.key, self._tries[write.key]):
                    held.etag = self.world._next_etag(held)  # noqa: SLF001  one package
