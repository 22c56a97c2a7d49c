"""The shared cases: files that public bug reports describe, and what is right for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foveate.media import Video

pytestmark = pytest.mark.shared


@pytest.mark.parametrize("name", ["b0.mp4", "b2.mp4"])
def test_no_key_frame_is_lost(shared: Path, name: str) -> None:
    with Video(shared / "cases" / "last-key-frame" / name) as video:
        keys = video.keyframes()
        assert keys == pytest.approx([i * 12 / 25 for i in range(10)])
        for key in keys[1:]:
            before = video.meter.packets, video.meter.frames
            assert video.frames([key]).times == (key,)
            assert (video.meter.packets - before[0], video.meter.frames - before[1]) == (1, 1)


def test_packed_b_frames_are_all_shown(shared: Path) -> None:
    with Video(shared / "cases" / "packed-b-frames" / "packed.avi") as video:
        times = video.times()
        assert times == pytest.approx([i / 25 for i in range(120)])
        clip = video.frames(times)
        assert clip.times == times
        assert [_number(pixels) for pixels in clip.pixels] == list(range(120))


def test_sound_lies_at_its_times(shared: Path) -> None:
    with Video(shared / "cases" / "audio-gap" / "gap.mp4") as video:
        assert _beeps(video.audio()) == pytest.approx([1, 2, 3, 6, 7, 8, 9], abs=0.03)
        assert _beeps(video.audio(5.5, 9.9)) == pytest.approx([0.5, 1.5, 2.5, 3.5], abs=0.03)


@pytest.mark.parametrize("name", ["long_sound.mkv", "silent.mkv"])
def test_the_length_is_that_of_the_picture(shared: Path, name: str) -> None:
    with Video(shared / "cases" / "sound-outlasts-picture" / name) as video:
        assert video.info.duration == pytest.approx(4.8, abs=0.04)


def _beeps(wave: np.ndarray) -> list[float]:
    loud = np.abs(wave) > 0.2
    found: list[float] = []
    for edge in np.flatnonzero(loud[1:] & ~loud[:-1]) / 16000:
        if not found or edge - found[-1] > 0.3:
            found.append(float(edge))
    return found


def _number(pixels: np.ndarray) -> int:
    """The number that a picture of the cases carries in 4 x 3 black or white fields."""
    height, width = pixels.shape[:2]
    cells = [(row, column) for row in range(3) for column in range(4)]
    means = [
        pixels[
            row * height // 3 + height // 12 : (row + 1) * height // 3 - height // 12,
            column * width // 4 + width // 16 : (column + 1) * width // 4 - width // 16,
        ].mean()
        for row, column in cells
    ]
    return sum(1 << bit for bit, mean in enumerate(means) if mean > 127)
