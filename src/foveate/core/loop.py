"""The nouns and protocols of the one loop: look, fetch, model, decide.

Rooms that implement a protocol do not import each other; they meet here. torch is imported for
type checking only, so that this room costs nothing to load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    Pixels = npt.NDArray[np.uint8]
    Waveform = npt.NDArray[np.float32]

State = Any
"""Streaming state: a plain nest of tensors with the batch first; passed in and returned."""


@dataclass(frozen=True)
class SampleInfo:
    """What is known of a source before anything is decoded.

    Attributes:
        name: What the source is called in messages and results.
        width: Width in square pixels after rotation.
        height: Height in square pixels after rotation.
        duration: Seconds from the first frame to the end of the last, None if unknown.
        rate: Mean frames per second, None if unknown.
        frames: Number of frames, None if it takes a full pass to know.
        codec: Name of the picture codec, such as `h264`; `raw` for arrays.
        rotation: Clockwise degrees that were applied to make the frames upright.
        has_audio: Whether there is a sound track.
        has_vectors: Whether the decoder can export motion vectors for this codec.
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
    has_vectors: bool = False


@dataclass(frozen=True)
class Clip:
    """Decoded frames with their true times.

    Attributes:
        pixels: (T, H, W, 3) uint8 RGB, upright, square pixels.
        times: (T,) seconds from the first frame of the source, ascending.
    """

    pixels: Pixels
    times: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True)
class Motion:
    """How things move around T times, on a coarse grid; row k belongs to the k-th asked time.

    Attributes:
        source: `vectors` of the codec, `flow` between decoded frames, or `grey` pictures alone.
        cell: Pixels of the upright source (x, y) that one place of the grid covers.
        thumbs: (T, 24, 32) uint8 grey thumbnails, to tell scene cuts by.
        field: (T, K, h, w, 2) float32 displacement in source pixels per frame, forward in time; K
            neighbouring pictures. None for `grey`.
        valid: (T, K, h, w) where the field is known; nowhere if nothing is shown at that time.
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
    """Work that a source has done so far; only ever counted up, by the source itself.

    Attributes:
        frames: Frames that came out of the decoder, wanted or not.
        packets: Compressed packets that were given to the decoder.
        bytes: Bytes read from the source.
        motion_seconds: Seconds spent on motion beyond decoding: flow, reading vectors.
    """

    frames: int = 0
    packets: int = 0
    bytes: int = 0
    motion_seconds: float = 0.0


@runtime_checkable
class Sample(Protocol):
    """A lazy source: nothing is decoded until it is asked for."""

    meter: Meter
    warnings: list[str]

    @property
    def info(self) -> SampleInfo:
        """What is known without decoding."""

    def keyframes(self) -> tuple[float, ...]:
        """Times of the key frames in seconds; found without decoding."""

    def frames(self, times: Sequence[float], size: tuple[int, int] | None = None) -> Clip:
        """The frames shown at those times (ascending), scaled to `(width, height)`.

        A time at which nothing is shown (past the end, inside a gap, or where decoding failed)
        gives no frame, so the clip may be shorter than asked; its times say which came.
        """

    def motion(self, times: Sequence[float], source: str = "auto", around: int = 2) -> Motion:
        """How things move at those times (ascending).

        The frames shown at those times stay at hand: asking for them next decodes nothing again.

        Args:
            times: Seconds from the first frame.
            source: `vectors`, `flow`, `grey` (no field), or `auto`: vectors where there are any.
            around: Pictures before and after each time whose vectors are read too.
        """

    def next_time(self, after: float) -> float | None:
        """Time of the first frame later than `after`; None at the end of the source."""

    def audio(self, start: float = 0.0, end: float | None = None, rate: int = 16000) -> Waveform:
        """Mono float samples of that stretch."""

    def close(self) -> None:
        """Release what the source holds; safe to call twice."""


@dataclass(frozen=True)
class Budget:
    """How much may be spent; None means no limit.

    Attributes:
        macs_per_second: Multiply-adds per second of video.
        ms_per_frame: Milliseconds of decoding and computing per frame of the source, on average.
        frames_per_second: Frames looked at per second of video.
        macs_per_answer: Multiply-adds of one decision (a window), on average; for cascades.
        ms_per_answer: Milliseconds of one decision, decoding included, on average; for cascades.
    """

    macs_per_second: float | None = None
    ms_per_frame: float | None = None
    frames_per_second: float | None = None
    macs_per_answer: float | None = None
    ms_per_answer: float | None = None

    def __bool__(self) -> bool:
        return any(
            value is not None
            for value in (
                self.macs_per_second, self.ms_per_frame, self.frames_per_second,
                self.macs_per_answer, self.ms_per_answer,
            )
        )  # fmt: skip


@dataclass(frozen=True)
class Selection:
    """What to look at next.

    Attributes:
        times: Times of the wanted frames in seconds, ascending. Empty means: nothing is left.
        boxes: One `(x1, y1, x2, y2)` per frame in pixels of the upright source, or None for all.
        modalities: Which kinds of data are wanted.
        restart: The frames are not later than those seen before: the model begins anew on them.
        dense: The frames are near enough in time for a scene cut to be told from motion.
        fallback: True where the policy could not do what it is for.
        size: Side in pixels to which each box (or the model's whole view) is scaled; None for the
            model's own.
        gate: Confidence of the policy in its boxes, if it has one.
        macs: Multiply-adds that choosing took, where a network takes part in it.
    """

    times: tuple[float, ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] | None = None
    modalities: tuple[str, ...] = ("rgb",)
    restart: bool = False
    dense: bool = True
    fallback: bool = False
    size: int | None = None
    gate: float | None = None
    macs: int = 0


@dataclass(frozen=True)
class Evidence:
    """What the model says of the views that it was shown.

    Attributes:
        logits: Name of the exit → (B, classes), in the order in which the exits come.
        features: (B, T, channels) per view, if the model gives them.
    """

    logits: Mapping[str, Tensor]
    features: Tensor | None = None

    @property
    def exit(self) -> str:
        """Name of the last exit that was executed."""
        return next(reversed(list(self.logits)))


@dataclass(frozen=True)
class Stop:
    """Enough was seen. `gate` is the confidence that decided."""

    gate: float | None = None


@dataclass(frozen=True)
class More:
    """Look again. `gate` is the confidence that was not enough."""

    gate: float | None = None


Verdict = Stop | More


@dataclass(frozen=True)
class Window:
    """A stretch of the source that is decided on its own, in seconds."""

    start: float
    end: float


class Look(Protocol):
    """A policy that chooses what to look at next; a `memory` of None starts a new window."""

    def __call__(
        self, sample: Sample, window: Window, memory: Any, budget: Budget
    ) -> tuple[Selection, Any]:
        """The next views of the window and the policy's memory; no times: nothing is left."""


class Model(Protocol):
    """A network behind the loop's face.

    `model(views, state)` is `observe` followed by `answer`; they are apart so that a head runs
    only when somebody asks.
    """

    def __call__(self, views: Tensor, state: State) -> tuple[Evidence, State]:
        """Look at views (B, 3, n, H, W) and answer for all that was seen."""

    def observe(self, views: Tensor, state: State) -> State:
        """Look at views (B, 3, n, H, W); a state of None starts anew."""

    def answer(self, state: State) -> Evidence:
        """What is known of all that was seen."""


class Decide(Protocol):
    """A policy that says when enough was seen.

    `eager` tells the loop whether the verdict can come before the window ends; where it cannot,
    heads are not run for it.
    """

    @property
    def eager(self) -> bool:
        """Whether it wants to be asked after every look."""

    def __call__(self, evidence: Evidence, budget: Budget) -> Verdict:
        """Stop, or look again."""
