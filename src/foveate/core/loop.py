"""Types and protocols of the inference loop: a policy selects, views are fetched, a part runs.

Packages that implement a protocol do not import each other, only this module. Arrays are NumPy
arrays, and no large package is imported at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, runtime_checkable

from foveate.core.errors import ConfigError
from foveate.core.groups import Group, GroupPicture
from foveate.core.spec import InputSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Pixels = npt.NDArray[np.uint8]
    Waveform = npt.NDArray[np.float32]

Box = tuple[float, float, float, float]

State = Any
"""What an executor remembers of one source; opaque to everything else."""


@dataclass(frozen=True)
class SampleInfo:
    """Metadata of a source, known before anything is decoded.

    Attributes:
        name: Name of the source in messages and results.
        width: Width in square pixels after rotation.
        height: Height in square pixels after rotation.
        duration: Seconds from the first frame to the end of the last, None if unknown.
        rate: Mean frames per second, None if unknown.
        frames: Number of frames, None if counting takes a full pass.
        codec: Name of the picture codec, such as `h264`; `raw` for arrays.
        rotation: Clockwise degrees that were applied to make the frames upright.
        has_audio: Whether there is a sound track.
        sound: Seconds at which the sound track starts and ends, None if they are not stated.
        has_vectors: Whether the decoder can export motion vectors for this codec.
        has_windows: Whether `frames` takes `boxes`: windows are cut out before they are converted.
    """

    name: str
    width: int
    height: int
    duration: float | None = None
    rate: float | None = None
    frames: int | None = None
    codec: str = "raw"
    rotation: int = 0
    has_audio: bool = False
    sound: tuple[float, float] | None = None
    has_vectors: bool = False
    has_windows: bool = False


@dataclass(frozen=True)
class Clip:
    """Decoded frames with their true times.

    Attributes:
        pixels: (T, H, W, 3) uint8 RGB, upright, square pixels.
        times: (T,) seconds from the first frame of the source, ascending.
        thumbs: (T, h, w, 3) uint8 small pictures of the whole frames, where `pixels` are windows.
    """

    pixels: Pixels
    times: tuple[float, ...]
    thumbs: Pixels | None = None

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True)
class Motion:
    """Motion around T times on a coarse grid; row k belongs to the k-th requested time.

    Attributes:
        source: `vectors` of the codec, `flow` between decoded frames, or `grey` pictures alone.
        cell: Size (x, y) of a grid cell in pixels of the upright source.
        thumbs: (T, 24, 32) uint8 grey thumbnails, for detecting scene cuts.
        field: (T, K, h, w, 2) float32 displacement in source pixels per frame, forward in time; K
            neighbouring pictures. None for `grey`.
        valid: (T, K, h, w) where the field is known; False everywhere if there is no frame at that
            time.
        grey: (T, 2, h, w) uint8: two consecutive frames on the grid of the field.
        reason: Why a better source was not used, None if it was.
    """

    source: str
    cell: tuple[float, float]
    thumbs: npt.NDArray[np.uint8]
    field: npt.NDArray[np.float32] | None = None
    valid: npt.NDArray[np.bool_] | None = None
    grey: npt.NDArray[np.uint8] | None = None
    reason: str | None = None


@dataclass
class Meter:
    """Work that a source has done so far; the source only ever increases the counts.

    Attributes:
        frames: Decoded frames, including those that were not requested.
        packets: Compressed packets that were sent to the decoder.
        bytes: Bytes read from the source.
        motion_seconds: Seconds spent on motion beyond decoding: flow, reading vectors.
    """

    frames: int = 0
    packets: int = 0
    bytes: int = 0
    motion_seconds: float = 0.0


@runtime_checkable
class Sample(Protocol):
    """A lazy source: nothing is decoded until it is requested."""

    meter: Meter
    warnings: list[str]

    @property
    def info(self) -> SampleInfo:
        """Metadata, known without decoding."""

    def keyframes(self) -> tuple[float, ...]:
        """Times of the key frames in seconds; found without decoding."""

    def frames(
        self,
        times: Sequence[float],
        size: tuple[int, int] | None = None,
        *,
        keep: bool | Sequence[float] = False,
    ) -> Clip:
        """The frames shown at those times (ascending), scaled to `(width, height)`.

        A time at which nothing is shown (past the end, inside a gap, or where decoding failed)
        gives no frame, so the clip may be shorter than the request; its times tell which frames it
        has. With `keep` they stay cached: requesting them again decodes nothing. If `keep` are
        times, so do the frames at those times that are decoded on the way, without being converted.

        Sources with `info.has_windows` take `boxes`, too, one `xyxy` in pixels of the frame per
        time, inside of it: then the pixels are these windows, scaled to `size`, a square.
        """

    def motion(
        self,
        times: Sequence[float],
        source: str = "auto",
        around: int = 2,
        *,
        every: bool = True,
        single: bool = False,
    ) -> Motion:
        """Motion at those times (ascending).

        The frames shown at those times stay cached: requesting them next decodes nothing.

        Args:
            times: Seconds from the first frame.
            source: `vectors`, `flow`, `grey` (no field), or `auto`: vectors if there are any.
            around: Pictures before and after each time whose vectors are read too.
            every: False reads the vectors of those pictures only that are decoded anyway: the ones
                shown at those times, the ones before them, and what these are predicted from.
                Given only where `info.has_vectors`.
            single: True reads one field for each time: of the picture shown then, or where it has
                no vectors (key frames) of the nearest one around it. Given only where
                `info.has_vectors`.
        """

    def next_time(self, after: float) -> float | None:
        """Time of the first frame later than `after`; None at the end of the source."""

    def groups(self) -> Sequence[Group]:
        """The groups of pictures of a compressed file; found without decoding.

        Raises:
            MediaError: The source has none.
        """

    def pictures(self, kind: str, places: Mapping[int, Sequence[int]]) -> Iterable[GroupPicture]:
        """Pictures of some groups of the compressed file, in order.

        Args:
            kind: `iframe` (key frames), `mv` (accumulated motion vectors) or `residual`.
            places: Number of a group → positions in it, counted from its key frame.

        Raises:
            MediaError: The source has no such pictures.
        """

    def audio(self, start: float = 0.0, end: float | None = None, rate: int = 16000) -> Waveform:
        """Mono float samples of that time span."""

    def close(self) -> None:
        """Release what the source holds; safe to call twice."""


@dataclass(frozen=True)
class PartCost:
    """Average cost of one call of a part of the model so far.

    Attributes:
        macs: Multiply-adds.
        ms: Measured milliseconds.
    """

    macs: float
    ms: float


@dataclass(frozen=True)
class Budget:
    """How much may be spent; None means no limit.

    Attributes:
        macs_per_second: Multiply-adds per second of video.
        ms_per_frame: Milliseconds of decoding and computing per frame of the source, on average.
        frames_per_second: Frames looked at per second of video.
        macs_per_answer: Multiply-adds of one decision (a window), on average.
        ms_per_answer: Milliseconds of one decision, decoding included, on average.
        costs: Part of the model → what a call of it cost so far in this source, and `decode` → what
            decoding a frame cost; filled in by the loop, for policies that compare costs.
    """

    macs_per_second: float | None = None
    ms_per_frame: float | None = None
    frames_per_second: float | None = None
    macs_per_answer: float | None = None
    ms_per_answer: float | None = None
    costs: Mapping[str, PartCost] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        """Refuse limits that cannot be kept.

        Raises:
            ConfigError: A limit is not a positive number.
        """
        for one in fields(self):
            value = getattr(self, one.name)
            if (
                one.name != "costs"
                and value is not None
                and not (isinstance(value, Real) and float(value) > 0)
            ):
                raise ConfigError(f"Budget: {one.name} must be positive, not {value!r}")

    def __bool__(self) -> bool:
        return any(
            value is not None
            for value in (
                self.macs_per_second, self.ms_per_frame, self.frames_per_second,
                self.macs_per_answer, self.ms_per_answer,
            )
        )  # fmt: skip


@dataclass(frozen=True)
class ViewRequest:
    """A policy's request for views of one modality.

    Attributes:
        times: (N,) seconds from the first frame, in any order; for groups of pictures the time of
            the requested picture. Empty for sound.
        rows: (N,) which row of the part's batch each time belongs to, in ascending order; None
            means one row. All rows have the same number of times.
        boxes: (N,) `(x1, y1, x2, y2)` in pixels of the upright source; None for the part's own
            view of the frame.
        size: Side in pixels to which each box, or the part's own view, is scaled; `(width,
            height)` scales the whole frame to that, whatever its aspect; None for the part's own.
        spans: `(start, end)` in seconds of each row of sound.
        crop: `source` cuts boxes out of decoded frames; `view` out of the whole view at the same
            time that was fetched before in this window, by exact bilinear sampling, and decodes
            nothing.
        again: The frames will be requested again at another size or position: decoded frames stay
            cached, within the memory limit. If these are times of other frames, those that are
            decoded on the way stay cached, too.
    """

    times: tuple[float, ...] = ()
    rows: tuple[int, ...] | None = None
    boxes: tuple[Box, ...] | None = None
    size: int | tuple[int, int] | None = None
    spans: tuple[tuple[float, float], ...] = ()
    crop: Literal["source", "view"] = "source"
    again: bool | tuple[float, ...] = False


@dataclass(frozen=True)
class View:
    """The data for a `ViewRequest`; read-only.

    Attributes:
        array: (rows, T, H, W, channels); for sound (rows, frequencies, columns). The first
            dimension is the rows of the request.
        times: Seconds of the frames, row after row; fewer than requested where there is no frame.
        valid: (rows,) False if there is no such data at all, as in a file without sound.
        regions: The part of the upright source that each picture covers, `xyxy` in its pixels.
    """

    array: Array
    times: tuple[float, ...]
    valid: npt.NDArray[np.bool_]
    regions: tuple[Box, ...] = ()


Views = Mapping[str, View]
"""Input of a part of the model, by modality."""


@dataclass(frozen=True)
class Selection:
    """The next step: fetch these views, and run that part of the model on them.

    Attributes:
        views: Requests by modality; empty to continue from the state alone (the next exit, a head).
        part: Name of the part that takes the views; None: nothing is fetched or run, and the last
            answer holds at the times of the views.
        restart: The part starts without a state. Otherwise a state is reset only at a scene cut, if
            the views change their shape, and in a new window of a model that is not `persistent`.
        dense: The frames are close enough in time for detecting scene cuts.
        closes: A stream yields a result after this step; otherwise after a later step, at the
            latest at the end of the window.
        fallback: True if the policy could not be applied.
        gate: Confidence of the policy in its choice, None without one.
        measured: Other data that the policy used, such as `motion:flow`, for the trace.
        proposals: Output of a network on which the choice was based, for the trace.
        regions: (time, box) of what the part cuts out of views that its state holds, for the trace.
        given: Views that the policy made itself, such as maps of motion.
    """

    views: Mapping[str, ViewRequest] = field(default_factory=dict)
    part: str | None = "network"
    restart: bool = False
    dense: bool = True
    closes: bool = True
    fallback: bool = False
    gate: float | None = None
    measured: tuple[str, ...] = ()
    proposals: Mapping[str, Array] = field(default_factory=dict)
    regions: tuple[tuple[float, Box], ...] = ()
    given: Mapping[str, View] = field(default_factory=dict)

    @classmethod
    def of_frames(
        cls,
        times: Sequence[float],
        boxes: Sequence[Box] | None = None,
        size: int | tuple[int, int] | None = None,
        **options: Any,
    ) -> Self:
        """Frames for one part of the model; `options` are further fields of the selection."""
        request = ViewRequest(tuple(times), None, None if boxes is None else tuple(boxes), size)
        return cls({"rgb": request}, **options)

    @property
    def times(self) -> tuple[float, ...]:
        """All times of all views, modality after modality."""
        return tuple(time for request in self.views.values() for time in request.times)


class NotYet(Exception):
    """The requested data of a live source is not available yet; the call is repeated later.

    A sample raises it from any of its methods, and a policy may raise it too. The loop then
    continues with other sources. A policy has no state except its memory, which is a value, so
    repeating a call is safe.

    Args:
        time: Awaited time in the source, in seconds, if it is known.
        ready: Tells at little cost whether asking again can succeed; None if only asking tells.
    """

    def __init__(self, time: float | None = None, ready: Callable[[], bool] | None = None) -> None:
        super().__init__(time)
        self.time, self.ready = time, ready


@dataclass(frozen=True)
class Detections:
    """The boxes of one frame.

    Attributes:
        time: Seconds of the frame.
        boxes: (N, 4) `xyxy` in pixels of the upright source.
        scores: (N,) in 0..1.
        labels: (N,) indices of classes.
        tracks: (N,) identities over time, None without tracking.
    """

    time: float
    boxes: Array
    scores: Array
    labels: Array
    tracks: Array | None = None


@dataclass(frozen=True)
class Evidence:
    """Output of a part of the model.

    Attributes:
        logits: Name of the exit → (classes,), in the order of the exits; empty if the part does not
            classify.
        features: Features for policies, such as maps (T, C, h, w).
        proposals: Output of a policy network: boxes, weights of frames, modalities.
        detections: One entry per frame that was looked at.
    """

    logits: Mapping[str, Array] = field(default_factory=dict)
    features: Array | None = None
    proposals: Mapping[str, Array] = field(default_factory=dict)
    detections: tuple[Detections, ...] = ()

    @property
    def exit(self) -> str:
        """Name of the last exit that was executed."""
        return next(reversed(list(self.logits)))


@dataclass(frozen=True)
class Stop:
    """Stop looking. `gate` is the confidence on which the decision was based."""

    gate: float | None = None


@dataclass(frozen=True)
class More:
    """Continue looking. `gate` is the confidence that was too low."""

    gate: float | None = None


Verdict = Stop | More


@dataclass(frozen=True)
class Window:
    """A time span of the source that is classified on its own, in seconds."""

    start: float
    end: float


class Look(Protocol):
    """A policy that chooses what to look at next.

    It has no state except the memory that it returns, so that one policy serves many sources.
    """

    def window(self, sample: Sample, start: float, seconds: float) -> Window | None:
        """The window that begins at or after `start`; None if nothing is left.

        Args:
            sample: The source.
            start: End of the previous window, 0 at first.
            seconds: Length of a window, if the policy does not define its own.
        """

    def next(
        self,
        sample: Sample,
        window: Window,
        memory: Any,
        evidence: Evidence | None,
        budget: Budget,
    ) -> tuple[Selection | None, Any]:
        """The next step of a window and the policy's memory; None if the window is finished.

        Args:
            sample: The source; data that a policy reads is charged to it.
            window: It may end earlier than in the previous call: at a scene cut, or at the end of
                the source. Views after its end are not fetched.
            memory: Returned by the previous call; None in a new window.
            evidence: Output of the previous step; None at first, and if nothing could be fetched.
            budget: Limits of the cost.
        """

    def online(self) -> Look:
        """The same policy for streams, which chooses without knowing future frames.

        Raises:
            ConfigError: The policy does not support streams.
        """


class Executor(Protocol):
    """A model as the loop runs it: named parts, and states that are opaque to the loop.

    Attributes:
        parts: Names of the parts that a policy may select, besides the head.
        head: The part that turns a state into logits; it takes no views and runs only on request.
            None if the parts return logits themselves.
        persistent: Whether a state is kept from window to window.
    """

    parts: tuple[str, ...]
    head: str | None
    persistent: bool

    def input(self, part: str) -> InputSpec:
        """How the frames for a part are prepared."""

    def batch_key(self, part: str, views: Views, state: State) -> Hashable:
        """A key of a call: calls with equal keys can be batched, whatever their numbers of rows."""

    def run(
        self, part: str, views: Sequence[Views], states: Sequence[State]
    ) -> tuple[list[State], list[Evidence]]:
        """Run a part for several sources at once, and wait until it is done.

        Args:
            part: Name of the part.
            views: One mapping per source; empty for parts without views.
            states: One per source; None for a new source.

        Returns:
            The new state and the evidence of each source.
        """

    def cost(self, part: str, views: Views, state: State) -> int:
        """Multiply-adds of a call for one source, from shapes alone."""

    def stage(self, part: str) -> str:
        """Name of the part's work in the ledger."""


class Decide(Protocol):
    """A policy that decides when to stop; it is called only if there are logits.

    `eager` tells the loop whether the policy can stop before the end of the window; if it cannot,
    no heads are run for it.
    """

    @property
    def eager(self) -> bool:
        """Whether it is called after every step."""

    def __call__(self, evidence: Evidence, budget: Budget) -> Verdict:
        """Stop or continue."""
