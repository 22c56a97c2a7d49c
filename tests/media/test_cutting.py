"""Windows are cut out before scaling: the same pixels as those of the whole frame."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from test_media_shapes import MATRICES, displayed

from clips import encode
from foveate.core import Clip
from foveate.media import Video, cutting
from foveate.media.container import Geometry
from foveate.media.convert import Converter
from foveate.media.mask import MaskedSample

SIZE = (240, 160)
# Overlapping, in corners, and beyond a whole pixel of the scaled picture.
BOXES = ((0, 0, 80, 80), (31.3, 17.9, 111.3, 97.9), (160, 80, 240, 160), (44, 50, 124, 130))


def scene(number: int, size: tuple[int, int]) -> np.ndarray:
    """Smooth colours without a period, moving."""
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float32)
    waves = [
        np.sin(x / 9 + number) + np.cos(y / 7),
        np.sin((x + y) / 13) + np.cos(x * y / 3000),
        np.cos(x / 17 - number / 3) + np.sin(y / 11),
    ]
    return (127 + 60 * np.stack(waves, -1)).astype(np.uint8)


def whole(video: Video, time: float, boxes: Any, source: int, scaled: int, side: int) -> np.ndarray:
    """Windows of the whole frame, scaled by `scaled / source`."""
    width, height = video.geometry.upright
    size = width * scaled // source, height * scaled // source
    pixels = video.frames([time], size).pixels[0]
    corners = [(round(x * scaled / source), round(y * scaled / source)) for x, y, *_ in boxes]
    return np.stack([pixels[y : y + side, x : x + side] for x, y in corners])


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    off = np.abs(found.astype(int) - wanted)
    return bool(off.max() <= 3 and off.mean() < 0.1)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize(("source", "scaled", "side"), [(5, 4, 64), (1, 1, 80), (5, 8, 128)])
def test_a_window_is_that_of_the_whole_frame(
    pix_fmt: str, source: int, scaled: int, side: int
) -> None:
    with Video(encode(frames=2, size=SIZE, pix_fmt=pix_fmt, draw=scene)) as video:
        found = [video.frames([0.04], (side, side), boxes=[box]).pixels[0] for box in BOXES]
        wanted = whole(video, 0.04, BOXES, source, scaled, side)
        assert close(np.stack(found), wanted)
        # The neighbour is another window: the comparison can fail.
        assert not close(found[0], wanted[1])


@pytest.mark.parametrize("shape", [None, Fraction(2), Fraction(1, 2)])
@pytest.mark.parametrize("matrix", MATRICES)
def test_windows_of_turned_and_anamorphic_frames(
    matrix: tuple[int, int, int, int], shape: Fraction | None
) -> None:
    data = displayed(encode(frames=2, size=SIZE, shape=shape, draw=scene), matrix)
    with Video(data) as video:
        width, height = video.geometry.upright
        boxes = [(0.0, 0.0, 80.0, 80.0), (width - 80.0, height - 80.0, width, height)]
        found = [video.frames([0.0], (64, 64), boxes=[box]).pixels[0] for box in boxes]
        assert close(np.stack(found), whole(video, 0.0, boxes, 5, 4, 64))


def test_all_windows_of_a_frame_are_converted_at_once_where_that_is_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    areas: list[int] = []
    cut = cutting.Cutter.__call__

    def counted(self: Any, frame: Any, x: cutting.Span, y: cutting.Span) -> Any:
        areas.append(x.length * y.length)
        return cut(self, frame, x, y)

    monkeypatch.setattr(cutting.Cutter, "__call__", counted)
    with Video(encode(frames=2, size=SIZE, draw=scene)) as video:

        def windows(boxes: Any) -> Clip:
            areas.clear()
            return video.frames([0.0] * len(boxes), (64, 64), boxes=boxes)

        near = windows([BOXES[1], BOXES[3]])
        assert len(areas) == 1
        far = windows([BOXES[0], BOXES[2]])
        assert len(areas) == 2
        assert sum(areas) < SIZE[0] * SIZE[1]
        for clip, boxes in ((near, (BOXES[1], BOXES[3])), (far, (BOXES[0], BOXES[2]))):
            assert close(clip.pixels, whole(video, 0.0, boxes, 5, 4, 64))
            assert clip.thumbs is not None
            assert clip.thumbs.shape == (2, 48, 72, 3)


def test_other_formats_and_changed_frames_take_the_plain_path() -> None:
    with Video(encode("mov", "prores_ks", frames=2, size=SIZE, pix_fmt="yuv422p10le")) as video:
        frame = video._cursor.find_first()
    packed = frame.reformat(format="yuyv422")
    assert cutting.can_cut(frame)
    assert not cutting.can_cut(packed)
    convert = Converter(Geometry(*SIZE, Fraction(1), 0))
    full = convert(packed, (192, 128))
    want = [full[y : y + 64, x : x + 64] for x, y in ((0, 0), (25, 14), (128, 64), (35, 40))]
    assert close(np.stack(convert.windows(packed, BOXES, 64)), np.stack(want))
    # A stream that began at half the size: the frame is shrunk into it first.
    small = Converter(Geometry(SIZE[0] // 2, SIZE[1] // 2, Fraction(1), 0))
    halved = [tuple(v / 2 for v in box) for box in BOXES]
    got = small.windows(frame, halved, 32)  # type: ignore[arg-type]
    assert small.changed
    assert [one.shape for one in got] == [(32, 32, 3)] * 4


def test_what_does_not_fit_is_refused_and_masks_stay() -> None:
    with Video(encode(frames=2, size=SIZE, draw=scene)) as video:
        for boxes, size in (((BOXES[0],) * 2, (64, 64)), (BOXES[:1], (64, 32))):
            with pytest.raises(ValueError, match="boxes"):
                video.frames([0.0], size, boxes=boxes)
        with pytest.raises(ValueError, match="inside"):
            video.frames([0.0], (64, 64), boxes=[(200.0, 0.0, 280.0, 80.0)])
        assert video.info.has_windows
        masked = MaskedSample(video, (((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)),))
        assert not masked.info.has_windows


def test_the_ratio_has_small_terms_and_holds_the_extent() -> None:
    for extent, side, pair in ((120, 96, (5, 4)), (180, 96, (15, 8)), (135, 96, (7, 5))):
        assert cutting.steps(extent, side) == pair
    for extent in np.linspace(20, 700, 331):
        for side in (64, 96, 128, 224):
            source, scaled = cutting.steps(float(extent), side)
            assert abs(side * source / scaled - extent) <= 0.01 * extent + 0.5
