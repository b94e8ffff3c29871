"""
What a handle may do, per key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from toolkit.core.model import Access

AccessRule: TypeAlias = Access | Mapping[str, Access]


def allowed(rule: AccessRule, key: str) -> Access:
    """
    What a rule allows on a key: the longest prefix wins, and what no prefix names is not allowed.

    >>> allowed({"cart-": Access.ALL, "": Access.READ}, "cart-7") == Access.ALL
    True
    """
    if isinstance(rule, Access):
        return rule
    best = max((prefix for prefix in rule if key.startswith(prefix)), key=len, default=None)
    return rule[best] if best is not None else Access(0)


def anywhere(rule: AccessRule) -> Access:
    """
    Everything a rule allows on some key.

    >>> anywhere({"cart-": Access.ALL, "": Access.READ}) == Access.ALL
    True
    """
    rights = Access(0)
    for right in (rule,) if isinstance(rule, Access) else rule.values():
        rights |= right
    return rights


def check_access(rule: AccessRule) -> AccessRule:
    """
    Refuse what would only be found out at the first call, or never.

    Raises:
        TypeError: It is neither rights nor a mapping from key prefix to rights.
    """
    of_prefix = isinstance(rule, Mapping) and all(
        isinstance(prefix, str) and isinstance(right, Access) for prefix, right in rule.items()
    )
    if isinstance(rule, Access) or of_prefix:
        return rule
    raise TypeError(
        f"access={rule!r}: rights such as Access.READ | Access.WRITE, or a mapping from key prefix to them"
    )


def right_name(right: Access) -> str:
    """
    A right as users write it.
    """
    return "|".join(part.name or "" for part in right) or "NONE"
