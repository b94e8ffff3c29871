"""
What an answer of a store proves, and how a write must be worded so that its answer proves something.

Dapr words one thing in many ways: a conflict is ABORTED in a single call and INTERNAL in a transaction, some stores
dress an outage as a conflict, others answer OK for what they did not do. ``classify`` knows the wordings of each store
through its profile. It never guesses in the dangerous direction: what is not certain is UNKNOWN, which costs a re-read;
a wrong "certainly not applied" would cost data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from toolkit.core.model import Write
from toolkit.errors import UnsafeStoreError
from toolkit.stores.profile import Call, Profile, Verdict

IMPOSSIBLE_ETAG: Final = "2147483647"
"""An ETag no Redis hash version reaches: the store takes the write only where the key is absent."""

ETAG_MISMATCH: Final = "possible etag mismatch"
"""What daprd puts in front of every error a component marked as an ETag mismatch."""

MAX_TTL: Final = 2**31 - 1

_UNAVAILABLE_TEXTS: Final = (
    "connection refused",
    "circuit breaker is open",
    "no such host",
    "network is unreachable",
    "no route to host",
)
_MESSAGE_SIZE_TEXTS: Final = ("message larger than max",)
_REFUSED: Final = frozenset(
    {"INVALID_ARGUMENT", "UNIMPLEMENTED", "UNAUTHENTICATED", "PERMISSION_DENIED", "OUT_OF_RANGE"}
)
_STORE_MISSING_TEXTS: Final = ("state store", "state_store", "not configured", "not found")
_CONDITIONAL: Final = frozenset({Call.CREATE, Call.CAS, Call.DELETE, Call.MULTI})


def classify(profile: Profile, call: Call, code: str, text: str, keys: Iterable[str] = ()) -> Verdict:
    """
    Say what an answer proves.

    Args:
        profile: The store.
        call: What was asked.
        code: The name of the gRPC status.
        text: Its message.
        keys: The keys of the call; one that happens to contain the wording of an error is taken out of the text.

    Returns:
        COMMITTED only for an OK of a store that does not lie about this call; CONFLICT and INVALID only where the
        answer proves that this request, as received, changed nothing; UNAVAILABLE and UNKNOWN promise nothing about a
        write. A conflict can still hide an own success where ``profile.resends`` or a layer in between sent twice.
    """
    code = code.upper()
    if code == "OK":
        return Verdict.UNKNOWN if call in profile.lies else Verdict.COMMITTED
    text = _without_keys(profile, text.lower(), keys)
    if code in _REFUSED:
        return Verdict.INVALID
    if code == "FAILED_PRECONDITION" and _has(text, _STORE_MISSING_TEXTS):
        return Verdict.INVALID
    if code == "RESOURCE_EXHAUSTED" and _has(text, _MESSAGE_SIZE_TEXTS):
        return Verdict.INVALID
    if code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED") or _has(text, _UNAVAILABLE_TEXTS):
        return Verdict.UNAVAILABLE
    if call is Call.GET:
        refused = code == "INTERNAL" and _has(text, profile.invalid_texts)
        return Verdict.INVALID if refused else Verdict.UNAVAILABLE
    if code == "ABORTED":
        return _aborted(profile, call, text)
    if code == "INTERNAL":
        return _internal(profile, call, text)
    return Verdict.UNKNOWN


def _aborted(profile: Profile, call: Call, text: str) -> Verdict:
    """
    Judge the code daprd uses for ETag mismatches, and some components for any error.
    """
    if call not in _CONDITIONAL:
        # A write without a condition cannot lose one: this is a component that marks every error as a mismatch.
        return Verdict.UNKNOWN
    if not profile.etags:
        return Verdict.UNKNOWN
    if call in profile.suspects:
        return Verdict.SUSPECTED
    if profile.conflict_needs_text and not _has(text, profile.conflict_needs_text):
        return Verdict.SUSPECTED
    return _conflict(profile, call)


def _internal(profile: Profile, call: Call, text: str) -> Verdict:
    """
    Judge the code daprd uses for everything else, conflicts of transactions and of creates among it.
    """
    if _has(text, profile.retryable_texts):
        # The database rolled the work back by itself, condition or not.
        return _conflict(profile, call)
    if call in _CONDITIONAL and profile.etags and _has(text, conflict_texts(profile, call)):
        return Verdict.SUSPECTED if call in profile.suspects else _conflict(profile, call)
    if _has(text, profile.invalid_texts):
        return Verdict.INVALID
    return Verdict.UNKNOWN


def _conflict(profile: Profile, call: Call) -> Verdict:
    """
    Turn the wording of a conflict into what it proves: little, for a transaction that may have been applied in part.
    """
    if call is Call.MULTI and profile.native == "none":
        return Verdict.SUSPECTED
    return Verdict.CONFLICT


def conflict_texts(profile: Profile, call: Call) -> tuple[str, ...]:
    """
    List the pieces of text that make an INTERNAL answer to such a call a conflict.
    """
    texts = (ETAG_MISMATCH, *profile.conflict_texts)
    if call is Call.CREATE:
        texts += profile.create_texts
    if call is Call.MULTI:
        texts += profile.multi_conflict_texts + profile.create_texts
    return texts


def retryable(profile: Profile, text: str) -> bool:
    """
    Say whether a conflict is of the database's own making (a deadlock, a lost lock), not of a moved ETag.
    """
    return _has(text.lower(), profile.retryable_texts)


def says_missing(profile: Profile, code: str, text: str) -> bool:
    """
    Say whether the failure of a read is how this store says that the key is missing.
    """
    return code.upper() == "INTERNAL" and _has(text.lower(), profile.missing_texts)


def cause_of(profile: Profile, call: Call, code: str, text: str) -> str:
    """
    Name the cause of a lost attempt as the conflict log spells it.

    Returns:
        ``etag_mismatch``, ``transaction_abort``, ``exists``, ``lock_busy`` or ``unknown``.
    """
    verdict = classify(profile, call, code, text)
    if verdict not in (Verdict.CONFLICT, Verdict.SUSPECTED):
        return "unknown"
    if retryable(profile, text):
        return "lock_busy"
    if call is Call.MULTI:
        return "transaction_abort"
    return "exists" if call is Call.CREATE else "etag_mismatch"


def create_write(profile: Profile, key: str, data: bytes, ttl: float | None = None) -> Write:
    """
    Word a write that creates a key and is refused where the key exists.

    Raises:
        UnsafeStoreError: The store has no such write; nothing was sent.
    """
    seconds = ttl_seconds(profile, ttl)
    if profile.create == "first-write":
        return Write(key, data, first_write=True, ttl=seconds)
    if profile.create == "impossible-etag":
        return Write(key, data, etag=IMPOSSIBLE_ETAG, ttl=seconds)
    reasons = profile.reasons or (
        f"{profile.type} {profile.version} has no safe create: two creators can both win.",
    )
    raise UnsafeStoreError(
        f"{key}: {profile.type} {profile.version} cannot create a key safely, nothing was sent. "
        f"{' '.join(reasons)} Create the key by other means first, or use another store.",
        reasons=reasons,
    )


def cas_write(profile: Profile, key: str, data: bytes | None, etag: str, ttl: float | None = None) -> Write:
    """
    Word a write (``data=None``: a delete) that is refused unless the key still has this ETag.

    Raises:
        ValueError: The ETag is empty, which Dapr takes for "no condition", or one that switches the store's check off.
    """
    if not etag:
        raise ValueError(f"{key}: an empty ETag would be an unconditional write; create the key instead")
    if etag in profile.wild_etags:
        raise ValueError(
            f"{key}: ETag {etag!r} switches the check of {profile.type} off; send only an ETag that was read"
        )
    return Write(key, data, etag=etag, ttl=None if data is None else ttl_seconds(profile, ttl))


def ttl_seconds(profile: Profile, ttl: float | None) -> int | None:
    """
    Give the ``ttlInSeconds`` to send so that the key lives for at least ``ttl`` seconds, or for ever (``None``).

    Where an update keeps an old TTL, "for ever" has to be said, as -1. Elsewhere leaving it out clears it, and -1 would
    expire the key at once on some stores.

    Raises:
        ValueError: The number is not a positive, finite number of seconds.
    """
    if ttl is not None and not (math.isfinite(ttl) and ttl > 0):
        raise ValueError(f"a TTL is a positive number of seconds, not {ttl!r}")
    if profile.send_ttl == "never" or not profile.has_ttl:
        return None
    if ttl is None:
        return -1 if profile.send_ttl == "always" else None
    return min(math.ceil(ttl), MAX_TTL)


def _has(text: str, pieces: Iterable[str]) -> bool:
    return any(piece.lower() in text for piece in pieces)


def _without_keys(profile: Profile, text: str, keys: Iterable[str]) -> str:
    """
    Take out of a text the keys that could be mistaken for the wording of an error.
    """
    pieces = (
        *_UNAVAILABLE_TEXTS,
        *_MESSAGE_SIZE_TEXTS,
        *profile.retryable_texts,
        *profile.invalid_texts,
        *profile.conflict_needs_text,
        *conflict_texts(profile, Call.CREATE),
        *profile.multi_conflict_texts,
    )
    for key in keys:
        if key and _has(key.lower(), pieces):
            text = text.replace(key.lower(), "")
    return text
