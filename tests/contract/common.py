"""
What the parts of the contract share: changes, patience, fixtures of the whole suite's kind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

ODD: dict[str, Any] = {
    "1e23": 1e23,
    "max": 1.7976931348623157e308,
    "-0.0": -0.0,
    "tiny": 5e-324,
    "sum": 0.1 + 0.2,
    "1e22": 1e22,
    "2^53+1": 2**53 + 1,
    "2^63": 2**63,
    "-2^63": -(2**63),
    "10^40": 10**40,
    "unicode": 'é e\u0301 \U0001f600 \u2028 \uffff "\\/\b\f\n\r\t',
    "empty": "",
    "nested": [[], {}, [[{"": [None, True, False]}]]],
    "é": {"Z": 1, "a": 2, "aa": 3, "b": 4},
}

SHORT = {"clock_skew": 0.05}


def inc(value: Any) -> Any:
    return {**value, "n": value["n"] + 1}


def other(value: Any) -> Any:
    return {**value, "n": value["n"] * 10}


def until(check: Callable[[], bool], seconds: float = 10.0) -> None:
    """Look again until it holds."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while not check():
        assert time.monotonic() < end, "it did not come to pass"
        pause.wait(0.02)
