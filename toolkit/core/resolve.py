"""
Questions asked later: what became of a receipt, of an operation id.
"""

from __future__ import annotations

from toolkit.core.judge import Fate, Receipt, judge_receipt
from toolkit.core.model import Outcome
from toolkit.core.seen import Seen
from toolkit.core.settle import fence_write, read
from toolkit.core.site import Site, rpc_timeout
from toolkit.core.stamp import ABSENT_INCARNATION, OpId
from toolkit.core.steps import Now, Put, Steps

_ROUNDS = 4


def resolve_receipt(site: Site, receipt: Receipt, deadline: float, *, may_write: bool) -> Steps[Outcome]:
    """
    Settle a receipt: look for the write's slot, and where it may still land, make sure that it cannot.

    A handle without the right to write only looks; what may still land is then unknowable.
    """
    for _ in range(_ROUNDS):
        seen = yield from read(site, receipt.key, deadline)
        now = yield from Now()
        fate = judge_receipt(receipt, seen, now.wall)
        if fate is Fate.LANDED:
            return Outcome.COMMITTED
        if fate is Fate.LOST:
            return Outcome.NOT_COMMITTED
        if fate is Fate.UNKNOWABLE or not may_write or (seen.row.missing and not site.rules.can_create):
            return Outcome.UNKNOWABLE
        # The slot of a fence must not be the receipt's own, whoever asks.
        fence = fence_write(site, seen, site.writers.fresh().next_id(), now.wall)
        yield from Put(fence, rpc_timeout(deadline, now.mono))
        # Whatever it answered, the next read tells: the slot, or a moved version without it.
        if seen.plain:
            return Outcome.UNKNOWABLE
    return Outcome.UNKNOWABLE


def outcome_on_key(site: Site, key: str, op_id: str, deadline: float) -> Steps[Outcome]:
    """
    Whether an operation id is recorded on a key.
    """
    seen = yield from read(site, key, deadline)
    return outcome_of(seen, op_id)


def outcome_of(seen: Seen, op_id: str) -> Outcome:
    """
    Whether an operation id is recorded on a key, as far as one read can tell.

    Not there means not applied within the window only on a key the toolkit created and whose stamp has lost nothing:
    a stamp that was born on a plain value cannot tell what that plain write wiped.
    """
    wanted = OpId.of(op_id, "").hash
    stamp = seen.stamp
    if stamp is not None and any(entry.hash == wanted for entry in stamp.ops):
        return Outcome.COMMITTED
    whole = seen.valid and stamp is not None and stamp.drops == 0 and stamp.incarnation == ABSENT_INCARNATION
    if seen.row.missing or whole:
        return Outcome.NOT_COMMITTED
    return Outcome.UNKNOWABLE
