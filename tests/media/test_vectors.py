"""Motion vectors: exact rows, known motion, conventions of sign and scale, bounded memory."""

from __future__ import annotations

import gc
import itertools
import math
from functools import cache

import av
import cv2
import numpy as np
import pytest

from clips import encode
from foveate.core import MediaError
from foveate.media.container import open_video
from foveate.media.limits import Limits
from foveate.media.source import opener
from foveate.media.vectors.gops import read_table
from foveate.media.vectors.grid import CELL, grid_shape, paint
from foveate.media.vectors.reader import VectorReader, probe
from foveate.media.vectors.rows import ROW, check_threads

SIZE = (176, 144)
STEP = (3.0, -2.0)  # pixels per frame by which everything moves
P_ONLY = {"refs": "1", "weightp": "0", "sc_threshold": "0"}


@cache
def wallpaper() -> np.ndarray:
    random = np.random.default_rng(3)
    rough = random.integers(0, 256, (60, 80, 3)).astype(np.uint8)
    return cv2.GaussianBlur(cv2.resize(rough, (640, 480), interpolation=cv2.INTER_CUBIC), (5, 5), 0)


def pan(number: int, size: tuple[int, int]) -> np.ndarray:
    """A window that goes over a wallpaper, so that the picture moves by `STEP` a frame."""
    x, y = 200 - STEP[0] * number, 150 - STEP[1] * number
    return wallpaper()[int(y) : int(y) + size[1], int(x) : int(x) + size[0]]


def squares(number: int, size: tuple[int, int]) -> np.ndarray:
    """Four textured squares that go their own ways over a wallpaper at rest."""
    out = wallpaper()[: size[1], : size[0]].copy()
    for at, (vx, vy) in enumerate([(2, 1), (-2, 1), (1, -2), (-1, -1)]):
        x, y = 24 + 72 * (at % 2) + vx * (number % 12), 24 + 52 * (at // 2) + vy * (number % 12)
        out[y : y + 40, x : x + 40] = wallpaper()[300 + 40 * at : 340 + 40 * at, 300:340]
    return out


@cache
def panned(codec: str = "libx264", bframes: int = 0, gop: int = 12, **options: str) -> bytes:
    container = "flv" if codec == "flv" else "matroska"
    extra = options or (P_ONLY if codec == "libx264" and not bframes else None)
    return encode(
        container, codec, 40, size=SIZE, gop=gop, bframes=bframes, options=extra, draw=pan
    )


def fields_of(data: bytes, **options) -> list:
    with VectorReader(data) as reader:
        return list(reader.fields(**options))


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["h264", "mpeg4_part2"])
def test_rows_are_those_of_the_reference_reader(shared, kind) -> None:
    folder = shared / "data" / "motion-vectors" / kind
    expected = np.load(folder / "vectors_first48.npz")
    kinds = (folder / "frame_types.txt").read_text("utf-8").split()
    with VectorReader(folder / "street.mp4") as reader:
        for number, field in enumerate(reader.fields(end=47 / 25, rows=True)):
            rows = np.zeros((0, 10), np.int32)
            if field.rows is not None:
                rows = np.stack([field.rows[name] for name in ROW.names], 1).astype(np.int32)
            assert np.array_equal(rows, expected[f"frame_{number:03d}"]), number
            assert field.kind == kinds[number]
    assert number == 47


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "mpeg2video", "flv"])
def test_known_motion_comes_back_in_sign_and_scale(codec) -> None:
    fields = fields_of(panned(codec))
    assert len(fields) == 40
    assert [f.kind for f in fields[:13]] == ["I", *"PPPPPPPPPPP", "I"]
    # FFmpeg exports nothing for the last picture of MPEG-1 and MPEG-2, which is flushed out.
    for field in fields[:-1] if codec == "mpeg2video" else fields:
        if field.kind == "I":
            assert not field.valid.any()
            continue
        assert field.valid[0].mean() > 0.7
        assert not field.valid[1].any()
        motion = np.median(field.motion[0][field.valid[0]], axis=0)
        assert motion == pytest.approx([-STEP[0], -STEP[1]], abs=0.5)
        flow, known = field.flow()
        assert np.median(flow[known], axis=0) == pytest.approx(STEP, abs=0.5)


@pytest.mark.parametrize("pyramid", ["none", "normal"])
def test_b_frames_are_normalised_by_picture_distance(pyramid) -> None:
    data = panned("libx264", 3, 40, **{"b-pyramid": pyramid, "refs": "3", "b_strategy": "0"})
    fields = fields_of(data)
    kinds = [f.kind for f in fields]
    assert kinds.count("B") > 15
    assert any(f.distance[0] > 1 for f in fields)
    for field in fields[1:]:
        flow, known = field.flow()
        assert known.mean() > 0.6
        assert np.median(flow[known], axis=0) == pytest.approx(STEP, abs=0.5), field.distance
    # Without the distances, P-frames behind three B-frames would look four times as fast.
    far = [f for f in fields if f.kind == "P" and f.distance[0] == 4]
    assert far
    raw = np.median(far[0].motion[0][far[0].valid[0]], axis=0)
    assert raw == pytest.approx([-4 * STEP[0], -4 * STEP[1]], abs=0.5)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    inner = (slice(24, -24), slice(24, -24))
    return 10 * math.log10(255**2 / max(np.mean((a[inner] - b[inner]) ** 2), 1e-3))


def test_the_convention_predicts_the_picture() -> None:
    """correct > corner > copy > flip, by a decibel at least (compressed-domain spec, section 9)."""
    data = encode("matroska", "mpeg4", 24, size=SIZE, draw=squares)
    fields = fields_of(data, frames=True)
    luma = [f.frame.to_ndarray(format="gray").astype(np.float32) for f in fields]
    scores = {"correct": [], "corner": [], "copy": [], "flip": []}
    ys, xs = np.mgrid[: SIZE[1], : SIZE[0]].astype(np.float32)
    for before, now, field in zip(luma, luma[1:], fields[1:], strict=False):
        if field.kind != "P":
            continue
        dense = field.motion[0].repeat(CELL, 0).repeat(CELL, 1)[: SIZE[1], : SIZE[0]]
        corner = np.zeros_like(dense)  # what it looks like if `dst` were the corner of a block
        corner[8:, 8:] = dense[:-8, :-8]
        for name, motion in (
            ("correct", dense), ("corner", corner), ("copy", 0 * dense), ("flip", -dense),
        ):  # fmt: skip
            warped = cv2.remap(before, xs + motion[..., 0], ys + motion[..., 1], cv2.INTER_LINEAR)
            scores[name].append(psnr(warped, now))
    order = [np.mean(scores[name]) for name in ("correct", "corner", "copy", "flip")]
    assert all(a > b + 1 for a, b in itertools.pairwise(order)), order


def test_seeking_threads_and_skipped_pixels_change_no_vector() -> None:
    data = panned("libx264", 2, 12)
    whole = fields_of(data)
    with VectorReader(data, pixels=False, threads=2) as reader:
        for start in (30, 5, 6, 25, 11):
            for at, field in enumerate(reader.fields(start / 25, (start + 3) / 25), start):
                assert field.time == pytest.approx(at / 25)
                assert np.array_equal(field.motion, whole[at].motion)
                assert np.array_equal(field.valid, whole[at].valid)
            assert at == start + 3
    with VectorReader(data, pixels=False) as reader, pytest.raises(ValueError, match="pixels"):
        next(reader.fields(frames=True))


def test_no_vectors_is_said_and_never_zeros() -> None:
    assert probe(panned()) is None
    assert "vp9 video gives no motion vectors" in probe(panned("libvpx-vp9"))
    assert "all intra" in probe(panned("libx264", 0, 1))
    with pytest.raises(MediaError, match="no motion vectors"):
        VectorReader(panned("libvpx-vp9"))
    with pytest.raises(MediaError):
        probe(b"no video at all")


def test_a_second_key_frame_at_once_does_not_mean_no_vectors() -> None:
    clip = encode("h264", frames=1) + encode("h264", frames=10, gop=60)
    with VectorReader(clip) as reader:
        kinds = [field.key for field in reader.fields()]
    assert kinds[:3] == [True, True, False]
    with VectorReader(clip) as reader:
        reader.check()


def test_frame_threads_are_refused() -> None:
    codec = av.CodecContext.create("h264", "r")
    for kind in ("FRAME", "AUTO"):
        codec.thread_type = kind
        with pytest.raises(MediaError, match="frame threads"):
            check_threads(codec)
    codec.thread_type = "SLICE"
    check_threads(codec)


def test_pictures_are_let_go_without_the_cyclic_collector() -> None:
    data = encode("matroska", "mpeg4", 400, size=SIZE, draw=lambda n, size: pan(n % 40, size))
    gc.collect()
    gc.disable()
    try:
        with VectorReader(data) as reader:
            most = 0
            for number, _ in enumerate(reader.fields()):
                if number % 50 == 49:
                    alive = sum(type(o).__name__ == "VideoFrame" for o in gc.get_objects())
                    most = max(most, alive)
        assert number == 399
        assert most < 20  # where side data ties knots: all 400
    finally:
        gc.enable()


def test_packet_table_shows_groups_without_decoding() -> None:
    limits = Limits()
    opened = open_video(opener(panned("libx264", 2, 12), limits), limits)
    table = read_table(opened, limits, "panned")
    opened.close()
    assert list(table.lengths) == [12, 12, 12, 4]
    assert list(table.starts) == [0, 12, 24, 36]
    assert np.allclose(table.times, np.arange(40) / 25, atol=1e-3)
    assert sorted(table.decode_order) == list(range(40))
    assert list(table.decode_order) != list(range(40))  # B-frames come later than they are shown


def test_painting_is_exact_and_stays_inside() -> None:
    assert grid_shape(50, 33) == (6, 8)
    rows = np.zeros(4, ROW)
    rows["w"] = rows["h"] = [16, 8, 8, 16]
    rows["source"] = [-1, -1, 1, -1]
    rows["dst_x"], rows["dst_y"] = [8, 20, 20, 4000], [8, 4, 4, -4000]
    rows["motion_x"], rows["motion_y"] = [5, -3, 7, 1], [2, 0, 7, 1]
    rows["motion_scale"] = 4
    motion, valid = paint(rows, 50, 33)
    assert valid[0].sum() == 5
    assert valid[1].sum() == 1
    assert np.allclose(motion[0, :2, :2], [1.25, 0.5])
    assert np.allclose(motion[0, 0, 2], [-0.75, 0])
    assert np.allclose(motion[1, 0, 2], [1.75, 1.75])
    assert not paint(None, 50, 33)[1].any()


def test_pictures_that_nobody_needs_are_not_decoded() -> None:
    times = [0.08 + 0.4 * at for at in range(4)]
    with VectorReader(panned(bframes=3, gop=40)) as reader:
        every = {f.time: f for f in reader.fields(0.0, times[-1] + 0.1)}
    with VectorReader(panned(bframes=3, gop=40)) as reader:
        found = list(reader.fields(0.0, times[-1] + 0.1, near=times))
        assert reader.meter.frames < len(every)
        given = [f.time for f in found]
        for asked in times:  # the picture shown then, and the one before it
            shown = max(t for t in every if t <= asked + 1e-6)
            assert shown in given
            assert max(t for t in every if t < shown) in given
        for field in found:
            assert np.array_equal(field.motion, every[field.time].motion)
            assert np.array_equal(field.distance, every[field.time].distance, equal_nan=True)
        # A question for other pictures goes back, where they were left out.
        assert [f.time for f in reader.fields(0.0, times[-1])] == sorted(every)[: len(every) - 2]


@pytest.mark.parametrize("bframes", [0, 2])
def test_what_was_just_given_is_not_decoded_again(bframes: int) -> None:
    with VectorReader(panned(bframes=bframes)) as reader:
        reader.check()
        first = list(reader.fields(0.0, 1.0, frames=True))
        decoded, read = reader.meter.frames, reader.meter.bytes
        again = list(reader.fields(0.5, 1.0, frames=True))
        assert (reader.meter.frames, reader.meter.bytes) == (decoded, read)
        assert [f.time for f in again] == [f.time for f in first if f.time >= 0.5 - 1e-6]
        assert all(
            np.array_equal(a.motion, b.motion)
            for a, b in zip(again, first[-len(again) :], strict=True)
        )
        everything = list(reader.fields(0.0, frames=True))
        assert len(everything) == reader.meter.frames == 40
