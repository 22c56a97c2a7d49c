"""What a network can be shown of a clip: pictures, differences, flow, sound."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import labelled
import numpy as np
import pytest
import torch

import clips
from foveate.core import ConfigError
from foveate.data import ClipDataset, Dataset, Record, samplers
from foveate.data.dataset import BadClip
from foveate.data.prepare import Centre
from foveate.media import flow as media_flow
from foveate.media import modalities
from foveate.primitives.augment import Augment, Flip

SIZE = (128, 128)
PIXELS_PER_FRAME = 3


def sliding(number: int, size: tuple[int, int]) -> np.ndarray:
    """A smooth texture that moves to the right."""
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
    columns = columns - PIXELS_PER_FRAME * number
    wave = np.sin(columns / 5) + np.sin(rows / 7) + np.sin((columns + 2 * rows) / 11)
    return np.repeat((wave * 40 + 128).astype(np.uint8)[..., None], 3, 2)


def dataset(path: Path, start: float | None = None, end: float | None = None) -> Dataset:
    return Dataset((Record(path, ("run",), start, end),), ("run",), path.parent)


FOUR = partial(samplers.segments, count=4)


def shown(
    path: Path, names: tuple[str, ...], transform: Any = None, sampling: Any = FOUR, **more: Any
) -> dict[str, Any]:
    made = ClipDataset(dataset(path), sampling, transform or Centre(128), modalities=names, **more)
    item = made[0]
    assert isinstance(item, dict)
    return item


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = clips.encode(frames=30, size=SIZE, draw=sliding, tone=(1000.0, 0.0, 1.2))
    return labelled.put(tmp_path_factory.mktemp("slide") / "slide.mp4", data)


def test_every_modality_has_its_channels_and_is_registered(video: Path) -> None:
    names = ("rgb", "rgb-difference", "flow", "sound")
    assert modalities.known() == (
        *names,
        "waveform",
        "iframe",
        "mv",
        "residual",
        "vectors",
        "motion",
    )
    item = shown(video, names)
    assert item["x"].shape == (3, 4, 128, 128)
    assert item["rgb-difference"].shape == (15, 4, 128, 128)
    assert item["flow"].shape == (10, 4, 128, 128)
    assert item["sound"].shape == (1, 256, 256)
    for name in names[1:]:
        assert item[name].shape[0] == modalities.find(name).channels


def test_pictures_are_the_same_whatever_else_is_built(video: Path) -> None:
    sampling = partial(samplers.segments, count=2)  # far enough from the end
    alone = shown(video, ("rgb",), sampling=sampling)["x"]
    assert torch.equal(shown(video, ("rgb", "flow"), sampling=sampling)["x"], alone)
    assert torch.equal(shown(video, ("flow", "rgb"), sampling=sampling)["rgb"], alone)


def test_a_stack_that_would_pass_the_end_moves_back_with_its_picture(video: Path) -> None:
    end = ClipDataset(dataset(video), lambda *_: (24 / 25,), Centre(128))[0]
    found = shown(video, ("rgb", "flow"), sampling=lambda *_: (29 / 25,))
    assert torch.equal(found["x"], end["x"])


def test_differences_are_those_of_neighbouring_frames() -> None:
    frames = np.array([[0], [255], [100], [100]], np.uint8)
    assert modalities.difference(frames).flatten().tolist() == [255, 50, 127]


def test_the_difference_of_a_clip_is_made_of_the_frames_that_follow(video: Path) -> None:
    # Segments of 1.2 s begin at .15 s: between the frames 3 and 4, so 3 is on the screen.
    frames = ClipDataset(dataset(video), lambda *_: tuple(i / 25 for i in range(3, 9)), Centre(128))
    expected = torch.from_numpy(modalities.difference(frames[0]["x"].transpose(0, 1).numpy()))
    expected = expected.flatten(0, 1)
    found = shown(video, ("rgb-difference",))["x"]
    assert torch.equal(found[:, 0], expected)


def test_flow_is_the_displacement_per_frame(video: Path) -> None:
    grey = shown(video, ("flow",))["x"].float()[:, :, 32:96, 32:96]
    pixels = grey * 2 * modalities.BOUND / 255 - modalities.BOUND
    x, y = pixels[0::2], pixels[1::2]
    assert abs(float(x.median()) - PIXELS_PER_FRAME) < 0.3
    assert abs(float(y.median())) < 0.3


def test_the_flow_of_a_mirrored_clip_points_the_other_way(video: Path) -> None:
    mirrored = Augment(128, (Flip(p=1.0),))
    plain = Augment(128, (Flip(p=0.0),))
    there, back = (
        shown(video, ("flow",), transform, train=True)["x"][0::2, :, 32:96, 32:96].float() - 127.5
        for transform in (plain, mirrored)
    )
    assert float(there.median()) > 10
    assert abs(float(there.median() + back.median())) < 3


def test_flow_is_computed_at_low_resolution(video: Path, monkeypatch: Any) -> None:
    sizes = []
    real = media_flow._grey
    monkeypatch.setattr(media_flow, "_grey", lambda f, size: sizes.append(size) or real(f, size))
    shown(video, ("flow",))
    assert set(sizes) == {(112, 112)}
    assert len(sizes) == 4 * 6


def test_flow_as_grey() -> None:
    values = np.array([-99.0, -20.0, 0.0, 20.0, 99.0], np.float32)
    assert modalities.as_grey(values).tolist() == [0, 0, 128, 255, 255]


def test_a_flow_free_clip_asks_for_no_further_frames(video: Path) -> None:
    alone = ClipDataset(dataset(video), partial(samplers.segments, count=4), Centre(128))
    more = ClipDataset(
        dataset(video), partial(samplers.segments, count=4), Centre(128), modalities=("flow",)
    )
    counts = []
    for clips_of in (alone, more):
        asked: list[int] = []
        inner = clips_of._transform

        class Counting(Centre):
            def __call__(self, frames, labels, random=None, asked=asked, inner=inner):  # type: ignore[no-untyped-def]
                asked.append(len(frames))
                return inner(frames, labels, random)

        clips_of._transform = Counting(128)
        assert isinstance(clips_of[0], dict)
        counts += asked
    assert counts == [4, 24]


def test_sound_is_that_of_the_middle(video: Path) -> None:
    spectrum = shown(video, ("rgb", "sound"))["sound"][0]
    loudest = int(spectrum.mean(1).argmax())
    assert loudest == round(1000 * 511 / 24000)


def test_sound_that_cannot_be_decoded_makes_a_bad_clip(video: Path, monkeypatch: Any) -> None:
    from foveate.core import MediaError
    from foveate.media import Video

    def broken(*_: Any) -> Any:
        raise MediaError("slide.mp4: unknown sound codec")

    monkeypatch.setattr(Video, "audio", broken)
    made = ClipDataset(
        dataset(video), partial(samplers.segments, count=4), Centre(128), modalities=("sound",)
    )
    found = made[0]
    assert isinstance(found, BadClip)
    assert "unknown sound codec" in found.reason


def test_views_have_modalities_of_their_own(video: Path) -> None:
    sampling = partial(samplers.windows, count=2, rate=25.0, views=3)
    made = ClipDataset(dataset(video), sampling, Centre(128), modalities=("rgb", "flow"))[0]
    assert isinstance(made, dict)
    assert made["x"].shape == (3, 3, 2, 128, 128)
    assert made["flow"].shape == (3, 10, 2, 128, 128)
    assert not torch.equal(made["x"][0], made["x"][2])


def test_an_unknown_name_is_told_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="did you mean flow"):
        modalities.find("flows")


def test_a_newcomer_is_built_and_a_name_is_taken_once(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modalities, "_KNOWN", dict(modalities._KNOWN))
    mean = modalities.Modality("mean", 1, build=lambda stack: stack[0].mean(-1, keepdims=True))
    modalities.register(mean)
    with pytest.raises(ConfigError, match="exists already"):
        modalities.register(mean)
    item = shown(video, ("rgb", "mean"))
    torch.testing.assert_close(item["mean"][0], item["x"].double().mean(0))
