"""
A stored object, and a line on which writes are lost, answered wrong or sent twice, as a test plans it.
"""

from __future__ import annotations

from typing import Any

from tests.core.support import Script
from toolkit.core.compose import body
from toolkit.core.model import UNSENT, Reply, Row, Write
from toolkit.core.policy import RetryPolicy
from toolkit.core.stamp import Stamp
from toolkit.core.steps import Put, Step
from toolkit.core.value import digest
from toolkit.testing.memory import MemoryWorld

LOST = Reply("UNAVAILABLE", "lost")
BROKEN = Reply("INTERNAL", "something odd")
AT_ONCE = RetryPolicy(deadline=10.0)


def stored(profile: str, value: dict[str, Any] | None = None, **stamp: Any) -> MemoryWorld:
    world = MemoryWorld(profile)
    members = {"n": 0} if value is None else value
    whole = {"version": "v1", "incarnation": "absent", "digest": digest(members), **stamp}
    world.put(Write("k", body("k", members, Stamp(**whole)), ttl=-1))
    return world


def puts(script: Script) -> list[Write]:
    return [step.write for step in script.steps if isinstance(step, Put)]


def befall(script: Script, *plan: str) -> None:
    """
    Plan what befalls the writes, in order; afterwards all goes well.

    ``lost``: not applied, no answer. ``silent``: applied, no answer. ``odd``: applied, INTERNAL. ``twice``: the second
    copy's answer.
    """
    left = list(plan)

    def hook(_number: int, step: Step[Any]) -> Row | Reply | None:
        if not isinstance(step, Put) or not left:
            return None
        match left.pop(0):
            case "lost":
                return LOST
            case "silent":
                script.ask(step)
                return LOST
            case "odd":
                script.ask(step)
                return BROKEN
            case "twice":
                script.ask(step)
                return script.ask(step)  # type: ignore[no-any-return]
            case "unsent":
                return Reply(UNSENT, "no connection")
        return None

    script.befall = hook
