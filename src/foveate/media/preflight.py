"""Reads a file's first bytes and its box headers before FFmpeg may allocate anything for it.

A few bytes of an MP4 can claim tens of millions of frames, and every FFmpeg-based reader then
builds an index of gigabytes (see `boxes`). The claims are therefore counted here first. Files that
name other files, and encrypted ones, are refused by name.
"""

from __future__ import annotations

from foveate.core import MediaError
from foveate.media.boxes import walk
from foveate.media.limits import Limits
from foveate.media.source import Reader

# What FFmpeg takes for the start of an MP4 or QuickTime file.
_MP4_STARTS = frozenset(
    b"ftyp moov mdat free skip wide pnot styp moof uuid junk pict prfl sidx emsg prft ssix".split()
)
_PLAYLISTS = (
    (b"#EXTM3U", "an HLS playlist"),
    (b"ffconcat", "a concat script"),
    (b"[playlist]", "a playlist"),
    (b"v=0", "an SDP description"),
    (b"RTSPtext", "a redirect to an address"),
    (b"SMIL", "a redirect to an address"),
)
_PICTURES = ((b"\x89PNG", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"BM", "BMP"), (b"II*\0", "TIFF"))
_OTHERS = (
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a compressed file"),
    (b"Rar!\x1a", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"version https://git-lfs", "a Git LFS pointer"),
)
_PAGES = (b"<!doctype", b"<html")
_JOIN = b"\xff\xd9\xff\xd8"  # the end of one JPEG picture and the start of the next


def check(reader: Reader, limits: Limits) -> bool:
    """Refuse what must not reach FFmpeg; leaves the reader at its start.

    Returns:
        Whether it is an MP4-like file. Only those may be opened as one: others were not walked.

    Raises:
        MediaError: Text, a playlist, a file that names other files, an encrypted file.
        LimitError: An index with more frames than `limits.samples`.
    """
    head = reader.read(4096)
    reader.check()
    _refuse_by_start(head, reader)
    boxed = len(head) >= 8 and head[4:8] in _MP4_STARTS
    complete = not boxed or walk(reader, limits)
    reader.check()
    if not complete:
        raise MediaError(f"{reader.label}: truncated, the index (moov) is missing")
    reader.seek(0)
    return boxed


def _refuse_by_start(head: bytes, reader: Reader) -> None:
    name = reader.label
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for mark, what in _PLAYLISTS:
        if text.startswith(mark):
            raise MediaError(f"{name}: {what} that names other files or addresses, not a video")
    if text.startswith(b"<") and any(
        mark in head.lower() for mark in (b"<mpd", b"<smil", b"<asx", b"<playlist")
    ):
        raise MediaError(f"{name}: a playlist that names other files or addresses, not a video")
    for mark, what in _PICTURES:
        if head.startswith(mark) and not _is_animated(head, what, reader):
            raise MediaError(f"{name}: a {what} picture, not a video")
    for mark, what in _OTHERS:
        if head.startswith(mark):
            raise MediaError(f"{name}: {what}, not a video")
    if head.strip(b"\0") == b"":
        raise MediaError(f"{name}: holds only zero bytes, not a video")
    if text.lower().startswith(_PAGES):
        raise MediaError(f"{name}: a web page, not a video")
    if _is_text(head):
        raise MediaError(f"{name}: text, not a video")


def _is_animated(head: bytes, what: str, reader: Reader) -> bool:
    """Whether what starts like a picture is a row of them: an animated PNG, or Motion JPEG.

    Two joined JPEGs are what some telephones write for one photograph; a film has more.
    """
    if what == "JPEG":
        return (head + reader.read(1 << 20)).count(_JOIN) > 1
    return what == "PNG" and b"acTL" in head


def _is_text(head: bytes) -> bool:
    if head.startswith((b"YUV4MPEG2", b"DKIF")):
        return False
    try:
        # A cut at 4096 bytes may split a character: the last three bytes do not count.
        text = head[:-3].decode("utf-8") if len(head) > 3 else head.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\r\n\t\f" for c in text)
