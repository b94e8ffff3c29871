"""
Where a protocol runs: what a store object brings to each of its calls.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from toolkit.core.ahead import Ahead
from toolkit.core.events import Event, EventName
from toolkit.core.habits import Habits
from toolkit.core.jobs import Job, Rules
from toolkit.core.model import Reply
from toolkit.core.policy import RetryPolicy
from toolkit.core.seen import OwnRows
from toolkit.core.stamp import WriteId
from toolkit.core.steps import RPC_TIMEOUT, Note, Steps
from toolkit.errors import (
    AlreadyExistsError,
    AttemptsExhaustedError,
    ConflictError,
    InvalidETagError,
    InvalidKeyError,
    InvalidValueError,
    StateError,
    StoreError,
    StoreUnavailableError,
    TooManyOperationsError,
    TransactionsUnsupportedError,
    UnknownStoreError,
    ValueTooLargeError,
)
from toolkit.stores import Call, Profile, Verdict, classify

_SMOOTHING: Final = 0.2
# Seconds: a call that is sent at all has time to be answered.
_LEAST_TIMEOUT: Final = 0.05
# Characters of a store's own text: where from, and its reason, which comes after the key.
_SHOWN: Final = 200
_HEAD: Final = 80
_TOO_LARGE: Final = ("larger than max", "too large", "maximum payload exceeded")
_REMEMBERED: Final = 4096
# More keys than this are not contended at once by one process.
_CONTENDED: Final = 256


class Writer(msgspec.Struct):
    """
    One identity of this process towards the store, used by one run at a time: a random 64-bit name and a counter.
    """

    name: str
    number: int = 0

    def next_id(self) -> WriteId:
        self.number += 1
        return WriteId(self.name, self.number)


class Writers:
    """
    The identities of this process: as many as it has runs under way at once, used again and again.

    A slot in a stamp can be dropped once the run that wrote it is over: that run knows what became of its write. So
    ``settled`` has the last number of each identity's last run that ended; it says nothing of the run under way. An
    identity with a write of unknown outcome is retired, so that its slot is never overwritten and can one day answer
    for it.
    """

    def __init__(self, fresh_name: Callable[[], str]) -> None:
        self._fresh_name = fresh_name
        self._free: list[Writer] = []
        self.settled: dict[str, int] = {}

    def take(self) -> Writer:
        try:
            return self._free.pop()
        except IndexError:
            return Writer(self._fresh_name())

    def give_back(self, writer: Writer) -> None:
        self.settled[writer.name] = writer.number
        self._free.append(writer)

    def fresh(self) -> Writer:
        """
        An identity for one write that must not share a slot with any other, such as a fence.
        """
        return Writer(self._fresh_name())


class Decisions:
    """
    Decided transactions this process knows of; a decision never changes, so a record need be read only once.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, bool] = OrderedDict()

    def get(self, tx: str) -> bool | None:
        return self._known.get(tx)

    def put(self, tx: str, committed: bool) -> None:  # noqa: FBT001
        self._known[tx] = committed
        while len(self._known) > _REMEMBERED:
            # Two threads may both find it too long; losing one entry more costs one read.
            self._known.pop(next(iter(self._known)), None)


class RoundTrip(msgspec.Struct):
    """
    The measured time of one call, smoothed; in seconds.
    """

    seconds: float = 0.002

    def add(self, sample: float) -> None:
        self.seconds += _SMOOTHING * (sample - self.seconds)


class Win(msgspec.Struct, frozen=True):
    """
    A win of this process over rivals: its write, and until when (steady clock) the key is left to the others.
    """

    write: str
    until: float


class Wins:
    """
    The keys this process has just won against rivals; shared by the threads of a store object.
    """

    def __init__(self) -> None:
        self._won: dict[str, Win] = {}

    def won(self, key: str, win: Win) -> None:
        while len(self._won) >= _CONTENDED:
            # Two threads may drop one more than needed, which costs an unfair turn.
            self._won.pop(next(iter(tuple(self._won)), key), None)
        self._won[key] = win

    def take(self, key: str) -> Win | None:
        """
        The last win on the key, where rivals were met; asking uses it up.
        """
        return self._won.pop(key, None) if self._won else None


class Site(msgspec.Struct):
    """
    The surroundings of a protocol run; shared by all calls of one store object.

    Attributes:
        observed: Whether anybody listens to events; asked before fields are built.
        skew: Seconds by which hosts' clocks may differ.
        running: Told what code of the user runs from now on in this thread; ``None``: none any more.
        left_behind: Told of a key on which a reader met what a transaction left behind, long after its lease, and of the
            attempt and the record that decides it.
    """

    store: str
    profile: Profile
    rules: Rules
    policy: RetryPolicy
    writers: Writers
    observed: Callable[[], bool]
    skew: float = 5.0
    op_ttl: float = 604800.0
    lease: float = 3.0
    accept_unverified: bool = False
    path: Literal["native", "intents"] | None = None
    running: Callable[[str | None], None] = lambda _where: None
    left_behind: Callable[[str, str, str], None] = lambda _key, _tx, _record: None
    decisions: Decisions = msgspec.field(default_factory=Decisions)
    round_trip: RoundTrip = msgspec.field(default_factory=RoundTrip)
    rows: OwnRows = msgspec.field(default_factory=OwnRows)
    wins: Wins = msgspec.field(default_factory=Wins)
    ahead: Ahead = msgspec.field(default_factory=Ahead)
    habits: Habits = msgspec.field(default_factory=Habits)

    def judge_reply(self, call: Call, reply: Reply, *keys: str) -> Verdict:
        return classify(self.profile, call, reply.code, reply.text, keys)

    def note(self, name: EventName, build: Callable[[], dict[str, Any]]) -> Steps[None]:
        """
        Report an event, building its fields only when somebody listens.
        """
        if self.observed():
            yield from Note(Event(name, {"store": self.store, **build()}))


def rpc_timeout(deadline: float, mono: float) -> float:
    """
    Seconds one call may take, so that the deadline of the whole holds.
    """
    left = deadline - mono
    return RPC_TIMEOUT if left > RPC_TIMEOUT else max(_LEAST_TIMEOUT, left)


def shown(reply: Reply) -> str:
    """
    A reply for an error message; the text of a store may be long.
    """
    text = " ".join(reply.text.split())
    if len(text) > _SHOWN:
        text = f"{text[:_HEAD]}…{text[_HEAD - _SHOWN :]}"
    return f"{reply.code}: {text}"


def unavailable(store: str, key: str, seconds: float, last: Reply | None) -> StoreUnavailableError:
    """
    The error for a deadline that passed without a conflict.
    """
    why = f" (last answer: {shown(last)})" if last is not None else ""
    who = "the sidecar" if last is not None and last.code in ("UNAVAILABLE", "UNSENT") else f"store {store!r}"
    return StoreUnavailableError(
        f"key {key!r}: {who} did not take the call within {seconds:.3g} s{why}; nothing was written. "
        f"Check the sidecar and its component, or allow a longer RetryPolicy(deadline=...)"
    )


def exhausted(key: str, conflicts: int, attempts: int, elapsed: float) -> AttemptsExhaustedError:
    """
    The error for a call that always came second.
    """
    return AttemptsExhaustedError(
        f"key {key!r}: lost {conflicts} conflicts in {attempts} attempts over {elapsed:.3g} s; "
        f"nothing was written. Allow more with RetryPolicy, or spread the load over several keys",
        key=key,
        attempt=attempts,
        conflicts=conflicts,
        attempts=attempts,
        elapsed=elapsed,
    )


def too_early(job: Job, wait: float) -> ConflictError:
    """
    The error for a call that cannot wait until every host takes the value for expired.
    """
    kind = AlreadyExistsError if job.verb == "create" else ConflictError
    return kind(
        f"key {job.key!r}: its value has expired, but a host with a slower clock may still use it for {wait:.3g} s; "
        f"try again then, or allow a longer deadline",
        key=job.key,
        attempt=job.attempts,
    )


def refusal(store: str, key: str, reply: Reply, size: int = 0) -> StateError:
    """
    The error for an answer that refuses the request itself, for good.
    """
    text, answer = reply.text.lower(), shown(reply)
    if "invalid etag" in text:
        return InvalidETagError(
            f"key {key!r}: store {store!r} calls the ETag malformed ({answer}); read the key again"
        )
    if "state store" in text and ("not found" in text or "not configured" in text):
        return UnknownStoreError(f"the sidecar has no state store {store!r} loaded for this app ({answer})")
    if reply.code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return StoreError(
            f"the sidecar refused the call ({reply.code}): check the Dapr API token of this app"
        )
    if reply.code == "RESOURCE_EXHAUSTED" or any(piece in text for piece in _TOO_LARGE):
        return ValueTooLargeError(
            f"key {key!r}: {size} bytes are over a limit ({answer}); store less under one key", key=key
        )
    if "too long" in text or "index row" in text:
        return InvalidKeyError(
            f"key {key[:40]!r}… of {len(key)} characters: store {store!r} cannot hold it ({answer}); use a shorter one",
            key=key,
        )
    if reply.code == "UNIMPLEMENTED":
        return TransactionsUnsupportedError(f"store {store!r} does not have this call ({answer})")
    if "operations" in text and "max" in text:
        return TooManyOperationsError(f"store {store!r} takes fewer operations in one transaction ({answer})")
    return InvalidValueError(f"key {key!r}: store {store!r} refused the request ({answer})", key=key)
