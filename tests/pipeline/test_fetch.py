"""What comes of a selection: every modality as training sees it, every frame decoded once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clips import encode, number_of, picture
from foveate.core import InputSpec, Selection, View, ViewRequest, Window
from foveate.data import ClipDataset, Dataset, Record
from foveate.data.prepare import Centre
from foveate.media import ArrayVideo, Video, modalities
from foveate.media.compressed import CompressedVideo
from foveate.media.spectrogram import around, log_spectrogram
from foveate.pipeline.fetch import Fetch, Fetched
from foveate.pipeline.ledger import ChargedSample, Ledger
from foveate.policy import window as windows

SPEC = InputSpec(size=48, frames_per_second=5.0, clip_frames=10)
SIZE = (96, 72)
WINDOW = Window(0.0, 4.0)
P_ONLY = {"refs": "1", "weightp": "0", "sc_threshold": "0"}


@cache
def moving() -> bytes:
    """Three seconds of numbered pictures in groups of twelve."""
    return encode("matroska", "libx264", 75, size=SIZE, gop=12, options=P_ONLY)


class Source:
    """A source with what fetches from it and what is charged for it."""

    def __init__(self, sample: Any) -> None:
        self.sample, self.ledger = sample, Ledger()
        self.opening = sample.meter.frames  # some files tell their size by their first frame only
        self.fetch = Fetch(ChargedSample(sample, self.ledger), self.ledger, 1.0)

    def __call__(self, spec: InputSpec = SPEC, **views: ViewRequest) -> Fetched:
        named = {name.replace("_", "-"): request for name, request in views.items()}
        return self.fetch(Selection(named), spec, WINDOW)

    def rgb(self, times, **options) -> View:
        return self(rgb=ViewRequest(tuple(times), **options)).views["rgb"]

    @property
    def decoded(self) -> int:
        """Frames that the ledger knows of; they are those that the source has counted."""
        frames = self.ledger.cost().frames_decoded
        assert frames == self.sample.meter.frames - self.opening
        return frames


@pytest.fixture
def source() -> Iterator[Source]:
    with Video(moving()) as video:
        yield Source(video)


@pytest.fixture
def still() -> Source:
    """The same pictures in memory, untouched by a codec: a second of it."""
    return Source(ArrayVideo(np.stack([picture(n, SIZE) for n in range(25)]), 25.0))


def numbers(view: View) -> list[list[int]]:
    """Numbers of the pictures of whole frames, row by row."""
    return [[number_of(frame) for frame in row] for row in view.array]


# --- rows and order -----------------------------------------------------------------------


def test_frames_in_order_are_one_row(source) -> None:
    view = source.rgb([0.2, 0.4, 1.0], size=SIZE)
    assert numbers(view) == [[5, 10, 25]]
    assert view.array.shape == (1, 3, 72, 96, 3)
    assert view.times == pytest.approx([0.2, 0.4, 1.0])
    assert view.valid.tolist() == [True]
    assert view.regions == ((0.0, 0.0, 96.0, 72.0),) * 3


def test_rows_are_a_batch(source) -> None:
    times = (0.2, 0.4, 0.2, 1.0, 2.0, 2.04)
    view = source.rgb(times, rows=(0, 0, 1, 1, 2, 2), size=SIZE)
    assert numbers(view) == [[5, 10], [5, 25], [50, 51]]
    assert view.times == pytest.approx(times)
    assert view.valid.tolist() == [True] * 3
    # The frame that two rows show is decoded once: 75 pictures at most, however often asked for.
    assert source.decoded <= 52 + 2
    own = source.rgb(times, rows=(0, 0, 1, 1, 2, 2))
    assert own.array.shape == (3, 2, 48, 48, 3)
    assert np.array_equal(own.array[0, 0], own.array[1, 0])


@pytest.mark.parametrize("kind", ["times", "times twice"])
def test_any_order_of_times_gives_the_same_pictures(source, kind) -> None:
    times = [1.0, 0.2, 2.4, 0.6]
    times = times if kind == "times" else times + times[::-1]
    view = source.rgb(times)
    with Video(moving()) as video:
        ordered = Source(video).rgb(sorted(set(times)))
    assert view.times == pytest.approx(times)
    place = sorted(set(times))
    assert np.array_equal(view.array[0], ordered.array[0][[place.index(t) for t in times]])
    # Of groups of twelve what leads to the pictures 5, 15, 25 and 60; the first was there already.
    assert source.decoded == 5 + 4 + 2 + 1


def test_boxes_follow_their_times_in_any_order(still) -> None:
    times = (0.8, 0.2, 0.4)
    boxes = ((0.0, 0.0, 24.0, 24.0), (40.0, 30.0, 64.0, 54.0), (72.0, 48.0, 96.0, 72.0))
    view = still.rgb(times, boxes=boxes, size=24)
    whole = [picture(round(time * 25), SIZE) for time in times]
    for cut, frame, (x1, y1, x2, y2) in zip(view.array[0], whole, boxes, strict=True):
        assert np.array_equal(cut, frame[int(y1) : int(y2), int(x1) : int(x2)])
    assert view.regions == boxes


def test_windows_that_grow_are_those_of_training(still) -> None:
    times, boxes = (0.2, 0.4), ((10.5, 20.25, 34.5, 44.25), (48.0, 0.0, 72.0, 24.0))
    view = still.rgb(times, boxes=boxes, size=40)
    frames = np.stack([picture(5, SIZE), picture(10, SIZE)])
    assert np.array_equal(view.array[0], windows.resample(frames, np.array(boxes), 40))


def test_what_is_not_there_is_said(source) -> None:
    found = source(rgb=ViewRequest((2.8, 2.96, 3.2), size=SIZE))
    assert found.short
    assert not found.empty
    assert numbers(found.views["rgb"]) == [[70, 74]]
    # A row stays whole: a neighbour stands in for what is missing.
    rows = source(rgb=ViewRequest((2.8, 2.96, 0.0, 3.2), (0, 0, 1, 1), size=SIZE))
    assert rows.short
    assert numbers(rows.views["rgb"]) == [[70, 74], [0, 74]]
    complete = source(rgb=ViewRequest((0.0, 0.4, 0.2, 2.96), (0, 0, 1, 1), size=SIZE))
    assert not complete.short
    for request in (ViewRequest((9.0,)), ViewRequest((9.0, 8.0)), ViewRequest((9.0,), (0,))):
        nothing = source(rgb=request)
        assert nothing.empty
        assert nothing.short
        assert not len(nothing.views["rgb"].array)
    assert not source().empty  # of a step without views nothing is missing


# --- windows of what was fetched ----------------------------------------------------------


@pytest.mark.parametrize("shape", ["model's own", "a square", "the whole frame"])
def test_a_window_of_a_view_is_cut_out_of_that_view(source, shape) -> None:
    size = {"model's own": None, "a square": 36, "the whole frame": (64, 48)}[shape]
    times = (0.2, 0.4, 1.0)
    whole = source.rgb(times, size=size)
    decoded = source.decoded
    region = whole.regions[0]
    height, width = whole.array.shape[2:4]
    scale = width / (region[2] - region[0])
    side = 12 / scale  # twelve pixels of the view
    low = [(region[0] + 5 / scale, region[1]), (region[0], region[1] + 9 / scale),
           (region[2] - side, region[3] - side)]  # fmt: skip
    boxes = tuple((x, y, x + side, y + side) for x, y in low)
    view = source.rgb(times, boxes=boxes, size=12, crop="view")
    corners = [(5, 0), (0, 9), (width - 12, height - 12)]
    for cut, frame, (x, y) in zip(view.array[0], whole.array[0], corners, strict=True):
        assert np.array_equal(cut, frame[y : y + 12, x : x + 12])
    assert view.regions == boxes
    assert view.times == pytest.approx(times)
    assert source.decoded == decoded


def test_windows_of_a_view_are_resampled_as_windows_of_frames_are(source) -> None:
    whole = source.rgb((0.2, 0.4), size=SIZE)
    boxes = ((3.3, 4.4, 23.3, 24.4), (50.0, 31.0, 91.0, 72.0))
    for side in (40, 16):
        view = source.rgb((0.2, 0.4), boxes=boxes, size=side, crop="view")
        found = [
            windows.resample(frame[None], np.array([box]), side)[0]
            for frame, box in zip(whole.array[0], boxes, strict=True)
        ]
        assert np.array_equal(view.array[0], np.stack(found))


def test_several_windows_of_one_frame_are_rows(source) -> None:
    whole = source.rgb((0.2, 0.4), size=SIZE)
    boxes = ((0.0, 0.0, 20.0, 20.0), (0.0, 0.0, 20.0, 20.0), (40.0, 40.0, 60.0, 60.0),
             (40.0, 40.0, 60.0, 60.0))  # fmt: skip
    view = source.rgb((0.2, 0.4) * 2, rows=(0, 0, 1, 1), boxes=boxes, size=20, crop="view")
    assert view.array.shape == (2, 2, 20, 20, 3)
    assert np.array_equal(view.array[0], whole.array[0][:, :20, :20])
    assert np.array_equal(view.array[1], whole.array[0][:, 40:60, 40:60])


def test_a_window_of_a_view_needs_the_view_of_this_window(source) -> None:
    request = {"boxes": ((0.0, 0.0, 9.0, 9.0),), "size": 9, "crop": "view"}
    with pytest.raises(ValueError, match="whole view that was fetched before"):
        source.rgb((0.2,), **request)
    source.rgb((0.2,))
    source.rgb((0.2,), **request)
    source.fetch.begin()
    with pytest.raises(ValueError, match="whole view that was fetched before"):
        source.rgb((0.2,), **request)


# --- what follows a frame, sound, the compressed file -------------------------------------


def trained_on(path: Path, times: tuple[float, ...], name: str, spec: InputSpec) -> np.ndarray:
    """What training shows of a clip at those times: (T, H, W, channels)."""
    dataset = Dataset((Record(path, ("run",), None, None),), ("run",), path.parent)
    item = ClipDataset(dataset, lambda *_: times, Centre.of(spec), modalities=(name,))[0]
    assert isinstance(item, dict)
    return item["x"].permute(1, 2, 3, 0).numpy()


@pytest.mark.parametrize("name", ["rgb", "rgb-difference", "flow"])
@pytest.mark.parametrize("spec", [SPEC, InputSpec(32, 5.0, 10, resize_to=40)], ids=["48", "32/40"])
def test_every_modality_of_frames_is_what_training_builds(source, tmp_path, name, spec) -> None:
    path = tmp_path / "clip.mkv"
    path.write_bytes(moving())
    times = (0.13, 0.6, 1.7, 2.93)  # the last stack would pass the end
    view = source(spec, **{name: ViewRequest(times)}).views[name]
    expected = trained_on(path, times, name, spec)
    assert view.array.shape == (1, 4, spec.size, spec.size, modalities.find(name).channels)
    assert np.array_equal(view.array[0], expected)
    assert view.valid.tolist() == [True]
    assert len(view.times) == len(view.regions) == 4


def test_differences_in_rows_and_windows(still) -> None:
    boxes = ((0.0, 0.0, 40.0, 40.0), (20.0, 30.0, 60.0, 70.0))
    request = ViewRequest((0.2, 0.4), (0, 1), boxes, 40)
    view = still(rgb_difference=request).views["rgb-difference"]
    assert view.array.shape == (2, 1, 40, 40, 15)
    for row, first, (x1, y1, x2, y2) in zip(view.array, (5, 10), boxes, strict=True):
        frames = np.stack([picture(first + i, SIZE) for i in range(6)])
        cut = frames[:, int(y1) : int(y2), int(x1) : int(x2)]
        expected = modalities.difference(cut).transpose(1, 2, 0, 3).reshape(40, 40, 15)
        assert np.array_equal(row[0], expected)
    assert view.regions == boxes


def test_frames_that_several_stacks_need_are_decoded_once(still) -> None:
    still(rgb_difference=ViewRequest((0.2, 0.24, 0.28)))
    assert still.decoded == 8  # pictures 5 to 12, not three times six
    assert still.ledger.cost().stage("decode").calls == 1


def test_sound_is_there_or_is_said_to_be_missing() -> None:
    spans = ((0.0, 1.0), (0.5, 2.5))
    with Video(encode(frames=75, size=SIZE, tone=(1000.0, 0.0, 3.0))) as video:
        view = Source(video)(sound=ViewRequest(spans=spans)).views["sound"]
        expected = [log_spectrogram(around(video, t, end=3.0)) for t in (0.5, 1.5)]
    assert view.array.shape == (2, 256, 256)
    assert np.array_equal(view.array, np.stack(expected))
    assert view.valid.tolist() == [True, True]
    assert view.times == pytest.approx([0.5, 1.5])
    loudest = view.array.mean(2).argmax(1)
    assert loudest.tolist() == [round(1000 * 511 / 24000)] * 2
    with Video(moving()) as video:
        source = Source(video)
        view = source(sound=ViewRequest(spans=spans)).views["sound"]
    assert view.valid.tolist() == [False, False]
    assert view.array.shape == (2, 256, 256)
    assert np.ptp(view.array) == 0
    assert source.decoded == 0


def test_sound_beside_frames(source) -> None:
    found = source(rgb=ViewRequest((0.0, 0.2)), sound=ViewRequest(spans=((0.0, 2.0),)))
    assert list(found.views) == ["rgb", "sound"]
    assert found.views["rgb"].array.shape == (1, 2, 48, 48, 3)
    assert found.views["sound"].valid.tolist() == [False]
    assert not found.empty
    assert not found.short


def own_pictures(name: str, places: dict[int, list[int]]) -> tuple[list[np.ndarray], list[float]]:
    """What `CompressedVideo` gives of a modality, and when it is shown."""
    video = CompressedVideo(moving())
    if name == "iframe":
        found = [(array, video.groups[n].start) for n, array in video.key_frames(sorted(places))]
    elif name == "mv":
        found = [(one.motion, one.time) for one in video.vectors(places)]
    else:
        found = [(one.residual, one.time) for one in video.residuals(places)]
    video.close()
    return [array for array, _ in found], [time for _, time in found]


@pytest.mark.parametrize("name", ["iframe", "mv", "residual"])
def test_what_the_file_holds_is_taken_as_it_is(source, name) -> None:
    positions = {"iframe": [0], "mv": [3, 7], "residual": [3, 7]}[name]
    places = dict.fromkeys((0, 2, 5), positions)
    groups = source.sample.groups()
    times = tuple(float(groups[n].times[k]) for n in places for k in positions)
    view = source(**{name: ViewRequest(times)}).views[name]
    arrays, shown = own_pictures(name, places)
    assert len(arrays) == len(times)
    assert np.array_equal(view.array[0], np.stack(arrays))
    assert view.times == pytest.approx(shown)
    assert view.times == pytest.approx(times)
    assert view.array.shape[-1] == modalities.find(name).channels
    assert np.ptp(view.array) > 0
    # Each group is decoded up to the last picture that was asked for.
    stage = source.ledger.cost().stage(f"decode-{name}")
    assert stage.frames == 3 * (positions[-1] + 1)
    assert source.decoded == stage.frames


# --- the ledger ---------------------------------------------------------------------------


def test_decoded_frames_are_those_that_were_asked_for(still) -> None:
    still.rgb((0.0, 0.2, 0.4))
    still.rgb((0.8, 0.2))
    boxes = ((0.0, 0.0, 24.0, 24.0),)
    still.rgb((0.6,), boxes=boxes, size=24)
    assert still.decoded == 3 + 2 + 1
    still.rgb((0.2,), boxes=boxes, size=24, crop="view")
    cost = still.ledger.cost()
    assert cost.frames_decoded == 6
    assert cost.stage("decode").calls == 3
    assert cost.stage("transform").frames == 0


def test_of_a_file_only_what_leads_to_the_frames_is_decoded(source) -> None:
    source.rgb((0.48,))  # a key frame
    assert source.decoded == 1
    source.rgb((0.96, 1.44))
    assert source.decoded == 3
    source.rgb((2.0,), size=32)  # the third picture of its group
    assert source.decoded == 3 + 3


def test_views_behind_a_cut_are_kept_for_the_next_window() -> None:
    dark, light = np.zeros((50, 48, 48, 3), np.uint8), np.full((50, 48, 48, 3), 255, np.uint8)
    source = Source(ArrayVideo(np.concatenate([dark, light]), 25.0))
    source.fetch.cut_threshold = 0.3
    times = tuple(i / 5 for i in range(15))
    found = source(rgb=ViewRequest(times))
    assert found.cut == pytest.approx(2.0)
    assert not found.short
    assert found.views["rgb"].array.max() == 0
    assert found.views["rgb"].times == pytest.approx(times[:10])
    source.fetch.begin()
    after = source.fetch(Selection({"rgb": ViewRequest(times[10:])}), SPEC, Window(2.0, 4.0))
    assert after.cut is None
    assert after.views["rgb"].array.shape == (1, 5, 48, 48, 3)
    assert after.views["rgb"].array.min() == 255
    assert source.decoded == 15
