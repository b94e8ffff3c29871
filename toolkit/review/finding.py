"""
One finding of ``advise``, and how its numbers are written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LEAST_LOSSES: Final = 50


@dataclass(frozen=True, slots=True)
class Advice:
    """
    One finding.

    Attributes:
        rule: Its stable name.
        title: What to do, in a few words.
        why: The finding with its numbers.
        do: The change.
        keys: The keys concerned, the worst first.
        gain_s: Lost seconds this could save, as far as the log tells; for the order.
        confidence: ``high``, ``medium`` or ``low``, by how much was seen.
    """

    rule: str
    title: str
    why: str
    do: str
    keys: tuple[str, ...]
    gain_s: float
    confidence: str


def confidence(losses: float) -> str:
    """
    How sure so many losses make a finding.
    """
    return "high" if losses >= 500 else "medium" if losses >= 150 else "low"


def percent(part: float, whole: float) -> str:
    """
    A share as text.
    """
    return f"{100 * part / whole:.0f} %" if whole else "0 %"


def milliseconds(seconds: float) -> str:
    """
    A duration as text.
    """
    return f"{1000 * seconds:.3g} ms"
