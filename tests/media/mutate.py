"""A seeded mutator for media files: flips, lost and repeated chunks, lies in lengths, splices."""

from __future__ import annotations

import numpy as np

_LENGTHS = (0, 1, 7, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutate(data: bytes, other: bytes, seed: int) -> bytes:
    """One mutant: one to four changes, the same for the same seed.

    Args:
        data: The file to change.
        other: A file to splice from.
        seed: Chooses the changes.
    """
    random = np.random.default_rng(seed)
    out = bytearray(data)
    for _ in range(int(random.integers(1, 5))):
        if len(out) < 64:
            break
        _CHANGES[int(random.integers(len(_CHANGES)))](out, other, random)
    return bytes(out)


def _place(out: bytearray, random: np.random.Generator) -> int:
    """A place to change; half of them near the ends, where the headers are."""
    kind = int(random.integers(4))
    near = min(len(out), 2048)
    if kind == 0:
        return int(random.integers(near))
    if kind == 1:
        return len(out) - 1 - int(random.integers(near))
    return int(random.integers(len(out)))


def _flip(out: bytearray, other: bytes, random: np.random.Generator) -> None:
    for _ in range(int(random.integers(1, 20))):
        out[_place(out, random)] ^= 1 << int(random.integers(8))


def _delete(out: bytearray, other: bytes, random: np.random.Generator) -> None:
    at = _place(out, random)
    del out[at : at + int(random.integers(1, 400))]


def _repeat(out: bytearray, other: bytes, random: np.random.Generator) -> None:
    at = _place(out, random)
    piece = out[at : at + int(random.integers(1, 400))]
    out[at:at] = piece * int(random.integers(1, 4))


def _length(out: bytearray, other: bytes, random: np.random.Generator) -> None:
    at = min(_place(out, random), len(out) - 8)
    value = _LENGTHS[int(random.integers(len(_LENGTHS)))]
    size = (2, 4, 8)[int(random.integers(3))]
    order = "big" if random.integers(2) else "little"
    out[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, order)


def _splice(out: bytearray, other: bytes, random: np.random.Generator) -> None:
    if len(other) < 64:
        return
    start = int(random.integers(len(other) - 32))
    piece = other[start : start + int(random.integers(8, 2000))]
    at = _place(out, random)
    out[at : at + len(piece)] = piece


def _cut(out: bytearray, other: bytes, random: np.random.Generator) -> None:
    del out[int(random.integers(32, len(out))) :]


_CHANGES = (_flip, _flip, _delete, _repeat, _length, _length, _splice, _cut)
