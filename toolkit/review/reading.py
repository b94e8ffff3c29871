"""
Files to lines: plain or compressed, torn or foreign, several at once, never more than a chunk in memory.
"""

from __future__ import annotations

import glob
import gzip
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec

from toolkit.review.records import EVENT_NAMES

# Small enough that the records of a chunk stay in the processor's cache while they are counted.
CHUNK: Final = 64 * 1024
MAX_LINE: Final = 1024 * 1024
STDIN: Final = "-"
# What decoding a line that is no record can raise.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_IN_DIRECTORY: Final = ("*.jsonl", "*.jsonl.*", "*.log", "*.log.*", "*.ndjson", "*.json")


class InputError(Exception):
    """
    The files named cannot be read; the message says which and what to do.
    """


@dataclass(slots=True)
class Intake:
    """
    What was read, and what could not be.
    """

    files: list[str] = field(default_factory=list[str])
    bytes: int = 0
    lines: int = 0
    events: int = 0
    kept: int = 0
    torn: int = 0
    foreign: int = 0
    future: int = 0
    oversized: int = 0
    problems: list[str] = field(default_factory=list[str])

    def merge(self, other: Intake) -> None:
        """
        Add what another worker read of the same files.
        """
        for name in ("bytes", "lines", "events", "kept", "torn", "foreign", "future", "oversized"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.problems.extend(problem for problem in other.problems if problem not in self.problems)


class _Probe(msgspec.Struct):
    event: Any = None
    v: Any = None


class _When(msgspec.Struct):
    timestamp: str = ""


_PROBE: Final = msgspec.json.Decoder(_Probe)
_WHEN: Final = msgspec.json.Decoder(_When)


def classify(line: bytes, intake: Intake) -> None:
    """
    Count a line that is no record of ours: torn, of a later version, or somebody else's.
    """
    if not line.strip():
        return
    intake.lines += 1
    try:
        probe = _PROBE.decode(line)
    except msgspec.ValidationError:
        intake.foreign += 1
    except UNREADABLE:
        # Text that never was JSON is another program's line; a JSON object cut short is torn.
        if line.lstrip()[:1] == b"{":
            intake.torn += 1
        else:
            intake.foreign += 1
    else:
        later = isinstance(probe.v, int) and probe.v > 1 and str(probe.event).startswith("occ.")
        if later:
            intake.future += 1
        elif probe.event in EVENT_NAMES:
            intake.torn += 1
        else:
            intake.foreign += 1


def expand(names: Sequence[str]) -> list[str]:
    """
    Turn files, directories and globs into files, each once by whatever names; ``-`` stays standard input.

    Raises:
        InputError: One of them names nothing.
    """
    found: dict[str, None] = {}
    for name in names:
        path = Path(name)
        if name == STDIN or path.is_file() or path.is_fifo():
            found[name] = None
        elif path.is_dir():
            inside = sorted(
                {str(one) for pattern in _IN_DIRECTORY for one in path.glob(pattern) if one.is_file()}
            )
            if not inside:
                raise InputError(f"{name} is a directory without a conflict log (*.jsonl, *.log, also .gz)")
            found.update(dict.fromkeys(inside))
        elif matches := sorted(glob.glob(name, recursive=True)):  # noqa: PTH207 - the pattern may be absolute
            found.update(dict.fromkeys(matches))
        else:
            raise InputError(
                f"{name}: no such file; a running process writes one where OCC_LOG or log_to says"
            )
    real: dict[str, str] = {}
    for name in found:
        real.setdefault(name if name == STDIN else os.path.realpath(name), name)
    return list(real.values())


def open_binary(name: str) -> tuple[IO[bytes], tuple[type[Exception], ...]]:
    """
    Open one file for reading bytes, decompressing by what it contains rather than by its name.

    Answers the file and what reading it can raise.

    Raises:
        OSError: It cannot be opened.
        InputError: It needs a library that is not installed.
    """
    if name == STDIN:
        return sys.stdin.buffer, (OSError,)
    raw = Path(name).open("rb")  # noqa: SIM115 - the caller closes it
    head = raw.read(4) if raw.seekable() else b""
    if head:
        raw.seek(0)
    if head[:2] == b"\x1f\x8b":
        raw.close()
        return cast("IO[bytes]", gzip.open(name)), (EOFError, OSError, zlib.error)
    if head == b"\x28\xb5\x2f\xfd":
        return _open_zstd(raw, name)
    return raw, (OSError,)


def _open_zstd(raw: IO[bytes], name: str) -> tuple[IO[bytes], tuple[type[Exception], ...]]:
    try:
        import zstandard
    except ImportError:
        raw.close()
        raise InputError(
            f"{name} is compressed with zstd: pip install zstandard, or unpack it first"
        ) from None
    reader = cast("IO[bytes]", zstandard.ZstdDecompressor().stream_reader(raw, closefd=True))
    return reader, (OSError, zstandard.ZstdError)


class Source:
    """
    One file as blocks of whole lines.
    """

    def __init__(self, name: str, intake: Intake, *, start: int = 0, stop: int | None = None) -> None:
        self.name, self._intake = name, intake
        self._file, self._broken = open_binary(name)
        self._left = None if stop is None else stop - start
        if start:
            self._file.seek(start)

    def blocks(self) -> Iterator[bytes]:
        """
        Yield blocks of whole lines; the last line counts without its newline, a line over 1 MB is counted and skipped.
        """
        intake, carry, skipping = self._intake, b"", False
        while chunk := self._read():
            intake.bytes += len(chunk)
            if skipping:
                end = chunk.find(b"\n") + 1
                if not end:
                    continue
                chunk, skipping = chunk[end:], False
            end = chunk.rfind(b"\n") + 1
            if end:
                yield carry + chunk[:end]
                carry = chunk[end:]
            else:
                carry += chunk
            if len(carry) > MAX_LINE:
                intake.oversized += 1
                intake.lines += 1
                carry, skipping = b"", True
        if carry:
            yield carry
        self.close()

    def close(self) -> None:
        """
        Close the file; standard input stays open.
        """
        if self.name != STDIN:
            self._file.close()

    def _read(self) -> bytes:
        size = CHUNK if self._left is None else min(CHUNK, self._left)
        try:
            chunk = self._file.read(size)
        except self._broken as error:
            self._intake.problems.append(
                f"{self.name}: {str(error) or 'ends in the middle'}; read up to there"
            )
            return b""
        if self._left is not None:
            self._left -= len(chunk)
        return chunk


def first_time(block: bytes) -> str:
    """
    The timestamp of the first line that has one.
    """
    begin = 0
    while begin < len(block):
        end = block.find(b"\n", begin)
        line, begin = (block[begin:], len(block)) if end < 0 else (block[begin:end], end + 1)
        try:
            when = _WHEN.decode(line).timestamp
        except UNREADABLE:
            continue
        if when:
            return when
    return ""


def merged(sources: Sequence[Source]) -> Iterator[tuple[str, bytes]]:
    """
    Blocks of all sources, the one that begins earliest first; with each the time up to which all have been read.
    """
    if len(sources) == 1:
        for block in sources[0].blocks():
            yield first_time(block), block
        return
    heap: list[tuple[str, int, bytes]] = []
    streams = [source.blocks() for source in sources]

    def push(index: int) -> None:
        block = next(streams[index], None)
        if block is not None:
            heappush(heap, (first_time(block), index, block))

    for index in range(len(streams)):
        push(index)
    while heap:
        when, index, block = heappop(heap)
        yield when, block
        push(index)


class Decoding:
    """
    Blocks of lines to records; what is none is counted in *intake*.

    A whole block is decoded at once. A block with a line that is no record is decoded again line by line, and so are
    those after it until one is clean.
    """

    def __init__(self, intake: Intake, decoder: msgspec.json.Decoder[Any]) -> None:
        self._intake, self._decoder = intake, decoder
        self._dirty = False

    def records(self, block: bytes) -> list[Any]:
        """
        The records of a block, in order.
        """
        if not self._dirty:
            try:
                return self._decoder.decode_lines(block)
            except UNREADABLE:
                # Which line it was is found out below.
                self._dirty = True
        return self.one_by_one(block, self._decoder.decode)

    def one_by_one(self, block: bytes, decode: Callable[[bytes], Any]) -> list[Any]:
        """
        The same for a *decode* that may answer None for a record nobody asked for.
        """
        found: list[Any] = []
        self._dirty = False
        for line in block.split(b"\n"):
            try:
                found.append(decode(line))
            except UNREADABLE:
                if line:
                    self._dirty = True
                    classify(line, self._intake)
        return found


def open_sources(names: Sequence[str], intake: Intake) -> list[Source]:
    """
    Open all files; one that has vanished meanwhile is named in the footer, not an error.
    """
    sources: list[Source] = []
    for name in names:
        try:
            sources.append(Source(name, intake))
            intake.files.append(name)
        except OSError as error:
            intake.problems.append(f"{name}: {error.strerror or error}; left out")
    return sources
