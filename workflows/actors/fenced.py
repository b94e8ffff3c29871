"""
An actor whose state a second activation cannot overwrite.

Dapr promises one activation of an actor, and keeps that promise as well as its failure detector: a frozen host that is
declared dead and wakes up runs beside its successor. Actor state has no ETag, so the last of the two to write wins. Here
the state is a value of the state API, and each activation signs it with an epoch of its own before its first turn; a
write whose activation is not the one that signed last is refused.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar, Final, Literal, TypeAlias
from urllib.parse import quote

from dapr.actor import Actor, ActorId
from dapr.actor.runtime._call_type import ActorCallType
from dapr.actor.runtime._method_context import ActorMethodContext

from toolkit import KEEP, UNCHANGED, AsyncStateStore, AsyncTransaction, ConflictError
from toolkit._ahead import ReadAhead
from toolkit._checks import check_change
from toolkit.log import bind
from workflows.actors.errors import ActorFencedError
from workflows.actors.safe import SafeActor, SafeStateManager, Turn, running_turn
from workflows.actors.shared import SharedState
from workflows.actors.state import MARK, Change, Claim, Once, State, claimed, state_from, without_mark
from workflows.actors.step import Step

PREFIX: Final = "_occ-actor-"
# Since when an activation refuses turns that may begin anew with the next one: nobody else has the actor.
AT_ONCE: Final = -math.inf


# Where the name of a parameter is `type`.
ActorClass: TypeAlias = type[Actor]


class FencedActor(SafeActor):
    """
    An actor with its state in the plain state API, guarded by the epoch of its activation.

    The state is one JSON object, at ``FencedActor.key(type, id)``. ``await self.load()`` reads it and ``await
    self.update(change)`` changes it at once, not at the end of the turn: what a turn has updated stays when it raises
    later. Everybody else may read and update the key with a ``StateStore``, also in transactions, as long as the member
    ``_actor`` is carried over.

    Every activation raises the epoch before its first turn. The older activation finds that out at its next ``load`` or
    ``update``, gets ``ActorFencedError`` with nothing written, and refuses turns, timers and reminders until it is
    reloaded: by ``await self.reload()``, by a new activation, or by itself at the first call or reminder ``reload_after``
    seconds later, which then runs ``_on_activate`` again. A timer never takes the actor back from another activation:
    it is no sign that the actor still belongs here.

    Set ``store`` on the class, or leave it to ``host_actors(store=...)``. ``initial`` is the state of a new actor; where
    somebody else has written the key first, it fills in the members that are missing.
    """

    store: AsyncStateStore | None = None
    initial: ClassVar[Mapping[str, Any]] = {}
    # Long enough for the sidecar to stop sending turns to a host that is no longer the actor's, and shorter than it goes
    # on with a reminder that failed: three times, a second apart.
    reload_after: float = 2.5

    _claim: Claim | None = None
    _fenced_at: float | None = None
    # For what is read outside of turns, such as in ``_on_activate``.
    _between: Turn | None = None
    # The state for the next turn, read while nobody waits; and whether this turn used what it had.
    _ahead: ReadAhead | None = None
    _updated: bool = False

    # -- names -----------------------------------------------------------------------------------------------------

    @staticmethod
    def key(type: str | ActorClass, id: str | ActorId) -> str:
        """
        Where the state of an actor is, for code outside it; the type may be given by its class or name.

        >>> FencedActor.key("Cart", "eu/7")
        '_occ-actor-Cart-eu%2F7'
        """
        name = type if isinstance(type, str) else type.__name__
        return f"{PREFIX}{name}-{quote(id if isinstance(id, str) else id.id, safe='')}"

    @property
    def state_key(self) -> str:
        """
        Where the state of this actor is.
        """
        return self.key(self._type_name(), self.id.id)

    @property
    def epoch(self) -> int:
        """
        The epoch of this activation; 0 before it has one.
        """
        return self._claim.epoch if self._claim is not None else 0

    def opened_store(self) -> AsyncStateStore:
        """
        The store given to the class or the host.
        """
        if self.store is None:
            raise RuntimeError(
                f"{type(self).__name__} has no store: pass host_actors(..., store=...) or set {type(self).__name__}.store"
            )
        return self.store

    def _type_name(self) -> str:
        return type(self).__name__

    def _log_fields(self) -> dict[str, str | int]:
        return {**super()._log_fields(), "epoch": self.epoch}

    # -- the state -------------------------------------------------------------------------------------------------

    async def load(self) -> State:
        """
        A copy of the state stored now.

        Raises:
            ActorFencedError: Another activation has taken over.
        """
        self.refuse_when_fenced()
        entry = await self.opened_store().read(self.state_key)
        self._check(entry.value)
        self._this_turn().loaded = (deepcopy(entry.value), entry.etag)
        return without_mark(entry.value)

    async def update(
        self,
        change: Change,
        *,
        on_conflict: Literal["reload", "raise"] = "reload",
        once: Once | None = None,
        op_id: str | None = None,
    ) -> State:
        """
        Change the state and return the state after it.

        ``change`` is a plain function from a copy of the state to the next one; it may run more than once. ``DELETE``
        empties the state. With ``on_conflict="reload"`` it runs again on fresh state when somebody outside wrote in
        between; with ``"raise"`` that is a ``ConflictError``, and what counts as in between starts at the last ``load``.
        With ``once`` or a repeated ``op_id`` nothing happens a second time and the state stored now is returned.

        Raises:
            ActorFencedError: Another activation has taken over; nothing was written.
            ConflictError: The state changed since it was loaded, under ``on_conflict="raise"``.
        """
        self.refuse_when_fenced()
        if on_conflict not in ("reload", "raise"):
            raise ValueError(f"on_conflict={on_conflict!r}: it is 'reload' or 'raise'")
        check_change(change)
        step = Step(self, change, once)
        if on_conflict == "raise":
            if op_id is not None:
                raise TypeError(
                    "op_id= needs on_conflict='reload': a repeat is recognised by reading the state again"
                )
            return await self._update_or_raise(step)
        self._this_turn().loaded, self._updated = None, True
        if self._ahead is not None:
            await self._ahead.wait()
        try:
            value = await self.opened_store().update(self.state_key, step, default={}, op_id=op_id)
        except ActorFencedError as refused:
            self._fence(refused)
            raise
        # A repeated operation ran no change, so it has checked nothing yet.
        self._check(value)
        return without_mark(value)

    async def _update_or_raise(self, step: Step) -> State:
        turn = self._this_turn()
        if turn.loaded is None:
            await self.load()
        assert turn.loaded is not None
        (value, etag), turn.loaded = turn.loaded, None
        try:
            changed = step(deepcopy(value))
            if changed is UNCHANGED:
                return without_mark(value)
            await self.opened_store().compare_and_set(self.state_key, changed, etag, ttl=KEEP)
        except ConflictError:
            # Whoever wrote, if it was a new activation, that is the news.
            self._check((await self.opened_store().read(self.state_key)).value)
            raise
        except ActorFencedError as refused:
            self._fence(refused)
            raise
        return without_mark(changed)

    def once(self, reminder: str, due: str = "") -> Once:
        """
        Name one firing of a reminder, for ``update(change, once=...)``: reminders are delivered at least once.

        The state remembers the last 32 ``due`` done for each reminder, in the same write as the change and for as long
        as the state lives. ``due`` is the period the firing stands for, such as ``"2026-11"``, taken from your own data;
        the default is for a reminder that fires once.
        """
        return Once(reminder, due)

    def shared(self, key: str) -> SharedState:
        """
        A key that many actors change.
        """
        return SharedState(self, key)

    # -- in transactions -------------------------------------------------------------------------------------------

    async def tx_load(self, tx: AsyncTransaction) -> State:
        """
        The state as a transaction sees it; the commit fails when another activation takes over meanwhile.
        """
        self.refuse_when_fenced()
        value = await tx.get(self.state_key)
        self._check(value)
        return without_mark(value)

    async def tx_save(self, tx: AsyncTransaction, state: State) -> None:
        """
        Put a new state in a transaction, guarded by the epoch like every write.
        """
        self.refuse_when_fenced()
        value = await tx.get(self.state_key)
        self._check(value)
        tx.put(self.state_key, {**state_from(state, value, self.state_key), MARK: value[MARK]}, ttl=KEEP)

    # -- activations -----------------------------------------------------------------------------------------------

    async def reload(self) -> State:
        """
        Take the actor over from whoever has it: raise the epoch again and read the state.
        """
        by = secrets.token_hex(8)

        def claim(value: State) -> State:
            return claimed(value, by, self.initial, self.state_key)

        with bind(**self._log_fields()):
            value = await self.opened_store().update(self.state_key, claim, default={})
        self._claim, self._fenced_at = Claim.of(value), None
        self._forget()
        return without_mark(value)

    async def _on_activate_internal(self) -> None:
        await self.reload()
        try:
            await super()._on_activate_internal()
        except BaseException:
            self._fenced_at = AT_ONCE
            raise

    async def _on_pre_actor_method_internal(self, method_context: ActorMethodContext) -> None:
        if self._may_return(method_context):
            await self._on_activate_internal()
        self.refuse_when_fenced()
        self._updated = False
        await super()._on_pre_actor_method_internal(method_context)

    def _may_return(self, method_context: ActorMethodContext) -> bool:
        """
        Whether this activation is to begin anew with this turn.
        """
        if self._fenced_at is None or self._fenced_at == AT_ONCE:
            return self._fenced_at is not None
        is_timer = method_context.call_type is ActorCallType.timer_method
        return not is_timer and _seconds() - self._fenced_at >= self.reload_after

    async def _on_post_actor_method_internal(self, method_context: ActorMethodContext) -> None:
        await super()._on_post_actor_method_internal(method_context)
        if self._updated:
            if self._ahead is None:
                self._ahead = ReadAhead(self.opened_store(), self.state_key)
            self._ahead.start()

    def check_save(self) -> None:
        self.refuse_when_fenced()

    def refuse_when_fenced(self) -> None:
        """
        Raise ``ActorFencedError`` when this activation has learned that it was replaced.
        """
        if self._fenced_at is not None:
            raise self._fencing(None)

    def check(self, value: Any) -> Claim:
        """
        The claim of this activation, if it is the one on the stored value.
        """
        claim = self._claim
        if claim is None:
            raise RuntimeError(f"actor {self._type_name()}/{self.id.id} is not activated yet")
        found = Claim.of(value)
        if found != claim:
            raise self._fencing(found)
        return claim

    def _check(self, value: Any) -> None:
        try:
            self.check(value)
        except ActorFencedError as refused:
            self._fence(refused)
            raise

    def _fence(self, refused: ActorFencedError) -> None:
        """
        Refuse turns from now on; what was read before is dropped.
        """
        if self._fenced_at is None:
            self._fenced_at = _seconds() if refused.current else AT_ONCE
        self._forget()

    def _forget(self) -> None:
        self._this_turn().loaded = None
        if isinstance(self._state_manager, SafeStateManager):
            self._state_manager.forget_clean()

    def _this_turn(self) -> Turn:
        turn = running_turn(self) or self._between
        if turn is None:
            turn = self._between = Turn(self, 0, {})
        return turn

    def _fencing(self, found: Claim | None) -> ActorFencedError:
        if found is None:
            fact = f"another activation has taken over from epoch {self.epoch} (it has refused turns since it found out)"
        elif found.epoch:
            fact = f"another activation has taken over from epoch {self.epoch} (the state is signed with epoch {found.epoch})"
        else:
            fact = (
                f"the mark of epoch {self.epoch} is gone (whoever writes this key has to carry {MARK!r} over)"
            )
        return ActorFencedError(
            f"actor {self._type_name()}/{self.id.id} at {self.state_key!r}: {fact}; nothing was written: call the actor "
            f"again, it may be on another host now",
            key=self.state_key,
            epoch=self.epoch,
            current=found.epoch if found is not None else 0,
        )


def _seconds() -> float:
    return asyncio.get_running_loop().time()
