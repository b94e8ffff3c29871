"""
Is a history linearizable? Key by key: does some order of the operations explain every answer?

An operation takes effect once, at one moment between its call and its return; one whose outcome is unknown takes
effect at most once, at any moment after its call. The checker walks through the returns and keeps every state the key
can be in by then, together with who has taken effect already. Two rules keep that small. Of two possibilities alike in
everything else, the one that has used fewer unknown operations can do all the other can: the other is dropped. And
unknown operations that do the same are counted, not told apart, and never used where they change nothing.

The model is a register with a counter: ``read``, ``write``, ``cas`` (``arg`` is ``[old, new]``, ``out`` a bool),
``inc`` (``out`` is the new value) and ``del``. A missing key is ``None`` in ``arg`` and ``out``, and 0 for ``inc``.
"""

from __future__ import annotations

import heapq
import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from toolkit.testing.history import Op

Verdict: TypeAlias = Literal["ok", "bad", "unknown"]
State: TypeAlias = Hashable

BUDGET: Final = 500_000
FUNCTIONS: Final = frozenset({"read", "write", "cas", "inc", "del"})


@dataclass(frozen=True, slots=True)
class KeyVerdict:
    """
    What was found for one key.

    Attributes:
        at: For ``bad`` the first operation whose return no order explains; for ``unknown`` where the budget ended.
        states: What the key could have held just before that.
        configurations: How many possibilities were looked at.
    """

    verdict: Verdict
    at: Op | None = None
    states: tuple[Any, ...] = ()
    configurations: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """
    The verdict on a history: ``bad`` when one key is, else ``unknown`` when one key is, else ``ok``.
    """

    keys: dict[str, KeyVerdict]

    @property
    def verdict(self) -> Verdict:
        verdicts = {key.verdict for key in self.keys.values()}
        return "bad" if "bad" in verdicts else "unknown" if "unknown" in verdicts else "ok"

    def __str__(self) -> str:
        lines = [f"{self.verdict}: {len(self.keys)} keys"]
        for name, key in self.keys.items():
            if key.verdict != "ok" and key.at is not None:
                op = key.at
                reason = "no order explains" if key.verdict == "bad" else "the budget ended at"
                lines.append(
                    f"{name}: {reason} {op.f}({op.arg!r}) -> {op.out!r} of {op.proc} (id {op.id}, {op.call}..{op.ret}); "
                    f"the key could be {', '.join(map(repr, key.states[:5]))}"
                )
        return "\n".join(lines)


def check_linearizable(history: Iterable[Op], *, budget: int = BUDGET) -> Report:
    """
    Check every key of *history*, each with its own *budget* of configurations.

    ``unknown`` is never a pass: raise the budget, or record shorter histories per key.

    Raises:
        ValueError: An operation is none of the model's.
    """
    keys: defaultdict[str, list[Op]] = defaultdict(list)
    for op in history:
        if op.f not in FUNCTIONS:
            raise ValueError(f"operation {op.id} is {op.f!r}: the model knows {', '.join(sorted(FUNCTIONS))}")
        keys[op.key].append(op)
    return Report({key: check_key(ops, budget=budget) for key, ops in sorted(keys.items())})


# The model ---------------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> State:
    """
    A value to compare and to hash: JSON text tells True from 1 and lists from tuples.
    """
    if value is None or (isinstance(value, (int, float, str)) and not isinstance(value, bool)):
        return value
    return ("json", json.dumps(value, sort_keys=True))


@dataclass(frozen=True, slots=True)
class _Action:
    """
    What an operation does; ``out`` counts only where ``strict``.
    """

    f: str
    arg: State
    new: State
    out: State
    strict: bool

    def apply(self, state: State) -> tuple[bool, State]:
        """
        Whether it can have happened in *state* with its answer, and the state after it.
        """
        match self.f:
            case "read":
                return not self.strict or self.out == state, state
            case "write":
                return True, self.arg
            case "del":
                return True, None
            case "cas":
                hit = self.arg == state
                return not self.strict or self.out is hit, self.new if hit else state
            case _:
                count = 0 if state is None else state
                if not isinstance(count, (int, float)) or not isinstance(self.arg, (int, float)):
                    return False, state
                after = count + self.arg
                return not self.strict or self.out is None or self.out == after, after

    @property
    def target(self) -> State:
        """
        The state it leaves where it changes one, counters aside.
        """
        return self.new if self.f == "cas" else self.arg if self.f == "write" else None

    def pure(self, state: State) -> bool:
        """
        Whether it fits *state* and, wherever it is put, changes nothing: then now is as good a moment as any.
        """
        fits = self.f == "read" or (self.f == "cas" and self.out is False)
        return fits and self.apply(state)[0]


def _action(op: Op) -> _Action:
    strict = op.type == "ok"
    if op.f == "cas":
        old, new = op.arg
        return _Action("cas", _plain(old), _plain(new), op.out, strict)
    arg = 1 if op.f == "inc" and op.arg is None else op.arg
    return _Action(op.f, _plain(arg), None, _plain(op.out), strict)


# The search --------------------------------------------------------------------------------------------------------------

Done: TypeAlias = frozenset[int]  # ok operations that have taken effect and not returned yet
Used: TypeAlias = (
    int  # unknown operations that have taken effect: a bit each, those of one kind in the order of calls
)
Place: TypeAlias = tuple[State, Done]


class _Frontier:
    """
    Possible places, each with the least sets of unknown operations that lead there.
    """

    def __init__(self) -> None:
        self.places: dict[Place, list[Used]] = {}

    def add(self, place: Place, used: Used) -> bool:
        """
        Add a possibility unless one that used no more is there; tells whether it was new.
        """
        kept = self.places.get(place)
        if kept is None:
            self.places[place] = [used]
            return True
        if any(other & used == other for other in kept):
            return False
        kept[:] = [other for other in kept if used & other != used]
        kept.append(used)
        return True

    def alive(self, place: Place, used: Used) -> bool:
        return used in self.places[place]


class _Wanted:
    """
    Which steps of unknown operations can help an open one.

    What an unknown operation leaves is either seen by the next certain operation, or overwritten unseen, and then it
    was spent for nothing. So a step is worth taking only towards a state that an open operation needs, away from one
    that an open refusal cannot have met, or along a chain of unknown operations that ends there.
    """

    def __init__(self, opened: Iterable[_Action], kinds: dict[_Action, list[Used]]) -> None:
        self.values: set[State] = set()
        self.shunned: set[State] = set()
        self.anything = False
        for action in opened:
            if action.f == "read":
                self.values.add(action.out)
            elif action.f == "cas":
                (self.values if action.out is True else self.shunned).add(action.arg)
            elif action.f == "inc":
                self._increment(action)
        # A counter can reach a needed number in many steps: then every step towards some number may help.
        self.anything |= any(action.f == "inc" for action in kinds)
        links = [(action.arg, action.new) for action in kinds if action.f == "cas"]
        grown = True
        while grown:
            more = {old for old, new in links if new in self.values} - self.values
            self.values |= more
            grown = bool(more)
        self._all = list(kinds.items())
        self._towards = [(action, bits) for action, bits in self._all if action.target in self.values]

    def _increment(self, action: _Action) -> None:
        if isinstance(action.out, (int, float)) and isinstance(action.arg, (int, float)):
            before = action.out - action.arg
            self.values |= {before, None} if before == 0 else {before}
        else:
            self.anything = True

    def steps(self, state: State) -> list[tuple[_Action, list[Used]]]:
        return self._all if self.anything or state in self.shunned else self._towards


class _Search:
    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.spent = 0
        self._ticket = 0
        self.open: dict[int, _Action] = {}  # ok operations called and not returned
        self.kinds: dict[_Action, list[Used]] = {}  # unknown operations called so far
        self._bit = 1
        self.frontier = _Frontier()
        self.frontier.add((None, frozenset()), 0)

    def call(self, name: int, action: _Action, *, certain: bool) -> None:
        if certain:
            self.open[name] = action
            return
        self.kinds.setdefault(action, []).append(self._bit)
        self._bit <<= 1

    def end(self, name: int) -> Verdict:
        """
        Keep the possibilities in which *name* has taken effect by now.
        """
        seen, found = _Frontier(), _Frontier()
        agenda: list[
            tuple[int, int, Place, Used]
        ] = []  # fewest unknown operations first: those dominate the rest

        def reach(state: State, done: Done, used: Used) -> None:
            taken = [other for other, action in self.open.items() if other not in done and action.pure(state)]
            if taken:
                done = done.union(taken)
            if name in done:
                found.add((state, done - {name}), used)
            elif seen.add((state, done), used):
                self._ticket += 1
                heapq.heappush(agenda, (used.bit_count(), self._ticket, (state, done), used))

        for (state, done), useds in self.frontier.places.items():
            for used in useds:
                reach(state, done, used)
        wanted = _Wanted(self.open.values(), self.kinds) if agenda else None
        while agenda and wanted is not None:
            _, _, place, used = heapq.heappop(agenda)
            if not seen.alive(place, used):
                continue  # a better one came in the meantime
            self.spent += 1
            if self.spent > self.budget:
                return "unknown"
            self._expand(place, used, wanted, reach)
        if not found.places:
            return "bad"
        self.frontier = found
        del self.open[name]
        return "ok"

    def _expand(
        self, place: Place, used: Used, wanted: _Wanted, reach: Callable[[State, Done, Used], None]
    ) -> None:
        """
        Let every operation that can be next take effect.
        """
        state, done = place
        for other, action in self.open.items():
            if other not in done:
                possible, after = action.apply(state)
                if possible:
                    reach(after, done | {other}, used)
        for action, bits in wanted.steps(state):
            bit = next((bit for bit in bits if not bit & used), 0)
            if bit:
                possible, after = action.apply(state)
                if possible and after != state:
                    reach(after, done, used | bit)


def check_key(ops: Iterable[Op], *, budget: int = BUDGET) -> KeyVerdict:
    """
    Check the operations of one key.
    """
    moments: list[tuple[int, int, int, Op]] = []
    for number, op in enumerate(ops):
        if op.type == "fail" or (op.type == "info" and op.f == "read"):
            continue
        moments.append((op.call, 0, number, op))
        if op.type == "ok":
            if op.ret is None or op.ret < op.call:
                raise ValueError(f"operation {op.id} returned at {op.ret}, before its call at {op.call}")
            moments.append(
                (op.ret, 1, number, op)
            )  # at equal times calls come first: the intervals are closed
    search = _Search(budget)
    for _, ends, number, op in sorted(moments, key=lambda moment: moment[:3]):
        if not ends:
            search.call(number, _action(op), certain=op.type == "ok")
            continue
        verdict = search.end(number)
        if verdict != "ok":
            states = tuple(dict.fromkeys(state for state, _ in search.frontier.places))
            return KeyVerdict(verdict, op, states, search.spent)
    return KeyVerdict("ok", None, (), search.spent)
