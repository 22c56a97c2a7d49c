"""Walks the boxes of an MP4 or QuickTime file and adds up what its index claims.

FFmpeg makes 24 to 60 bytes of every frame that an index names, and an index can name frames
without listing them: a constant size with a count, runs of equal durations, fragments that leave
everything to defaults, edit lists that play the whole film again and again, sound in chunks of
millions of samples. Box layouts are those of ISO/IEC 14496-12 and QuickTime.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice

from foveate.core import LimitError, MediaError
from foveate.media.limits import Limits
from foveate.media.source import Reader

# Boxes in whose payload FFmpeg looks for further boxes.
_PARENTS = frozenset(
    b"moov trak mdia minf stbl dinf moof traf edts mvex udta wave gmhd sinf schi tapt matt tref "
    b"iprp ipco strk strd ilst ipro rinf hnti".split()
)
_TELLING = frozenset(
    b"trun stsz stz2 stts ctts hdlr elst stco co64 stsc cmov free hoov dref".split()
)
_MAX_BOXES = 1_000_000
_MAX_DEPTH = 12
_TABLE_CHUNK = 1 << 20
_ENTRY_HEADS = (28, 44, 64, 78)  # bytes of a sample entry before its boxes: sound v0-v2, picture
_SOUND_HANDLERS = frozenset([b"soun", b"alis", b"url ", b"mdir", b"mdta"])
_SOUND_SAMPLES = 256  # sound samples that FFmpeg puts behind one index entry, roughly


@dataclass
class _Track:
    """What the tables of one track claim."""

    samples: int = 0
    edits: int = 0
    chunks: int = 0
    handlers: set[bytes] = field(default_factory=set)
    durations: list[tuple[int, ...]] = field(
        default_factory=list
    )  # the first runs of (count, ticks)
    runs: list[tuple[int, int]] = field(default_factory=list)  # (first chunk, samples per chunk)

    def entries(self) -> int:
        """Index entries that FFmpeg may make of the track."""
        in_chunks = 0
        for at, (first, count) in enumerate(self.runs):
            end = self.runs[at + 1][0] if at + 1 < len(self.runs) else self.chunks + 1
            in_chunks += max(0, min(end, self.chunks + 1) - first) * count
        samples = 0 if self._is_plain_sound() else self.samples
        return max(samples * max(1, self.edits), in_chunks // _SOUND_SAMPLES)

    def _is_plain_sound(self) -> bool:
        """Whether its samples are single sound samples, which FFmpeg indexes by chunk."""
        return (
            b"soun" in self.handlers
            and self.handlers <= _SOUND_HANDLERS
            and [run[1] for run in self.durations] == [1]
        )


@dataclass
class _Claims:
    """What the boxes seen so far say there is."""

    boxes: int = 0
    in_fragments: int = 0
    has_moov: bool = False
    tracks: list[_Track] = field(default_factory=lambda: [_Track()])


@dataclass(frozen=True)
class _Box:
    kind: bytes
    start: int  # of the payload
    end: int


def walk(reader: Reader, limits: Limits) -> bool:
    """Check all boxes of a file.

    Returns:
        Whether there is an index.

    Raises:
        MediaError: Encrypted pictures, a compressed header, frames in another file.
        LimitError: More frames than `limits.samples`, or boxes without end.
    """
    claims = _Claims()
    _walk(reader, 0, reader.size(), claims, limits, depth=0)
    claimed = claims.in_fragments + sum(track.entries() for track in claims.tracks)
    if claimed > limits.samples:
        raise LimitError(
            f"{reader.label}: its index names {claimed} frames, the limit is {limits.samples}",
            "raise limits.samples if you trust the file",
        )
    return claims.has_moov


def _boxes(reader: Reader, start: int, end: int) -> Iterator[_Box]:
    """The boxes between two positions; a box that claims more than its parent ends with it."""
    at = start
    while at + 8 <= end:
        header = _peek(reader, at, 16)
        if len(header) < 8:
            return
        size, kind = struct.unpack(">I4s", header[:8])
        skip = 8
        if size == 1 and len(header) == 16:
            size = struct.unpack(">Q", header[8:])[0]
            skip = 16
        elif size == 0:
            size = end - at
        if size < skip:
            return
        yield _Box(kind, at + skip, min(at + size, end))
        at += size


def _walk(
    reader: Reader, start: int, end: int, claims: _Claims, limits: Limits, depth: int
) -> None:
    for box in _boxes(reader, start, end):
        claims.boxes += 1
        if claims.boxes > _MAX_BOXES or depth > _MAX_DEPTH:
            raise LimitError(f"{reader.label}: more than {_MAX_BOXES} boxes, or nested too deep")
        claims.has_moov |= box.kind in (b"moov", b"moof")
        if box.kind == b"trak":
            claims.tracks.append(_Track())
        if box.kind in _PARENTS:
            _walk(reader, box.start, box.end, claims, limits, depth + 1)
        elif box.kind == b"meta":
            # The same name stands for two layouts, with and without four bytes of version.
            skip = 4 if _peek(reader, box.start, 4) == bytes(4) else 0
            _walk(reader, box.start + skip, box.end, claims, limits, depth + 1)
        elif box.kind == b"stsd":
            _walk_entries(reader, box, claims, limits, depth + 1)
        elif box.kind in _TELLING:
            _inspect(reader, box, claims, limits)


def _walk_entries(reader: Reader, box: _Box, claims: _Claims, limits: Limits, depth: int) -> None:
    for entry in _boxes(reader, box.start + 8, box.end):
        if entry.kind == b"encv":
            raise MediaError(f"{reader.label}: encrypted", "decrypt it first")
        for head in _ENTRY_HEADS:
            _walk(reader, entry.start + head, entry.end, claims, limits, depth)


def _inspect(reader: Reader, box: _Box, claims: _Claims, limits: Limits) -> None:
    track = claims.tracks[-1]
    counts = _peek(reader, box.start, 12).ljust(12, b"\0")
    second, third = struct.unpack(">II", counts[4:])
    if box.kind == b"trun":
        claims.in_fragments += second
    elif box.kind in (b"stsz", b"stz2"):
        track.samples = max(track.samples, third)
    elif box.kind in (b"stts", b"ctts"):
        rows: Iterable[tuple[int, ...]] = _table(reader, box, ">II")
        if box.kind == b"stts":
            first = list(islice(rows, 2))
            track.durations += first
            rows = chain(first, rows)
        track.samples = max(track.samples, _sum(rows, limits.samples))
    elif box.kind == b"hdlr":
        track.handlers.add(counts[8:])
    elif box.kind == b"elst":
        track.edits += min(second, (box.end - box.start) // 12)
    elif box.kind in (b"stco", b"co64"):
        track.chunks = max(track.chunks, min(second, (box.end - box.start) // 4))
    elif box.kind == b"stsc":
        track.runs += [(first, count) for first, count, _ in _table(reader, box, ">III")]
    elif box.kind == b"cmov" or (
        # FFmpeg also looks for a header that was hidden in free space.
        box.kind in (b"free", b"hoov") and counts[4:8] in (b"mvhd", b"cmov")
    ):
        raise MediaError(f"{reader.label}: its header is compressed or hidden, which is refused")
    elif box.kind == b"dref":
        _check_references(reader, box)


def _table(reader: Reader, box: _Box, layout: str) -> Iterator[tuple[int, ...]]:
    """Rows of a table behind eight bytes of version and count, as far as the file holds them."""
    size = struct.calcsize(layout)
    count = int.from_bytes(_peek(reader, box.start + 4, 4), "big")
    left, at = min(count, (box.end - box.start - 8) // size), box.start + 8
    while left > 0:
        data = _peek(reader, at, min(left * size, _TABLE_CHUNK // size * size))
        data = data[: len(data) // size * size]
        if not data:
            return
        yield from struct.iter_unpack(layout, data)
        at += len(data)
        left -= len(data) // size


def _sum(rows: Iterable[tuple[int, ...]], enough: int) -> int:
    """Sum of the run lengths of a table, at least until it exceeds `enough`."""
    total = 0
    for row in rows:
        total += row[0]
        if total > enough:
            break
    return total


def _peek(reader: Reader, at: int, count: int) -> bytes:
    reader.seek(at)
    return reader.read(count)


def _check_references(reader: Reader, box: _Box) -> None:
    """A data reference without the flag "in this file" names another file or address."""
    for entry in _boxes(reader, box.start + 8, box.end):
        flags = _peek(reader, entry.start, 4)
        if len(flags) == 4 and not flags[3] & 1:
            raise MediaError(f"{reader.label}: its frames lie in another file, which is refused")
