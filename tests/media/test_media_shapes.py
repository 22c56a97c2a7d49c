"""Upright, square, eight bits: what the container says about a picture is obeyed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from kinds import clip

from clips import encode, number_of, picture
from foveate.media import Video


@pytest.mark.parametrize("container", ["mp4", "matroska"])
@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_rotation_is_undone(container: str, rotation: int) -> None:
    with Video(encode(container, rotation=rotation, frames=4, size=(64, 48))) as video:
        size = (64, 48) if rotation == 180 else (48, 64)
        assert (video.info.width, video.info.height) == size
        got = video.frames([0.0, 0.04, 0.12])
        assert got.pixels.shape == (3, size[1], size[0], 3)
        assert [number_of(p) for p in got.pixels] == [0, 1, 3]
        small = video.frames([0.08], (24, 40))
        assert small.pixels.shape == (1, 40, 24, 3)
        assert number_of(small.pixels[0]) == 2


@pytest.mark.parametrize(
    ("shape", "size"), [(Fraction(2), (128, 48)), (Fraction(1, 2), (64, 96)), (None, (64, 48))]
)
def test_pixels_become_square(shape: Fraction | None, size: tuple[int, int]) -> None:
    with Video(encode(shape=shape, frames=3)) as video:
        assert (video.info.width, video.info.height) == size
        got = video.frames([0.04])
        assert got.pixels.shape == (1, size[1], size[0], 3)
        assert number_of(got.pixels[0]) == 1


@pytest.mark.parametrize(
    "name", ["ten-bits", "444", "grey", "odd-size", "prores-mov", "huffyuv-avi"]
)
def test_any_pixel_format_gives_the_picture(name: str) -> None:
    with Video(clip(name)) as video:
        got = video.frames([0.2]).pixels[0]
        assert number_of(got) == 5
        want = picture(5, (video.info.width, video.info.height)).astype(int)
        if name == "grey":
            want = np.repeat((want @ [0.299, 0.587, 0.114])[..., None], 3, -1).astype(int)
        assert np.abs(got.astype(int) - want).mean() < 12


def test_size_change_in_the_middle() -> None:
    data = encode("mpegts", frames=20) + encode("mpegts", frames=20, size=(96, 80), first=20)
    with Video(data) as video:
        got = video.frames([n / 25 for n in range(40)])
        assert got.pixels.shape == (40, 48, 64, 3)
        assert [number_of(p) for p in got.pixels] == list(range(40))


def test_times_that_start_again_go_on() -> None:
    part = {"gop": 10, "bframes": 2}
    data = encode("mpegts", frames=50, **part) + encode("mpegts", frames=50, first=50, **part)
    with Video(data) as video:
        wanted = [5, 30, 49, 51, 77, 99]
        got = video.frames([n / 25 + 0.01 for n in wanted])
        assert [number_of(p) for p in got.pixels] == wanted
        assert number_of(video.frames([0.4]).pixels[0]) == 10
        assert number_of(video.frames([2.4]).pixels[0]) == 60
        assert video.info.duration == pytest.approx(4.0, abs=0.1)
        assert max(video.keyframes()) > 3.0


def test_joined_after_the_first_key_frame() -> None:
    """A recording cut anywhere: zero is the first frame that can be shown."""
    whole = encode("mpegts", frames=80, gop=20, bframes=2)
    with Video(whole[188 * 12 :]) as video:
        first = video.frames([0.0])
        assert first.times == (0.0,)
        start = number_of(first.pixels[0])
        assert start > 0
        got = video.frames([0.4, 0.8])
        assert [number_of(p) for p in got.pixels] == [start + 10, start + 20]


def test_lossless_pictures_arrive_unchanged() -> None:
    with Video(encode("apng", "apng", frames=3, pix_fmt="rgb24")) as video:
        got = video.frames([0.0, 0.04, 0.08])
        for number, pixels in enumerate(got.pixels):
            assert (pixels == picture(number)).all()


def test_rate_that_makes_no_sense_is_not_said() -> None:
    with Video(encode("dv", "dvvideo", size=(720, 576), frames=3)) as video:
        assert video.info.rate is None or video.info.rate < 1000
