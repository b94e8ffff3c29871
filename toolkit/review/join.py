"""
Finds for each lost attempt who won: by the id of the winning write, else by the race both took part in.

Commits and losers may come in either order (files are read side by side and clocks disagree), so both are kept for one
to two windows of log time, and twice as many commits as ``MAX_HELD`` at most. Nearly every winner is among the last few
thousand, so only those are kept ready; the others are packed until a loser comes whose winner is not found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from toolkit.review.clocks import Clocks
from toolkit.review.records import Lost, Won
from toolkit.review.tally import KeyTally

WINDOW: Final = 60.0
# Commits and losses kept at most in one half of the window, whatever its length.
MAX_HELD: Final = 60_000
# Commits in each of the two small tables where nearly every winner is found.
LATEST: Final = 1_500

NOT_LOGGED: Final = "(not logged)"
OUTSIDE: Final = "(outside the toolkit)"
ITSELF: Final = "(itself)"
# A writer whose lines do not say who it is.
UNNAMED: Final = "unnamed"
_BY_KIND: Final = {"aborted": "(an aborted transaction)", "rollback": "(an aborted transaction)"}

# The line, its key, its weight, the seconds it lost.
Loss: TypeAlias = tuple[Lost, KeyTally, float, float]
Waiting: TypeAlias = dict[str, list[Loss]]


class _Half:
    """
    The commits of one half of the window: packed as text, which is quickly done, until somebody asks for them.
    """

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self._ids: list[tuple[str, Sequence[str]]] = []
        self._races: list[tuple[str, Sequence[str]]] = []
        self.commits = 0

    def pack(self, ids: str, races: str, whos: Sequence[str]) -> None:
        """
        Add many commits: their write ids and races, each joined by line ends, and who made them.
        """
        self._ids.append((ids, whos))
        self._races.append((races, whos))
        self.commits += len(whos)

    def _unpack(self, packed: list[tuple[str, Sequence[str]]]) -> dict[str, str]:
        for names, whos in packed:
            self.names.update(zip(names.split("\n"), whos, strict=True))
        packed.clear()
        return self.names

    def by_id(self, write_id: str) -> str | None:
        """
        Who made a write.
        """
        return (self._unpack(self._ids) if self._ids else self.names).get(write_id)

    def by_race(self, race: str) -> str | None:
        """
        Who won a race.
        """
        return (self._unpack(self._races) if self._races else self.names).get(race)

    def writes(self) -> dict[str, str]:
        """
        Every write id, among races, with who made it.
        """
        return self._unpack(self._ids)


class WinnerJoin:
    """
    Sets ``beaten_by`` of every lost attempt, and calls *matched* once for each whose winner was not known at once.

    Attributes:
        latest: Who made the latest writes, by write id.
        later: The same of those before.
        held: How many losses wait.
    """

    def __init__(self, matched: Callable[[Loss], None], field: str = "writer") -> None:
        self._matched = matched
        self.field = field
        self.clocks = Clocks()
        self._young, self._old = _Half(), _Half()
        self.latest: dict[str, str] = {}
        self.later: dict[str, str] = {}
        self._waiting: Waiting = {}
        self._waited: Waiting = {}
        # The writing process, from the ids of its writes: names a winner whose own line was not kept.
        self._process: dict[str, str] = {}
        self._turned = 0.0
        self.held = 0

    def keep(self, lines: Sequence[Won], whos: Sequence[str]) -> None:
        """
        Keep who committed these, each of which has a write id and one race, and tell the losers that wait for them.
        """
        ids, races = [line.write_id for line in lines], [line.race for line in lines]
        if len(self.latest) > LATEST:
            self.later, self.latest = self.latest, {}
        self.latest.update(zip(ids, whos, strict=True))
        self._young.pack("\n".join(ids), "\n".join(races), whos)
        if self.clocks.looking:
            self.clocks.look(lines)
        if self.held and any(
            not waiting.keys().isdisjoint(names)
            for waiting in (self._waiting, self._waited)
            for names in (ids, races)
        ):
            for line, who in zip(lines, whos, strict=True):
                self._tell_all(line, who)

    def commit(self, line: Won, who: str) -> None:
        """
        Keep who committed, and tell the losers that were waiting for it.
        """
        half = self._young
        half.commits += 1
        for name in (line.write_id, line.race, *line.races):
            if name:
                half.names[name] = who
        if self.clocks.looking:
            self.clocks.look([line])
        if self.held:
            self._tell_all(line, who)

    def _tell_all(self, line: Won, who: str) -> None:
        for name in (line.write_id, line.race, *line.races):
            # Under no name wait those that nothing can be matched with.
            if name and (name in self._waiting or name in self._waited):
                self._tell(name, line, who)

    def _tell(self, name: str, winner: Won, who: str) -> None:
        for waiting in (self._waiting, self._waited):
            for loss in waiting.pop(name, ()):
                line = loss[0]
                if line.beaten_by:
                    continue
                if line.winner and line.winner != name:
                    # The winning write is known by its id; whoever else was in the race is second best.
                    line.perhaps_by = who
                else:
                    self.clocks.met(line, winner)
                    self._settle(loss, who)

    def _settle(self, loss: Loss, who: str) -> None:
        loss[0].beaten_by = who
        self.held -= 1
        self._matched(loss)

    def known(self, line: Lost) -> str:
        """
        Who won, where that can be said at once, else nothing: then ``wait`` for it.
        """
        if line.maybe_self:
            return ITSELF
        if line.winner_kind == "foreign":
            return OUTSIDE
        if line.winner:
            winner = line.winner
            return (
                self.latest.get(winner)
                or self.later.get(winner)
                or self._young.by_id(winner)
                or self._old.by_id(winner)
                or ""
            )
        return self._racer(line)

    def _racer(self, line: Lost) -> str:
        for race in (line.race, *line.races):
            if race and (who := self._young.by_race(race) or self._old.by_race(race)):
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
        if self._young.commits > MAX_HELD or (seconds is not None and seconds - self._turned >= WINDOW):
            self._turned = self._turned if seconds is None else seconds
            self._turn()

    def _turn(self) -> None:
        if self.held:
            # Somebody waits in vain: learn whose processes these were, before their writes are forgotten.
            self._learn()
        self._old, self._young = self._young, _Half()
        expired, self._waited, self._waiting = self._waited, self._waiting, {}
        for losses in expired.values():
            for loss in losses:
                if not loss[0].beaten_by:
                    self._settle(loss, self._best_guess(loss[0]))

    def _learn(self) -> None:
        for name, who in self._young.writes().items():
            process, dash, _ = name.partition("-")
            if dash:
                self._process[process] = who
        for losses in self._waiting.values():
            for line, *_ in losses:
                # The race's second best guess, before half of the commits are forgotten.
                line.perhaps_by = line.perhaps_by or self._racer(line)

    def finish(self) -> None:
        """
        Nothing more will come.
        """
        self._turn()
        self._turn()

    def _best_guess(self, line: Lost) -> str:
        if line.winner and self.field != "op" and (who := self._process.get(line.winner.partition("-")[0])):
            return who
        return line.perhaps_by or _BY_KIND.get(line.winner_kind, NOT_LOGGED)
