"""Samplers: which frames of a clip the network is shown."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from foveate.core import InputSpec
from foveate.primitives.base import Primitive, Search

if TYPE_CHECKING:
    from foveate.data.samplers import Sampling


class Sampler(Primitive):
    """Base of all samplers.

    Attributes:
        spans: Whether the frames are spread over whole clips, so that the rate follows from the
            length of the training clips.
    """

    group: ClassVar[str] = "samplers"
    spans: ClassVar[bool] = False

    frames: Annotated[int | None, Field(ge=1, le=1024), Search.int(4, 32, step=4)] = Field(
        None, description="in a clip; None: as many as fit, at most the recogniser's"
    )

    def build(self, spec: InputSpec) -> Sampling:
        """The times of a clip as a function; see `foveate.data.samplers`.

        Args:
            spec: The network's input: `clip_frames` and `frames_per_second` are those that the
                clip must have.
        """
        raise NotImplementedError


class Uniform(Sampler):
    """Frames at an even rate, from a random place of the clip in training, else its middle."""

    kind: Literal["uniform"] = "uniform"
    rate: Annotated[float | None, Field(gt=0, le=240), Search.float(2, 15)] = Field(
        None, description="frames/s; None: the recogniser's"
    )

    def build(self, spec: InputSpec) -> Sampling:
        """A window of times at an even rate."""
        from foveate.data import samplers

        return partial(samplers.window, count=spec.clip_frames, rate=spec.frames_per_second)


class Segments(Sampler):
    """One frame of each of as many equal parts of the clip, however long it is.

    Wang et al., "Temporal Segment Networks", ECCV 2016 (arXiv 1608.00859), section 3.1: a random
    frame of each part in training, else the middle one. Windows of prediction are as long as the
    median training clip.
    """

    spans: ClassVar[bool] = True

    kind: Literal["segments"] = "segments"
    frames: Annotated[int, Field(ge=1, le=1024), Search.int(4, 32, step=4)] = 8

    def build(self, spec: InputSpec) -> Sampling:
        """A time in each part."""
        from foveate.data import samplers

        return partial(samplers.segments, count=spec.clip_frames)
