"""Privacy masks: nothing of what is hidden leaves a source."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import clips
from foveate.core import MediaError, Sample
from foveate.media import ArrayVideo, Video
from foveate.media.mask import MaskedSample, hidden, mask_pixels

LEFT = [[(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]]
WHITE = np.full((8, 60, 80, 3), 255, np.uint8)


@pytest.mark.parametrize("size", [None, (40, 30), (17, 13), (160, 120)])
def test_no_pixel_inside_is_seen_at_any_size(size: tuple[int, int] | None) -> None:
    sample = MaskedSample(ArrayVideo(WHITE, 5.0), LEFT)
    clip = sample.frames([0.0, 0.4], size)
    width = clip.pixels.shape[2]
    assert clip.times == (0.0, 0.4)
    assert not clip.pixels[:, :, : -(-width // 2)].any()
    assert (clip.pixels[:, :, width // 2 + 3 :] > 250).all()


def test_a_scaled_picture_has_nothing_of_a_hidden_pixel() -> None:
    """Scaling down mixes pixels, so those beside the mask are hidden too."""
    pixels = np.zeros((1, 60, 80, 3), np.uint8)
    pixels[:, :, :40] = 255
    clip = MaskedSample(ArrayVideo(pixels, 5.0), LEFT).frames([0.0], (23, 19))
    assert clip.pixels.max() == 0


def test_motion_is_unknown_inside_and_the_same_outside() -> None:
    data = clips.encode(frames=12, size=(64, 48))
    with Video(data) as plain, Video(data) as source:
        masked = MaskedSample(source, LEFT)
        assert isinstance(masked, Sample)
        for kind in ("vectors", "flow", "grey"):
            a, b = plain.motion([0.2], kind), masked.motion([0.2], kind)
            assert not b.thumbs[:, :, :16].any()
            assert (a.thumbs[:, :, 19:] == b.thumbs[:, :, 19:]).all()
            if b.grey is not None:
                assert not b.grey[..., : b.grey.shape[-1] // 2].any()
            if b.field is not None and b.valid is not None:
                half = b.field.shape[3] // 2
                assert not b.field[:, :, :, :half].any()
                assert not b.valid[..., :half].any()
                assert (a.field[:, :, :, half + 3 :] == b.field[:, :, :, half + 3 :]).all()
        assert masked.info == replace(plain.info, has_windows=False)
        assert masked.next_time(0.0) == plain.next_time(0.0)
        assert masked.keyframes() == plain.keyframes()


def test_models_of_the_compressed_domain_are_refused() -> None:
    with Video(clips.encode(frames=12)) as video:
        masked = MaskedSample(video, LEFT)
        with pytest.raises(MediaError, match="cannot be used with masks"):
            masked.groups()
        with pytest.raises(MediaError, match="cannot be used with masks"):
            masked.pictures("mv", {0: [1]})


def test_the_source_is_not_changed() -> None:
    pixels = WHITE.copy()
    mask_pixels(pixels[0], LEFT)
    MaskedSample(ArrayVideo(pixels, 5.0), LEFT).frames([0.0])
    assert (pixels == 255).all()
    assert hidden(LEFT, (60, 80)).sum() >= 60 * 40
