"""
What an operator can say to a saga that needs attention.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from workflows._saga_record import SETTLED, SKIPPED

RESOLVE_EVENT: Final = "saga-resolve"
NEEDS_ATTENTION: Final = "saga: needs-attention"
# What becomes of the step then; to retry settles nothing yet.
ACTIONS: Final = {"retry": "", "skip": SKIPPED, "done": SETTLED}


class Resolution(msgspec.Struct, frozen=True):
    """
    One word of an operator: ``retry``, ``skip`` it, or it is ``done`` by hand (with a result, behind the pivot).
    """

    action: str
    step: str | None = None
    result: Any = None


def understood(data: Any, step: str) -> Resolution | None:
    """
    The payload of an event, unless it makes no sense or is meant for another step.
    """
    try:
        said = Resolution(data) if isinstance(data, str) else msgspec.convert(data, Resolution)
    except msgspec.ValidationError:
        return None
    return said if said.action in ACTIONS and said.step in (None, step) else None
