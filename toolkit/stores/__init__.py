"""
What each Dapr state store really does: one table of profiles and one classifier of answers, both pure.
"""

from toolkit.stores.classify import (
    IMPOSSIBLE_ETAG,
    cas_write,
    cause_of,
    classify,
    conflict_texts,
    create_write,
    retryable,
    says_missing,
    ttl_seconds,
)
from toolkit.stores.profile import Call, Profile, Verdict
from toolkit.stores.table import aliases, find, named, profiles, unknown

__all__ = [
    "IMPOSSIBLE_ETAG",
    "Call",
    "Profile",
    "Verdict",
    "aliases",
    "cas_write",
    "cause_of",
    "classify",
    "conflict_texts",
    "create_write",
    "find",
    "named",
    "profiles",
    "retryable",
    "says_missing",
    "ttl_seconds",
    "unknown",
]
