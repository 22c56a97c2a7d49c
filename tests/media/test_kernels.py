"""Compiled loops and NumPy give the same bits, on real pictures and on rows no encoder writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clips import encode
from foveate.media.compressed import CellMotion, CompressedVideo, PixelMotion
from foveate.media.vectors import kernels as module
from foveate.media.vectors.grid import grid_shape, paint
from foveate.media.vectors.kernels import Kernels, kernels
from foveate.media.vectors.reader import VectorReader
from foveate.media.vectors.rows import ROW

SIZES = ((340, 256), (50, 33), (16, 16), (7, 5))


@pytest.fixture(scope="module")
def compiled() -> Kernels:
    pytest.importorskip("numba", reason="the extra `fast` is not installed")
    loops = kernels(True)
    assert loops is not None
    return loops


def wild_rows(random: np.random.Generator, count: int) -> np.ndarray:
    """Rows that lie anywhere, of any size, of both directions, one over the other."""
    rows = np.zeros(count, ROW)
    rows["source"] = random.integers(-2, 3, count)
    for name in ("w", "h"):
        rows[name] = random.choice([0, 4, 8, 16, 16, 255], count)
    for name in ("dst_x", "dst_y"):
        rows[name] = random.choice([-32768, -8, 4, 8, 20, 24, 40, 250, 32767], count)
    for name in ("motion_x", "motion_y"):
        rows[name] = random.integers(-(2**31), 2**31, count) >> random.integers(0, 31, count)
    rows["motion_scale"] = random.choice([0, 1, 2, 3, 4, 8, 65535], count)
    return rows


@pytest.mark.parametrize("size", SIZES)
def test_painting_is_the_same(compiled: Kernels, size: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    for count in (1, 7, 300):
        rows = wild_rows(random, count)
        plain, fast = paint(rows, *size), paint(rows, *size, compiled)
        assert plain[1].any() or count < 300
        for a, b in zip(plain, fast, strict=True):
            assert np.array_equal(a, b)


def test_the_later_row_stays(compiled: Kernels) -> None:
    rows = np.zeros(3, ROW)
    rows["source"], rows["w"], rows["h"], rows["motion_scale"] = -1, [16, 8, 16], [16, 8, 8], 2
    rows["dst_x"], rows["dst_y"] = [8, 12, 8], [8, 12, 4]
    rows["motion_x"] = [2, 4, 6]
    for loops in (None, compiled):
        motion, _ = paint(rows, 16, 16, loops)
        assert motion[0, ..., 0].tolist() == [[3, 3], [1, 2]]


@pytest.mark.parametrize("size", SIZES)
def test_accumulation_is_the_same(compiled: Kernels, size: tuple[int, int]) -> None:
    random = np.random.default_rng(2)
    down, across = grid_shape(*size)
    cells = CellMotion(*size), CellMotion(*size, compiled)
    pixels = PixelMotion(*size), PixelMotion(*size, compiled)
    moved = False
    for number in range(40):
        if number % 10 == 0:
            for motion in (*cells, *pixels):
                motion.reset()
        scale = random.choice([0.5, 3, 40, 1e6], (down, across, 1))
        step = (random.normal(size=(down, across, 2)) * scale).astype(np.float32)
        valid = random.random((down, across)) < 0.8
        step[random.random((down, across)) < 0.5] = 0
        step[~valid] = 0  # as painted
        for motion in (*cells, *pixels):
            motion.follow(step, valid)
        assert np.array_equal(cells[0].motion, cells[1].motion)
        assert np.array_equal(pixels[0].places, pixels[1].places)
        assert np.array_equal(pixels[0].motion, pixels[1].motion)
        moved |= bool(pixels[0].motion.any())
    assert moved


@pytest.mark.parametrize("form", ["cells", "pixels"])
def test_whole_readings_are_the_same(compiled: Kernels, form: str) -> None:
    data = encode("matroska", "mpeg4", 30, size=(168, 136), gop=12)
    wanted = {0: range(12), 2: [3]}
    plain = list(CompressedVideo(data, fast=False).vectors(wanted, form))
    fast = list(CompressedVideo(data, fast=True).vectors(wanted, form))
    assert len(plain) == len(fast) == 13
    for a, b in zip(plain, fast, strict=True):
        assert np.array_equal(a.motion, b.motion)
        assert np.array_equal(a.valid, b.valid)
    with VectorReader(data, fast=False) as one, VectorReader(data, fast=True) as other:
        for a, b in zip(one.fields(), other.fields(), strict=True):
            assert np.array_equal(a.motion, b.motion)
            assert np.array_equal(a.valid, b.valid)


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["h264", "mpeg4_part2"])
def test_a_real_clip_is_read_the_same(compiled: Kernels, shared: Path, kind: str) -> None:
    path = shared / "data" / "motion-vectors" / kind / "street.mp4"
    wanted = {0: range(60)}
    for form in ("cells", "pixels"):
        plain = CompressedVideo(path, fast=False).vectors(wanted, form)
        fast = CompressedVideo(path, fast=True).vectors(wanted, form)
        for a, b in zip(plain, fast, strict=True):
            assert np.array_equal(a.motion, b.motion)


def test_short_readings_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def load() -> None:
        called.append("loaded")

    load.cache_info = lambda: type("Info", (), {"currsize": 0})  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "_compiled", load)
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    kernels(None, 100)
    kernels(False, 10**6)
    assert not called
    kernels(None, 10**6)
    kernels(True)
    assert called == ["loaded"] * 2
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert kernels(True) is None
