"""
What a profile says of a Dapr state store: facts, not behaviour.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal, TypeAlias


class Verdict(enum.Enum):
    """
    What an answer of the store proves.

    COMMITTED the write took effect. CONFLICT it was refused since the ETag moved or the key exists. SUSPECTED worded as
    a conflict, but this store words outages the same way. UNAVAILABLE the store did not take the request, as far as
    the answer tells. INVALID the request itself is refused for good. UNKNOWN anything else.
    """

    COMMITTED = "committed"
    CONFLICT = "conflict"
    SUSPECTED = "suspected conflict"
    UNAVAILABLE = "unavailable"
    INVALID = "invalid"
    UNKNOWN = "unknown"


class Call(enum.Enum):
    """
    The kinds of calls whose answers are worded differently.
    """

    GET = "get"
    CREATE = "create"
    CAS = "compare-and-set"
    DELETE = "delete"
    BLIND = "blind write"
    MULTI = "transaction"


Create: TypeAlias = Literal["first-write", "impossible-etag", "none"]
SendTTL: TypeAlias = Literal["always", "when-set", "never"]
Native: TypeAlias = Literal["none", "truthful", "read-back"]
Tier: TypeAlias = Literal["A", "B", "C", "D"]
Evidence: TypeAlias = Literal["live", "source"]


@dataclass(frozen=True, slots=True)
class Profile:
    """
    One store as it really behaves through Dapr.

    Attributes:
        type: Dapr component type such as ``state.redis``.
        version: Component version, ``v1`` when a component file names none.
        tier: A full, B with care, C single keys only, D refused for protected writes.
        create: How a key is created so that exactly one of several creators wins.
        native: Whether the store's own transactions are atomic and their ETags honoured.
        send_ttl: ``always`` where an update keeps an old TTL (Redis), ``never`` where expired rows linger as ghosts or
            the store has no TTL, else ``when-set``.
        has_ttl: Whether the store can expire keys (the toolkit's own ``exp`` decides; this is garbage collection).
        etag_repeats: An ETag can come back on the same key (ABA).
        recreates: A write with a stale ETag creates a key that is gone.
        lies: Calls whose OK must be proved by a re-read.
        suspects: Calls whose conflict wording also covers outages: a re-read must confirm it.
        resends: The store's driver may send a request twice, so that a conflict can hide an own success.
        linearizable: A strong read sees every finished write.
        strong_reads: The store needs the consistency option ``strong`` for that.
        bulk_pays: A bulk get is one native call.
        max_value: Bytes a value may have, 0 when unlimited below the gRPC limit.
        max_key: Bytes a key may have including the ``appid||`` prefix, 0 when unlimited.
        key_pattern: Regular expression the whole key must match, empty for any.
        max_operations: Operations in one transaction, 0 when unlimited.
        conflict_texts: Pieces of text that make an INTERNAL answer a conflict in single calls.
        multi_conflict_texts: The same in transactions.
        retryable_texts: Conflicts of the database's own making (deadlock, serialization failure).
        create_texts: Pieces of text that make an INTERNAL answer to a create a conflict.
        conflict_needs_text: ABORTED is a conflict only with one of these texts; empty when ABORTED alone will do.
        evidence: ``live`` when an evidence file of this repository backs it, else ``source``.
        reasons: Why protected writes are refused, one sentence each; empty for accepted stores.
        cautions: What a user should know although the store is accepted.
    """

    type: str
    version: str
    tier: Tier
    create: Create = "first-write"
    native: Native = "none"
    send_ttl: SendTTL = "when-set"
    has_ttl: bool = True
    etag_repeats: bool = False
    recreates: bool = False
    lies: frozenset[Call] = frozenset()
    suspects: frozenset[Call] = frozenset()
    resends: bool = False
    linearizable: bool = True
    strong_reads: bool = False
    bulk_pays: bool = False
    max_value: int = 0
    max_key: int = 0
    key_pattern: str = ""
    max_operations: int = 0
    conflict_texts: tuple[str, ...] = ()
    multi_conflict_texts: tuple[str, ...] = ()
    retryable_texts: tuple[str, ...] = ()
    create_texts: tuple[str, ...] = ()
    conflict_needs_text: tuple[str, ...] = ()
    evidence: Evidence = "source"
    reasons: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        return self.tier != "D"
