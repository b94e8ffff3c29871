"""
What an actor refuses.
"""

from __future__ import annotations

from toolkit.errors import StateError


class ActorFencedError(StateError):
    """
    Another activation of this actor has taken over; this one wrote nothing and refuses turns until it is reloaded.

    Attributes:
        key: Where the actor's state is.
        epoch: The epoch of the activation that was refused.
        current: The epoch found in the store; 0 when the mark of the activation is gone.
    """

    def __init__(self, message: str, *, key: str = "", epoch: int = 0, current: int = 0) -> None:
        super().__init__(message)
        self.key, self.epoch, self.current = key, epoch, current


class TurnAbandonedError(StateError):
    """
    The sidecar gave this turn up and started the next one; nothing of it was saved.
    """


class ActorMethodError(StateError):
    """
    The method of an actor raised; what its turn had not saved is gone.

    Attributes:
        type: The class name of the original error.
        message: Its text.
    """

    def __init__(self, type: str, message: str) -> None:
        super().__init__(f"{type}: {message}")
        self.type, self.message = type, message
