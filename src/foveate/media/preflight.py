"""Reads a file's first bytes and its box headers before FFmpeg may allocate anything for it.

A few bytes of an MP4 can claim tens of millions of frames, and every FFmpeg-based reader then
builds an index of gigabytes. The claims are therefore counted here first. Files that name other
files, and encrypted ones, are refused by name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from foveate.core import LimitError, MediaError
from foveate.media.limits import Limits
from foveate.media.source import Reader

_MP4_STARTS = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof"}
_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"moof", b"traf", b"edts"}
_PLAYLISTS = (
    (b"#EXTM3U", "an HLS playlist"),
    (b"ffconcat", "a concat script"),
    (b"[playlist]", "a playlist"),
    (b"v=0", "an SDP description"),
    (b"RTSPtext", "a redirect to an address"),
    (b"SMIL", "a redirect to an address"),
)
_PICTURES = ((b"\x89PNG", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"BM", "BMP"), (b"II*\0", "TIFF"))
_MAX_BOXES = 1_000_000
_MAX_DEPTH = 12
_TABLE_CHUNK = 1 << 20


@dataclass
class _Claims:
    """What the boxes seen so far say there is."""

    boxes: int = 0
    samples: int = 0
    has_moov: bool = False


@dataclass(frozen=True)
class _Box:
    kind: bytes
    start: int  # of the payload
    end: int


def check(reader: Reader, limits: Limits) -> None:
    """Refuse what must not reach FFmpeg; leaves the reader at its start.

    Raises:
        MediaError: Text, a playlist, a file that names other files, an encrypted file.
        LimitError: An index with more frames than `limits.samples`.
    """
    head = reader.read(4096)
    _refuse_by_start(head, reader.label)
    if len(head) >= 8 and head[4:8] in _MP4_STARTS:
        claims = _Claims()
        size = reader.size()
        _walk(reader, 0, size, claims, limits, depth=0)
        if not claims.has_moov:
            raise MediaError(f"{reader.label}: truncated, the index (moov) is missing")
    reader.seek(0)


def _refuse_by_start(head: bytes, name: str) -> None:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for mark, what in _PLAYLISTS:
        if text.startswith(mark):
            raise MediaError(f"{name}: {what} that names other files or addresses, not a video")
    if text.startswith(b"<") and (b"<MPD" in head or b"<smil" in head or b"<asx" in head.lower()):
        raise MediaError(f"{name}: a playlist that names other files or addresses, not a video")
    for mark, what in _PICTURES:
        if head.startswith(mark):
            raise MediaError(f"{name}: a {what} picture, not a video")
    if head.strip(b"\0") == b"":
        raise MediaError(f"{name}: holds only zero bytes, not a video")
    if _is_text(head):
        raise MediaError(f"{name}: text, not a video")


def _is_text(head: bytes) -> bool:
    if head.startswith((b"YUV4MPEG2", b"DKIF")):
        return False
    try:
        # A cut at 4096 bytes may split a character: the last three bytes do not count.
        text = head[:-3].decode("utf-8") if len(head) > 3 else head.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\r\n\t\f" for c in text)


def _boxes(reader: Reader, start: int, end: int) -> Iterator[_Box]:
    """The boxes between two positions; a box that claims more than its parent ends with it."""
    at = start
    while at + 8 <= end:
        reader.seek(at)
        header = reader.read(16)
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
        if box.kind in _PARENTS:
            _walk(reader, box.start, box.end, claims, limits, depth + 1)
        elif box.kind == b"cmov":
            raise MediaError(f"{reader.label}: its header is compressed (cmov), which is refused")
        elif box.kind in (b"stsz", b"stz2", b"stts", b"ctts", b"trun"):
            _count(reader, box, claims, limits)
        elif box.kind == b"stsd":
            _check_encryption(reader, box)
        elif box.kind == b"dref":
            _check_references(reader, box)


def _count(reader: Reader, box: _Box, claims: _Claims, limits: Limits) -> None:
    """Add up what a sample table claims; fragments add to each other, tables stand alone."""
    reader.seek(box.start)
    data = reader.read(12)
    if len(data) < 12:
        return
    if box.kind == b"trun":
        claims.samples += int.from_bytes(data[4:8], "big")
        claimed = claims.samples
    elif box.kind in (b"stsz", b"stz2"):
        claimed = int.from_bytes(data[8:12], "big")
    else:
        claimed = _run_lengths(reader, box, limits.samples)
    if claimed > limits.samples:
        raise LimitError(
            f"{reader.label}: its index names {claimed} frames, the limit is {limits.samples}",
            "raise limits.samples if you trust the file",
        )


def _run_lengths(reader: Reader, box: _Box, enough: int) -> int:
    """Sum of the run lengths of an `stts` or `ctts` table, at least until it exceeds `enough`."""
    reader.seek(box.start + 8)
    left = min(int.from_bytes(_peek(reader, box.start + 4, 4), "big"), (box.end - box.start) // 8)
    total = 0
    reader.seek(box.start + 8)
    while left > 0 and total <= enough:
        data = reader.read(min(left * 8, _TABLE_CHUNK))
        data = data[: len(data) // 8 * 8]
        if not data:
            break
        total += sum(pair[0] for pair in struct.iter_unpack(">II", data))
        left -= len(data) // 8
    return total


def _peek(reader: Reader, at: int, count: int) -> bytes:
    reader.seek(at)
    return reader.read(count)


def _check_encryption(reader: Reader, box: _Box) -> None:
    for entry in _boxes(reader, box.start + 8, box.end):
        if entry.kind == b"encv":
            raise MediaError(f"{reader.label}: encrypted", "decrypt it first")


def _check_references(reader: Reader, box: _Box) -> None:
    """A data reference without the flag "in this file" names another file or address."""
    for entry in _boxes(reader, box.start + 8, box.end):
        flags = _peek(reader, entry.start, 4)
        if len(flags) == 4 and not flags[3] & 1:
            raise MediaError(f"{reader.label}: its frames lie in another file, which is refused")
