"""
A store in a dictionary: the smallest world, for the tests of the instruments alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.core.model import MISSING_ROW, OK, Reply, Row, Write

CONFLICT = Reply("ABORTED", "etag mismatch")


class DictWorld:
    """
    Compare-and-set on counting ETags; everything is truthful.
    """

    def __init__(self, rows: dict[str, bytes] | None = None) -> None:
        self.rows = {key: Row(data, "1") for key, data in (rows or {}).items()}
        self.version = 1
        self.elapsed = 0.0

    def get(self, key: str) -> Row:
        return self.rows.get(key, MISSING_ROW)

    def put(self, write: Write) -> Reply:
        return self.multi([write])

    def multi(self, writes: Sequence[Write]) -> Reply:
        for write in writes:
            row = self.get(write.key)
            if (write.etag is not None and row.etag != write.etag) or (write.first_write and not row.missing):
                return CONFLICT
        for write in writes:
            self.version += 1
            if write.data is None:
                self.rows.pop(write.key, None)
            else:
                self.rows[write.key] = Row(write.data, str(self.version))
        return OK

    def advance(self, seconds: float) -> None:
        self.elapsed += seconds
