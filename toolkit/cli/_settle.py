"""
Transactions whose process died: which keys a log names, and finishing what was left on them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from toolkit import StateStore
from toolkit._drive import drive
from toolkit.cli._upkeep import Plan, Shelf
from toolkit.core.intents import intent_of
from toolkit.core.recovery import decide_abort, finish, finish_key, read_record, status_of
from toolkit.core.settle import read
from toolkit.core.site import Site
from toolkit.core.steps import Now, Steps
from toolkit.review.reading import Decoding, Intake, expand, merged, open_sources
from toolkit.review.records import DECODER, Committed, Conflict, GaveUp, OutcomeUnknown, Record

_DEADLINE = 10.0
_CONNECT = 3.0


def settle(shelf: Shelf, key: str) -> Plan:
    """
    Decide the transaction under way on a key, against it if it is still open, and finish all its keys.
    """
    with StateStore(shelf.store, address=shelf.address, startup_timeout=_CONNECT) as states:
        site = states._live()  # noqa: SLF001 - private to the package
        return drive(_settling(site, key, time.monotonic() + _DEADLINE), states._world)  # noqa: SLF001 - likewise


def _settling(site: Site, key: str, deadline: float) -> Steps[Plan]:
    seen = yield from read(site, key, deadline)
    intent = intent_of(seen)
    if intent is None:
        return Plan("is in no transaction any more")
    committed = yield from status_of(site, intent, deadline)
    if committed is None:
        left = intent.lease - (yield from Now()).wall
        if left > 0:
            return Plan(
                f"belongs to a transaction that may still run: try again in {left:.1f} s", refused=True
            )
        committed = yield from decide_abort(site, intent.record, intent.tx, deadline)
    if committed:
        record = yield from read_record(site, intent.record, deadline)
        clean = yield from finish(site, record, intent.tx, deadline)
    else:
        clean = yield from finish_key(site, key, intent.tx, committed=False, deadline=deadline)
    how = "committed: its value stands" if committed else "aborted: the value from before stands"
    if not clean:
        return Plan(f"is in a transaction that {how}, but not every key could be finished", refused=True)
    return Plan(f"was in transaction {intent.tx}, which is {how}")


def keys_in_log(files: Sequence[str], store: str) -> tuple[list[str], list[str]]:
    """
    The keys of a store that a conflict log names as unclear, unreadable, or held by a transaction; and the others that
    took part in transactions, which a process that died may have left unfinished. Both in order.

    Raises:
        InputError: A file does not exist.
    """
    intake, troubled, touched = Intake(), dict[str, None](), dict[str, None]()
    decoding = Decoding(intake, DECODER)
    for _, block in merged(open_sources(expand(files), intake)):
        for record in decoding.records(block):
            if record.store == store:
                named = dict.fromkeys((record.key, *record.keys) if record.key else record.keys)
                troubled |= named if _in_trouble(record) else {}
                touched |= named if _in_transaction(record) else {}
    return list(troubled), [key for key in touched if key not in troubled]


def _in_trouble(record: Record) -> bool:
    held = isinstance(record, Conflict) and record.winner_kind == "intent"
    return held or isinstance(record, GaveUp | OutcomeUnknown)


def _in_transaction(record: Record) -> bool:
    committed = isinstance(record, Committed) and record.path == "intents"
    return committed or (isinstance(record, Conflict) and record.cause == "transaction_abort")
