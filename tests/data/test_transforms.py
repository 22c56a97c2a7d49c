"""Transforms of whole clips: each changes something, draws once per clip and repeats itself."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np
import pytest
import torch

import clips
from foveate.core import ConfigError, MissingExtra
from foveate.data import transforms
from foveate.data.transforms import TRANSFORMS, Augment, mirrored_by_words


def moving(frames: int = 4) -> torch.Tensor:
    pictures = [clips.picture(i) for i in range(frames)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def still(frames: int = 4) -> torch.Tensor:
    return moving(1).expand(frames, -1, -1, -1).contiguous()


def numbers(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_contract(name: str) -> None:
    """Changes something; one draw for all frames; the same seed, the same clip; uint8."""
    apply, x = TRANSFORMS[name], moving()
    before = x.clone()
    results = [apply(x, numbers(seed)) for seed in range(8)]
    assert torch.equal(x, before), "the frames that were given changed"
    assert all(out.dtype == torch.uint8 and out.shape[:2] == x.shape[:2] for out in results)
    changed = [out.shape != x.shape or not torch.equal(out, x) for out in results]
    assert sum(changed) >= 7  # RandAugment may draw the identity twice
    assert torch.equal(apply(x, numbers(3)), results[3])
    drawn = apply(still(), numbers(3))
    assert all(torch.equal(frame, drawn[0]) for frame in drawn)


@pytest.mark.parametrize("name", ["random_crop", "random_resized_crop", "colour_jitter",
                                  "rand_augment"])  # fmt: skip
def test_chance_decides(name: str) -> None:
    results = {TRANSFORMS[name](moving(), numbers(seed)).numpy().tobytes() for seed in range(8)}
    assert len(results) >= 6


@pytest.mark.parametrize("name", TRANSFORMS)
def test_global_generators_are_left_alone(name: str) -> None:
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()  # type: ignore[union-attr]
    TRANSFORMS[name](moving(), numbers(0))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tobytes() == states[2]  # type: ignore[union-attr]


def test_a_flip_is_drawn_with_its_probability() -> None:
    x = moving()
    flipped = [torch.equal(transforms.flip(x, numbers(s), p=0.3), x.flip(-1)) for s in range(300)]
    assert 60 < sum(flipped) < 120
    assert torch.equal(transforms.flip(x, numbers(0), p=0.0), x)


def test_crops_reach_every_corner() -> None:
    places = torch.arange(48 * 64).reshape(1, 1, 48, 64)
    seen = {
        int(transforms.random_crop(places, numbers(s), size=46)[0, 0, 0, 0]) for s in range(400)
    }
    assert {0, 18, 2 * 64, 2 * 64 + 18} <= seen
    centre = transforms.centre_crop(places, size=46)
    assert int(centre[0, 0, 0, 0]) == 64 + 9


def test_a_resized_crop_keeps_to_its_area() -> None:
    wide = torch.arange(100.0).expand(1, 3, 100, 100)
    for seed in range(50):
        out = transforms.random_resized_crop(wide, numbers(seed), size=50, scale=(0.25, 0.25))
        share = float(out[0, 0, 0, -1] - out[0, 0, 0, 0]) / 100
        assert 0.25**0.5 * (3 / 4) ** 0.5 - 0.04 < share < 0.25**0.5 * (4 / 3) ** 0.5 + 0.02


def test_frames_that_are_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="no square of 49"):
        transforms.random_crop(moving(), numbers(0), size=49)


# --- the transform of training ------------------------------------------------------------


def frames() -> np.ndarray:
    return np.stack([clips.picture(i) for i in range(4)])


STRONG: dict[str, Any] = {"colour": 0.4, "operations": 2, "magnitude": 9}


@pytest.mark.parametrize("settings", [{}, {"scale": None}, STRONG])
def test_augment_draws_once_and_repeats_itself(settings: dict[str, Any]) -> None:
    augment = Augment(32, **settings)
    out, labels = augment(frames(), (1,), numbers(1))
    assert out.shape == (4, 3, 32, 32)
    assert (out.dtype, labels) == (torch.uint8, (1,))
    assert torch.equal(augment(frames(), (1,), numbers(1))[0], out)
    same = np.repeat(frames()[:1], 4, 0)
    drawn = augment(same, (1,), numbers(2))[0]
    assert all(torch.equal(frame, drawn[0]) for frame in drawn)


def test_frames_are_decoded_a_little_larger_than_the_square() -> None:
    assert Augment(32, decode=1.25).decode_size((640, 480)) == (53, 40)


@pytest.mark.parametrize(
    "settings",
    [{"size": 0}, {"decode": 0.5}, {"flip": 1.5}, {"colour": -1.0}, {"scale": (0.9, 0.5)},
     {"scale": (0.0, 1.0)}],
)  # fmt: skip
def test_settings_that_cannot_be_meant(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Augment(**{"size": 32, **settings})


def test_training_needs_a_generator() -> None:
    with pytest.raises(ValueError, match="evaluation"):
        Augment(32)(frames(), (0,), None)


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    with pytest.raises(MissingExtra, match=r"foveate\[train\]"):
        Augment(32)


# --- which classes a mirror exchanges -----------------------------------------------------


def test_words_find_the_mirror_image() -> None:
    classes = ("turn_left", "turn right", "Left-Hook", "right hook", "run", "kick left")
    mirror = mirrored_by_words(classes, {"left": "right"})
    assert mirror == (1, 0, 3, 2, 4, None)
    assert transforms.mirror_labels((0, 4), mirror) == (1, 4)
    assert transforms.mirror_labels((4, 5), mirror) is None


def test_words_inside_words_are_left_alone() -> None:
    assert mirrored_by_words(("leftovers", "brightness"), {"left": "right"}) == (0, 1)
