"""Gets what a policy selected: each modality by one table, each frame decoded once.

Everything here is NumPy; an executor turns views into what its network takes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.core import (
    Clip,
    ConfigError,
    InputSpec,
    MediaError,
    Sample,
    Selection,
    View,
    ViewRequest,
    Window,
)
from foveate.media.modalities import Modality, find, stacks
from foveate.media.spectrogram import SILENCE, WAVE_RATE, WAVE_SECONDS, around, log_spectrogram
from foveate.policy import window as windows
from foveate.policy.cuts import distances, signature

if TYPE_CHECKING:
    from foveate.core.loop import Array, Box, Pixels
    from foveate.pipeline.ledger import ChargedSample, Ledger

DEFAULT_RATE = 25.0  # frames per second of a source that does not say
MINIMUM_SHOT = 1.0  # seconds
_STEP = 4  # every fourth pixel each way is enough for a histogram
_VECTORS = ("vectors", "motion")  # sources of modalities
_NOTHING = View(np.empty((0,), np.uint8), (), np.ones(0, bool))
MOST_BYTES = 96_000_000  # of views that are kept to be cut again


@dataclass(frozen=True)
class Fetched:
    """The views of a selection.

    Attributes:
        views: By modality; of a modality of which nothing came, empty arrays.
        cut: Seconds of a scene cut among the frames: nothing from there on is in the views.
        short: Whether frames are missing at the end of what was asked for.
        in_order: Whether frames in order were asked for: then the end of the source shows.
    """

    views: dict[str, View]
    cut: float | None = None
    short: bool = False
    in_order: bool = False

    @property
    def empty(self) -> bool:
        """Whether views were requested and none could be made."""
        return bool(self.views) and not any(len(view.array) for view in self.views.values())


@dataclass
class Fetch:
    """Gets views of one source, window after window.

    Args:
        sample: The source; what is read is charged.
        ledger: Is charged for cropping and for detecting scene cuts.
        cut_threshold: Histogram distance that counts as a scene cut; 1 or more: never.
    """

    sample: ChargedSample
    ledger: Ledger
    cut_threshold: float
    _frame: tuple[int, int] = field(init=False)
    _before: Any = None  # signature of the last frame, to tell a scene cut
    _shot: float = 0.0  # seconds where the shot began, as far as it is known
    _kept: dict[int, Any] = field(default_factory=dict)  # decoded, not yet shown: behind a cut
    _whole: dict[int, tuple[Any, Box]] = field(default_factory=dict)  # views of this window
    _whole_bytes: int = 0
    _heard: dict[tuple[str, tuple[float, float]], Array] = field(
        default_factory=dict
    )  # of this window
    # Of the last request for motion vectors in this window: time → vectors, and if there are any.
    _moving: dict[float, tuple[Array, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        info = self.sample.info
        self._frame = info.width, info.height

    def begin(self, start: float = 0.0, continues: bool = False) -> None:
        """Start a new window.

        Args:
            start: Seconds.
            continues: Whether it goes on with the shot of the window before, so that a cut between
                the two counts.
        """
        if not continues:
            self._before, self._shot = None, start
        self._whole.clear()
        self._whole_bytes = 0
        self._heard.clear()
        self._moving = {}

    def __call__(self, selection: Selection, spec: InputSpec, window: Window) -> Fetched:
        """The views of a selection.

        Args:
            selection: Its requests lie inside the window.
            spec: What the part expects of its frames.
            window: The one that is looked at.

        Raises:
            NotYet: A live source has not come that far.
        """
        views: dict[str, View] = dict.fromkeys(selection.views, _NOTHING)
        cut, short, in_order = None, False, False
        # Vectors first: frames at the same times are decoded on the way.
        for name in sorted(selection.views, key=lambda name: find(name).source not in _VECTORS):
            kind, request = find(name), selection.views[name]
            _check(name, request)
            if kind.source == "sound":
                views[name] = self._sound(name, request)
            elif kind.source == "groups":
                views[name] = self._pictures(kind, request, window)
            elif kind.source == "motion":
                views[name] = self._motion(request)
            elif kind.source == "vectors":
                views[name] = self._vectors(request)
            elif _plain(kind, request):
                in_order = in_order or bool(request.times)
                clip, cut = self._clip(selection, request, spec)
                short = short or (cut is None and len(clip) < len(request.times))
                views[name] = self._cut_out(clip, request, spec)
            else:
                views[name], missing = self._rows(kind, request, spec)
                short = short or missing
        return Fetched(views, cut, short, in_order)

    # --- frames in order ------------------------------------------------------------------

    def _clip(
        self, selection: Selection, request: ViewRequest, spec: InputSpec
    ) -> tuple[Clip, float | None]:
        """Decoded frames up to the first scene cut, and where that is."""
        if request.boxes is not None or request.size is not None:
            self._kept.clear()
            clip = windows_of(self.sample, request, spec)
            if clip is None:
                size = decode_size_for(self._frame, spec, request)
                clip = self.sample.frames(request.times, size, keep=request.again)
            if request.boxes is None:
                clip = Clip(crop(clip.pixels, spec, request.size), clip.times)
        else:
            clip = self._view(request.times, spec)
        if selection.restart and len(clip):  # else what was seen before still counts
            self._before = None
        return self._until_cut(selection, request, clip)

    def _view(self, times: Sequence[float], spec: InputSpec) -> Clip:
        """The model's own view; what an earlier window left over is used first."""
        known = [_key(t) for t in times if _key(t) in self._kept]
        rest = times[len(known) :]
        clip = Clip(np.empty((0,), np.uint8), ())
        if rest:
            clip = self.sample.frames(rest, decode_size(self._frame, spec))
            clip = Clip(crop(clip.pixels, spec), clip.times)
        kept = [self._kept[key] for key in known]
        self._kept.clear()
        if not kept:
            return clip
        pixels = np.stack([frame for _, frame in kept])
        if len(clip):
            pixels = np.concatenate([pixels, clip.pixels])
        return Clip(pixels, (*(time for time, _ in kept), *clip.times))

    def _until_cut(
        self, selection: Selection, request: ViewRequest, clip: Clip
    ) -> tuple[Clip, float | None]:
        """Split a clip at its first scene cut; the rest is kept for the next window.

        A cut sooner than `MINIMUM_SHOT` after the shot or its window began is passed over: flashing
        pictures must not split a video into single frames.
        """
        if not selection.dense or not len(clip) or self.cut_threshold >= 1:
            self._before = None
            return clip, None
        with self.ledger.stage("cuts"):
            small = clip.pixels[:, ::_STEP, ::_STEP] if clip.thumbs is None else clip.thumbs
            signatures = signature(small)
            moved = distances(signatures, self._before)
        # A frame later than the time at its place: some are missing before it, and those that
        # came cannot be assigned to times.
        pairs = zip(clip.times, request.times, strict=False)
        complete = all(shown <= time + 1e-6 for shown, time in pairs)
        asked = request.times if complete else clip.times
        at = next(
            (
                i
                for i, d in enumerate(moved)
                if d > self.cut_threshold and asked[i] >= self._shot + MINIMUM_SHOT
            ),
            None,
        )
        if at is None:
            self._before = signatures[-1:]
            return clip, None
        self._before = None
        # Boxes chosen before the cut are meaningless after it: there the policy chooses again.
        if complete and request.size is None and request.boxes is None:
            for i in range(at, len(clip)):
                self._kept[_key(asked[i])] = (clip.times[i], clip.pixels[i])
        thumbs = None if clip.thumbs is None else clip.thumbs[:at]
        return Clip(clip.pixels[:at], clip.times[:at], thumbs), asked[at]

    def _cut_out(self, clip: Clip, request: ViewRequest, spec: InputSpec) -> View:
        """A view with one row of the frames that came."""
        if not len(clip):
            return _NOTHING
        if request.boxes is None:
            region = region_of(self._frame, spec, request)
            self._remember(clip, region)
            return View(clip.pixels[None], clip.times, np.ones(1, bool), (region,) * len(clip))
        pixels = clip.pixels
        if clip.thumbs is None:
            with self.ledger.stage("transform"):
                pixels = cut_out(clip, self._frame, spec, request)
        rows = matched(clip.times, request.times)
        regions = tuple(request.boxes[row] for row in rows)
        return View(pixels[None], clip.times, np.ones(1, bool), regions)

    def _remember(self, clip: Clip, region: Box) -> None:
        """Keep whole views, so that a later request of this window can cut windows out of them."""
        if self._whole_bytes + clip.pixels.nbytes > MOST_BYTES:
            return
        self._whole_bytes += clip.pixels.nbytes
        for time, pixels in zip(clip.times, clip.pixels, strict=True):
            self._whole[_key(time)] = pixels, region

    # --- frames in any order, in rows, with those that follow -------------------------------

    def _rows(self, kind: Modality, request: ViewRequest, spec: InputSpec) -> tuple[View, bool]:
        """A view of any request for frames, and whether some at its end are missing."""
        info = self.sample.info
        step = 1.0 / (info.rate or DEFAULT_RATE)
        last = info.duration if info.duration is not None else np.inf
        per = 1 + kind.following
        asked = stacks(request.times, kind.following, step, last)
        boxes = request.boxes
        each = None if boxes is None else tuple(box for box in boxes for _ in range(per))
        if request.crop == "view":
            pixels, times = self._cut_again(asked, each, spec, request)
        else:
            pixels, times = self._any_order(asked, each, spec, request)
        if not len(pixels):
            return _NOTHING, True
        count = 1 if request.rows is None else len(set(request.rows))
        with self.ledger.stage("transform"):
            stacked = pixels.reshape(len(request.times), per, *pixels.shape[1:])
            made = (
                stacked[:, 0] if kind.following == 0 else np.stack(list(map(kind.build, stacked)))
            )
        array = made.reshape(count, -1, *made.shape[1:])
        region = region_of(self._frame, spec, request)
        regions = boxes if boxes is not None else (region,) * len(request.times)
        shown = times[::per]
        short = max(times) < max(asked) - step
        return View(array, shown, np.ones(count, bool), regions), short

    def _any_order(
        self, asked: Sequence[float], boxes: tuple[Box, ...] | None, spec: InputSpec,
        request: ViewRequest,
    ) -> tuple[Pixels, tuple[float, ...]]:  # fmt: skip
        """Decoded frames for times in any order; a missing one is replaced by its neighbour."""
        if boxes is not None and (found := self._windows_in_any_order(asked, boxes, spec, request)):
            return found
        # Stacks meet at times that differ in their last digits.
        wanted = sorted({_key(time): time for time in asked}.values())
        size = decode_size_for(self._frame, spec, request)
        clip = self.sample.frames(wanted, size, keep=request.again)
        if not len(clip):
            return clip.pixels, ()
        answered = np.array([wanted[row] for row in matched(clip.times, wanted)])
        near = [int(np.abs(answered - time).argmin()) for time in asked]
        times = tuple(clip.times[at] for at in near)
        if boxes is None:
            self._remember(clip, region_of(self._frame, spec, request))
            return crop(clip.pixels, spec, request.size)[near], times
        with self.ledger.stage("transform"):
            chosen = Clip(clip.pixels[near], times)
            return cut_out(chosen, self._frame, spec, replace(request, boxes=boxes), times), times

    def _windows_in_any_order(
        self, asked: Sequence[float], boxes: tuple[Box, ...], spec: InputSpec, request: ViewRequest
    ) -> tuple[Pixels, tuple[float, ...]] | None:
        """Windows that the source cuts out; None if it cannot, or if frames are missing."""
        order = sorted(range(len(asked)), key=asked.__getitem__)
        times, places = tuple(asked[at] for at in order), tuple(boxes[at] for at in order)
        clip = windows_of(self.sample, replace(request, times=times, boxes=places), spec)
        if clip is None or len(clip) < len(order):
            return None
        back = np.argsort(order)
        return clip.pixels[back], tuple(clip.times[at] for at in back)

    def _cut_again(
        self, asked: Sequence[float], boxes: tuple[Box, ...] | None, spec: InputSpec,
        request: ViewRequest,
    ) -> tuple[Pixels, tuple[float, ...]]:  # fmt: skip
        """Windows of whole views that were fetched before in this window; nothing is decoded."""
        if not self._whole or boxes is None:
            raise ValueError("crop='view' needs boxes, and a whole view that was fetched before")
        known = sorted(self._whole)
        keys = []
        for time in asked:
            at = bisect_right(known, _key(time) + 1) - 1
            keys.append(known[max(at, 0)])
        found = [self._whole[key] for key in keys]
        side = _side(request.size, spec)
        with self.ledger.stage("transform"):
            pixels = np.stack([
                windows.resample(view[None], _inside(box, region, view.shape), side)[0]
                for (view, region), box in zip(found, boxes, strict=True)
            ])  # fmt: skip
        return pixels, tuple(key / 1e6 for key in keys)

    # --- what the codec holds, and sound ----------------------------------------------------

    def _pictures(self, kind: Modality, request: ViewRequest, window: Window) -> View:
        groups = self.sample.groups()
        starts = [group.start for group in groups]
        places: dict[int, list[int]] = {}
        for time in request.times:
            number = max(0, bisect_right(starts, time + 1e-6) - 1)
            place = bisect_left(groups[number].times, time - 1e-6)
            places.setdefault(number, []).append(min(place, len(groups[number]) - 1))
        found = self.sample.pictures(kind.name, places)
        if not found:
            self.sample.warnings.append(
                f"{kind.name}: nothing could be decoded from {window.start:.2f} s on"
            )
            return _NOTHING
        array: Array = np.stack([picture.array for picture in found])[None]
        return View(array, tuple(picture.time for picture in found), np.ones(1, bool))

    def _motion(self, request: ViewRequest) -> View:
        """Displacement into each frame of the request, (1, T, h, w, 3), for the last of them.

        It is unknown everywhere in a file without vectors, such as one that is all intra coded.
        """
        try:
            motion = self.sample.motion(request.times, "vectors", around=0)
        except MediaError as error:
            self._warn_once(error)
            width, height = self.sample.info.width, self.sample.info.height
            unknown = np.zeros((1, len(request.times), 1, 1, 3), np.float32)
            region = (0.0, 0.0, float(width), float(height))
            return View(unknown, request.times[-1:], np.ones(1, bool), (region,))
        assert motion.field is not None
        assert motion.valid is not None
        field, valid = motion.field[:, 0], motion.valid[:, 0]
        array = np.concatenate([field, valid[..., None]], -1, dtype=np.float32)
        rows, columns = valid.shape[1:]
        region = (0.0, 0.0, columns * motion.cell[0], rows * motion.cell[1])
        return View(array[None], request.times[-1:], np.ones(1, bool), (region,))

    def _warn_once(self, error: MediaError) -> None:
        if error.cause not in self.sample.warnings:
            self.sample.warnings.append(error.cause)

    def _vectors(self, request: ViewRequest) -> View:
        """Motion vectors of single pictures, in pixels per frame; invalid rows where none are."""
        count = 1 if request.rows is None else len(set(request.rows))
        if not self._moving.keys() >= set(request.times):
            times = sorted(set(request.times))
            try:
                motion = self.sample.motion(times, "vectors", around=1)
            except MediaError as error:
                self._warn_once(error)
                shape = (count, len(request.times) // count, 1, 1, 2)
                return View(np.zeros(shape, np.float32), request.times, np.zeros(count, bool))
            assert motion.field is not None
            assert motion.valid is not None
            # Key pictures have no vectors: those of the picture after, or before, are taken.
            near = np.asarray(motion.valid.any((2, 3)), bool)[:, (1, 2, 0)]
            chosen = np.array((1, 2, 0))[near.argmax(1)]
            fields = motion.field[np.arange(len(times)), chosen]
            known = np.asarray(near.any(1), bool)
            self._moving = dict(zip(times, zip(fields, known, strict=True), strict=True))
        found = [self._moving[time] for time in request.times]
        array = np.stack([field for field, _ in found])
        array = array.reshape(count, -1, *array.shape[1:])
        valid = np.asarray(np.reshape([known for _, known in found], (count, -1)).any(1), bool)
        return View(array, request.times, valid)

    def _sound(self, name: str, request: ViewRequest) -> View:
        """A log spectrogram or waveform around the middle of each span; invalid without sound.

        What was heard before in this window is neither decoded nor transformed again, and where
        there is no sound nothing is transformed.
        """
        info = self.sample.info
        valid = np.array([self._audible(*span) for span in request.spans], bool)
        wave = name == "waveform"
        for span, audible in zip(request.spans, valid, strict=True):
            if (name, span) in self._heard:
                continue
            last = span[1] if info.duration is None else info.duration
            middle = sum(span) / 2
            if not audible:
                found = np.zeros(round(WAVE_RATE * WAVE_SECONDS), np.float32) if wave else SILENCE
            elif wave:
                found = around(self.sample, middle, end=last, rate=WAVE_RATE, seconds=WAVE_SECONDS)
            else:
                samples = around(self.sample, middle, end=last)
                with self.ledger.stage("transform"):
                    found = log_spectrogram(samples)
            self._heard[name, span] = found
        rows = [self._heard[name, span] for span in request.spans]
        middles = tuple((start + end) / 2 for start, end in request.spans)
        return View(np.stack(rows) if rows else np.empty((0,), np.float32), middles, valid)

    def _audible(self, start: float, end: float) -> bool:
        """Whether the sound track reaches into a span."""
        info = self.sample.info
        if info.sound is None:
            return info.has_audio
        return info.has_audio and info.sound[0] < end and info.sound[1] > start


def _check(name: str, request: ViewRequest) -> None:
    """Refuse a request that contradicts itself.

    Raises:
        ConfigError: Its rows, boxes or size cannot be meant.
    """
    count, rows, boxes = len(request.times), request.rows, request.boxes
    if rows is not None:
        each = {rows.count(row) for row in rows}
        if len(rows) != count or list(rows) != sorted(rows) or len(each) > 1:
            raise ConfigError(
                f"a request for {name}: rows must be one per time, ascending, with as many times "
                f"each, not {rows} for {count} times"
            )
    if boxes is not None:
        if len(boxes) != count:
            raise ConfigError(f"a request for {name}: {len(boxes)} boxes for {count} times")
        if not np.isfinite(boxes).all() or any(b[0] >= b[2] or b[1] >= b[3] for b in boxes):
            raise ConfigError(f"a request for {name}: a box is not finite, or has no area")
    sides = request.size if isinstance(request.size, tuple) else (request.size,)
    if any(side is not None and side < 1 for side in sides):
        raise ConfigError(f"a request for {name}: the size must be positive, not {request.size}")


def _plain(kind: Modality, request: ViewRequest) -> bool:
    """Whether a request is for single frames in order: only then scene cuts can be detected."""
    in_order = all(a <= b for a, b in pairwise(request.times))
    return kind.following == 0 and request.rows is None and request.crop == "source" and in_order


def decode_size(source: tuple[int, int], spec: InputSpec) -> tuple[int, int]:
    """The `(width, height)` to decode to, so that the crop needs no second scaling.

    Args:
        source: Upright `(width, height)`.
        spec: What the network expects.
    """
    width, height = source
    side = spec.resize_to or spec.size
    if spec.resize == "squash":
        return side, side
    scale = side / min(width, height)
    return max(side, round(width * scale)), max(side, round(height * scale))


def decode_size_for(
    source: tuple[int, int], spec: InputSpec, request: ViewRequest
) -> tuple[int, int]:
    """The `(width, height)` to decode to for what a policy wants to see.

    With boxes it is the smallest at which none has to be enlarged, at most the source's own: then
    windows of one size are cut out without a second scaling.
    """
    if isinstance(request.size, tuple):
        return request.size
    side = _side(request.size, spec)
    if request.boxes is None:
        return decode_size(source, replace(spec, size=side))
    smallest = min(min(x2 - x1, y2 - y1) for x1, y1, x2, y2 in request.boxes)
    scale = min(1.0, side / max(smallest, 1.0))
    return max(1, round(source[0] * scale)), max(1, round(source[1] * scale))


def crop(pixels: Pixels, spec: InputSpec, size: int | tuple[int, int] | None = None) -> Pixels:
    """The centre square of (T, H, W, 3) frames, without copying; all of frames of a given size."""
    if spec.crop == "none" or isinstance(size, tuple):
        return pixels
    side = size or spec.size
    top = (pixels.shape[1] - side) // 2
    left = (pixels.shape[2] - side) // 2
    return pixels[:, top : top + side, left : left + side]


def region_of(source: tuple[int, int], spec: InputSpec, request: ViewRequest) -> Box:
    """The part of the upright source that a view without boxes covers."""
    if spec.crop == "none" or isinstance(request.size, tuple):
        return 0.0, 0.0, float(source[0]), float(source[1])
    width, height = decode_size_for(source, spec, replace(request, boxes=None))
    side = _side(request.size, spec)
    left, top = (width - side) // 2, (height - side) // 2
    x, y = source[0] / width, source[1] / height
    return left * x, top * y, (left + side) * x, (top + side) * y


def windows_of(sample: Sample, request: ViewRequest, spec: InputSpec) -> Clip | None:
    """The windows of a request, cut out by the source; None where it has to give whole frames.

    Args:
        sample: The source.
        request: Its times ascend.
        spec: What the network expects.
    """
    info, boxes = sample.info, request.boxes
    if boxes is None or not info.has_windows or isinstance(request.size, tuple):
        return None
    if any(min(b[:2]) < -1 or b[2] > info.width + 1 or b[3] > info.height + 1 for b in boxes):
        return None
    side = _side(request.size, spec)
    more: dict[str, Any] = {"boxes": boxes, "keep": request.again}
    return sample.frames(request.times, (side, side), **more)


def shown(
    sample: Sample, spec: InputSpec, requests: Sequence[ViewRequest]
) -> tuple[tuple[float, ...], Pixels]:
    """What a network is shown of a source, request by request, as in the loop.

    Args:
        sample: The source.
        spec: What the network expects.
        requests: Of frames in order, all of one size.

    Returns:
        The times of the frames that came, and (T, side, side, 3) uint8.
    """
    frame = sample.info.width, sample.info.height
    times: list[float] = []
    parts: list[Pixels] = []
    for request in requests:
        clip = windows_of(sample, request, spec)
        if clip is None:
            clip = sample.frames(request.times, decode_size_for(frame, spec, request))
        if not len(clip):
            break
        times += clip.times
        if clip.thumbs is not None:
            parts.append(clip.pixels)
        elif request.boxes is None:
            parts.append(crop(clip.pixels, spec, request.size))
        else:
            parts.append(cut_out(clip, frame, spec, request))
    side = _side(requests[0].size if requests else None, spec)
    empty = np.zeros((0, side, side, 3), np.uint8)
    return tuple(times), np.concatenate([empty, *parts])


def cut_out(
    clip: Clip,
    source: tuple[int, int],
    spec: InputSpec,
    request: ViewRequest,
    asked: tuple[float, ...] | None = None,
) -> Pixels:
    """Windows of whole decoded frames: whole pixels where the size is right, else resampled.

    Args:
        clip: (T, h, w, 3) frames at `decode_size_for`; fewer than were wanted where some failed.
        source: Upright `(width, height)` that the boxes refer to.
        spec: What the network expects.
        request: With boxes.
        asked: The requested time of each frame, if the frames' own times do not give it.

    Returns:
        (T, side, side, 3) uint8.
    """
    assert request.boxes is not None
    side = _side(request.size, spec)
    height, width = clip.pixels.shape[1:3]
    rows = range(len(clip)) if asked is not None else matched(clip.times, request.times)
    stretch = np.array([width / source[0], height / source[1]] * 2)
    boxes = np.array([request.boxes[row] for row in rows]).reshape(-1, 4) * stretch
    fits = np.abs(boxes[:, 2:] - boxes[:, :2] - side).max(initial=0) < 1 and side <= min(
        width, height
    )
    if fits:
        return windows.crop(clip.pixels, np.round(boxes[:, :2]).astype(np.int64), side)
    return windows.resample(clip.pixels, boxes, side)


def matched(shown: Sequence[float], asked: Sequence[float]) -> list[int]:
    """For each frame that came the number of the time that it answers; both ascending."""
    rows: list[int] = []
    for seconds in shown:
        row = rows[-1] + 1 if rows else 0
        while row + 1 < len(asked) and asked[row] < seconds - 1e-4:
            row += 1
        rows.append(min(row, len(asked) - 1))
    return rows


def _side(size: int | tuple[int, int] | None, spec: InputSpec) -> int:
    return size if isinstance(size, int) else spec.size


def _inside(box: Box, region: Box, shape: tuple[int, ...]) -> Array:
    """A box of the source as (1, 4) pixels of a view (H, W, 3) of a region of it."""
    x, y = shape[1] / (region[2] - region[0]), shape[0] / (region[3] - region[1])
    corners = np.array(box) - np.array([region[0], region[1]] * 2)
    return np.asarray(corners * np.array([x, y] * 2))[None]


def _key(seconds: float) -> int:
    """Times as whole microseconds, so that equal times meet in a table."""
    return round(seconds * 1e6)
