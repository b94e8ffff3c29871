"""
How far the clocks of the hosts disagree, at least: a winner's commit comes before its loser's refusal.

Where a log says it came after, the winner's clock is ahead of the loser's by no less than that. Processes of one host share
a clock; between them it only shows who was slow to write its line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from toolkit.review.axis import seconds_of
from toolkit.review.records import Committed, Conflict, Lost, Won

# Below this it is the time it takes to write a line.
NOTICEABLE: Final = 0.05
# Of the first blocks all are looked at, later a few in so many: the bound needs some pairs, not all.
_FIRST: Final = 32
_EVERY: Final = 64
_TOGETHER: Final = 4


def host_of(instance: str) -> str:
    """
    The host of an instance that is ``host:pid``; else the instance, such as a pod.
    """
    host, colon, pid = instance.rpartition(":")
    return host if colon and pid.isdigit() else instance


class Clocks:
    """
    Learns from losers and winners by how much one host's clock is ahead of another's.

    Attributes:
        ahead: (host ahead, host behind) to the seconds it is ahead at least.
        recent: Commits of the last blocks looked at, by the names a loser may call them; empty most of the time.
        looking: Whether the block being read is one of those.
    """

    def __init__(self) -> None:
        self.ahead: dict[tuple[str, str], float] = {}
        self.recent: dict[str, Won] = {}
        self._blocks: deque[dict[str, Won]] = deque()
        self._seen = 0
        self.looking = False

    def due(self) -> bool:
        """
        Whether the next block of lines is to be looked at: then it must be decoded in full.
        """
        self._seen += 1
        self.looking = self._seen <= _FIRST or self._seen % _EVERY < _TOGETHER
        while self._blocks and (len(self._blocks) >= _TOGETHER or not self.looking):
            self._blocks.popleft()
            self.recent = {name: line for block in self._blocks for name, line in block.items()}
        if self.looking:
            self._blocks.append({})
        return self.looking

    def look(self, lines: Sequence[Won]) -> None:
        """
        Remember these commits for a while.
        """
        block = {name: line for line in lines for name in (line.write_id, line.race, *line.races) if name}
        self._blocks[-1].update(block)
        self.recent.update(block)

    def met(self, loser: Lost, winner: Won) -> None:
        """
        Compare the two times of a pair, where both lines were read in full.
        """
        if (
            winner.timestamp <= loser.timestamp
            or not (isinstance(winner, Committed) and isinstance(loser, Conflict))
            or winner.inst == loser.inst
        ):
            return
        pair = (host_of(winner.inst), host_of(loser.inst))
        late, early = seconds_of(winner.timestamp), seconds_of(loser.timestamp)
        if pair[0] == pair[1] or not all(pair) or late is None or early is None:
            return
        if late - early > self.ahead.get(pair, 0.0):
            self.ahead[pair] = late - early

    def merge(self, other: Clocks) -> None:
        """
        Add what another worker learnt.
        """
        for pair, gap in other.ahead.items():
            self.ahead[pair] = max(gap, self.ahead.get(pair, 0.0))

    def __getstate__(self) -> dict[str, object]:
        return {"ahead": self.ahead, "recent": {}, "_blocks": deque(), "_seen": 0, "looking": False}

    def noticeable(self) -> list[tuple[str, str, float]]:
        """
        Who is ahead of whom by how much at least, the worst first.
        """
        found = [(*pair, round(gap, 6)) for pair, gap in self.ahead.items() if gap >= NOTICEABLE]
        return sorted(found, key=lambda row: (-row[2], row))
