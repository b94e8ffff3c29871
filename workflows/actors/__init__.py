"""
Actors whose failed turns leave nothing behind, and whose state a second activation cannot overwrite.
"""

from workflows.actors.errors import ActorFencedError, ActorMethodError, TurnAbandonedError
from workflows.actors.fenced import FencedActor
from workflows.actors.host import host_actors
from workflows.actors.mock import MemoryActorClient, MockHost, fenced_mock
from workflows.actors.play import Call, Played, PlayedTurn, TurnHazards, explore_turns, play_turns
from workflows.actors.proxy import GrpcActorProxyFactory
from workflows.actors.safe import SafeActor
from workflows.actors.shared import SharedState
from workflows.actors.state import Once

__all__ = [
    "ActorFencedError",
    "ActorMethodError",
    "Call",
    "FencedActor",
    "GrpcActorProxyFactory",
    "MemoryActorClient",
    "MockHost",
    "Once",
    "Played",
    "PlayedTurn",
    "SafeActor",
    "SharedState",
    "TurnAbandonedError",
    "TurnHazards",
    "explore_turns",
    "fenced_mock",
    "host_actors",
    "play_turns",
]
