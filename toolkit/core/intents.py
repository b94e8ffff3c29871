"""
Intents: what a transaction under way leaves on a key, and what the key looks like once the transaction is decided.

An intent stands in the stamp beside the old value, which stays visible. It counts only while the digest matches: a
plain write over it makes it void (rule R11). ``lock`` intents stand on keys that were only read; finishing them changes
nothing but the stamp.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from toolkit.core.compose import Content, successor
from toolkit.core.model import ABSENT
from toolkit.core.seen import Seen
from toolkit.core.stamp import Stamp, WriteId
from toolkit.core.value import digest

IntentKind: TypeAlias = Literal["put", "delete", "lock"]
_KINDS: Final = ("put", "delete", "lock")


class Intent(msgspec.Struct, frozen=True):
    """
    What one attempt of a transaction means to do to one key.

    Attributes:
        tx: The attempt; fresh for every attempt.
        record: Key of the record that decides it.
        started: When the transaction first started (Unix time), kept over its attempts: the older wins.
        lease: Until when others should leave it to its owner; safety never depends on it.
        members: The visible members to come, for ``put``.
        expires: The expiry to come.
        old_expires: The expiry to come back to; no key expires under an intent (rule R15).
    """

    tx: str
    record: str
    kind: IntentKind
    started: float
    lease: float
    members: dict[str, Any] | None = None
    envelope: bool = False
    expires: float | None = None
    old_expires: float | None = None

    def dump(self) -> dict[str, Any]:
        out: dict[str, Any] = {"id": self.tx, "rec": self.record, "kind": self.kind}
        out |= {"ts": self.started, "lease": self.lease}
        if self.members is not None:
            out["new"] = self.members
        if self.envelope:
            out["e"] = 1
        if self.expires is not None:
            out["exp"] = self.expires
        if self.old_expires is not None:
            out["old_exp"] = self.old_expires
        return out


def intent_of(seen: Seen) -> Intent | None:
    """
    The intent that counts on a key; ``None`` when there is none or a plain writer has voided it.
    """
    stamp = seen.stamp
    if stamp is None or not seen.valid or stamp.intent is None:
        return None
    raw = stamp.intent
    kind = raw.get("kind")
    if kind not in _KINDS or not isinstance(raw.get("id"), str) or not isinstance(raw.get("rec"), str):
        return None
    return Intent(
        tx=raw["id"],
        record=raw["rec"],
        kind=kind,
        started=float(raw.get("ts", 0.0)),
        lease=float(raw.get("lease", 0.0)),
        members=raw.get("new"),
        envelope=bool(raw.get("e")),
        expires=raw.get("exp"),
        old_expires=raw.get("old_exp"),
    )


def effective(seen: Seen, intent: Intent, *, committed: bool) -> Seen:
    """
    The key as it is once its intent is decided, on the row that was read: what comes next is written over the intent.

    Carrying a decided intent's outcome in one's own write saves finishing it first (rule R13 asks only that undecided
    ones are settled).
    """
    assert seen.stamp is not None
    stamp = replace(seen.stamp, intent=None, expires=intent.old_expires)
    if not committed or intent.kind == "lock":
        return replace(seen, stamp=stamp)
    members = {} if intent.kind == "delete" else dict(intent.members or {})
    gone = intent.kind == "delete"
    stamp = replace(
        stamp,
        version=intent.tx,
        last="",
        kind="",
        digest=digest(members),
        gone=gone,
        envelope=intent.envelope,
        expires=intent.expires,
    )
    value: Any = ABSENT if gone else members["value"] if intent.envelope else members
    return replace(seen, members=members, value=value, stamp=stamp)


def prepared(seen: Seen, intent: Intent, write: WriteId, wall: float) -> tuple[dict[str, Any], Stamp]:
    """
    Members and stamp with an intent on what was read: the visible value and its version stay.
    """
    gone = seen.value is ABSENT or not seen.exists(wall)
    envelope = seen.stamp is not None and seen.stamp.envelope
    members = {} if gone else {"value": seen.value} if seen.plain else seen.members
    content = Content(members, gone=gone, envelope=envelope or seen.plain)
    stamp = replace(successor(seen, content, write, wall, kind="intent"), expires=None, intent=intent.dump())
    if stamp.version == str(write):
        # A stub of an absent key, or a bare value that gets its envelope: not a write that made this value.
        stamp = replace(stamp, version=seen.version_text(), last=str(write), kind="intent")
    return members, stamp


def finished(seen: Seen, intent: Intent, *, committed: bool) -> tuple[dict[str, Any], Stamp]:
    """
    Members and stamp after an intent is finished: rolled forward or back, or, for a lock, just taken off.
    """
    after = effective(seen, intent, committed=committed)
    assert after.stamp is not None
    if committed and intent.kind != "lock":
        return after.members, replace(after.stamp, writes=after.stamp.writes + 1)
    kind = "finalise" if committed else "rollback"
    return after.members, replace(after.stamp, writes=after.stamp.writes + 1, last=intent.tx, kind=kind)
