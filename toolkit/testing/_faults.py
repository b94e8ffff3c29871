"""
What may befall a message on its way to a store: the names the fault proxy and the store in memory share.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final, Literal, TypeAlias, get_args

Fault: TypeAlias = Literal["drop_request", "drop_reply", "duplicate", "late_duplicate", "delay", "hang"]

FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)


def check_names(faults: Iterable[str | None]) -> None:
    """
    Refuse what is no fault: a typing mistake in a test must not let a message pass.

    Raises:
        ValueError: Names the unknown ones and the known ones.
    """
    if unknown := {fault for fault in faults if fault is not None} - set(FAULTS):
        raise ValueError(f"no fault is called {sorted(unknown)}: there are {', '.join(FAULTS)}")


def check_rates(rates: Mapping[Fault, float]) -> None:
    """
    Refuse unknown faults and chances that are none.

    Raises:
        ValueError: An unknown fault, a negative chance, or chances that add up to more than one.
    """
    check_names(rates)
    if min(rates.values(), default=0.0) < 0 or sum(rates.values()) > 1 + 1e-9:
        raise ValueError(f"the chances {dict(rates)} must be positive and add up to at most 1")


def draw(rates: Mapping[Fault, float], dice: Random) -> Fault | None:
    """
    Choose at most one fault by one throw.
    """
    drawn = dice.random()
    for fault, chance in rates.items():
        drawn -= chance
        if drawn < 0:
            return fault
    return None


@dataclass(frozen=True, slots=True)
class Faults:
    """
    Chances of what may befall a write to a ``MemoryStore``, drawn from one seed; together at most 1.

    Attributes:
        drop_request: It never arrives; the answer is UNAVAILABLE.
        drop_reply: It takes effect; the answer is UNAVAILABLE.
        duplicate: It arrives twice in a row; the answer is the second one's.
        late_duplicate: The answer comes; a second copy arrives after the next write of anybody.
        delay: It arrives up to ``delay_for`` seconds later.
        hang: It never arrives and is never answered: DEADLINE_EXCEEDED after the caller's timeout.
    """

    seed: int = 0
    drop_request: float = 0.0
    drop_reply: float = 0.0
    duplicate: float = 0.0
    late_duplicate: float = 0.0
    delay: float = 0.0
    hang: float = 0.0
    delay_for: float = 0.2

    def __post_init__(self) -> None:
        check_rates(self.rates)

    @property
    def rates(self) -> dict[Fault, float]:
        return {fault: getattr(self, fault) for fault in FAULTS}


class Fortune:
    """
    What befalls one message after the other: the script first, then one throw for each.

    Attributes:
        fired: How often each fault fired.
    """

    def __init__(self, faults: Faults) -> None:
        self._rates, self._delay_for = faults.rates, faults.delay_for
        self._dice = Random(faults.seed)  # noqa: S311  a seed that replays
        self._script: deque[Fault | None] = deque()
        self.fired: Counter[Fault] = Counter()

    def script(self, faults: Iterable[Fault | None]) -> None:
        """
        Say what befalls the next messages, one each; ``None`` lets one pass.
        """
        faults = tuple(faults)
        check_names(faults)
        self._script.extend(faults)

    def choose(self) -> Fault | None:
        """
        Choose, and count what was chosen.
        """
        fault = self._script.popleft() if self._script else draw(self._rates, self._dice)
        if fault is not None:
            self.fired[fault] += 1
        return fault

    def hold(self) -> float:
        """
        Draw the length of a delay in seconds.
        """
        return self._dice.uniform(0.1, 1.0) * self._delay_for

    @property
    def may_wait(self) -> bool:
        """
        Whether one of the next messages may be held back.
        """
        coming = {*self._script, *(fault for fault, chance in self._rates.items() if chance)}
        return not coming.isdisjoint({"delay", "hang"})

    def end(self) -> None:
        """
        No more faults.
        """
        self._rates = {}
        self._script.clear()
