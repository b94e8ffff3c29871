"""
What a profile says of a Dapr state store: facts, not behaviour.
"""

from __future__ import annotations

import enum
import re
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
FirstWrite: TypeAlias = Literal["ABORTED", "INTERNAL", "overwrites", "refused", "unknown"]
DeleteGone: TypeAlias = Literal["ABORTED", "INTERNAL", "OK", "unknown"]
Malformed: TypeAlias = Literal["INVALID_ARGUMENT", "ABORTED", "INTERNAL", "OK", "unknown"]
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
        native: Whether the store's own transactions are atomic and their ETags honoured; only ``truthful`` ones are
            used, ``read-back`` ones may be lost behind an OK.
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
        finish_reads: A read that is cancelled under way leaves the sidecar on an old state of the store: later reads may
            be stale and writes fail. Reads whose callers have left go on to their end.
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
        etags: The store compares ETags at all; without it only ``last_write=True`` opens the store.
        first_write: The answer to a first-write over an existing key; ``overwrites`` is an OK that replaced it.
        delete_gone: The answer to a delete with an ETag of a key that is gone.
        malformed_etag: The answer to an ETag no read of this store can have given; ``OK`` means a blind write.
        wild_etags: Texts that switch the store's check off; they are never sent.
        blind_keeps_etag: A write without an ETag can leave the ETag as it was, so that a stale one still matches.
        keeps_ttl: An update that sends no ``ttlInSeconds`` keeps the old TTL.
        shows_ttl: A read tells the remaining TTL as ``ttlExpireTime``.
        ghosts: An expired key reads as missing and still refuses a create, until the store sweeps it.
        multi_ignores: Kinds of operations whose condition the store drops inside its own transactions.
        case_insensitive_keys: Keys that differ only in case are one key, with the usual collation.
        bulk_false_missing: A bulk get can report a key missing that is there; a single get must confirm it.
        etag_counts: The ETag is a count of the key's writes: one more than was read means one write since.
        mangles: What does not come back as it was written: ``binary`` bytes that are not UTF-8, ``dollar`` a raw
            value that begins with ``$`` (no JSON does), ``large-integer`` JSON integers above 2**53.
        reads: What a read is guaranteed to see, in words.
        invalid_texts: Pieces of text that make an INTERNAL answer a refusal for good, nothing read or written.
        missing_texts: Pieces of text by which an INTERNAL answer to a read says that the key is missing.
        runtime: The range of daprd versions the facts hold for.
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
    finish_reads: bool = False
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
    etags: bool = True
    first_write: FirstWrite = "ABORTED"
    delete_gone: DeleteGone = "ABORTED"
    malformed_etag: Malformed = "ABORTED"
    wild_etags: frozenset[str] = frozenset()
    etag_counts: bool = False
    blind_keeps_etag: bool = False
    keeps_ttl: bool = False
    shows_ttl: bool = False
    ghosts: bool = False
    multi_ignores: frozenset[Call] = frozenset()
    case_insensitive_keys: bool = False
    bulk_false_missing: bool = False
    mangles: frozenset[str] = frozenset()
    reads: str = "strong"
    invalid_texts: tuple[str, ...] = ()
    missing_texts: tuple[str, ...] = ()
    runtime: str = ">=1.18,<1.19"

    @property
    def accepted(self) -> bool:
        """
        Whether protected writes are allowed at all.
        """
        return self.tier != "D"

    @property
    def safe_create(self) -> bool:
        """
        Whether of several creators of one key exactly one wins.
        """
        return self.create != "none"

    def covers(self, daprd: str) -> bool:
        """
        Whether the facts hold for this version of daprd; they were not seen at a build without a number.
        """
        low, high = self.runtime.removeprefix(">=").split(",<")
        return _numbers(low) <= _numbers(daprd) < _numbers(high)


def _numbers(version: str) -> tuple[int, ...]:
    """
    The numbers a version begins with, for comparison.
    """
    return tuple([int(part) for part in re.findall(r"\d+", version.partition("-")[0])])
