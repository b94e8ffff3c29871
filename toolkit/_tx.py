"""
What the body of a transaction works with: ``tx``, in both colours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from toolkit._async_turns import AsyncKeyTurns
from toolkit._calls import Calls
from toolkit._checks import check_ttl
from toolkit._drive import AsyncWorld, World, drive, drive_async
from toolkit._turns import KeyTurns
from toolkit.core.body import NOTHING
from toolkit.core.model import ABSENT, CLEAR, TTL, Access
from toolkit.core.transaction import TxRun

if TYPE_CHECKING:
    from toolkit.async_store import AsyncStateStore
    from toolkit.store import StateStore


NO_KEYS: Final = frozenset[str]()


def expected_of(store: Calls, run: TxRun, args: tuple[Any, ...], kwargs: dict[str, Any]) -> frozenset[str]:
    """
    The keys a body will most likely read: those of them that have been used on this store, and that it may read.
    """
    keys = run.site.habits.expect(run.options.label, args, kwargs)
    if keys:
        keys = keys.intersection(store._vetted)  # noqa: SLF001  one package
        if store.access is not Access.ALL:
            keys = frozenset([key for key in keys if Access.READ in store._allowed(key)])  # noqa: SLF001  likewise
    return keys


class BaseTransaction:
    """
    What only buffers, the same in both colours.

    Attributes:
        op: The operation id, to pass on to whatever the effect calls; ``None`` without one.
    """

    def __init__(self, store: Calls, run: TxRun, expected: frozenset[str] = NO_KEYS) -> None:
        self._store, self._run, self._over = store, run, False
        # What the body will most likely read one by one; the first of these reads fetches the others, too.
        self._expected = self._guesses = expected
        self.op = run.options.op_id

    def _together(self, key: str) -> tuple[str, ...]:
        """
        The key, and with the first of those that are expected the others.
        """
        if key not in self._guesses:
            return (key,)
        guesses, self._guesses = self._guesses, NO_KEYS
        return (key, *sorted(guesses - {key}))

    def learn(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """
        The body is through: remember which of its arguments were keys that it read.
        """
        run = self._run
        if run.apart > 1 or self._expected:
            run.site.habits.learn(
                run.options.label, args, kwargs, run.buffer.reads, apart=run.apart, expected=self._expected
            )

    def put(self, key: str, value: Any, *, ttl: TTL = CLEAR) -> None:
        """
        Write a value when the transaction commits; nothing is sent before.
        """
        check_ttl(ttl)
        self._check(key, Access.WRITE, "tx.put")
        self._run.put(key, self._store.stored_form(key, value), ttl)

    def create(self, key: str, value: Any, *, ttl: TTL = CLEAR) -> None:
        """
        Like ``put``, but the transaction fails with ``AlreadyExistsError`` when the key is present at the commit.
        """
        check_ttl(ttl)
        self._check(key, Access.WRITE, "tx.create")
        self._run.put(key, self._store.stored_form(key, value), ttl, create=True)

    def delete(self, key: str) -> None:
        """
        Remove the value when the transaction commits.
        """
        self._check(key, Access.REMOVE, "tx.delete")
        self._run.delete(key)

    def guard(self, key: str) -> None:
        """
        Let the commit depend on this key as if it were written, without reading it.
        """
        self._check(key, Access.WRITE, "tx.guard")
        self._run.buffer.guards.add(key)

    def on_commit(self, fn: Callable[[], Any]) -> None:
        """
        Call ``fn`` once after the commit: best effort, lost when the process dies in between.
        """
        self._alive()
        if not callable(fn):
            raise TypeError(f"tx.on_commit takes a function of no arguments, not {fn!r}")
        self._run.buffer.after.append(fn)

    def _alive(self) -> None:
        if self._over:
            raise RuntimeError(
                "this transaction is over: tx may only be used inside the body it was given to"
            )

    def _check(self, key: str, right: Access, call: str) -> None:
        self._alive()
        self._store.check_in_transaction(key, right, call)

    def _guards_allowed(self) -> None:
        """
        A writing body guards every key it read, which is a write to it.
        """
        run = self._run
        if run.options.isolation == "serializable" and (run.buffer.writes or run.buffer.guards):
            for key in run.buffer.reads:
                self._store.check_in_transaction(
                    key, Access.WRITE, "guarding a key that was read (tx.peek does not)"
                )


class Transaction(BaseTransaction):
    """
    What a body of ``StateStore.transact`` works with; reads are copies, own writes are seen, nothing is sent before the
    body returns.
    """

    def __init__(
        self,
        store: StateStore,
        run: TxRun,
        world: World,
        turns: KeyTurns,
        expected: frozenset[str] = NO_KEYS,
    ) -> None:
        super().__init__(store, run, expected)
        self._world, self._turns = world, turns

    def get(self, key: str, default: Any = None) -> Any:
        """
        The value, or ``default``; the commit then depends on this key being unchanged.
        """
        self._check(key, Access.READ, "tx.get")
        wanted = self._together(key)
        self._turns.touch(wanted)
        if len(wanted) > 1:
            drive(self._run.prefetch(wanted), self._world)
        value = self._value(key)
        return default if value is ABSENT else self._store.user_form(key, value)

    def _value(self, key: str) -> Any:
        value = self._run.at_hand(key)
        return drive(self._run.value(key), self._world) if value is NOTHING else value

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """
        The values of those keys that exist, read in parallel; all are guarded.
        """
        wanted = tuple(dict.fromkeys(keys))
        for key in wanted:
            self._check(key, Access.READ, "tx.get_many")
        self._turns.touch(wanted)
        drive(self._run.prefetch(wanted), self._world)
        found = {key: self._value(key) for key in wanted}
        return {key: self._store.user_form(key, value) for key, value in found.items() if value is not ABSENT}

    def peek(self, key: str, default: Any = None) -> Any:
        """
        The value without a guard, for settings and price lists: the commit does not depend on it, unless the key is guarded
        or written as well.
        """
        self._check(key, Access.READ, "tx.peek")
        value = drive(self._run.peek(key), self._world)
        return default if value is ABSENT else self._store.user_form(key, value)


class AsyncTransaction(BaseTransaction):
    """
    ``Transaction`` for bodies that are ``async def``; what reads is awaited, what buffers is not.
    """

    def __init__(
        self,
        store: AsyncStateStore,
        run: TxRun,
        world: AsyncWorld,
        turns: AsyncKeyTurns,
        expected: frozenset[str] = NO_KEYS,
    ) -> None:
        super().__init__(store, run, expected)
        self._world, self._turns = world, turns

    async def get(self, key: str, default: Any = None) -> Any:
        """
        See ``Transaction.get``.
        """
        self._check(key, Access.READ, "tx.get")
        with self._turns:
            wanted = self._together(key)
            await self._turns.touch(wanted)
            if len(wanted) > 1:
                await drive_async(self._run.prefetch(wanted), self._world)
            value = await self._value(key)
        return default if value is ABSENT else self._store.user_form(key, value)

    async def _value(self, key: str) -> Any:
        value = self._run.at_hand(key)
        return await drive_async(self._run.value(key), self._world) if value is NOTHING else value

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """
        See ``Transaction.get_many``.
        """
        wanted = tuple(dict.fromkeys(keys))
        for key in wanted:
            self._check(key, Access.READ, "tx.get_many")
        with self._turns:
            await self._turns.touch(wanted)
            await drive_async(self._run.prefetch(wanted), self._world)
            found = {key: await self._value(key) for key in wanted}
        return {key: self._store.user_form(key, value) for key, value in found.items() if value is not ABSENT}

    async def peek(self, key: str, default: Any = None) -> Any:
        """
        See ``Transaction.peek``.
        """
        self._check(key, Access.READ, "tx.peek")
        with self._turns:
            value = await drive_async(self._run.peek(key), self._world)
        return default if value is ABSENT else self._store.user_form(key, value)
