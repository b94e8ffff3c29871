"""
The calls of a state store before they are made: jobs, blind writes, questions; the same in both colours.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from toolkit._base import BaseStateStore
from toolkit._checks import check_change, check_op_id, check_receipt, check_ttl
from toolkit._inside import in_body
from toolkit._queue import Ticket
from toolkit.codec import coded, from_stored, to_stored
from toolkit.core.jobs import NO_DEFAULT, Verb, check_value
from toolkit.core.judge import Receipt
from toolkit.core.model import ABSENT, CLEAR, DELETE, KEEP, TTL, Access, Entry, Marker, Outcome, Reply, Write
from toolkit.core.reading import read_entries, read_entry, value_of
from toolkit.core.records import op_key
from toolkit.core.resolve import outcome_on_key, resolve_receipt
from toolkit.core.site import Site, refusal, shown
from toolkit.core.snapshot import snapshot
from toolkit.core.stamp import OpId
from toolkit.core.steps import Steps
from toolkit.core.transaction import Options, TxRun
from toolkit.core.txreceipt import PREFIX as TX_RECEIPT
from toolkit.core.txreceipt import TxReceipt, outcome_of_op, resolve_tx, void_op
from toolkit.core.value import encode, plain, seal
from toolkit.errors import StoreUnavailableError, TTLUnsupportedError, UnsafeStoreError
from toolkit.stores import Call, Verdict

_READ_WRITE: Final = Access.READ | Access.WRITE


class Calls(BaseStateStore):
    """
    From arguments to work for the core; see ``StateStore``.
    """

    def next_call_id(self) -> str:
        """
        What joins the log lines of one call.
        """
        return f"{self._call_prefix}{next(self._calls) & 0xFFFFFFFF:08x}"

    def begin_transaction(self, options: Options) -> TxRun:
        """
        A run of a transaction on this store.
        """
        site = self._live()
        self._writing("transact")
        self._protected(site, f"transact({options.label})")
        if options.op_id is not None:
            self._recordable(site, options.op_id, "transact with op_id=")
        started = time.monotonic()
        return TxRun(site, options, time.time(), started + options.budget, started)

    def _recordable(self, site: Site, op_id: str, call: str) -> None:
        """
        Refuse a call that cannot write the record of its operation, even if its body writes nothing.
        """
        if self.access is not Access.ALL:
            self._require(op_key(op_id), Access.WRITE, call)
        if not site.rules.can_create:
            raise UnsafeStoreError(
                f"op_id {op_id!r}: {call} needs a record, and this store has no safe way to create one; "
                f"update(..., op_id=...) keeps the id in the key itself, which must exist",
                reasons=site.rules.create_reasons,
            )

    def _job(
        self, verb: Verb, key: str, right: Access, label: str, ttl: TTL = KEEP, op_id: str | None = None
    ) -> Ticket:
        site = self._live()
        if in_body.get() is not None:
            self._writing(verb)
        if type(key) is not str or key not in self._vetted:
            self._vet(key, site)
        if self.access is not Access.ALL:
            self._require(key, right, verb)
        if not self._protects:
            self._protected(site, verb, key)
        started, policy = time.monotonic(), self.retry
        ticket = Ticket(verb, key, started + policy.deadline, policy.attempts, started=started, label=label)
        ticket.prefix, ticket.number, ticket.ttl = self._call_prefix, next(self._calls), ttl
        if op_id is not None:
            ticket.op, ticket.op_id = OpId.of(check_op_id(op_id), f"{verb}:{label}"), op_id
        return ticket

    def stored_form(self, key: str, value: Any) -> Any:
        """
        What lies in the store for a value of the callers.
        """
        return value if self.codec is None else to_stored(self.codec, value, key)

    def user_form(self, key: str, stored: Any) -> Any:
        """
        What the callers see of a private copy of what is stored.
        """
        return stored if self.codec is None else from_stored(self.codec, stored, key)

    def _update_job(
        self, key: str, change: Callable[[Any], Any], default: Any, ttl: TTL, op_id: str | None
    ) -> Ticket:
        label = check_change(change)
        if ttl is not KEEP:
            check_ttl(ttl)
        ticket = self._job("update", key, _READ_WRITE, label, ttl, op_id)
        codec = self.codec
        if codec is None:
            ticket.change = change
        else:
            ticket.change = coded(codec, change, key)
            ticket.decode = lambda stored: from_stored(codec, stored, key)
        if self.access is not Access.ALL:
            ticket.may_remove = lambda: self._require(key, Access.REMOVE, "update to DELETE")
        if default is not NO_DEFAULT:
            ticket.default = seal(default if default is None else self.stored_form(key, default), key)
        return ticket

    def _value_job(
        self, verb: Verb, key: str, value: Any, ttl: TTL, op_id: str | None, etag: Any = None
    ) -> Ticket:
        check_ttl(ttl)
        check_value(value, key, "value")
        sealed = seal(self.stored_form(key, value), key)
        ticket = self._job(verb, key, Access.WRITE, verb, ttl, op_id)
        ticket.value, ticket.etag = sealed, etag
        return ticket

    def _delete_job(self, key: str, etag: Any, op_id: str | None) -> Ticket:
        ticket = self._job("delete", key, Access.REMOVE, "delete", op_id=op_id)
        ticket.etag = etag
        return ticket

    def _blind(self, key: str, value: Any, call: str, right: Access, ttl: TTL, op_id: str | None) -> Write:
        """
        The write of a store opened with ``last_write=True``.
        """
        site = self._live()
        if op_id is not None:
            self._protected(site, f"{call} with op_id=", key)
        self._writing(call)
        self._vet(key, site)
        self._require(key, right, call)
        if value is DELETE:
            return Write(key, None)
        check_ttl(ttl)
        check_value(value, key, "value")
        if not isinstance(ttl, Marker) and not site.profile.has_ttl:
            raise TTLUnsupportedError(f"key {key!r}: this store has no expiry; leave out ttl=")
        # Nothing but the store expires the key here, so a TTL is sent also where the protocol would not.
        seconds = None if isinstance(ttl, Marker) else math.ceil(ttl)
        if ttl is CLEAR and site.profile.keeps_ttl:
            seconds = -1
        return Write(key, encode(plain(self.stored_form(key, value), key), key), ttl=seconds)

    def _blind_answer(self, write: Write, reply: Reply) -> None:
        if reply.ok:
            return
        site, key = self._live(), write.key
        if site.judge_reply(Call.BLIND, reply, key) is Verdict.INVALID:
            raise refusal(self.name, key, reply, len(write.data or b""))
        raise StoreUnavailableError(
            f"key {key!r}: store {self.name!r} did not confirm the unprotected write ({shown(reply)}); "
            f"it may or may not have taken effect"
        )

    # -- reading and asking ----------------------------------------------------------------------------------------

    def _deadline(self) -> float:
        return time.monotonic() + self.retry.deadline

    def _reading(self, key: str, call: str) -> Site:
        site = self._live()
        self._check_key(key, site)
        self._require(key, Access.READ, call)
        return site

    def _getting(self, key: str, default: Any, *, strong: bool) -> Steps[Any]:
        site = self._reading(key, "get")
        if self.codec is None:
            return value_of(site, key, self._deadline(), default, strong=strong)
        return self._getting_decoded(site, key, default, strong=strong)

    def _getting_decoded(self, site: Site, key: str, default: Any, *, strong: bool) -> Steps[Any]:
        stored = yield from value_of(site, key, self._deadline(), ABSENT, strong=strong)
        return default if stored is ABSENT else self.user_form(key, stored)

    def _entering(self, key: str) -> Steps[Entry]:
        return self._entering_decoded(self._reading(key, "read"), key)

    def _entering_decoded(self, site: Site, key: str) -> Steps[Entry]:
        entry = yield from read_entry(site, key, self._deadline())
        if self.codec is None or not entry.exists:
            return entry
        return Entry(key, self.user_form(key, entry.value), entry.etag, exists=True)

    def _getting_many(self, keys: Iterable[str]) -> Steps[dict[str, Any]]:
        return self._getting_decoded_many(*self._reading_all(keys, "get_many"))

    def _reading_all(self, keys: Iterable[str], call: str) -> tuple[Site, tuple[str, ...]]:
        wanted = tuple(dict.fromkeys(keys))
        site = self._live()
        for key in wanted:
            self._reading(key, call)
        return site, wanted

    def _getting_decoded_many(self, site: Site, wanted: tuple[str, ...]) -> Steps[dict[str, Any]]:
        entries = yield from read_entries(site, wanted, self._deadline())
        return {entry.key: self.user_form(entry.key, entry.value) for entry in entries if entry.exists}

    def _resolving(self, receipt: str) -> Steps[Outcome]:
        site = self._live()
        if check_receipt(receipt).startswith(TX_RECEIPT):
            tx = TxReceipt.parse(receipt)
            return resolve_tx(site, tx, self._deadline(), may_write=Access.WRITE in self._allowed(tx.record))
        parsed = Receipt.parse(receipt)
        self._require(parsed.key, Access.READ, "resolve")
        may_write = Access.WRITE in self._allowed(parsed.key)
        return resolve_receipt(site, parsed, self._deadline(), may_write=may_write)

    def _outcome(self, op_id: str, key: str | None) -> Steps[Outcome]:
        check_op_id(op_id)
        if key is None:
            return outcome_of_op(self._live(), op_id, self._deadline())
        return outcome_on_key(self._reading(key, "outcome"), key, op_id, self._deadline())

    def _voiding(self, op_id: str) -> Steps[Outcome]:
        site = self._live()
        self._writing("void")
        self._protected(site, f"void({check_op_id(op_id)!r})")
        self._recordable(site, op_id, "void")
        return void_op(site, op_id, self._deadline())

    def _snapshotting(self, keys: Iterable[str]) -> Steps[Mapping[str, Any]]:
        return self._snapshotting_decoded(*self._reading_all(keys, "snapshot"))

    def _snapshotting_decoded(self, site: Site, wanted: tuple[str, ...]) -> Steps[Mapping[str, Any]]:
        found = yield from snapshot(site, wanted, self._deadline())
        if self.codec is None:
            return found
        return MappingProxyType({key: self.user_form(key, stored) for key, stored in found.items()})
