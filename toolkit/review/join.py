"""
Finds for each lost attempt who won: by the id of the winning write, else by the race both took part in.

Commits and losers may come in either order (files are read side by side and clocks disagree), so both are kept for one
to two windows of log time, and twice as many commits as ``MAX_HELD`` at most: a small table is a fast one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from toolkit.review.records import Committed, Conflict
from toolkit.review.tally import KeyTally

WINDOW: Final = 15.0
# Commits and losses kept at most in one half of the window, whatever its length.
MAX_HELD: Final = 60_000

NOT_LOGGED: Final = "(not logged)"
OUTSIDE: Final = "(outside the toolkit)"
ITSELF: Final = "(itself)"
_BY_KIND: Final = {"aborted": "(an aborted transaction)", "rollback": "(an aborted transaction)"}

# The line, its key, its weight, the seconds it lost.
Loss: TypeAlias = tuple[Conflict, KeyTally, float, float]
Waiting: TypeAlias = dict[str, list[Loss]]


class WinnerJoin:
    """
    Sets ``beaten_by`` of every lost attempt, and calls *matched* once for each whose winner was not known at once.
    """

    def __init__(self, matched: Callable[[Loss], None], field: str = "writer") -> None:
        self._matched = matched
        self.field = field
        # Write ids and races of the commits of the last window, and of the one before, to who made them.
        self.young: dict[str, str] = {}
        self.old: dict[str, str] = {}
        self._waiting: Waiting = {}
        self._waited: Waiting = {}
        # The writing process, from the ids of its writes: names a winner whose own line was not kept.
        self._process: dict[str, str] = {}
        self._turned = 0.0
        self.held = 0

    def commit(self, line: Committed, who: str) -> None:
        """
        Keep who committed, and tell the losers that were waiting for it.
        """
        young, write_id, race = self.young, line.write_id, line.race
        if write_id:
            young[write_id] = who
        if race:
            young[race] = who
        for one in line.races:
            young[one] = who
        if self.held:
            waiting, waited = self._waiting, self._waited
            for one in (write_id, race, *line.races):
                if one in waiting or one in waited:
                    self._tell(one, who)

    def _tell(self, name: str, who: str) -> None:
        if not name:
            # There wait those that nothing can be matched with.
            return
        for waiting in (self._waiting, self._waited):
            for loss in waiting.pop(name, ()):
                line = loss[0]
                if line.beaten_by:
                    continue
                if line.winner and line.winner != name:
                    # The winning write is known by its id; whoever else was in the race is second best.
                    line.perhaps_by = who
                else:
                    self._settle(loss, who)

    def _settle(self, loss: Loss, who: str) -> None:
        loss[0].beaten_by = who
        self.held -= 1
        self._matched(loss)

    def known(self, line: Conflict) -> str:
        """
        Who won, where that can be said at once, else nothing: then ``wait`` for it.
        """
        if line.maybe_self:
            return ITSELF
        if line.winner_kind == "foreign":
            return OUTSIDE
        if line.winner:
            if who := self.young.get(line.winner) or self.old.get(line.winner):
                return who
            line.perhaps_by = self._racer(line)
            return ""
        return self._racer(line)

    def _racer(self, line: Conflict) -> str:
        for race in (line.race, *line.races):
            if race and (who := self.young.get(race) or self.old.get(race)):
                return who
        return ""

    def wait(self, loss: Loss) -> None:
        """
        Let a loss wait for its winner's line.
        """
        line = loss[0]
        self.held += 1
        if self.held > MAX_HELD:
            self._turn()
        # Under "" wait those that nothing can be matched with; they are told when they expire.
        for name in {line.winner, line.race, *line.races}:
            self._waiting.setdefault(name, []).append(loss)

    def advance(self, seconds: float | None) -> None:
        """
        Say that every source has been read up to this moment, and drop what is too old or too much.
        """
        if len(self.young) > 2 * MAX_HELD or (seconds is not None and seconds - self._turned >= WINDOW):
            self._turned = self._turned if seconds is None else seconds
            self._turn()

    def _turn(self) -> None:
        if self.held:
            # Somebody waits in vain: learn whose processes these were, before their writes are forgotten.
            for name, who in self.young.items():
                process, dash, _ = name.partition("-")
                if dash:
                    self._process[process] = who
        self.old, self.young = self.young, {}
        expired, self._waited, self._waiting = self._waited, self._waiting, {}
        for losses in expired.values():
            for loss in losses:
                if not loss[0].beaten_by:
                    self._settle(loss, self._best_guess(loss[0]))

    def finish(self) -> None:
        """
        Nothing more will come.
        """
        self._turn()
        self._turn()

    def _best_guess(self, line: Conflict) -> str:
        if line.winner and self.field != "op" and (who := self._process.get(line.winner.partition("-")[0])):
            return who
        return line.perhaps_by or _BY_KIND.get(line.winner_kind, NOT_LOGGED)
