"""
The verbs: what the core asks a driver to do.

A protocol is a generator that yields steps and is sent answers. The same generator runs under a sync driver, an async
driver, a scripted test, an interleaving and the simulator.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from toolkit.core.events import Event
from toolkit.core.model import Reply, Row, Write

# Seconds one call may take: long for any healthy store, short enough to learn of a lost answer within a deadline.
RPC_TIMEOUT: Final = 3.0

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Step(Generic[R_co]):
    """
    One request to the driver; ``answer = yield from step`` gives its typed answer.
    """

    __slots__ = ()

    def __iter__(self) -> Generator[Step[Any], Any, R_co]:
        answer: R_co = yield self  # the one untyped seam
        return answer


Steps: TypeAlias = Generator[Step[Any], Any, R]


class Get(Step[Row | Reply], msgspec.Struct, frozen=True):
    """
    Read one key; a ``Reply`` is a failure.
    """

    key: str
    timeout: float = RPC_TIMEOUT
    strong: bool = True


class GetAll(Step["tuple[Row | Reply, ...]"], msgspec.Struct, frozen=True):
    """
    Read several keys by parallel single reads, or by one bulk read; answers in the order of the keys.

    Attributes:
        bulk: Where the store's bulk read is one call of its own; what it does not find may be there all the same.
    """

    keys: tuple[str, ...]
    timeout: float = RPC_TIMEOUT
    strong: bool = True
    bulk: bool = False


class Put(Step[Reply], msgspec.Struct, frozen=True):
    """
    Send one write.
    """

    write: Write
    timeout: float = RPC_TIMEOUT


class PutAll(Step["tuple[Reply, ...]"], msgspec.Struct, frozen=True):
    """
    Send several writes as parallel single calls, each with its own reply; not atomic.
    """

    writes: tuple[Write, ...]
    timeout: float = RPC_TIMEOUT


class Multi(Step[Reply], msgspec.Struct, frozen=True):
    """
    Send several writes as one transaction of the store.
    """

    writes: tuple[Write, ...]
    timeout: float = RPC_TIMEOUT


class Pause(Step[None], msgspec.Struct, frozen=True):
    """
    Wait for some seconds.
    """

    seconds: float


class Instant(msgspec.Struct, frozen=True):
    """
    A moment: ``wall`` is Unix time, ``mono`` a clock that never steps; both in seconds.
    """

    wall: float
    mono: float


class Now(Step[Instant], msgspec.Struct, frozen=True):
    """
    Look at the clocks.
    """


# The same request every time.
NOW: Final = Now()


class Chance(Step[float], msgspec.Struct, frozen=True):
    """
    Draw a number in [0, 1).
    """


class Note(Step[None], msgspec.Struct, frozen=True):
    """
    Report an event.
    """

    event: Event
