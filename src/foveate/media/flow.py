"""Dense optical flow between neighbouring frames, at low resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

Flow = npt.NDArray[np.float32]
SHORTER = 112  # pixels of the shorter side at which flow is computed
_SMALLEST = 16  # DIS needs a few of its 8-pixel patches in each direction


def dense_flow(frames: Pixels, shorter: int = SHORTER) -> Flow:
    """Displacement of every pixel from each frame to the next.

    DIS flow (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016) on grey
    pictures whose shorter side is `shorter` pixels. The field stays at that size, because it is
    smooth; its values are pixels of the frames given.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        shorter: Shorter side, in pixels, at which flow is computed; larger frames are shrunk to
            it, smaller ones are left.

    Returns:
        (T - 1, h, w, 2) float32: x to the right and y down, in pixels of the frames given.

    Raises:
        ValueError: Not a stack of RGB frames, or frames too small to have flow.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"frames must be (T, H, W, 3), not {frames.shape}")
    height, width = frames.shape[1:3]
    scale = min(1.0, shorter / min(height, width))
    small = round(width * scale), round(height * scale)
    if min(small) < _SMALLEST:
        raise ValueError(f"frames of {small[0]}x{small[1]} pixels are too small for flow")
    grey = [_grey(frame, small) for frame in frames]
    out = np.empty((max(0, len(grey) - 1), small[1], small[0], 2), np.float32)
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    for at in range(len(out)):
        # The estimator itself makes the array where it is given none.
        out[at] = estimator.calc(grey[at], grey[at + 1], None)  # type: ignore[call-overload]
    out *= np.array([width / small[0], height / small[1]], np.float32)
    return out


class PairFlow:
    """DIS flow for motion saliency: coarse, fast, and without smoothing.

    The smoothing (variational refinement) of the estimator's other presets spreads a small mover
    into its surroundings; one scale finer than "ultrafast" costs little and finds more. Measured
    in `benchmarks/motion_containment.py`.
    """

    def __init__(self) -> None:
        self._estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._estimator.setFinestScale(1)

    @staticmethod
    def fits(width: int, height: int) -> bool:
        """Whether pictures of that size can have flow."""
        return min(width, height) >= _SMALLEST

    def __call__(self, first: Any, second: Any) -> Flow:
        """The displacement (h, w, 2) from the first grey picture (h, w) to the second.

        It has no memory: the same pictures give the same flow.
        """
        flow = self._estimator.calc(first, second, None)  # type: ignore[call-overload]
        return np.asarray(flow, np.float32)


def _grey(frame: Any, size: tuple[int, int]) -> Any:
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    if (grey.shape[1], grey.shape[0]) == size:
        return grey
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
