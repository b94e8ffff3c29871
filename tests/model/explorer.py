"""
Every state that a few programs on one store can reach, over a network that loses, delays and repeats writes.

The programs are the shipped generators. A generator cannot be copied, but it is a function of the answers it was given:
a program's local state is the history of its answers, its next step is found by running it again and remembered. A
state is then hashable: the store, each program's history, the messages under way, and what is left of the bounds. All
of them are numbered, so that a state is a few integers.

A write travels as a message of its own. Free of charge it is delivered and answered, in any order beside all others. At
the price of one fault its answer is lost, or it is delivered late or never after its sender was told UNAVAILABLE, or a
second copy stays under way. At the price of one crash a program ends anywhere. Clocks stand still, but for pauses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from tests.model.network import LOST, Message, Rows, deliver, look, parts_of, replay
from toolkit.core.model import OK, Reply, Row
from toolkit.core.steps import Get, GetAll, PutAll, Steps

Program: TypeAlias = Callable[[], Steps[Any]]
T = TypeVar("T")


class Pool(Generic[T]):
    """
    Values as small numbers: equal ones have one number, so that states are compared and kept as a few integers.
    """

    def __init__(self) -> None:
        self.numbers: dict[T, int] = {}
        self.values: list[T] = []

    def add(self, value: T) -> int:
        number = self.numbers.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number


@dataclass(frozen=True, slots=True)
class Actor:
    """
    A program: what it was answered so far, and what of the step under way; as numbers.

    Attributes:
        history: The number of its past: of what came before the last answer, and that answer.
        parts: Answers to parts of its step; empty where none has come.
    """

    history: int = 0
    parts: tuple[int | None, ...] = ()
    alive: bool = True


@dataclass(frozen=True, slots=True)
class Place:
    """
    Where a program stands: its shared step, or its end; and what it reported on the way.
    """

    parts: tuple[Any, ...] | None
    reads: bool
    many: bool
    reports: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Explored:
    """
    What was found: the number of states, the ends, and the problems with a way to the first.
    """

    states: int
    ends: int
    problems: tuple[str, ...]


class End(NamedTuple):
    """
    How a run ended: the store, and what each program reported.
    """

    rows: Rows
    reports: tuple[tuple[Any, ...], ...]


# Everything that can make a difference from here on: the store, the actors, what is under way, what is left of the bounds.
State: TypeAlias = tuple[int, tuple[int, ...], tuple[int, ...], int, int]


class Explorer:
    """
    All states of some programs from one store on.

    Where rows are *deleted* for real ETags begin anew, and a message that cannot take effect now may do so later.
    """

    def __init__(
        self, programs: dict[str, Program], rows: Rows, *, faults: int, crashes: int, deleted: bool = False
    ) -> None:
        self.programs, self.deleted = tuple(programs.values()), deleted
        self.stores, self.actors = Pool[Rows](), Pool[Actor]()
        self.messages, self.answers = Pool[Message](), Pool[Row | Reply]()
        # A past: the number of the one before, the answer (several of a step with parts), whether it was to a write.
        self.pasts = Pool[tuple[int, tuple[int, ...], bool]]()
        self.pasts.add((-1, (), True))
        self.places: dict[tuple[int, int], Place] = {}
        self.delivered: dict[tuple[int, int], tuple[int, int]] = {}
        self.looked: dict[tuple[int, str], int] = {}
        self.answered: dict[tuple[int, int, int, int], int] = {}
        self.lost = self.answers.add(LOST)
        first = self.actors.add(Actor())
        self.start: State = (self.stores.add(rows), (first,) * len(programs), (), faults, crashes)

    def explore(self, judge: Callable[[End], list[str]], *, most: int = 8_000_000) -> Explored:
        """
        Visit every state once; *judge* is asked at every end: all programs over, no message under way.

        Raises:
            RuntimeError: There are more states than *most*.
        """
        seen, todo, ends = {self.start}, [self.start], 0
        problems: dict[str, None] = {}
        while todo:
            state = todo.pop()
            following = self.following(state)
            if not following:
                ends += 1
                problems |= dict.fromkeys(judge(self.end(state)))
                if len(problems) > 3:
                    break
            for after in following:
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
            if len(seen) > most:
                raise RuntimeError(f"more than {most} states")
        return Explored(len(seen), ends, tuple(problems))

    def end(self, state: State) -> End:
        """
        What a judge looks at.
        """
        reports = [self.place(who, self.actors.values[at].history).reports for who, at in enumerate(state[1])]
        return End(self.stores.values[state[0]], tuple(reports))

    def following(self, state: State) -> list[State]:
        """
        Every state one event later.
        """
        rows, actors, network, faults, crashes = state
        found: list[State] = []
        for at, message in enumerate(network):
            rest = network[:at] + network[at + 1 :]
            found.append((rows, actors, rest, faults, crashes))
            after = self.deliver(rows, message)[0]
            found.append((after, actors, self._tidy(after, rest), faults, crashes))
        for who, number in enumerate(actors):
            actor = self.actors.values[number]
            place = self.place(who, actor.history) if actor.alive else None
            if place is None or place.parts is None:
                continue
            if place.reads:
                found.append(self._read(state, who, place, actor))
            else:
                self._write(state, who, place, actor, found)
            # What it read since its last write leaves no trace: to end here or right after that write is the same.
            if crashes and (self.pasts.values[actor.history][2] if place.reads else True):
                dead = self.actors.add(Actor(actor.history, (), alive=False))
                found.append((rows, _with(actors, who, dead), network, faults, crashes - 1))
        return found

    def _read(self, state: State, who: int, place: Place, actor: Actor) -> State:
        rows, actors, network, faults, crashes = state
        assert place.parts is not None
        at = actor.parts.index(None) if actor.parts else 0
        key = place.parts[at]
        answer = self.looked.get((rows, key))
        if answer is None:
            answer = self.looked[rows, key] = self.answers.add(look(self.stores.values[rows], key))
        return rows, self._told(actors, who, at, answer), network, faults, crashes

    def _write(self, state: State, who: int, place: Place, actor: Actor, found: list[State]) -> None:
        rows, actors, network, faults, crashes = state
        assert place.parts is not None
        for at, message in enumerate(place.parts):
            if actor.parts and actor.parts[at] is not None:
                continue
            after, reply = self.deliver(rows, message)
            rest = self._tidy(after, network)
            told = self._told(actors, who, at, reply)
            found.append((after, told, rest, faults, crashes))
            if not faults:
                continue
            lost = self._told(actors, who, at, self.lost)
            found.append((after, lost, rest, faults - 1, crashes))
            found.append((rows, lost, tuple(sorted((*network, message))), faults - 1, crashes))
            twice = self._tidy(after, tuple(sorted((*rest, message))))
            if twice != rest:
                found.append((after, told, twice, faults - 1, crashes))

    def _told(self, actors: tuple[int, ...], who: int, at: int, answer: int) -> tuple[int, ...]:
        """
        The actors once one of them was given the answer to a part of its step.
        """
        known = self.answered.get((who, actors[who], at, answer))
        if known is None:
            actor = self.actors.values[actors[who]]
            place = self.place(who, actor.history)
            assert place.parts is not None
            parts = actor.parts or (None,) * len(place.parts)
            given = [*parts[:at], answer, *parts[at + 1 :]]
            whole = tuple([part for part in given if part is not None])
            after = replace(actor, parts=tuple(given))
            if len(whole) == len(given):
                after = Actor(self.pasts.add((actor.history, whole, not place.reads)))
            known = self.answered[who, actors[who], at, answer] = self.actors.add(after)
        return _with(actors, who, known)

    def deliver(self, rows: int, message: int) -> tuple[int, int]:
        """
        The store after a message, and its answer.
        """
        known = self.delivered.get((rows, message))
        if known is None:
            after, reply = deliver(self.stores.values[rows], self.messages.values[message])
            known = self.delivered[rows, message] = self.stores.add(after), self.answers.add(reply)
        return known

    def _tidy(self, rows: int, network: tuple[int, ...]) -> tuple[int, ...]:
        """
        Forget messages that cannot take effect any more: ETags only grow.
        """
        if not network or self.deleted:
            return network
        ok = self.answers.numbers.get(OK)
        return tuple([message for message in network if self.deliver(rows, message)[1] == ok])

    def place(self, who: int, history: int) -> Place:
        """
        Where the program stands after these answers.
        """
        known = self.places.get((who, history))
        if known is None:
            known = self.places[who, history] = self._run(who, history)
        return known

    def _run(self, who: int, history: int) -> Place:
        answers: list[Any] = []
        while history:
            before, given, _ = self.pasts.values[history]
            answers.append(tuple([self.answers.values[one] for one in given]))
            history = before
        step, reports = replay(self.programs[who](), answers[::-1])
        if step is None:
            return Place(None, reads=False, many=False, reports=reports)
        reads, many = isinstance(step, Get | GetAll), isinstance(step, GetAll | PutAll)
        parts = parts_of(step) if reads else tuple([self.messages.add(one) for one in parts_of(step)])
        return Place(parts, reads=reads, many=many, reports=reports)


def _with(actors: tuple[int, ...], who: int, number: int) -> tuple[int, ...]:
    return (*actors[:who], number, *actors[who + 1 :])
