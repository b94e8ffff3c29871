"""
The stores on which no protected write is possible, with the reasons an ``UnsafeStoreError`` quotes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from toolkit.stores.profile import Call, Profile

_WRITES: Final = frozenset({Call.CREATE, Call.CAS, Call.DELETE, Call.MULTI})
_LAST_WRITE: Final = (
    "StateStore(name, last_write=True) opens it for get, set and delete without protection: the last write wins.",
)

ETCD_V2: Final = Profile(
    "state.etcd",
    "v2",
    "D",
    create="none",
    native="none",
    lies=_WRITES | {Call.BLIND},
    shows_ttl=True,
    max_operations=128,
    send_ttl="never",
    invalid_texts=("duplicate key given in txn request",),
    reads="linearizable",
    evidence="live",
    reasons=(
        "The component acknowledges writes it did not make: of 320 increments answered OK, 98 to 144 were stored.",
        "Several writers with one ETag are answered OK, and so are several creators of one key.",
        "Its transactions apply a part of their operations and answer OK.",
    ),
)

ETCD_V1: Final = replace(ETCD_V2, version="v1", shows_ttl=False)

COCKROACHDB_V1: Final = Profile(
    "state.cockroachdb",
    "v1",
    "D",
    create="none",
    native="none",
    etag_repeats=True,
    blind_keeps_etag=True,
    bulk_pays=True,
    bulk_false_missing=True,
    shows_ttl=True,
    first_write="INTERNAL",
    malformed_etag="INVALID_ARGUMENT",
    multi_conflict_texts=("no item was updated",),
    retryable_texts=("SQLSTATE 40P01", "SQLSTATE 40001"),
    evidence="live",
    reasons=(
        (
            "A write without an ETag always sets the ETag to 2, so a stale ETag still matches after another's write and "
            "that write is lost."
        ),
        "Use version v2 of the same component: set 'version: v2' in the component file (v1 data is not migrated).",
    ),
)

ZOOKEEPER: Final = Profile(
    "state.zookeeper",
    "v1",
    "D",
    create="none",
    native="none",
    has_ttl=False,
    send_ttl="never",
    etag_repeats=True,
    first_write="overwrites",
    delete_gone="OK",
    malformed_etag="OK",
    wild_etags=frozenset({"-1", "2147483648"}),
    lies=frozenset({Call.CREATE}),
    suspects=frozenset({Call.CAS, Call.DELETE}),
    max_value=1024 * 1024,
    invalid_texts=("zk: invalid path", "zk: invalid acl specified"),
    linearizable=False,
    reads="no consistency option is honoured",
    evidence="live",
    reasons=(
        "The component cannot create a key: it sends no access list and the server refuses that.",
        "ETags count from 0 and repeat after a delete, and one that is not a number is a blind write.",
        "Any error of a conditional write is worded as a conflict.",
    ),
)

AEROSPIKE: Final = Profile(
    "state.aerospike",
    "v1",
    "D",
    create="none",
    native="none",
    has_ttl=False,
    send_ttl="never",
    etag_repeats=True,
    first_write="overwrites",
    delete_gone="unknown",
    malformed_etag="INVALID_ARGUMENT",
    suspects=frozenset({Call.CAS, Call.DELETE}),
    lies=frozenset({Call.CREATE}),
    linearizable=False,
    reads="not checked",
    reasons=(
        "A first-write overwrites an existing key, so a key cannot be created safely.",
        "The ETag is a record generation, which is likely to repeat after a delete.",
        "Any error of a conditional write is worded as a conflict.",
    ),
)

OCI: Final = Profile(
    "state.oci.objectstorage",
    "v1",
    "D",
    create="none",
    native="none",
    send_ttl="never",
    etags=False,
    first_write="refused",
    delete_gone="INTERNAL",
    malformed_etag="unknown",
    wild_etags=frozenset({"*"}),
    keeps_ttl=False,
    lies=frozenset({Call.CAS}),
    linearizable=False,
    reads="no consistency option is honoured",
    reasons=("The component ignores the ETag of an ordinary write and answers OK.",),
    cautions=_LAST_WRITE,
)

ALICLOUD: Final = Profile(
    "state.alicloud.tablestore",
    "v1",
    "D",
    create="none",
    native="none",
    has_ttl=False,
    send_ttl="never",
    etags=False,
    first_write="unknown",
    delete_gone="unknown",
    malformed_etag="OK",
    lies=_WRITES,
    linearizable=False,
    reads="not checked",
    reasons=("The component claims ETags, stores the one the client sends, and never compares it.",),
    cautions=_LAST_WRITE,
)


_NO_ETAGS: Final = Profile(
    "",
    "v1",
    "D",
    create="none",
    native="none",
    has_ttl=False,
    send_ttl="never",
    etags=False,
    first_write="overwrites",
    delete_gone="OK",
    malformed_etag="OK",
    lies=_WRITES,
    linearizable=False,
    reads="no consistency option is honoured",
    reasons=("The component has no ETags: it ignores the one that is sent, writes, and answers OK.",),
    cautions=_LAST_WRITE,
)

MEMCACHED: Final = replace(
    _NO_ETAGS,
    type="state.memcached",
    has_ttl=True,
    send_ttl="when-set",
    max_key=250,
    max_value=1024 * 1024,
    key_pattern=r"[^\s\x00-\x20\x7f]+",
    invalid_texts=("malformed: key is too long", "object too large for cache"),
    evidence="live",
    cautions=(*_LAST_WRITE, "The server may evict any key at any time."),
)
CASSANDRA: Final = replace(
    _NO_ETAGS,
    type="state.cassandra",
    has_ttl=True,
    send_ttl="when-set",
    reads="as the component's consistency metadata says",
)
FIRESTORE: Final = replace(_NO_ETAGS, type="state.gcp.firestore")
CONSUL: Final = replace(
    _NO_ETAGS,
    type="state.hashicorp.consul",
    reads="as the request's consistency says",
    invalid_texts=("Key must not begin with a '/'",),
    cautions=(
        *_LAST_WRITE,
        "With keyPrefixPath set every write is refused: the key then begins with a slash.",
    ),
)
RETHINKDB: Final = replace(
    _NO_ETAGS,
    type="state.rethinkdb",
    reasons=("The component returns ETags and never compares them: it writes and answers OK.",),
)
JETSTREAM: Final = replace(
    _NO_ETAGS,
    type="state.jetstream",
    key_pattern=r"[-/_=.a-zA-Z0-9]+",
    missing_texts=("key not found",),
    invalid_texts=("nats: invalid key", "nats: maximum payload exceeded"),
    evidence="live",
    cautions=(*_LAST_WRITE, "A read of a missing key is an error (INTERNAL), not an empty answer."),
)
HAZELCAST: Final = replace(_NO_ETAGS, type="state.hazelcast")
COHERENCE: Final = replace(_NO_ETAGS, type="state.coherence", has_ttl=True, send_ttl="when-set")
WORKERS_KV: Final = replace(_NO_ETAGS, type="state.cloudflare.workerskv", has_ttl=True, send_ttl="when-set")

REFUSED: Final = (
    ETCD_V1,
    ETCD_V2,
    COCKROACHDB_V1,
    ZOOKEEPER,
    AEROSPIKE,
    OCI,
    ALICLOUD,
    MEMCACHED,
    CASSANDRA,
    FIRESTORE,
    CONSUL,
    RETHINKDB,
    JETSTREAM,
    HAZELCAST,
    COHERENCE,
    WORKERS_KV,
)
