"""
Every state that a few programs on one store can reach, over a network that loses, delays and repeats writes.

The programs are the shipped generators. A generator cannot be copied, but it is a function of the answers it was given:
a program's local state is the history of its answers, its next step is found by running it again and remembered. A
state is then hashable: the store, each program's history, the messages under way, and what is left of the bounds.

A write travels as a message of its own. Free of charge it is delivered and answered, in any order beside all others. At
the price of one fault its answer is lost, or it is delivered late or never after its sender was told UNAVAILABLE, or a
second copy stays under way. At the price of one crash a program ends anywhere. Clocks stand still, but for pauses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from toolkit.core.model import MISSING_ROW, OK, Reply, Row, Write
from toolkit.core.steps import Chance, Get, GetAll, Instant, Multi, Note, Now, Pause, Put, PutAll, Step, Steps

# How a create is worded for Redis: an ETag that no row has and the absence of one passes for.
NOBODY: Final = "2147483647"
LOST: Final = Reply("UNAVAILABLE", "lost")
CONFLICT: Final = Reply("ABORTED", "possible etag mismatch. error from state store: etag mismatch")

Message: TypeAlias = tuple[Write, ...]
Rows: TypeAlias = tuple[tuple[str, bytes, int], ...]
History: TypeAlias = tuple[Any, ...]
Program: TypeAlias = Callable[[], Steps[Any]]


@dataclass(frozen=True, slots=True)
class Actor:
    """A program: the answers it had, and those it has of the step under way."""

    history: History = ()
    parts: tuple[Any, ...] = ()
    alive: bool = True


@dataclass(frozen=True, slots=True)
class State:
    """Everything that can make a difference from here on."""

    rows: Rows
    actors: tuple[Actor, ...]
    network: tuple[Message, ...]
    faults: int
    crashes: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a program stands: its shared step, or its end; and what it reported on the way."""

    step: Step[Any] | None
    reports: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Explored:
    """What was found: the number of states, the ends, and the problems with a way to the first."""

    states: int
    ends: int
    problems: tuple[str, ...]


def parts_of(step: Step[Any]) -> tuple[Any, ...]:
    """What of a step is answered on its own: keys to be read, messages to be sent."""
    match step:
        case Get(key):
            return (key,)
        case GetAll(keys):
            return keys
        case Put(write):
            return ((write,),)
        case PutAll(writes):
            return tuple((write,) for write in writes)
        case Multi(writes):
            return (writes,)
    raise TypeError(f"no such step: {step!r}")


def deliver(rows: Rows, message: Message) -> tuple[Rows, Reply]:
    """The store takes a message whole or not at all; its ETags only grow."""
    table = {key: (data, etag) for key, data, etag in rows}
    for write in message:
        found = table.get(write.key)
        if write.etag is not None and write.etag != (NOBODY if found is None else str(found[1])):
            return rows, CONFLICT
        if write.etag is None and write.first_write and found is not None:
            return rows, CONFLICT
    for write in message:
        if write.data is None:
            table.pop(write.key, None)
        else:
            table[write.key] = (write.data, table.get(write.key, (b"", 0))[1] + 1)
    return tuple(sorted((key, data, etag) for key, (data, etag) in table.items())), OK


def look(rows: Rows, key: str) -> Row:
    """A strong read."""
    for name, data, etag in rows:
        if name == key:
            return Row(data, str(etag))
    return MISSING_ROW


class Explorer:
    """All states of some programs from one store on."""

    def __init__(self, programs: dict[str, Program], rows: Rows, *, faults: int, crashes: int) -> None:
        self.programs = tuple(programs.values())
        self.start = State(rows, tuple(Actor() for _ in programs), (), faults, crashes)
        self.places: dict[tuple[int, History], Place] = {}

    def place(self, who: int, history: History) -> Place:
        """Where the program stands after these answers."""
        known = self.places.get((who, history))
        if known is None:
            known = self.places[who, history] = _run(self.programs[who](), history)
        return known

    def explore(self, judge: Callable[[Explorer, State], list[str]], *, most: int = 2_000_000) -> Explored:
        """
        Visit every state once; *judge* is asked at every end: all programs over, no message under way.

        Raises:
            RuntimeError: There are more states than *most*.
        """
        seen, todo, ends = {self.start}, [self.start], 0
        problems: dict[str, None] = {}
        while todo:
            state = todo.pop()
            following = list(self.following(state))
            if not following:
                ends += 1
                problems |= dict.fromkeys(judge(self, state))
                if len(problems) > 3:
                    break
            for after in following:
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
            if len(seen) > most:
                raise RuntimeError(f"more than {most} states")
        return Explored(len(seen), ends, tuple(problems))

    def following(self, state: State) -> Iterator[State]:
        """Every state one event later."""
        for at, message in enumerate(state.network):
            rest = state.network[:at] + state.network[at + 1 :]
            yield replace(state, network=rest)
            yield self._tidy(replace(state, rows=deliver(state.rows, message)[0], network=rest))
        for who, actor in enumerate(state.actors):
            step = self.place(who, actor.history).step if actor.alive else None
            if step is None:
                continue
            yield from self._advance(state, who, actor, step)
            if state.crashes:
                dead = self._with(state, who, Actor(actor.history, (), alive=False))
                yield replace(dead, crashes=state.crashes - 1)

    def _advance(self, state: State, who: int, actor: Actor, step: Step[Any]) -> Iterator[State]:
        parts = parts_of(step)
        answers = actor.parts or (None,) * len(parts)
        if isinstance(step, Get | GetAll):
            at = answers.index(None)
            yield self._answer(state, who, actor, step, answers, at, look(state.rows, parts[at]))
            return
        for at, message in enumerate(parts):
            if answers[at] is not None:
                continue
            rows, reply = deliver(state.rows, message)
            done = self._tidy(replace(state, rows=rows))
            yield self._answer(done, who, actor, step, answers, at, reply)
            if not state.faults:
                continue
            spent = replace(done, faults=state.faults - 1)
            yield self._answer(spent, who, actor, step, answers, at, LOST)
            late = replace(state, faults=state.faults - 1, network=_add(state.network, message))
            yield self._answer(late, who, actor, step, answers, at, LOST)
            twice = self._tidy(replace(spent, network=_add(spent.network, message)))
            if twice.network != spent.network:
                yield self._answer(twice, who, actor, step, answers, at, reply)

    def _answer(
        self,
        state: State,
        who: int,
        actor: Actor,
        step: Step[Any],
        answers: tuple[Any, ...],
        at: int,
        answer: Any,
    ) -> State:
        given = (*answers[:at], answer, *answers[at + 1 :])
        if None in given:
            return self._with(state, who, replace(actor, parts=given))
        whole = given if isinstance(step, GetAll | PutAll) else given[0]
        return self._with(state, who, Actor((*actor.history, whole)))

    def _with(self, state: State, who: int, actor: Actor) -> State:
        return replace(state, actors=(*state.actors[:who], actor, *state.actors[who + 1 :]))

    def _tidy(self, state: State) -> State:
        """Forget messages that cannot take effect any more: ETags only grow."""
        network = tuple(message for message in state.network if deliver(state.rows, message)[1].ok)
        return replace(state, network=network)


def _add(network: tuple[Message, ...], message: Message) -> tuple[Message, ...]:
    return tuple(sorted((*network, message), key=repr))


def _run(steps: Steps[Any], history: History) -> Place:
    """Run a program again with the answers it had."""
    answers, mono, reports = iter(history), 0.0, []
    answer: Any = None
    try:
        while True:
            step = steps.send(answer)
            match step:
                case Now():
                    answer = Instant(1000.0 + mono, mono)
                case Chance():
                    answer = 0.5
                case Pause(seconds):
                    mono, answer = mono + seconds, None
                case Note(event):
                    reports.append(event)
                    answer = None
                case _:
                    try:
                        answer = next(answers)
                    except StopIteration:
                        return Place(step, tuple(reports))
    except StopIteration:
        return Place(None, tuple(reports))
    finally:
        steps.close()


def alone(steps: Steps[Any], rows: Rows) -> tuple[Any, Rows]:
    """Run a program by itself, without faults, to its end."""
    mono, answer = 0.0, None
    try:
        while True:
            step = steps.send(answer)
            match step:
                case Now():
                    answer = Instant(1000.0 + mono, mono)
                case Chance():
                    answer = 0.5
                case Pause(seconds):
                    mono, answer = mono + seconds, None
                case Note():
                    answer = None
                case Get(key):
                    answer = look(rows, key)
                case GetAll(keys):
                    answer = tuple(look(rows, key) for key in keys)
                case _:
                    replies: list[Reply] = []
                    for message in parts_of(step):
                        rows, reply = deliver(rows, message)
                        replies.append(reply)
                    answer = tuple(replies) if isinstance(step, PutAll) else replies[0]
    except StopIteration as stop:
        return stop.value, rows
