"""
An actor whose failed turns leave nothing behind.

The SDK caches state changes and writes them when a turn ends. It forgets them only after one kind of exception, and it
takes them for saved before they are: the changes of a failed turn are written by the next one, and a refused save is
built upon. Here every turn has its own view of the cache, which is thrown away unless the turn ends well.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, cast

import structlog
from dapr.actor import Actor, ActorId
from dapr.actor.runtime._method_context import ActorMethodContext
from dapr.actor.runtime.context import ActorRuntimeContext
from dapr.actor.runtime.state_change import StateChangeKind
from dapr.actor.runtime.state_manager import ActorStateManager, StateMetadata, reentrancy_ctx

from workflows.actors.errors import TurnAbandonedError

Tracker = dict[str, StateMetadata[Any]]


@dataclass(slots=True, eq=False)
class Turn:
    """
    One turn of one actor: its number, its view of the state, and whether the next one has begun.

    ``outer`` is the turn whose reentrant chain this one belongs to, ``loaded`` what a fenced actor has read in it.
    """

    actor: Actor
    number: int
    tracker: Tracker
    chain: str | None = None
    outer: Turn | None = None
    abandoned: bool = False
    loaded: tuple[Any, Any] | None = None
    bound: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def given_up(self) -> bool:
        """
        Whether the sidecar has begun another turn that is not of this chain.
        """
        return self.abandoned or (self.outer is not None and self.outer.given_up)


# The turn this task runs. Turns of a reentrant chain have a tracker of the SDK's own instead.
_running: ContextVar[Turn | None] = ContextVar("occ_actor_turn", default=None)

_UNCHANGED: Final = StateChangeKind.none


def running_turn(actor: Actor) -> Turn | None:
    """
    The turn of this actor that the current task runs, if any.
    """
    turn = _running.get()
    return turn if turn is not None and turn.actor is actor else None


class SafeStateManager(ActorStateManager[Any]):
    """
    The SDK's state manager, which forgets what it could not save.
    """

    _default_state_change_tracker: Tracker

    def __init__(self, actor: SafeActor) -> None:
        super().__init__(actor)
        self._safe_actor = actor

    def _get_contextual_state_tracker(self) -> Tracker:
        if reentrancy_ctx.get() is None:
            turn = running_turn(self._actor)
            if turn is not None:
                return turn.tracker
        tracker: Tracker = cast("Any", super())._get_contextual_state_tracker()  # noqa: SLF001  our base
        return tracker

    async def clear_cache(self) -> None:
        # Without the SDK's trip through a thread, which a cancellation could cut.
        self._get_contextual_state_tracker().clear()

    async def save_state(self) -> None:
        """
        Write the changes of this turn; after a failure or a cancellation the cache is empty and the next read asks
        the store.
        """
        turn, changes = running_turn(self._actor), self._get_contextual_state_tracker()
        if not any(kept.change_kind != _UNCHANGED for kept in changes.values()):
            return
        if turn is not None and turn.given_up:
            changes.clear()
            raise TurnAbandonedError(
                f"actor {self._type_name}/{self._actor.id.id}: turn {turn.number} was given up and another has begun; "
                f"nothing of it was saved: call the actor again"
            )
        try:
            self._safe_actor.check_save()
            await super().save_state()
        except BaseException:
            # Whether the write landed is not known here, so neither copy may be trusted.
            changes.clear()
            self.forget_clean()
            raise

    def begin(self, turn: Turn) -> None:
        """
        Hand the shared cache to this turn.
        """
        turn.tracker = self._default_state_change_tracker

    def detach(self) -> None:
        """
        Leave the shared cache to a turn that did not end, and start an empty one.
        """
        self._default_state_change_tracker = {}

    def forget_clean(self) -> None:
        """
        Drop the copies of stored values; changes under way stay.
        """
        for cache in (self._default_state_change_tracker, self._get_contextual_state_tracker()):
            for name in [name for name, kept in cache.items() if kept.change_kind == _UNCHANGED]:
                del cache[name]


class SafeActor(Actor):
    """
    An actor whose unsaved changes are dropped after any failed turn, failed save or cancellation.

    Use it like ``dapr.actor.Actor``. A turn that raises, is cancelled or cannot save leaves nothing for the next one,
    not even a value it changed in place: the next turn reads the store. A turn that the sidecar has given up, and that
    has something to save after the next one began, is refused with ``TurnAbandonedError``. With reentrancy each call of the chain
    answers for its own changes: what an inner call has saved stays, whatever becomes of the outer one.

    Lines of the log written during a turn carry ``actor_type``, ``actor_id``, ``actor_method`` and ``turn``.
    """

    _state_manager: ActorStateManager[Any]
    # Defaults, since the SDK's mocks skip `__init__`.
    _turn: Turn | None = None
    _turns: int = 0

    def __init__(self, ctx: ActorRuntimeContext, actor_id: ActorId) -> None:
        super().__init__(ctx, actor_id)
        self._state_manager = SafeStateManager(self)

    @property
    def turn(self) -> int:
        """
        The number of the current turn, counted from 1 in each activation.
        """
        return self._turns

    def check_save(self) -> None:
        """
        Raise when this activation may not save the changes of its turn.
        """

    async def _on_pre_actor_method_internal(self, method_context: ActorMethodContext) -> None:
        self._turns += 1
        turn = Turn(self, self._turns, {}, reentrancy_ctx.get())
        _running.set(turn)
        fields = {**self._log_fields(), "actor_method": method_context.method_name}
        turn.bound = dict(structlog.contextvars.bind_contextvars(**fields))
        self._follow(turn)
        await super()._on_pre_actor_method_internal(method_context)

    async def _on_post_actor_method_internal(self, method_context: ActorMethodContext) -> None:
        await super()._on_post_actor_method_internal(method_context)
        turn = _running.get()
        if turn is not None and turn.actor is self:
            if self._turn is turn:
                self._turn = None
            structlog.contextvars.reset_contextvars(**turn.bound)
            _running.set(None)

    async def _on_deactivate_internal(self) -> None:
        # The next activation does not wait for a turn under way.
        self._give_up_turn()
        await super()._on_deactivate_internal()

    def _follow(self, turn: Turn) -> None:
        """
        Put this turn in the place of the last one, or in the chain that has called back.
        """
        last = self._turn
        if last is not None and turn.chain is not None and turn.chain == last.chain:
            turn.outer = last
            return
        self._give_up_turn()
        if isinstance(self._state_manager, SafeStateManager):  # and no mock of the SDK
            self._state_manager.begin(turn)
        self._turn = turn

    def _give_up_turn(self) -> None:
        """
        Let go of a turn that raised, was cancelled or still runs: nothing it touched may be seen again.
        """
        if self._turn is not None:
            self._turn.abandoned = True
            if isinstance(self._state_manager, SafeStateManager):
                self._state_manager.detach()

    def _log_fields(self) -> dict[str, str | int]:
        """
        What every line of a turn carries; those of the activation have turn 0.
        """
        return {"actor_type": type(self).__name__, "actor_id": self.id.id, "turn": self._turns}
