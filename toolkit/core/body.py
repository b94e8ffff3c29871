"""
One attempt of a transaction while its body runs: what it has read, what it means to write, and what it is shown.

The body sees copies, its own writes, and one truth per attempt. In a batch of merged transactions it sees, besides, what
the bodies before it in the batch have made (``merge``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from toolkit.core.buffer import Buffer, Buffered
from toolkit.core.intents import intent_of
from toolkit.core.jobs import check_value
from toolkit.core.model import ABSENT, CLEAR, TTL, Reply, Row
from toolkit.core.plan import Moved, Path, Plan, version_of
from toolkit.core.reading import visible
from toolkit.core.records import Record, load, op_key
from toolkit.core.recovery import peek, read_record
from toolkit.core.seen import Seen, see
from toolkit.core.settle import read
from toolkit.core.site import Site, rpc_timeout
from toolkit.core.stamp import WriteId
from toolkit.core.steps import GetAll, Now, Steps
from toolkit.core.value import plain, seal
from toolkit.errors import (
    AlreadyExistsError,
    CorruptValueError,
    OperationIdReusedError,
    OperationVoidedError,
    RecordedError,
)

if TYPE_CHECKING:
    from toolkit.core.working import Working

Isolation: TypeAlias = Literal["serializable", "read_committed"]
RESULT_LIMIT = 64 * 1024
NOTHING: Final = object()


class Options(msgspec.Struct, frozen=True):
    """
    How a transaction is to be run.

    Attributes:
        op_id: The caller's name of the intended effect.
        tag: Name of the function, so that an id used for another one is noticed.
        record_errors: Exceptions that are recorded as the outcome.
    """

    label: str
    call_id: str = ""
    op_id: str | None = None
    isolation: Isolation = "serializable"
    attempts: int | None = None
    budget: float = 10.0
    record_errors: tuple[type[BaseException], ...] = ()


class Finished(msgspec.Struct, frozen=True):
    """
    The transaction is over: its result, or an error of the body that its reads justify.
    """

    result: Any = None
    error: BaseException | None = None
    after: tuple[Callable[[], Any], ...] = ()


class Again:
    """
    The body is to be run again.
    """


class BodyRun:
    """
    What a call of ``transact`` keeps over its attempts, and what its body can do in the one under way.

    Attributes:
        working: The working copy of the batch the attempt is part of, while it is its turn there.
        apart: How many of the reads of the attempt its body has waited for one by one.
        moved: A key that changed while the body ran; the log names it.
    """

    def __init__(
        self, site: Site, options: Options, now_wall: float, deadline: float, started: float
    ) -> None:
        self.site, self.options, self.deadline, self.started = site, options, deadline, started
        self.writer = site.writers.take()
        self.first_wall = round(now_wall, 6)
        self.buffer = Buffer()
        self.warm: dict[str, Seen] = {}
        self.id = WriteId(self.writer.name, 0)
        self.record: Record | None = None
        self.attempt: int = 0
        self.losses: int = 0
        self.failures: int = 0
        self.lost_s = self.wait_s = 0.0
        self.attempt_started = started
        self.last_reply: Reply | None = None
        self.retired = False
        self.later: list[Callable[[float], Steps[Any]]] = []
        self.path: Path = "single"
        self.plan: Plan | None = None
        self.moved: Moved | None = None
        self.working: Working | None = None
        self.apart: int = 0

    # -- an attempt begins -----------------------------------------------------------------------------------------

    def begin(self, ahead: tuple[str, ...] = ()) -> Steps[Finished | None]:
        """
        Start an attempt; with an operation id, first see whether it is done already, and read *ahead* with that.
        """
        now = yield from Now()
        self.start(now.mono)
        self.id = self.writer.next_id()
        if self.options.op_id is None:
            return None
        key, ahead = op_key(self.options.op_id), tuple([each for each in ahead if each not in self.warm])
        answers: tuple[Row | Reply, ...] = ()
        if ahead:
            answers = yield from GetAll((key, *ahead), rpc_timeout(self.deadline, now.mono))
            self._warm_up(ahead, answers[1:])
        if answers and isinstance(answers[0], Row):
            self.record = load(key, answers[0])
        else:
            self.record = yield from read_record(self.site, key, self.deadline)
        return self.recorded(self.record)

    def _warm_up(
        self, keys: tuple[str, ...], answers: tuple[Row | Reply, ...], *, bulk: bool = False
    ) -> None:
        """
        Keep what was read for when the body asks for it; what cannot be used is read again by itself then.
        """
        for key, answer in zip(keys, answers, strict=True):
            # Some bulk reads miss what is there.
            if not isinstance(answer, Reply) and not (bulk and answer.missing):
                with suppress(CorruptValueError):
                    self.warm[key] = see(key, answer)

    def recorded(self, record: Record) -> Finished | None:
        """
        The end of the call if its operation id is used up.

        Raises:
            OperationVoidedError: It was closed.
            OperationIdReusedError: It belongs to another function.
        """
        return self._recorded(record)

    def start(self, mono: float) -> None:
        """
        Begin an attempt with nothing read and nothing written.
        """
        self.attempt += 1
        self.attempt_started = mono
        self.buffer, self.plan, self.apart = Buffer(), None, 0

    def _recorded(self, record: Record) -> Finished | None:
        op_id, label = self.options.op_id, self.options.label
        if record.void:
            raise OperationVoidedError(f"op_id {op_id!r} was voided: this operation can never take effect")
        if not record.committed:
            return None
        if record.tag and record.tag != label:
            raise OperationIdReusedError(
                f"op_id {op_id!r} already belongs to {record.tag}, not to {label}; make a new op_id for each effect"
            )
        if record.error is not None:
            return Finished(error=RecordedError(*record.error))
        return Finished(record.result)

    # -- what the body does ----------------------------------------------------------------------------------------

    def read(self, key: str) -> Steps[Seen]:
        """
        Read a key once per attempt; another read returns the same.
        """
        seen = self.buffer.reads.get(key)
        if seen is None:
            seen = self.warm.pop(key, None) or (yield from read(self.site, key, self.deadline))
            self.buffer.reads[key] = seen
        return seen

    def value(self, key: str) -> Steps[Any]:
        """
        The value the body sees: its own write, else what it read; ``ABSENT`` when there is none.
        """
        found = self.at_hand(key)
        if found is not NOTHING:
            return found
        self.apart += 1
        seen, version = yield from self._look(key)
        return plain(seen.value, key) if version else ABSENT

    def at_hand(self, key: str) -> Any:
        """
        The value the body sees where no read is needed to tell; else ``NOTHING``.
        """
        own = self.buffer.writes.get(key)
        if own is not None:
            return own.value if own.value is ABSENT else plain(own.value, key)
        working = self.working
        if working is not None and key in working.rows:
            self.buffer.reads[key] = working.rows[key]
            return working.value(key)
        shown = self.buffer.shown.get(key) or self._show(key)
        if shown is None:
            return NOTHING
        return plain(shown[0].value, key) if shown[1] else ABSENT

    def _show(self, key: str) -> tuple[Seen, str] | None:
        """
        What was read ahead, where neither another transaction nor the clock has a say in what the body sees of it.
        """
        seen = self.warm.get(key)
        if (
            seen is None
            or key in self.buffer.reads
            or seen.expires is not None
            or intent_of(seen) is not None
        ):
            return None
        self.buffer.reads[key] = self.warm.pop(key)
        shown = self.buffer.shown[key] = (seen, version_of(seen, 0.0))
        return shown

    def _look(self, key: str) -> Steps[tuple[Seen, str]]:
        """
        The key as a reader sees it and its version at that moment, kept so that the body sees one truth per attempt.
        """
        shown = self.buffer.shown.get(key)
        if shown is None:
            seen = yield from self.read(key)
            if intent_of(seen) is not None:
                seen = yield from peek(self.site, seen, self.deadline)
            # The clock matters to what expires only.
            wall = 0.0 if seen.expires is None else (yield from Now()).wall
            shown = (seen, version_of(seen, wall))
            self.buffer.shown[key] = shown
        return shown

    def prefetch(self, keys: Iterable[str]) -> Steps[None]:
        """
        Read several keys in parallel, for ``get_many``.
        """
        loaded = self.working.rows if self.working is not None else ()
        missing = tuple(
            key
            for key in dict.fromkeys(keys)
            if key not in self.buffer.reads and key not in self.warm and key not in loaded
        )
        if len(missing) < 2:
            return
        now = yield from Now()
        bulk = self.site.profile.bulk_pays and self.site.profile.linearizable
        answers = yield from GetAll(missing, rpc_timeout(self.deadline, now.mono), bulk=bulk)
        self._warm_up(missing, answers, bulk=bulk)

    def peek(self, key: str) -> Steps[Any]:
        """
        Read without guarding: the outcome does not depend on the key staying as it is.
        """
        own = self.buffer.writes.get(key)
        if own is not None:
            return own.value if own.value is ABSENT else plain(own.value, key)
        working = self.working
        if key in self.buffer.reads:
            return (yield from self.value(key))
        if working is not None and key in working.rows:
            return working.value(key)
        # In a batch one look at a price list serves all.
        peeked = self.buffer.peeked if working is None else working.peeked
        seen = self.buffer.peeked.get(key) or peeked.get(key)
        if seen is None:
            seen = yield from visible(self.site, key, self.deadline)
            peeked[key] = seen
        version = version_of(seen, (yield from Now()).wall)
        # The first look counts: what is seen of a key later may have expired meanwhile.
        self.buffer.glimpsed.setdefault(key, version)
        return plain(seen.value, key) if version else ABSENT

    def put(self, key: str, value: Any, ttl: TTL, *, create: bool = False) -> None:
        """
        Buffer a write.
        """
        check_value(value, key, "value")
        private = seal(value, key).peek()
        earlier = self.buffer.writes.get(key)
        if create and earlier is not None and earlier.value is not ABSENT:
            raise AlreadyExistsError(f"key {key!r} was already written in this transaction", key=key)
        new = (create and earlier is None) or (earlier is not None and earlier.must_be_new)
        self.buffer.writes[key] = Buffered(private, ttl, must_be_new=new)

    def delete(self, key: str) -> None:
        """
        Buffer a removal.
        """
        earlier = self.buffer.writes.get(key)
        self.buffer.writes[key] = Buffered(
            ABSENT, CLEAR, must_be_new=earlier is not None and earlier.must_be_new
        )

    @property
    def writes(self) -> bool:
        """
        Whether the body has anything to commit.
        """
        return bool(self.buffer.writes or self.buffer.guards)

    @property
    def keys(self) -> frozenset[str]:
        """
        Every key the commit depends on or changes.
        """
        return frozenset(self.buffer.reads) | frozenset(self.buffer.writes) | self.buffer.guards

    def waited(self) -> None:
        """
        The body was held up before its commit and is run again on fresh data: not an attempt, nothing was sent.
        """
        self.attempt -= 1
        self.warm.clear()
