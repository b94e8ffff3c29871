"""
The relational stores (and the in-memory one, which has their rules): full protection, with a word on each.

Every cell is a fact about the Dapr component, not about the product behind it, seen through a real daprd or read in
the component's source. A profile that says ``evidence="live"`` is backed by a file under ``evidence/``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from toolkit.stores.profile import Call, Profile

RESTORE: Final = (
    "Exactly once ends with data the store itself loses: a restore from a backup brings old values back and, "
    "with them, forgets operation ids."
)
IN_MEMORY: Final = Profile(
    "state.in-memory",
    "v1",
    "A",
    native="truthful",
    bulk_pays=True,
    shows_ttl=True,
    evidence="live",
    cautions=(
        "The data lives in the sidecar: it is gone when the sidecar stops. For tests and development.",
    ),
)

SQLITE: Final = Profile(
    "state.sqlite",
    "v1",
    "A",
    native="truthful",
    bulk_pays=True,
    bulk_false_missing=True,
    finish_reads=True,
    shows_ttl=True,
    retryable_texts=("database is locked", "SQLITE_BUSY"),
    evidence="live",
    cautions=(
        "One file on one machine: every sidecar that shares it must run there.",
        (
            "A read that its client cancels can leave daprd on an old snapshot of the file: from then on some reads are stale "
            "and writes answer `database is locked (517)`, until the sidecar is restarted (1.18.2; seen after some hundred "
            "cancelled reads). This toolkit lets its reads end; other clients of the same sidecar should, too."
        ),
        RESTORE,
    ),
)

_POSTGRESQL_TEXTS: Final = ("SQLSTATE 40P01", "SQLSTATE 40001")
# A key with a NUL character is no text to PostgreSQL, and a very long one does not fit its index.
_POSTGRESQL_NO_KEY: Final = ("SQLSTATE 22021", "SQLSTATE 54000")

POSTGRESQL_V1: Final = Profile(
    "state.postgresql",
    "v1",
    "A",
    native="truthful",
    bulk_pays=True,
    bulk_false_missing=True,
    shows_ttl=True,
    first_write="INTERNAL",
    malformed_etag="INVALID_ARGUMENT",
    create_texts=("no item was updated",),
    retryable_texts=_POSTGRESQL_TEXTS,
    invalid_texts=_POSTGRESQL_NO_KEY,
    evidence="live",
    cautions=(
        (
            "The ETag is a 32-bit transaction id: it wraps after four billion transactions and a restore renumbers it. "
            "Version v2 of the component has random ETags."
        ),
        RESTORE,
    ),
)

POSTGRESQL_V2: Final = replace(
    POSTGRESQL_V1,
    version="v2",
    malformed_etag="ABORTED",
    cautions=("An empty value is refused by the store (INTERNAL, a not-null violation).", RESTORE),
)

COCKROACHDB_V2: Final = replace(
    POSTGRESQL_V2,
    type="state.cockroachdb",
    cautions=(
        (
            "Measured on PostgreSQL in the place of CockroachDB: the component is the same, the database is serializable "
            "and reports lost races as 40001, which is retried."
        ),
        *POSTGRESQL_V2.cautions,
    ),
)

YUGABYTEDB: Final = replace(
    POSTGRESQL_V2,
    type="state.yugabytedb",
    cautions=(
        (
            "Measured on PostgreSQL in the place of YugabyteDB: the component is PostgreSQL's, version 2, under another "
            "name."
        ),
        *POSTGRESQL_V2.cautions,
    ),
)

MYSQL: Final = Profile(
    "state.mysql",
    "v1",
    "A",
    native="truthful",
    send_ttl="never",
    ghosts=True,
    bulk_pays=True,
    bulk_false_missing=True,
    shows_ttl=True,
    max_key=255,
    case_insensitive_keys=True,
    create_texts=("Error 1062",),
    retryable_texts=("Error 1213", "Error 1205"),
    # A key over the limit once daprd has put the app id in front of it, or with characters the table's character set lacks.
    invalid_texts=("Error 1406", "Error 1267", "Error 1366"),
    evidence="live",
    cautions=(
        (
            "Keys that differ only in case are one key, with the usual collation; a key has at most 255 characters with "
            "its 'app||' prefix."
        ),
        (
            "An expired row reads as missing and still refuses a create until the component sweeps it, so the toolkit "
            "sends no ttlInSeconds and expires keys by itself: 'occ sweep KEY...' removes what is left."
        ),
        RESTORE,
    ),
)

ORACLE: Final = Profile(
    "state.oracledatabase",
    "v1",
    "A",
    native="truthful",
    send_ttl="never",
    ghosts=True,
    bulk_pays=True,
    max_key=100,
    first_write="INTERNAL",
    create_texts=("ORA-00001",),
    cautions=(
        "Known from the component's source only.",
        "Expired rows are never collected and refuse a create for ever, so the toolkit sends no ttlInSeconds.",
        "A key has at most 100 characters with its 'app||' prefix.",
        RESTORE,
    ),
)

SQLSERVER_V1: Final = Profile(
    "state.sqlserver",
    "v1",
    "B",
    create="none",
    native="truthful",
    send_ttl="never",
    ghosts=True,
    max_key=200,
    case_insensitive_keys=True,
    first_write="INTERNAL",
    malformed_etag="INVALID_ARGUMENT",
    lies=frozenset({Call.CREATE}),
    multi_ignores=frozenset({Call.CREATE}),
    multi_conflict_texts=("no item was updated",),
    cautions=(
        (
            "There is no safe create: of several first-writes at once more than one can be answered OK. The toolkit "
            "updates existing keys and refuses whatever could create one."
        ),
        "A first-write with an ETag answers a conflict as INTERNAL; the toolkit sends the ETag alone.",
        (
            "ttlInSeconds of 0 or -1 expires a row at once, and an expired row lingers for an hour: the toolkit sends "
            "none."
        ),
        "Keys that differ only in case are usually one key; a key has at most 200 characters with its prefix.",
        RESTORE,
    ),
)

SQLSERVER_V2: Final = replace(SQLSERVER_V1, version="v2", bulk_pays=True, bulk_false_missing=True)

RELATIONAL: Final = (
    IN_MEMORY,
    SQLITE,
    POSTGRESQL_V1,
    POSTGRESQL_V2,
    COCKROACHDB_V2,
    YUGABYTEDB,
    MYSQL,
    ORACLE,
    SQLSERVER_V1,
    SQLSERVER_V2,
)
