"""
Instruments for testing code that uses the toolkit, and the toolkit itself.

Everything is imported on first use, so that a unit test with ``MemoryStore`` loads neither grpc nor dapr.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from toolkit.testing._faults import Faults
    from toolkit.testing.append import check_append
    from toolkit.testing.cancel import cancel_everywhere
    from toolkit.testing.component import StoreComponent
    from toolkit.testing.history import History
    from toolkit.testing.interleave import interleavings, replay
    from toolkit.testing.linear import check_linearizable
    from toolkit.testing.memory import MemoryStore
    from toolkit.testing.points import arm, record
    from toolkit.testing.proxy import FaultProxy
    from toolkit.testing.simulate import Hazards, Network, simulate
    from toolkit.testing.taskhub.history import WorkflowHistory
    from toolkit.testing.taskhub.replay import NonDeterminismError
    from toolkit.testing.taskhub.sidecar import WorkflowFailedError, WorkflowSidecar
    from toolkit.testing.tcp import TcpProxy

__all__ = [
    "FaultProxy",
    "Faults",
    "Hazards",
    "History",
    "MemoryStore",
    "Network",
    "NonDeterminismError",
    "StoreComponent",
    "TcpProxy",
    "WorkflowFailedError",
    "WorkflowHistory",
    "WorkflowSidecar",
    "arm",
    "cancel_everywhere",
    "check_append",
    "check_linearizable",
    "interleavings",
    "record",
    "replay",
    "simulate",
]

_HOMES: Final = {
    "FaultProxy": "proxy",
    "Faults": "_faults",
    "Hazards": "simulate",
    "History": "history",
    "MemoryStore": "memory",
    "Network": "simulate",
    "NonDeterminismError": "taskhub.replay",
    "StoreComponent": "component",
    "TcpProxy": "tcp",
    "WorkflowFailedError": "taskhub.sidecar",
    "WorkflowHistory": "taskhub.history",
    "WorkflowSidecar": "taskhub.sidecar",
    "arm": "points",
    "cancel_everywhere": "cancel",
    "check_append": "append",
    "check_linearizable": "linear",
    "interleavings": "interleave",
    "record": "points",
    "replay": "interleave",
    "simulate": "simulate",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
