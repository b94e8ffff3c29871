"""
Finds for each lost attempt who won: by the id of the winning write, else by the race both took part in.

Commits and losers may come in either order (files are read side by side and clocks disagree), so both are kept for a
window of log time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from toolkit.review.records import Committed, Conflict
from toolkit.review.tally import KeyTally

WINDOW: Final = 60.0
# Commits kept at most in one half of the window, whatever its length.
MAX_HELD: Final = 150_000

NOT_LOGGED: Final = "(not logged)"
OUTSIDE: Final = "(outside the toolkit)"
ITSELF: Final = "(itself)"
_BY_KIND: Final = {"aborted": "(an aborted transaction)", "rollback": "(an aborted transaction)"}


class Loss:
    """
    One lost attempt until its winner is known, and afterwards as part of a story.
    """

    __slots__ = ("fallback", "key", "line", "loser", "lost_s", "weight", "winner")

    def __init__(self, line: Conflict, loser: str, weight: float, lost_s: float, key: KeyTally) -> None:
        self.line, self.loser, self.weight, self.lost_s, self.key = line, loser, weight, lost_s, key
        self.winner = self.fallback = ""


class WinnerJoin:
    """
    Matches losses with commits; calls *matched* once for every loss.
    """

    def __init__(self, matched: Callable[[Loss], None], field: str = "writer") -> None:
        self._matched = matched
        self.field = field
        self._young: dict[str, str] = {}
        self._old: dict[str, str] = {}
        self._waiting: dict[str, list[Loss]] = {}
        self._waited: dict[str, list[Loss]] = {}
        # The writing process, from the ids of its writes: names a winner whose own line was not kept.
        self._process: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._turned = 0.0
        self._held = 0

    def commit(self, line: Committed) -> None:
        """
        Keep who committed, and tell the losers that were waiting for it.
        """
        who: str = getattr(line, self.field)
        who = self._names.setdefault(who, who)
        young = self._young
        if line.write_id:
            young[line.write_id] = who
            process = line.write_id.rpartition("-")[0]
            if process not in self._process:
                self._process[process] = who
        if line.race:
            young[line.race] = who
        for race in line.races:
            young[race] = who
        if self._waiting or self._waited:
            for name in filter(None, (line.write_id, line.race, *line.races)):
                if name in self._waiting or name in self._waited:
                    self._tell(name, who)
        if len(young) > 2 * MAX_HELD:
            self._turn()

    def _tell(self, name: str, who: str) -> None:
        for waiting in (self._waiting, self._waited):
            for loss in waiting.pop(name, ()):
                if loss.winner:
                    continue
                if loss.line.winner and loss.line.winner != name:
                    # The winning write is known by its id; whoever else was in the race is second best.
                    loss.fallback = who
                    continue
                loss.winner = who
                self._matched(loss)

    def lose(self, loss: Loss) -> None:
        """
        Match a loss at once, or let it wait.
        """
        line = loss.line
        winner = line.winner
        if line.maybe_self:
            loss.winner = ITSELF
        elif line.winner_kind == "foreign":
            loss.winner = OUTSIDE
        elif winner:
            loss.winner = self._young.get(winner) or self._old.get(winner) or ""
        if not loss.winner:
            for race in (line.race, *line.races):
                if race and (who := self._young.get(race) or self._old.get(race)):
                    loss.fallback = who
                    if not winner:
                        loss.winner = who
        if loss.winner:
            self._matched(loss)
            return
        self._held += 1
        if self._held > MAX_HELD:
            self._turn()
        # Under "" wait those that nothing can be matched with; they are told when they expire.
        for name in {winner, line.race, *line.races}:
            self._waiting.setdefault(name, []).append(loss)

    def advance(self, seconds: float) -> None:
        """
        Say that every source has been read up to this moment.
        """
        if seconds - self._turned >= WINDOW:
            self._turned = seconds
            self._turn()

    def _turn(self) -> None:
        self._old, self._young = self._young, {}
        self._held = 0
        expired, self._waited, self._waiting = self._waited, self._waiting, {}
        for losses in expired.values():
            for loss in losses:
                self._unmatched(loss)

    def finish(self) -> None:
        """
        Nothing more will come.
        """
        self._turn()
        self._turn()

    def _unmatched(self, loss: Loss) -> None:
        if loss.winner:
            return
        line = loss.line
        process = self._process.get(line.winner.rpartition("-")[0]) if line.winner else None
        if process is not None and self.field != "op":
            loss.winner = process
        elif loss.fallback:
            loss.winner = loss.fallback
        else:
            loss.winner = _BY_KIND.get(line.winner_kind, NOT_LOGGED)
        self._matched(loss)
