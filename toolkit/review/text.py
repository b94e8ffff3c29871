"""
Text from a log on its way to a screen or a page.
"""

from __future__ import annotations

import re
from typing import Any, Final

# Control characters move cursors, direction marks and zero-width ones hide what is really there.
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def clean(text: Any) -> str:
    """
    The same text with control, direction and zero-width characters spelled out.
    """
    return "" if text is None else _UNSAFE.sub(_spelled, str(text))


def _spelled(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def count(value: float | None) -> str:
    """
    A count, with thousands apart.
    """
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def seconds(value: float | None) -> str:
    """
    A duration in the unit that suits it.
    """
    if value is None:
        return ""
    if value == 0:
        return "0"
    if abs(value) < 0.001:
        return f"{value * 1e6:.0f} µs"
    if abs(value) < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:,.3g} s" if abs(value) < 1000 else f"{value:,.0f} s"


def share(value: float | None) -> str:
    """
    A share in percent.
    """
    return "" if value is None else f"{100 * value:.1f} %"
