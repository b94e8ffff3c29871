"""
A state store as users see it; ``toolkit.async_store`` is the same for event loops.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from toolkit._background import Background
from toolkit._batch import Batch
from toolkit._calls import Calls
from toolkit._checks import check_etag
from toolkit._coalesce import coalesced
from toolkit._drive import World, drive, marked
from toolkit._interrupts import Signal
from toolkit._merge import Line
from toolkit._queue import Ticket
from toolkit._transact import transact_sync
from toolkit._turns import KeyTurns, lead
from toolkit._underway import UnderWay
from toolkit.combine import Combiner
from toolkit.core.jobs import NO_DEFAULT
from toolkit.core.merge import MergedRun
from toolkit.core.model import CLEAR, DELETE, KEEP, TTL, Absent, Access, Entry, ETag, Outcome
from toolkit.core.policy import RetryPolicy
from toolkit.core.steps import Steps
from toolkit.core.transaction import Isolation, TxRun
from toolkit.errors import StateError
from toolkit.log import emit
from toolkit.ports import StatePort
from toolkit.transaction import settings_of
from toolkit.typed import TypedStateStore

T = TypeVar("T")
R = TypeVar("R")


class StateStore(Calls):
    """
    A Dapr state store on which no update is lost.

    Every writing call is a read-modify-write by ETag: it reads, decides, writes on the condition that nothing changed,
    and starts over with fresh data when something did. A write whose answer is lost is found out by its id in the
    stored value, never guessed. Calls of one process on one key share reads and writes. Thread-safe.

    Args:
        name: The Dapr state store component.
        dapr: A ``Dapr`` whose address, token, waiting time and access hold unless given here; the connection is its own.
        address: The sidecar; else from ``DAPR_GRPC_ENDPOINT`` or ``DAPR_RUNTIME_HOST`` and ``DAPR_GRPC_PORT``.
        api_token: A text, a path or a callable; else ``DAPR_API_TOKEN``.
        startup_timeout: Seconds to wait for a sidecar that comes late.
        access: What this handle may do, or a mapping from key prefix to that (the longest prefix wins).
        retry: How long to try and how to wait.
        envelope: Wrap lists and scalars as ``{"value": …}`` so that they carry operation ids and expiries too.
        codec: Between the callers' values and JSON, for kinds that JSON lacks; see ``ValueCodec``.
        op_window: Seconds for which a repeat of an ``op_id`` is recognised on a key.
        op_ttl: The same for ``transact``.
        profile: A profile by name or file instead of the one that belongs to the component's type.
        last_write: Open a store without ETags for get, set and delete, unprotected.
        port: Another port than the sidecar, such as ``MemoryStore(profile="redis")``.
    """

    _world: World
    _combiner: Combiner
    _background: Background
    _port: StatePort

    def __enter__(self) -> Self:
        if self.is_open:
            raise RuntimeError(f"{self!r} is already open")
        port: StatePort = self._port_choice if self._port_choice is not None else self._dial()
        component = port.connect(self.startup_timeout)
        try:
            site = self._opened(component)
        except BaseException:
            port.close()
            raise
        self._port = port
        self._background, self._under_way = Background(f"occ-{self.name}"), UnderWay()
        self._world = World(coalesced(port, site.profile), emit)
        self._line, self._line_lock = Line(site, Signal, self._lead), threading.Lock()
        self._combiner = Combiner(site, self._world, self._background.submit)
        site.left_behind = self._mend
        self._site = site
        self._warn_last_write()
        return self

    def _dial(self) -> StatePort:
        from toolkit.dapr.address import address_of
        from toolkit.dapr.port import GrpcPort

        return GrpcPort(self.name, address_of(self._address), self._api_token)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def close(self, timeout: float | None = 10.0) -> None:
        """
        Refuse new calls, let those under way finish for so many seconds, and hang up.
        """
        if not self.is_open:
            return
        self._leaving, self._site = self._site, None
        end = time.monotonic() + timeout if timeout is not None else None
        for part in (self._combiner, self._under_way, self._background):
            part.drain(None if end is None else max(end - time.monotonic(), 0.0))
        self._leaving = None
        self._port.close()

    def _ask(self, steps: Steps[R]) -> R:
        self._live()
        answer: R = self._under_way.during(drive, steps, self._world)
        return answer

    # -- reading ---------------------------------------------------------------------------------------------------

    def get(self, key: str, default: Any = None, *, eventual: bool = False) -> Any:
        """
        The value, or ``default`` when there is none.

        A strong read by default: it sees every write that was acknowledged before it. ``eventual=True`` allows a stale
        one where the store has such reads.

        Raises:
            StoreUnavailableError: No answer within the deadline.
            CorruptValueError: What is stored is not JSON.
        """
        return self._ask(self._getting(key, default, strong=not eventual))

    def read(self, key: str) -> Entry:
        """
        The value with its version, for ``compare_and_set`` and ``delete``.
        """
        return self._ask(self._entering(key))

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """
        The values of those keys that exist; read in parallel, not at one moment (``snapshot`` does that).
        """
        return self._ask(self._getting_many(keys))

    def typed(self, type: type[T]) -> TypedStateStore[T]:
        """
        The same methods for a dataclass, a msgspec.Struct or a pydantic model.

        Members of a stored object that the class does not declare are carried over when it is written back.

        Raises:
            TypeError: The class is none of these.
        """
        return TypedStateStore(self, type)

    # -- writing ---------------------------------------------------------------------------------------------------

    def update(
        self,
        key: str,
        change: Callable[[Any], Any],
        *,
        default: Any = NO_DEFAULT,
        ttl: TTL = KEEP,
        op_id: str | None = None,
    ) -> Any:
        """
        Replace the value by ``change(value)`` and return what it is then; ``change`` may be called more than once.

        Nothing is lost when others write too: on a conflict ``change`` runs again on what they wrote. It gets a copy,
        may mutate and return it, or return ``UNCHANGED`` or ``DELETE``; an exception from it reaches this caller alone
        and writes nothing. It may run in the thread of another caller of the same key.

        Args:
            key: The key.
            change: A pure function without I/O.
            default: What ``change`` gets when the key is missing, copied for every run.
            ttl: Seconds until the value expires, ``KEEP`` or ``CLEAR``.
            op_id: Names the intended effect. A repeat within ``op_window`` changes nothing and returns the value stored
                now, whichever process makes it.

        Raises:
            NotFoundError: The key is missing and there is no default.
            AttemptsExhaustedError: Every attempt lost; nothing was written.
            OutcomeUnknownError: The write may or may not have taken effect; carries a receipt.
            OperationIdReusedError: ``op_id`` belongs to another operation.
            StoreUnavailableError: No answer within the deadline; nothing was written.
        """
        ticket = self._update_job(key, change, default, ttl, op_id)
        return self._combiner.submit(ticket)

    def create(self, key: str, value: Any, *, ttl: TTL = CLEAR, op_id: str | None = None) -> None:
        """
        Write a value where there is none; of several creators exactly one succeeds.

        Raises:
            AlreadyExistsError: The key is present; nothing was written.
        """
        self._submit(self._value_job("create", key, value, ttl, op_id))

    def set(self, key: str, value: Any, *, ttl: TTL = CLEAR, op_id: str | None = None) -> None:
        """
        Overwrite whatever is there, without undoing what a transaction under way has decided.
        """
        if self.last_write:
            return self._blindly(key, value, "set", Access.WRITE, ttl, op_id)
        return self._submit(self._value_job("set", key, value, ttl, op_id))

    def compare_and_set(
        self, key: str, value: Any, etag: ETag | Absent, *, ttl: TTL = CLEAR, op_id: str | None = None
    ) -> None:
        """
        Write only if the value is still the version ``etag`` names; ``ABSENT`` creates.

        Raises:
            ConflictError: The value has changed since; nothing was written.
            TypeError: ``etag`` is None or text, which could not protect anything.
        """
        expected = check_etag(etag, "compare_and_set")
        self._submit(self._value_job("compare_and_set", key, value, ttl, op_id, expected))

    def delete(self, key: str, *, etag: Any = NO_DEFAULT, op_id: str | None = None) -> None:
        """
        Remove the value, which must be the version ``etag`` names when one is given.

        A tombstone stays for an hour at least, so that no late copy of an old write can bring the value back. Deleting
        a missing key is fine.

        Raises:
            ConflictError: The value is another version.
        """
        if self.last_write and etag is NO_DEFAULT:
            return self._blindly(key, DELETE, "delete", Access.REMOVE, CLEAR, op_id)
        expected = None if etag is NO_DEFAULT else check_etag(etag, "delete")
        return self._submit(self._delete_job(key, expected, op_id))

    def _submit(self, ticket: Ticket) -> None:
        self._combiner.submit(ticket)

    def _blindly(self, key: str, value: Any, call: str, right: Access, ttl: TTL, op_id: str | None) -> None:
        write = self._blind(key, value, call, right, ttl, op_id)
        reply = self._port.put(write, timeout=self.retry.deadline)
        self._blind_answer(write, reply)

    # -- asking later ----------------------------------------------------------------------------------------------

    def resolve(self, receipt: str) -> Outcome:
        """
        What became of the write a receipt names; from any process.

        Where the write may still arrive it is fenced off first, so that the answer stays true.

        Raises:
            ValueError: The text is not a receipt.
        """
        return self._ask(self._resolving(receipt))

    def outcome(self, op_id: str, *, key: str | None = None) -> Outcome:
        """
        Whether the operation of this id has taken effect, as far as the store still knows.

        Args:
            op_id: The id.
            key: The key of a single-key operation; ``None`` for a transaction.
        """
        return self._ask(self._outcome(op_id, key))

    # -- several keys ----------------------------------------------------------------------------------------------

    def transact(
        self,
        fn: Callable[..., R],
        /,
        *args: Any,
        op_id: str | None = None,
        isolation: Isolation | None = None,
        retry: RetryPolicy | None = None,
        record_errors: tuple[type[BaseException], ...] = (),
        **kwargs: Any,
    ) -> R:
        """
        Run ``fn(tx, *args, **kwargs)`` as one serializable transaction and return what it returned.

        All its writes take effect or none, and only if no key it read or wrote has changed meanwhile; else ``fn`` runs
        again, as a whole, on fresh data. It must have no effect but on ``tx``. Transactions of this store object that share
        keys go in one commit, one body after the other; a body that takes over 5 ms goes by itself.

        Args:
            fn: The body, plain or decorated with ``@transactional``.
            op_id: Names the intended effect; a repeat within ``op_ttl`` returns the first result without running ``fn``.
            isolation: ``"serializable"``, or ``"read_committed"``: keys that are only read may change meanwhile.
            retry: Instead of the store's policy.
            record_errors: Exceptions that are an outcome: they are recorded under ``op_id`` and come as
                ``RecordedError``, now and on every repeat.

        Raises:
            AttemptsExhaustedError: Every attempt lost; nothing was written.
            OutcomeUnknownError: The commit may or may not have taken effect; carries a receipt.
            OperationVoidedError: ``op_id`` was closed by ``void``.
            TransactionsUnsupportedError: This store has no safe way to do it.
        """
        said = settings_of(op_id, isolation, retry, record_errors)
        self._live()
        result: R = self._under_way.during(transact_sync, self, self._world, fn, said, args, kwargs)
        return result

    def snapshot(self, keys: Iterable[str]) -> Mapping[str, Any]:
        """
        The values of those keys that exist, as they stood together at one moment; an immutable mapping.

        Raises:
            SnapshotUnstableError: They kept changing until the deadline.
        """
        return self._ask(self._snapshotting(keys))

    def void(self, op_id: str) -> Outcome:
        """
        Make sure that a transaction of this id never commits from now on; ``COMMITTED`` when it already has.
        """
        return self._ask(self._voiding(op_id))

    def key_turns(self, run: TxRun) -> KeyTurns:
        """
        A transaction's way through the line before its keys.
        """
        return KeyTurns(self, self._line, run, self._line_lock, self._world)

    def _lead(self, batch: Batch) -> None:
        work = (batch, self._line, self._line_lock, self._world, self.finish_later)
        threading.Thread(target=lead, args=work, name=f"occ-{self.name}-batch", daemon=True).start()

    def finish_later(self, run: TxRun | MergedRun) -> None:
        """
        Finish what a transaction left to do, in the background; if that never happens others do it when they come by.
        """
        for steps in run.later:
            self._background.submit(lambda steps=steps: self._finish(steps))  # type: ignore[misc]

    def _mend(self, key: str, tx: str, record: str) -> None:
        steps = self._mending(key, tx, record)
        if steps is not None:
            self._background.submit(lambda: self._finish(steps))

    def _finish(self, steps: Callable[[float], Steps[Any]]) -> None:
        with suppress(StateError):  # the store went away: whoever touches the keys next finishes them
            drive(marked(steps(time.monotonic()), "finish"), self._world)
