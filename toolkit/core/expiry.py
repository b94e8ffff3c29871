"""
The moments between a value's expiry and the one from which every host agrees that it has expired.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from toolkit.core.jobs import Job
from toolkit.core.model import ABSENT
from toolkit.core.seen import Seen
from toolkit.core.steps import Instant

# A wait for clocks to agree on an expiry must leave time to write afterwards.
_MARGIN: Final = 0.05
_LEAST: Final = 0.001


def unclear(seen: Seen, jobs: Sequence[Job], now: Instant, skew: float) -> tuple[float, list[Job]]:
    """
    Seconds to wait where readers no longer see the value but a host with a slower clock still may, and those who cannot.
    """
    expires = seen.expires
    if expires is None or seen.value is ABSENT or not expires <= now.wall < expires + skew:
        return 0.0, []
    if not any(job.minds_expiry for job in jobs):
        return 0.0, []
    wait = expires + skew - now.wall + _LEAST
    hasty = [job for job in jobs if now.mono + wait + _MARGIN >= job.deadline]
    return wait, hasty
