"""Privacy masks: polygons of a source that reach neither a model nor a file.

`MaskedSample` wraps a source, so that all pictures that leave it are masked, whatever look, model
or writer asks for them. It is the only way to pictures in the inference loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from foveate.core import Clip, Group, GroupPicture, MediaError, Motion, Sample, SampleInfo

if TYPE_CHECKING:
    import numpy.typing as npt

    from foveate.core.loop import Pixels, Waveform

Polygons = Sequence[Sequence[tuple[float, float]]]
"""Corners `(x, y)` of each polygon, in fractions of the width and height of the upright frame."""


def hidden(polygons: Polygons, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The pixels of a picture that polygons hide.

    Args:
        polygons: The masks.
        shape: `(height, width)` of the picture.

    Returns:
        (height, width), True for every pixel that a polygon touches and for two pixels around it:
        in a picture that was scaled down, these contain some of what is hidden.
    """
    height, width = shape
    canvas = np.zeros(shape, np.uint8)
    for polygon in polygons:
        corners = np.round(np.array(polygon) * (width, height)).astype(np.int32)
        cv2.fillPoly(canvas, [corners], 1)
    return cv2.dilate(canvas, np.ones((5, 5), np.uint8)).astype(bool)


def mask_pixels(pixels: Pixels, polygons: Polygons) -> Pixels:
    """A copy of (..., H, W, 3) pictures with the polygons made black."""
    masked = np.array(pixels)
    masked[..., hidden(polygons, (pixels.shape[-3], pixels.shape[-2])), :] = 0
    return masked


class MaskedSample:
    """A source whose pictures are masked; satisfies `core.Sample`.

    Frames, thumbnails and grey pictures are black inside the masks and motion is unknown there.
    Sound is not changed. Motion vectors and residuals of the compressed file refer to pictures
    that a mask does not reach, so models of the compressed domain are refused.

    Args:
        sample: The source.
        polygons: At least one mask.
    """

    def __init__(self, sample: Sample, polygons: Polygons) -> None:
        self._sample = sample
        self._polygons = polygons
        self.meter, self.warnings = sample.meter, sample.warnings

    @property
    def info(self) -> SampleInfo:
        """The properties of the source; masks are drawn on whole frames, so it has no windows."""
        return replace(self._sample.info, has_windows=False)

    def keyframes(self) -> tuple[float, ...]:
        """Times of the key frames."""
        return self._sample.keyframes()

    def frames(
        self,
        times: Sequence[float],
        size: tuple[int, int] | None = None,
        *,
        keep: bool | Sequence[float] = False,
    ) -> Clip:
        """The frames shown at those times, masked."""
        clip = self._sample.frames(times, size, keep=keep)
        return Clip(mask_pixels(clip.pixels, self._polygons), clip.times) if len(clip) else clip

    def motion(
        self, times: Sequence[float], source: str = "auto", around: int = 2, **more: bool
    ) -> Motion:
        """Motion at those times: zero and not valid inside the masks."""
        found = self._sample.motion(times, source, around, **more)
        changed: dict[str, Any] = {"thumbs": self._black(found.thumbs)}
        if found.grey is not None:
            changed["grey"] = self._black(found.grey)
        if found.field is not None:
            inside = hidden(self._polygons, (found.field.shape[2], found.field.shape[3]))
            changed["field"] = np.where(inside[..., None], np.float32(0), found.field)
            if found.valid is not None:
                changed["valid"] = found.valid & ~inside
        return replace(found, **changed)

    def _black(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """A copy of grey pictures (..., h, w), black inside the masks."""
        inside = hidden(self._polygons, (pictures.shape[-2], pictures.shape[-1]))
        return np.where(inside, np.uint8(0), pictures)

    def next_time(self, after: float) -> float | None:
        """Time of the first frame later than `after`."""
        return self._sample.next_time(after)

    def groups(self) -> Sequence[Group]:
        """Refused, see the class.

        Raises:
            MediaError: Always.
        """
        raise MediaError(
            f"{self.info.name}: a model of the compressed domain cannot be used with masks",
            "use a model that looks at frames",
        )

    def pictures(self, kind: str, places: Mapping[int, Sequence[int]]) -> Iterable[GroupPicture]:
        """Refused, see the class.

        Raises:
            MediaError: Always.
        """
        self.groups()
        return ()

    def audio(self, start: float = 0.0, end: float | None = None, rate: int = 16000) -> Waveform:
        """The sound of the source."""
        return self._sample.audio(start, end, rate)

    def close(self) -> None:
        """Close the source."""
        self._sample.close()
