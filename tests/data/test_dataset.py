"""Clips as tensors: the frames that were asked for, the same whoever loads them, none made up."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import labelled
import numpy as np
import pytest
import torch

import clips
from foveate.data import ClipDataset, Dataset, Record, samplers
from foveate.data.dataset import BadClip
from foveate.data.prepare import Centre, to_float
from foveate.media import Video
from foveate.models.spec import InputSpec
from foveate.pipeline import executors, fetch
from foveate.primitives.augment import Augment, ColourJitter, Flip, RandAugment, RandomResizedCrop

EIGHT = partial(samplers.window, count=8, rate=25.0)


def of(records: list[Record], root: Path, **more: object) -> Dataset:
    return Dataset(tuple(records), ("jump", "run"), root, **more)  # type: ignore[arg-type]


def one(path: Path, labels: tuple[str, ...] = ("run",), **more: float) -> Dataset:
    return of([Record(path, labels, **more)], path.parent)  # type: ignore[arg-type]


class Whole:
    """Frames as they are: the numbers that they carry can be read."""

    def decode_size(self, source: tuple[int, int]) -> tuple[int, int]:
        return source

    def __call__(self, frames, labels, random):
        return torch.from_numpy(frames).permute(0, 3, 1, 2), labels


def numbers(x: torch.Tensor) -> list[int]:
    """Which pictures a (3, T, H, W) clip is made of."""
    return [clips.number_of(frame.permute(1, 2, 0).numpy()) for frame in x.transpose(0, 1)]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return labelled.put(tmp_path / "run.mp4")  # pictures 0 to 24 at 25 frames/s


def test_the_frames_on_the_screen_at_the_times_asked_for(video: Path) -> None:
    item = ClipDataset(one(video), EIGHT, Whole())[0]
    assert isinstance(item, dict)
    assert item["x"].shape == (3, 8, 48, 64)
    assert item["x"].dtype == torch.uint8
    assert numbers(item["x"]) == list(range(8, 16))  # the middle eight of 25
    assert (int(item["y"]), item["index"], item["warnings"]) == (1, 0, ())


def test_a_stretch_shows_nothing_from_outside(video: Path) -> None:
    inside = one(video, start=0.4, end=0.8)
    for train in (False, True):
        for epoch in range(5 if train else 1):
            item = ClipDataset(inside, EIGHT, Whole(), train=train)[epoch, 0]
            assert set(numbers(item["x"])) <= set(range(10, 20))


def test_views_come_with_a_dimension_of_their_own(video: Path) -> None:
    sampling = partial(samplers.windows, count=4, rate=25.0, views=3)
    item = ClipDataset(one(video), sampling, Whole())[0]
    assert item["x"].shape == (3, 3, 4, 48, 64)
    assert [numbers(view)[0] for view in item["x"]] == [0, 10, 21]


def test_several_labels_make_a_vector(video: Path) -> None:
    records = [Record(video, ("jump", "run")), Record(video, ())]
    dataset = ClipDataset(of(records, video.parent, multilabel=True), EIGHT, Whole())
    assert [dataset[i]["y"].tolist() for i in (0, 1)] == [[1.0, 1.0], [0.0, 0.0]]


def test_a_folder_of_pictures_is_a_clip(tmp_path: Path) -> None:
    folder = labelled.pictures(tmp_path / "clip", 20, start=0)
    item = ClipDataset(one(folder), EIGHT, Whole(), fps=25.0)[0]
    assert numbers(item["x"]) == list(range(6, 14))


def test_seed_epoch_and_index_decide_everything(video: Path) -> None:
    data = of([Record(video, ("run",))] * 2, video.parent)
    augment = Augment(32, (RandomResizedCrop(32), Flip(), ColourJitter(), RandAugment()))
    few = partial(samplers.window, count=4, rate=25.0)

    def clip(seed: int, epoch: int, index: int) -> bytes:
        item = ClipDataset(data, few, augment, train=True, seed=seed)[epoch, index]
        return item["x"].numpy().tobytes()

    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    first = [clip(*key) for key in keys]
    np.random.default_rng(5).random()
    torch.manual_seed(99)
    assert [clip(*key) for key in reversed(keys)] == first[::-1]
    assert len(set(first)) == len(keys)


def test_a_handed_class_changes_with_its_mirror_image(video: Path) -> None:
    data = one(video, ("jump",))
    mirrored = Augment(32, (Flip(p=1.0),), mirror=(1, 0))
    kept = Augment(32, (Flip(p=1.0),), mirror=(None, None))
    one_of = {t: ClipDataset(data, EIGHT, t, train=True)[0] for t in (mirrored, kept)}
    assert int(one_of[mirrored]["y"]) == 1
    assert int(one_of[kept]["y"]) == 0
    assert torch.equal(one_of[mirrored]["x"], one_of[kept]["x"].flip(-1))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (labelled.video()[:700], ""),
        (b"just words", ""),
        (None, "no such file"),
    ],
)
def test_what_cannot_be_read_is_told_and_not_replaced(
    tmp_path: Path, data: bytes | None, said: str
) -> None:
    path = tmp_path / "clip.mp4"
    if data is not None:
        path.write_bytes(data)
    found = ClipDataset(one(path), EIGHT, Whole())[0]
    assert isinstance(found, BadClip)
    assert (found.index, found.name) == (0, "clip.mp4")
    assert found.reason
    assert said in found.reason.lower()
    assert "\n" not in found.reason


def test_a_stretch_beyond_the_end_is_bad(video: Path) -> None:
    found = ClipDataset(one(video, start=5.0, end=6.0), EIGHT, Whole())[0]
    assert isinstance(found, BadClip)
    assert found.reason == "starts at 5 s, the video lasts 1 s"


def test_a_clip_that_was_cut_off_is_seen_as_the_shorter_clip_that_it_is(tmp_path: Path) -> None:
    data = clips.encode("mpegts", frames=50, gop=8)
    cut = labelled.put(tmp_path / "cut.ts", data[: len(data) // 2])
    item = ClipDataset(one(cut), partial(samplers.segments, count=8), Whole())[0]
    assert isinstance(item, dict)
    shown = numbers(item["x"])
    assert shown == sorted(set(shown))
    assert 15 < shown[-1] < 35


def test_frames_that_are_lost_are_never_filled_in(tmp_path: Path) -> None:
    data = bytearray(clips.encode("mpegts", frames=50, gop=8))
    third = len(data) // 3
    data[third : 2 * third] = bytes(third)
    torn = labelled.put(tmp_path / "torn.ts", bytes(data))
    found = ClipDataset(one(torn), partial(samplers.segments, count=50), Whole())[0]
    assert isinstance(found, BadClip)
    assert "frames could be decoded" in found.reason


def test_evaluation_feeds_what_prediction_feeds(video: Path) -> None:
    spec = InputSpec(32, 25.0, 8, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    item = ClipDataset(one(video), EIGHT, Centre.of(spec))[0]
    ours = to_float(item["x"][None], spec.mean, spec.std)
    source = Video(video)
    clip = source.frames(EIGHT(0.0, 1.0), fetch.decode_size((64, 48), spec))
    source.close()
    theirs = executors.to_tensor(fetch.crop(clip.pixels, spec)[None], spec, torch.device("cpu"))
    assert torch.equal(ours, theirs)
