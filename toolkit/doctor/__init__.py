"""
Experiments on a live store through its sidecar: does it keep what its profile says?
"""

from toolkit.doctor.bench import PREFIX
from toolkit.doctor.examine import PROBES, Report, examine
from toolkit.doctor.facts import Finding, Match, compare, disagreements, expected
from toolkit.doctor.wire import About, Concurrency, Found, GrpcWire, Op, Wire

__all__ = [
    "PREFIX",
    "PROBES",
    "About",
    "Concurrency",
    "Finding",
    "Found",
    "GrpcWire",
    "Match",
    "Op",
    "Report",
    "Wire",
    "compare",
    "disagreements",
    "examine",
    "expected",
]
