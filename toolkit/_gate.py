"""
Transactions of one process that want the same keys commit one after another.

Two of them under way on one key are a conflict for certain; whoever comes second waits here, in order of arrival, and
runs its body again on fresh data when it is its turn. This is politeness, not safety: a wait ends with the deadline, and
compare-and-set protects the keys whatever the gate does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import anyio


class Turn:
    """
    The keys a transaction waits for, or has.
    """

    __slots__ = ("event", "granted", "keys")

    def __init__(self, keys: frozenset[str], event: Any) -> None:
        self.keys, self.event, self.granted = keys, event, False


class Gate:
    """
    Who has which keys and who waits for them; the bookkeeping of both colours.
    """

    def __init__(self, make_event: Callable[[], Any]) -> None:
        self.make_event = make_event
        self.held: set[str] = set()
        self.waiting: list[Turn] = []

    def ask(self, keys: frozenset[str]) -> Turn:
        """
        Take the keys if they are free and nobody waits for one of them; else get in line.
        """
        turn = Turn(keys, self.make_event())
        if self.held.isdisjoint(keys) and all(keys.isdisjoint(other.keys) for other in self.waiting):
            self.held |= keys
            turn.granted = True
        else:
            self.waiting.append(turn)
        return turn

    def leave(self, turn: Turn) -> None:
        """
        Give the keys back, or leave the line; those whose turn it is now are woken.
        """
        if turn.granted:
            self.held -= turn.keys
        else:
            self.waiting.remove(turn)
        wanted: set[str] = set()
        still: list[Turn] = []
        for other in self.waiting:
            if self.held.isdisjoint(other.keys) and wanted.isdisjoint(other.keys):
                self.held |= other.keys
                other.granted = True
                other.event.set()
            else:
                wanted |= other.keys
                still.append(other)
        self.waiting = still


class KeyTurns:
    """
    What one transaction holds of the gate over its attempts; sync colour.
    """

    def __init__(self, gate: Gate, lock: threading.Lock) -> None:
        self.gate, self.lock = gate, lock
        self.turn: Turn | None = None

    def enter(self, keys: frozenset[str], deadline: float) -> bool:
        """
        Make these keys ours; says whether it took a wait, after which what was read before is stale.
        """
        if self.turn is not None and keys <= self.turn.keys:
            return False
        with self.lock:
            if self.turn is not None:
                keys |= self.turn.keys
                self.gate.leave(self.turn)
            turn = self.turn = self.gate.ask(keys)
        if turn.granted:
            return False
        turn.event.wait(max(deadline - time.monotonic(), 0.0))
        return True

    def leave(self) -> None:
        """
        Let the others in.
        """
        if self.turn is not None:
            with self.lock:
                self.gate.leave(self.turn)
            self.turn = None


class AsyncKeyTurns:
    """
    The same on one event loop.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.turn: Turn | None = None

    async def enter(self, keys: frozenset[str], deadline: float) -> bool:
        """
        See ``KeyTurns.enter``.
        """
        if self.turn is not None and keys <= self.turn.keys:
            return False
        if self.turn is not None:
            keys |= self.turn.keys
            self.gate.leave(self.turn)
        turn = self.turn = self.gate.ask(keys)
        if turn.granted:
            return False
        with anyio.move_on_after(max(deadline - time.monotonic(), 0.0)):
            await turn.event.wait()
        return True

    def leave(self) -> None:
        """
        See ``KeyTurns.leave``.
        """
        if self.turn is not None:
            self.gate.leave(self.turn)
            self.turn = None
