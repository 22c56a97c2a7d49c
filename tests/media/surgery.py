"""Byte surgery on media files, and streams written bit by bit."""

from __future__ import annotations

import struct
import zlib

PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf", b"dinf")


def box(kind: bytes, payload: bytes = b"") -> bytes:
    """One MP4 box."""
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def full(kind: bytes, payload: bytes) -> bytes:
    """One MP4 box with version and flags zero."""
    return box(kind, bytes(4) + payload)


def replace_box(data: bytes, kind: bytes, new: bytes, which: int = 0) -> bytes:
    """The file with one box replaced and the sizes of its parents mended.

    What lies behind the box moves: use it on files whose header comes last.
    """
    out, found = _replace(data, kind, new, [which])
    assert found, kind
    return out


def _replace(data: bytes, kind: bytes, new: bytes, left: list[int]) -> tuple[bytes, bool]:
    out, at, done = [], 0, False
    while at + 8 <= len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        whole = data[at : at + size] if size else data[at:]
        if name == kind and not done:
            if left[0] == 0:
                whole, done = new, True
            left[0] -= 1
        elif name in PARENTS and not done:
            inner, done = _replace(whole[8:], kind, new, left)
            whole = box(name, inner)
        out.append(whole)
        at += size or len(data)
    return b"".join(out), done


def find_box(data: bytes, kind: bytes) -> bytes:
    """The first box of that kind, by searching for its name."""
    at = data.index(kind) - 4
    return data[at : at + struct.unpack(">I", data[at : at + 4])[0]]


def patch(data: bytes, mark: bytes, offset: int, new: bytes) -> bytes:
    """The data with `new` written at `offset` from the end of the first `mark`."""
    at = data.index(mark) + len(mark) + offset
    return data[:at] + new + data[at + len(new) :]


class Bits:
    """Writes the bit strings of H.264 (Exp-Golomb codes, start codes, emulation bytes)."""

    def __init__(self) -> None:
        self.text = ""

    def u(self, value: int, width: int) -> Bits:
        """`width` bits."""
        self.text += f"{value:0{width}b}"
        return self

    def ue(self, *values: int) -> Bits:
        """Unsigned Exp-Golomb codes."""
        for value in values:
            code = f"{value + 1:b}"
            self.text += "0" * (len(code) - 1) + code
        return self

    def nal(self, head: int) -> bytes:
        """The bits as one NAL unit with start code."""
        text = self.text + "1"
        text += "0" * (-len(text) % 8)
        body = int(text, 2).to_bytes(len(text) // 8, "big")
        out, zeros = bytearray(), 0
        for byte in body:
            if zeros == 2 and byte <= 3:
                out.append(3)
                zeros = 0
            out.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return b"\0\0\0\1" + bytes([head]) + bytes(out)


def h264_skips(width: int, height: int, frames: int, references: int = 1) -> bytes:
    """A grey H.264 stream whose pictures after the first cost some ten bytes each.

    Args:
        width: Macroblocks in a row.
        height: Rows of macroblocks.
        frames: How many pictures.
        references: Pictures that the decoder is told to keep.
    """
    sps = Bits().u(66, 8).u(0, 8).u(62, 8).ue(0, 0, 2, references).u(0, 1)
    sps.ue(width - 1, height - 1).u(0b1100, 4)
    pps = Bits().ue(0, 0).u(0, 2).ue(0, 0, 0).u(0, 3).ue(0, 0, 0).u(0b100, 3)
    stream = [sps.nal(0x67), pps.nal(0x68)]
    key = Bits().ue(0, 7, 0).u(0, 4).ue(0).u(0, 2).ue(0, 1)
    # Intra 16x16, DC prediction, nothing left over: one byte for each macroblock.
    key.text += "00100111" * (width * height)
    stream.append(key.nal(0x65))
    for number in range(1, frames):
        # Slice type 5 (P); no list change, no marking; one run of skipped macroblocks.
        skip = Bits().ue(0, 5, 0).u(number % 16, 4).u(0, 3).ue(0, 1).ue(width * height)
        stream.append(skip.nal(0x61))
    return b"".join(stream)


def set_png_size(data: bytes, width: int, height: int) -> bytes:
    """A QuickTime file of PNG pictures that claim another size, with right checksums."""
    out = bytearray(data)
    at = out.find(b"IHDR")
    while at >= 0:
        out[at + 4 : at + 12] = struct.pack(">II", width, height)
        out[at + 17 : at + 21] = struct.pack(">I", zlib.crc32(out[at : at + 17]))
        at = out.find(b"IHDR", at + 4)
    entry = out.index(b"png ", out.index(b"stsd"))
    out[entry + 28 : entry + 32] = struct.pack(">HH", width & 0xFFFF, height & 0xFFFF)
    return bytes(out)
