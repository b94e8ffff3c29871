"""
Giving way: whoever has won a key against rivals leaves it to them for a moment before its next write.

The winner of a conflict is the first to know that the key is free, so without this it would win again and again while
the others back off. A conflict is what proves a rival; after that the winner gives way as long as somebody uses the
gaps it leaves. A process without rivals never waits.
"""

from __future__ import annotations

from typing import Final

from toolkit.core.seen import Seen
from toolkit.core.site import Site, Win
from toolkit.core.stamp import WriteId
from toolkit.core.steps import Chance, Now, Pause, Steps

# The part of what is left of a deadline that may be given away.
_GENEROUS: Final = 0.1


def met_rivals(losses: int, last: Win | None, seen: Seen) -> bool:
    """
    Whether a run that has won met others: it lost before, or somebody wrote since the last win of this process.

    >>> met_rivals(1, None, seen=None)
    True
    """
    if losses or last is None:
        return losses > 0
    return seen.stamp is not None and seen.stamp.last_write != last.write


def give_way(win: Win, deadline: float) -> Steps[None]:
    """
    Let others go first after a win over them; never for long beside the deadline.
    """
    now = (yield from Now()).mono
    wait = min(win.until - now, (deadline - now) * _GENEROUS)
    if wait > 0:
        yield from Pause(wait)


def note_win(site: Site, key: str, write_id: WriteId) -> Steps[None]:
    """
    Remember, after a win over rivals, to leave the key to them for a while.
    """
    now = (yield from Now()).mono
    wait = site.policy.give_way(site.round_trip.seconds, (yield from Chance()))
    site.wins.won(key, Win(str(write_id), now + wait))
