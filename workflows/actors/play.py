"""
A seeded scheduler of actor turns: one process, no sidecar, virtual time.

Two activations of one actor take turns, timers and reminders; their requests to the store and the answers are delivered
one at a time, in an order drawn from the seed. Between any two of them an activation may be taken down, a second one
started although the first still runs, or a host killed with its requests on the wire.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, TypeAlias, TypeVar

from dapr.actor import Actor

from workflows.actors._players import Director

A = TypeVar("A", bound=Actor)

# A method without an argument by its name, one with an argument as a pair.
Call: TypeAlias = str | tuple[str, Any]
Calls: TypeAlias = Sequence[Call] | Callable[[Random], Sequence[Call]]

SEED: Final = "OCC_TURNS_SEED"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnHazards:
    """
    What happens to hosts: chances at each step of the scheduler.

    Attributes:
        crash: A host dies, half the time with its last request on the wire.
        deactivate: An idle activation is taken down.
        second: Another host activates the actor while one still has it.
        redeliver: The most times a reminder comes again after it was handled.
    """

    crash: float = 0.01
    deactivate: float = 0.02
    second: float = 0.03
    redeliver: int = 2


@dataclass(slots=True)
class PlayedTurn:
    """
    One turn and what its caller heard.

    Attributes:
        call: The method; ``reminder NAME`` and ``timer NAME`` for these.
        host: On which host it ran, counted from 0.
        began, ended: Steps of the scheduler; a turn ended before another began exactly when the numbers say so.
        answer: What the method returned.
        error: What it raised.
        unknown: Its host died: nobody heard.
    """

    call: str
    argument: Any
    host: int
    began: int
    ended: int = 0
    answer: Any = None
    error: BaseException | None = None
    unknown: bool = False


@dataclass(slots=True)
class Played:
    """
    A run at its end.

    Attributes:
        turns: Every turn, in the order in which they began; a turn refused by a replaced activation is followed by the
            caller's next try.
        state: The state of a fenced actor in the store, without its mark; ``None`` when there is none.
        saved: What a safe or plain actor has saved, by name.
        trace: What happened, in order.
    """

    seed: int
    turns: list[PlayedTurn] = field(default_factory=list[PlayedTurn])
    state: dict[str, Any] | None = None
    saved: dict[str, Any] = field(default_factory=dict[str, Any])
    trace: list[str] = field(default_factory=list[str])

    def answered(self, call: str) -> list[PlayedTurn]:
        """
        The turns of this method whose callers heard that they succeeded.
        """
        return [turn for turn in self.turns if turn.call == call and turn.error is None and not turn.unknown]

    def unheard(self, call: str) -> list[PlayedTurn]:
        """
        The turns of this method of which nobody knows whether they took effect.
        """
        return [turn for turn in self.turns if turn.call == call and turn.unknown]


def play_turns(
    kind: type[Actor],
    actor_id: str,
    calls: Calls,
    *,
    port: Any,
    seed: int,
    hazards: TurnHazards | None = None,
) -> Played:
    """
    Play the calls against one actor in the order that the seed draws, and wait until all is done.

    ``port`` is where the state is, such as ``MemoryStore()``; give each run a new one. ``calls`` may be a function of
    the run's random source. Reminders and timers that the actor registers are delivered, reminders until they are
    handled, and again. The same seed gives the same run, as long as the actor waits for nothing but the store, the SDK's
    client and ``asyncio.sleep``, which takes no time.

    Raises:
        RuntimeError: A turn waits for something else.
    """
    random = Random(seed)  # noqa: S311  a seed that replays
    wanted = list(calls(random) if callable(calls) else calls)
    director = Director(kind, actor_id, wanted, port, random, hazards or TurnHazards(), Played(seed))
    with asyncio.Runner(loop_factory=director.make_loop) as runner:
        return runner.run(director.run())


def explore_turns(
    kind: type[Actor],
    actor_id: str,
    calls: Calls,
    check: Callable[[Played], None],
    *,
    port: Callable[[], Any],
    seeds: Iterable[int] = range(100),
    hazards: TurnHazards | None = None,
) -> None:
    """
    Play the calls for each seed, on a new port, and let ``check`` assert what must hold.

    With ``OCC_TURNS_SEED`` in the environment only that seed is played.

    Raises:
        AssertionError: A check failed: the message has the seed, the command that plays it again, and the run.
    """
    only = os.environ.get(SEED)
    for seed in [int(only)] if only is not None else seeds:
        played = play_turns(kind, actor_id, calls, port=port(), seed=seed, hazards=hazards)
        try:
            check(played)
        except Exception as error:
            raise AssertionError(_report(played, error)) from error


def _report(played: Played, error: Exception) -> str:
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    command = f"python -m pytest '{test}'" if test else "the same command"
    run = "\n".join(played.trace[-80:])
    return (
        f"seed {played.seed}: {type(error).__name__}: {error}\n"
        f"play it again: {SEED}={played.seed} {command}\n"
        f"the state is {played.state}, saved is {played.saved}; the run, its last 80 steps:\n{run}"
    )
