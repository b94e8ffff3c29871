"""
The experiments one client can make, one fact each, on keys of their own.

Each probe reads after it wrote: what a store answers and what it did are two things, and only the second one counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from toolkit.doctor.bench import Bench, applied, first_write
from toolkit.doctor.wire import Concurrency, Op
from toolkit.stores import IMPOSSIBLE_ETAG, Call

NO_ETAGS: Final = "no ETags"
_A, _B, _C = b'{"n":"a"}', b'{"n":"b"}', b'{"n":"c"}'


def stale_compare_and_set(bench: Bench) -> None:
    """
    A compare-and-set with the ETag of a value that was overwritten since.
    """
    key, etag = bench.made(_A)
    if not etag:
        bench.facts["etags"] = False
        etag = "1"
    else:
        bench.facts["etags"] = True
    bench.set(key, _B)
    moved = bench.read(key).etag != etag
    # Twice: CockroachDB v1 gives the ETag 2 to every blind overwrite, so only a second one shows it.
    again = bench.read(key).etag or etag
    bench.set(key, _A)
    if bench.facts["etags"]:
        bench.facts["blind-write-moves-etag"] = moved and bench.read(key).etag != again
    reply = bench.wire.send(Op(key, _C, etag=etag))
    bench.facts["stale-compare-and-set"] = "written" if bench.read(key).data == _C else "refused"
    if reply.ok and bench.facts["stale-compare-and-set"] == "refused":
        bench.facts["stale-compare-and-set"] = "acknowledged, not written"
    bench.note("stale-compare-and-set", Call.CAS, reply, key)


def fresh_compare_and_set(bench: Bench) -> None:
    """
    A compare-and-set with the ETag that was just read must be written.
    """
    key, etag = bench.made(_A)
    reply = bench.wire.send(Op(key, _B, etag=etag or "1"))
    found = bench.read(key)
    moved = found.etag != etag or not etag
    bench.facts["compare-and-set"] = "written" if reply.ok and found.data == _B and moved else "not written"
    bench.note("compare-and-set", Call.CAS, reply, key, conflict=False)


def compare_and_set_on_deleted(bench: Bench) -> None:
    """
    A compare-and-set with the ETag of a key that was deleted since: it must not come back.
    """
    key, etag = bench.made(_A)
    bench.delete(key)
    reply = bench.wire.send(Op(key, _B, etag=etag or "1"))
    bench.facts["compare-and-set-on-deleted"] = "creates" if bench.read(key).present else "refused"
    bench.note("compare-and-set-on-deleted", Call.CAS, reply, key)


def etag_after_recreation(bench: Bench) -> None:
    """
    A compare-and-set with an ETag from before a delete and a new creation (ABA).
    """
    key, etag = bench.made(_A)
    bench.delete(key)
    bench.set(key, _B)
    reply = bench.wire.send(Op(key, _C, etag=etag or "1"))
    bench.facts["etag-repeats"] = bench.read(key).data == _C
    bench.note("etag-repeats", Call.CAS, reply, key)


def create_by_recipe(bench: Bench) -> None:
    """
    The write the profile creates keys with: it must create an absent key and leave an existing one alone.
    """
    outcome = _try_create(bench, first_write)
    outcome_impossible = _try_create(bench, lambda key, data: Op(key, data, etag=IMPOSSIBLE_ETAG))
    bench.facts["create-by-first-write"] = outcome
    bench.facts["create-by-impossible-etag"] = outcome_impossible


def _try_create(bench: Bench, make: Callable[[str, bytes], Op]) -> str:
    """
    Create an absent key, then try it over a plain value, over its own kind and over a key of a transaction.
    """
    absent = bench.key()
    reply = bench.wire.send(make(absent, _A))
    if bench.read(absent).data != _A:
        return f"does not create ({reply.code})"
    plain, _ = bench.made(_B)
    moved = bench.key()
    over = [(absent, _A), (plain, _B)]
    if bench.wire.multi([Op(moved, _B)]).ok and bench.read(moved).data == _B:
        over.append((moved, _B))
    # Only the wording of the profile's own recipe has to be one the profile knows.
    mine = bench.profile.create == ("first-write" if make is first_write else "impossible-etag")
    for key, before in over:
        reply = bench.wire.send(make(key, _C))
        if bench.read(key).data != before:
            return "overwrites"
        if reply.ok:
            return "acknowledged, not written"
        if mine:
            bench.note("create-over-existing", Call.CREATE, reply, key)
    return "safe"


def first_write_over_existing(bench: Bench) -> None:
    """
    A first-write over a plain value, and plain writes over a key made by first-write.
    """
    key, _ = bench.made(_A)
    reply = bench.wire.send(first_write(key, _B))
    bench.facts["first-write"] = "overwrites" if bench.read(key).data == _B else reply.code
    bench.note("first-write-over-plain", Call.CREATE, reply, key, conflict=False)
    born = bench.key()
    if bench.wire.send(first_write(born, _A)).ok:
        plain = bench.wire.send(Op(born, _B))
        last = bench.wire.send(Op(born, _C, concurrency=Concurrency.LAST_WRITE))
        bench.answers["plain-over-first-write"] = plain.code
        bench.answers["last-write-over-first-write"] = last.code
        if not plain.ok:
            bench.notes.append("A key made by first-write refuses plain writes until it is deleted.")


def empty_etag(bench: Bench) -> None:
    """
    An empty ETag, as the SDK sends back what it read of a missing key: Dapr takes it for no condition at all.
    """
    key, _ = bench.made(_A)
    reply = bench.wire.send(Op(key, _B, etag=""))
    written = bench.read(key).data == _B
    bench.answers["empty-etag"] = f"{reply.code}, {'written' if written else 'not written'}"
    if reply.ok and not written:
        bench.notes.append("A write with an empty ETag is acknowledged and not made.")
    reply = bench.wire.send(Op(key, None, etag=""))
    bench.answers["delete-empty-etag"] = f"{reply.code}, {'kept' if bench.read(key).present else 'gone'}"


def last_write_with_etag(bench: Bench) -> None:
    """
    A stale ETag together with last-write, which some components take for no condition.
    """
    key, etag = bench.made(_A)
    bench.set(key, _B)
    reply = bench.wire.send(Op(key, _C, etag=etag or "1", concurrency=Concurrency.LAST_WRITE))
    written = bench.read(key).data == _C
    bench.answers["last-write-stale-etag"] = f"{reply.code}, {'written' if written else 'not written'}"


def malformed_etag(bench: Bench) -> None:
    """
    An ETag no read of this store can have given.
    """
    key, _ = bench.made(_A)
    reply = bench.wire.send(Op(key, _B, etag="not-an-etag"))
    bench.facts["malformed-etag"] = "OK" if bench.read(key).data == _B else reply.code
    bench.note("malformed-etag", Call.CAS, reply, key, conflict=False)


def conditional_delete(bench: Bench) -> None:
    """
    A delete with a stale ETag, and one of a key that is gone.
    """
    key, etag = bench.made(_A)
    bench.set(key, _B)
    reply = bench.wire.send(Op(key, None, etag=etag or "1"))
    bench.facts["stale-delete"] = "refused" if bench.read(key).present else "deleted"
    bench.note("stale-delete", Call.DELETE, reply, key)
    gone, etag = bench.made(_A)
    bench.delete(gone)
    reply = bench.wire.send(Op(gone, None, etag=etag or "1"))
    bench.facts["delete-gone"] = reply.code
    bench.note("delete-gone", Call.DELETE, reply, gone, conflict=False)


def transaction(bench: Bench) -> None:
    """
    A transaction that must be applied whole and byte for byte, and one with a stale ETag that must not at all.
    """
    first, second = bench.key("t"), bench.key("t")
    reply = bench.wire.multi([Op(first, _A), Op(second, _B)])
    bench.note("transaction", Call.MULTI, reply, conflict=False)
    if reply.code == "UNIMPLEMENTED":
        bench.facts["transaction"] = "unsupported"
        return
    landed = [bench.read(first).present, bench.read(second).present]
    if not all(landed):
        bench.facts["transaction"] = "partly applied" if any(landed) else "fails"
        return
    same = all(applied(bench, [(first, _A), (second, _B)]))
    # An encrypted store writes what it is given in a transaction and decodes something else on a read.
    bench.facts["transaction-bytes"] = "kept" if same else "changed"
    good, good_etag = bench.made(_A, "t")
    stale, stale_etag = bench.made(_A, "t")
    bench.set(stale, _B)
    new = bench.key("t")
    ops = [Op(good, _C, etag=good_etag or None), Op(stale, _C, etag=stale_etag or "1"), Op(new, _C)]
    reply = bench.wire.multi(ops)
    done = [bench.read(good).data != _A, bench.read(stale).data != _B, bench.read(new).present]
    bench.facts["transaction"] = (
        "none applied" if not any(done) else "all applied" if all(done) else "partly applied"
    )
    bench.answers["transaction-applied"] = " ".join(str(n) for n, yes in enumerate(done, 1) if yes) or "none"
    bench.note("transaction-stale", Call.MULTI, reply, good, stale, new)


def transaction_conditions(bench: Bench) -> None:
    """
    Inside a transaction: a first-write over an existing key, a delete with a stale ETag, one key named twice.
    """
    if bench.facts.get("transaction") in ("unsupported", "fails", None):
        return
    existing, _ = bench.made(_A, "t")
    new = bench.key("t")
    reply = bench.wire.multi([first_write(existing, _B), Op(new, _C)])
    bench.facts["transaction-first-write"] = "ignored" if bench.read(existing).data != _A else "honoured"
    bench.note("transaction-first-write", Call.MULTI, reply, existing, new, conflict=reply.ok is False)
    stale, etag = bench.made(_A, "t")
    bench.set(stale, _B)
    other = bench.key("t")
    reply = bench.wire.multi([Op(stale, None, etag=etag or "1"), Op(other, _C)])
    bench.facts["transaction-stale-delete"] = "honoured" if bench.read(stale).present else "ignored"
    bench.note("transaction-stale-delete", Call.MULTI, reply, stale, other)
    twice, etag = bench.made(_A, "t")
    reply = bench.wire.multi([Op(twice, _B, etag=etag or None), Op(twice, _C, etag=etag or None)])
    holds = {_A: "neither", _B: "the first", _C: "the last"}.get(bench.read(twice).data, "something else")
    bench.answers["transaction-same-key-twice"] = f"{reply.code}, {holds} applied"


def odd_values(bench: Bench) -> None:
    """
    Values a store could mangle: bytes that are no text, a dollar sign, a large integer, nothing at all.
    """
    bench.made(_A, "v")
    key = bench.key("v")
    raw = bytes([0, 255, 254, 128, 10])
    reply = bench.wire.send(Op(key, raw))
    bench.facts["binary"] = (
        "kept" if reply.ok and bench.read(key).data == raw else "changed" if reply.ok else "refused"
    )
    for word, value in (("dollar", b"$5"), ("large-integer", b'{"n":9007199254740993}')):
        key = bench.key("v")
        reply = bench.wire.send(Op(key, value))
        data = bench.read(key).data
        bench.facts[word] = "kept" if data == value else "rewritten" if _same_json(data, value) else "changed"
        if not reply.ok:
            bench.facts[word] = "refused"
    key, _ = bench.made(_A, "v")
    reply = bench.wire.send(Op(key, b""))
    found = bench.read(key)
    kept = found.data == b"" and (found.present or not bench.facts.get("etags"))
    bench.answers["empty-value"] = (
        "kept" if reply.ok and kept else reply.code if not reply.ok else repr(found.data)[:20]
    )


def _same_json(data: bytes, value: bytes) -> bool:
    return data.replace(b" ", b"") == value.replace(b" ", b"")


def key_case(bench: Bench) -> None:
    """
    Two keys that differ only in case.
    """
    lower = bench.key("case")
    upper = lower.replace("case", "CASE")
    bench.keys.add(upper)
    bench.set(lower, _A)
    bench.facts["case-insensitive-keys"] = bench.read(upper).present


def bulk_read(bench: Bench) -> None:
    """
    A bulk get of two keys that are there and one that is not.
    """
    first, _ = bench.made(_A)
    second, _ = bench.made(_B)
    absent = bench.key()
    found = bench.wire.get_bulk([first, second, absent])
    values = [found[key].data for key in (first, second) if key in found]
    gone = absent not in found or not found[absent].present
    bench.facts["bulk"] = "right" if values == [_A, _B] and gone else "wrong"


def sizes(bench: Bench) -> None:
    """
    The largest of a few sizes a value may have, below the limit of a gRPC message.
    """
    bench.made(_A, "big")
    largest = "under 60 KB"
    for name, size in (("60 KB", 60_000), ("300 KB", 300_000), ("1 MB", 1_000_000), ("3 MB", 3_000_000)):
        key = bench.key("big")
        data = b'"' + b"x" * (size - 2) + b'"'
        if not bench.wire.send(Op(key, data)).ok or bench.read(key).data != data:
            break
        largest = f"at least {name}"
    bench.answers["value-size"] = largest


SEQUENTIAL: Final[Mapping[str, Callable[[Bench], None]]] = MappingProxyType(
    {
        "compare-and-set with a stale ETag": stale_compare_and_set,
        "compare-and-set with the current ETag": fresh_compare_and_set,
        "compare-and-set on a deleted key": compare_and_set_on_deleted,
        "ETag after delete and create": etag_after_recreation,
        "create": create_by_recipe,
        "first-write over an existing key": first_write_over_existing,
        "empty ETag": empty_etag,
        "last-write with a stale ETag": last_write_with_etag,
        "malformed ETag": malformed_etag,
        "conditional delete": conditional_delete,
        "transaction with a stale ETag": transaction,
        "conditions inside a transaction": transaction_conditions,
        "odd values": odd_values,
        "keys that differ in case": key_case,
        "bulk read": bulk_read,
        "value sizes": sizes,
    }
)
