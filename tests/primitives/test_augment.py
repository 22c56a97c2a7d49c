"""Every transform: what it may do to a clip; and lists of them in training."""

from __future__ import annotations

import pickle
import random
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pydantic import TypeAdapter, ValidationError

import clips
from foveate.core import ConfigError, InputSpec, MissingExtra
from foveate.primitives import augment
from foveate.primitives.augment import (
    Add,
    Augment,
    Blend,
    CentreCrop,
    Flip,
    GaussianBlur,
    Grey,
    Identity,
    Noise,
    OneOf,
    Pad,
    RandomCrop,
    RandomResizedCrop,
    Resize,
    ResizeShorter,
    Sequential,
    SomeOf,
    Sometimes,
    Transform,
    VerticalFlip,
    WithChannels,
    compose,
    describe,
    input_of,
)
from foveate.primitives.augment.base import Augmentation
from foveate.primitives.base import registered
from foveate.primitives.unions import AnyTransform

KINDS: dict[str, Any] = registered("transforms")
PICTURE = torch.from_numpy(clips.picture(3)).permute(2, 0, 1) // 2 + 40  # (3, 48, 64)
STILL = PICTURE.expand(3, -1, -1, -1).contiguous()
MOVING = torch.from_numpy(np.stack([clips.picture(i) for i in range(3)])).permute(0, 3, 1, 2)
# Where the defaults are too little for pictures of 48 x 64, or something is required.
SETTINGS: dict[str, dict[str, Any]] = {
    "resize": {"size": 24}, "resize-shorter": {"size": 24}, "centre-crop": {"size": 24},
    "random-crop": {"size": 24}, "random-resized-crop": {"size": 24}, "pad": {"size": 80},
    "blend": {"transforms": (Add(),)}, "with-channels": {"transforms": (Add(),)},
    "one-of": {"transforms": (Add(), Noise())}, "some-of": {"transforms": (Add(), Noise())},
    "sequential": {"transforms": (Add(), Noise())}, "sometimes": {"transforms": (Add(),), "p": 1},
}  # fmt: skip


def made(kind: str, **settings: Any) -> Transform:
    values = {**SETTINGS.get(kind, {}), **settings}
    if issubclass(KINDS[kind], Augmentation):
        values = {"p": 1.0, **values}
    found: Transform = KINDS[kind](**values)
    return found


def numbers(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def global_states() -> tuple[bytes, ...]:
    states = torch.get_rng_state().numpy(), np.random.get_state()[1]  # type: ignore[index]
    return (*(s.tobytes() for s in states), repr(random.getstate()).encode())  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", KINDS)
def test_the_contract(kind: str) -> None:
    """Changes something at p = 1; all frames alike; a seed, a clip; uint8; nothing global drawn."""
    apply, x, states = made(kind).build(), STILL.clone(), global_states()
    results = [apply(x, numbers(seed)) for seed in range(4)]
    assert torch.equal(x, STILL), "the frames that were given changed"
    assert global_states() == states, "a global generator was used"
    for out in results:
        assert out.dtype == torch.uint8
        assert out.shape[:2] == x.shape[:2]
        assert KINDS[kind].sets_size or sorted(out.shape[2:]) == [48, 64]
        assert all(torch.equal(frame, out[0]) for frame in out), "frames were drawn apart"
    changed = sum(out.shape != x.shape or not torch.equal(out, x) for out in results)
    assert changed >= 3 if kind != "identity" else changed == 0  # RandAugment may draw identities
    assert torch.equal(made(kind).apply(x, numbers(3)), results[3])


@pytest.mark.parametrize("kind", [k for k in KINDS if "p" in KINDS[k].model_fields])
def test_nothing_at_probability_zero(kind: str) -> None:
    assert made(kind, p=0.0).apply(STILL, numbers(0)) is STILL


@pytest.mark.parametrize("kind", KINDS)
def test_frames_keep_their_order(kind: str) -> None:
    """Of frames that become brighter, the brightness still rises."""
    levels = torch.tensor([60, 100, 140, 180], dtype=torch.uint8)
    clip = levels.view(4, 1, 1, 1).expand(4, 3, 48, 64).clone()
    clip[..., ::2] += 20  # something to equalise
    means = made(kind).apply(clip, numbers(1)).float().mean((1, 2, 3))
    if kind in ("solarize", "snow", "clahe"):  # their brightness falls, or is that of each frame
        assert not torch.equal(means, means.flip(0))
    else:
        assert (means.diff() > 1).all(), means


@pytest.mark.parametrize(
    ("kind", "field"),
    [("noise", "distribution"), ("replace", "by"), ("pooling", "operation"), ("filter", "name"),
     ("blend", "mask"), ("spatter", "substance")],
)  # fmt: skip
def test_every_choice_gives_other_frames(kind: str, field: str) -> None:
    choices = KINDS[kind].model_fields[field].annotation.__args__
    found = {made(kind, **{field: c}).apply(STILL, numbers(0)).numpy().tobytes() for c in choices}
    assert len(found) == len(choices)


def test_all_public_names_are_there() -> None:
    classes = {c.__name__ for c in KINDS.values() if c.__module__.startswith("foveate.")}
    assert classes <= set(augment.__all__)


# --- particular ones ------------------------------------------------------------------------


def test_crops_reach_every_corner() -> None:
    places = torch.arange(48 * 64).reshape(1, 1, 48, 64)
    seen = {int(RandomCrop(46).apply(places, numbers(s))[0, 0, 0, 0]) for s in range(400)}
    assert {0, 18, 2 * 64, 2 * 64 + 18} <= seen
    assert int(CentreCrop(46).apply(places, numbers(0))[0, 0, 0, 0]) == 64 + 9


def test_a_resized_crop_keeps_to_its_area() -> None:
    wide = torch.arange(100, dtype=torch.uint8).expand(1, 3, 100, 100)
    crop = RandomResizedCrop(50, scale=0.25)
    for seed in range(50):
        out = crop.apply(wide, numbers(seed)).float()
        assert float(out[0, 0, 0, -1] - out[0, 0, 0, 0]) / 100 > 0.25**0.5 * (3 / 4) ** 0.5 - 0.04


def test_a_flip_is_drawn_with_its_probability() -> None:
    out = [torch.equal(Flip(p=0.3).apply(MOVING, numbers(s)), MOVING.flip(-1)) for s in range(300)]
    assert 60 < sum(out) < 120


def test_statistics_are_those_of_the_clip() -> None:
    """A histogram per frame would make plain frames of two levels alike."""
    two = torch.tensor([60, 180], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 16, 16)
    for kind in ("autocontrast", "equalize", "contrast"):
        means = made(kind).apply(two.contiguous(), numbers(0)).float().mean((1, 2, 3))
        assert means[1] - means[0] > 50, kind


@pytest.mark.parametrize(
    ("filter_name", "module"),
    [("blur", "BLUR"), ("contour", "CONTOUR"), ("detail", "DETAIL"), ("emboss", "EMBOSS"),
     ("edge-enhance", "EDGE_ENHANCE"), ("edge-enhance-more", "EDGE_ENHANCE_MORE"),
     ("find-edges", "FIND_EDGES"), ("sharpen", "SHARPEN"), ("smooth", "SMOOTH"),
     ("smooth-more", "SMOOTH_MORE")],
)  # fmt: skip
def test_filters_are_those_of_pillow(filter_name: str, module: str) -> None:
    from PIL import Image, ImageFilter

    picture = Image.fromarray(PICTURE.permute(1, 2, 0).numpy())
    theirs = np.asarray(picture.filter(getattr(ImageFilter, module)))[2:-2, 2:-2].astype(int)
    ours = made("filter", name=filter_name).apply(STILL, numbers(0))[0].permute(1, 2, 0).numpy()
    assert np.abs(ours[2:-2, 2:-2].astype(int) - theirs).max() <= 1


# --- transforms of transforms ---------------------------------------------------------------


def test_one_of_and_some_of_choose_anew_for_each_clip() -> None:
    one = OneOf(Flip(p=1), VerticalFlip(p=1), Identity())
    found = [one.apply(MOVING, numbers(seed)) for seed in range(40)]
    for expected in (MOVING.flip(-1), MOVING.flip(-2), MOVING):
        assert 3 < sum(torch.equal(out, expected) for out in found) < 30
    some = SomeOf(Flip(p=1), VerticalFlip(p=1), least=2, most=2)
    assert torch.equal(some.apply(MOVING, numbers(0)), MOVING.flip(-1).flip(-2))


def test_sequences_and_alternatives() -> None:
    both = Sequential(Flip(p=1), Grey(p=1))
    assert torch.equal(both.apply(MOVING, numbers(0)), Grey(p=1).apply(MOVING.flip(-1), numbers(0)))
    other = Sometimes(Grey(), p=0.0, otherwise=(Flip(p=1),))
    assert torch.equal(other.apply(MOVING, numbers(0)), MOVING.flip(-1))


def test_channels_and_blends_change_a_part() -> None:
    changed = WithChannels(Add(limit=200)).apply(STILL, numbers(1)) != STILL
    assert changed.any((0, 2, 3)).sum() == 1
    half = Blend(made("solarize", threshold=0), mask="checkerboard", cells=2)
    parts = (half.apply(STILL, numbers(0)) == STILL)[0, 0]
    assert {bool(parts[:24, :32].all()), bool(parts[:24, 32:].all())} == {True, False}


@pytest.mark.parametrize("moves", [Flip(), RandomCrop(8), OneOf(Identity(), Resize(8))])
def test_parts_of_frames_keep_their_place(moves: Transform) -> None:
    with pytest.raises(ValidationError, match="moves pixels"):
        Blend(moves)


def test_transforms_are_data() -> None:
    listed = (Sometimes(OneOf(Flip(), Noise(strength=0.2)), p=0.3), RandomCrop(32))
    adapter: TypeAdapter[tuple[Transform, ...]] = TypeAdapter(tuple[AnyTransform, ...])
    assert adapter.validate_json(adapter.dump_json(listed)) == listed
    assert describe(listed) == (
        "sometimes(transforms=[one-of(transforms=[flip, noise(strength=0.2)])], p=0.3), "
        "random-crop(size=32)"
    )
    with pytest.raises(ValidationError, match=r"flip\.p"):
        adapter.validate_python([{"kind": "one-of", "transforms": [{"kind": "flip", "p": 2}]}])
    with pytest.raises(ValidationError):
        listed[0].p = 0.5  # type: ignore[attr-defined]


# --- the transform of training ----------------------------------------------------------------

CROP = RandomResizedCrop(32)


def frames(count: int = 4) -> Any:
    return np.stack([clips.picture(i) for i in range(count)])


def test_a_list_is_applied_whole_and_drawn_once() -> None:
    """Nothing of a list is left out, whether it has crops or not."""
    listed = (CROP, Add(limit=100), Noise(), Grey(p=1))
    training = pickle.loads(pickle.dumps(compose(listed, 32)))  # as loading processes get it
    out, labels = training(frames(), (1,), numbers(1))
    assert (out.shape, out.dtype, labels) == ((4, 3, 32, 32), torch.uint8, (1,))
    x, stream = torch.from_numpy(frames()).permute(0, 3, 1, 2), numbers(1)
    for one in listed:
        x = one.apply(x, stream)
    assert torch.equal(out, x)
    still = training(np.repeat(frames(1), 4, 0), (1,), numbers(2))[0]
    assert all(torch.equal(frame, still[0]) for frame in still)
    plain = Augment(32, (GaussianBlur(),))(frames(), (), numbers(0))[0]
    centre = Augment(32, ())(frames(), (), numbers(0))[0]
    assert torch.equal(plain, GaussianBlur().apply(centre, numbers(0)))


@pytest.mark.parametrize(
    ("transforms", "size"),
    [((CROP,), (53, 40)), ((Resize(40), RandomCrop(32)), (40, 40)), ((Flip(),), (43, 32)),
     ((ResizeShorter(36), CentreCrop(32)), (48, 36)), ((OneOf(CROP, Pad(32)),), (53, 40))],
)  # fmt: skip
def test_frames_are_decoded_as_the_first_transform_needs_them(
    transforms: tuple[Transform, ...], size: tuple[int, int]
) -> None:
    training = object.__new__(Augment)
    vars(training).update(size=32, transforms=transforms, decode=1.25, centre=None)
    assert training.decode_size((640, 480)) == size


@pytest.mark.parametrize(
    ("transforms", "said"),
    [((RandomCrop(24),), "24 x 24 pixels come out, but the network takes 32 x 32"),
     ((Resize(28), CROP, RandomCrop(64)), "no square of 64"),
     ((ResizeShorter(32),), "32 x 43 pixels"), ((Sometimes(CROP),), "pixels"),
     ((made("rain", length=99),), r"rain\(length=99\): high .+, of frames of 32 x 43 pixels")],
)  # fmt: skip
def test_sizes_that_do_not_fit(transforms: tuple[Transform, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Augment(32, transforms)


def test_mirror_images_have_the_labels_of_the_other_class() -> None:
    left, same = (1, 0, 2, None), frames()
    nested = Augment(32, (CentreCrop(32), OneOf(Flip(p=1), Sequential(Flip(p=1)))), left)
    assert nested(same, (0, 2), numbers(0))[1] == (1, 2)
    kept = nested(same, (3,), numbers(0))
    assert kept[1] == (3,)
    assert torch.equal(kept[0], Augment(32, ())(same, (), numbers(0))[0])
    down = Augment(32, (VerticalFlip(p=1),), left)
    assert torch.equal(down(same, (0,), numbers(0))[0], kept[0]), "left and right are unclear"
    assert not torch.equal(down(same, (2,), numbers(0))[0], kept[0])


def test_what_a_look_shows_may_be_enlarged_and_cropped() -> None:
    training = Augment(32, (Resize(40), RandomCrop(32)), shown=32)
    assert training(frames()[:, :32, :32], (), numbers(0))[0].shape[-2:] == (32, 32)


@pytest.mark.parametrize(
    ("transforms", "changes"),
    [((Flip(), Grey()), {"size": 64}),
     ((Resize(48),), {"size": 48, "resize": "squash", "crop": "none"}),
     ((ResizeShorter(48), RandomCrop(32)), {"size": 32, "resize_to": 48}),
     ((Resize(48), RandomCrop(32)), {"size": 32, "resize": "squash", "resize_to": 48}),
     ((RandomResizedCrop(32), Flip()), {"size": 32})],
)  # fmt: skip
def test_prediction_scales_and_crops_as_training(
    transforms: tuple[Transform, ...], changes: dict[str, Any]
) -> None:
    expected = InputSpec(**{"size": 64, "frames_per_second": 5.0, "clip_frames": 4, **changes})
    assert input_of(transforms, InputSpec(64, 5.0, 4)) == expected


def test_training_needs_a_generator_and_settings_in_range() -> None:
    with pytest.raises(ValueError, match="evaluation"):
        Augment(32, (CROP,))(frames(), (0,), None)
    with pytest.raises(ConfigError, match="out of range"):
        Augment(32, (CROP,), decode=0.5)


@pytest.mark.parametrize(
    ("module", "extra", "transform"),
    [("torchvision.transforms.v2", "train", CROP), ("albumentations", "augment", made("fog"))],
)
def test_the_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, extra: str, transform: Transform
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"foveate\[{extra}\]"):
        Augment(32, (CROP, OneOf(transform)))
    with pytest.raises(MissingExtra):
        transform.build()


# --- the page -------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "transforms.md").read_text("utf-8")


def test_the_page_shows_every_transform_and_names_only_existing_ones() -> None:
    pictures = re.findall(r"^!\[.+?: (.+)\]\((.+)\)$", PAGE, re.M)
    assert sorted(kind for kinds, _ in pictures for kind in kinds.split(", ")) == sorted(KINDS)
    for _, path in pictures:
        assert (Path(__file__).parents[2] / "docs" / "reference" / path).resolve().is_file()
    rows = re.findall(r"^\| ([\w-]+) \| (\w+(?:, \w+)*) \| (.+) \|$", PAGE, re.M)[1:]
    assert sum(len(names.split(", ")) for _, names, _ in rows) == 175  # with 3 transformations
    for family, names, here in rows:
        if here == "left out":
            assert family != "transformation"
            continue
        values = yaml.safe_load(here.strip("`"))
        made(**(values if isinstance(values, dict) else {"kind": values}))
        assert names


def test_the_yaml_of_the_page_is_a_list_of_transforms() -> None:
    block = re.findall(r"```yaml\n(.+?)```", PAGE, re.S)[0]
    adapter: TypeAdapter[tuple[Transform, ...]] = TypeAdapter(tuple[AnyTransform, ...])
    listed = adapter.validate_python(yaml.safe_load(block)["transforms"])
    assert Augment(128, listed).decode_size((320, 240)) == (192, 144)
