"""The camera of a rendered clip: focus, exposure and noise of the sensor."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from foveate.data.mocap15.motion import Floats
from foveate.data.mocap15.spec import FPS, ClipSpec

Pixels = npt.NDArray[np.uint8]

_GRAINS = 4  # independent pictures of noise; frames take a random place in one of them
_SHIFT = 24  # pixels by which those places differ


class Sensor:
    """Turns the light of one frame after the other into grey levels."""

    def __init__(self, spec: ClipSpec) -> None:
        self._size = spec.size
        self._gain = _gain(spec)
        self._unsharp = _unsharp(spec)
        self._random = spec.chance("noise")
        self._noise: npt.NDArray[np.int16] | None = None
        if spec.noise > 0:
            shape = (_GRAINS, spec.size[1] + _SHIFT, spec.size[0] + _SHIFT, 3)
            drawn = self._random.standard_normal(shape, np.float32)
            self._noise = np.rint(drawn * spec.noise).astype(np.int16)

    def read(self, light: Pixels, frame: int) -> Pixels:
        """(H, W, 3) uint8 as drawn -> as the sensor gives it; frames in order."""
        spread = float(self._unsharp[frame])
        if spread > 0.3:  # pixels; less is not visible
            light = np.asarray(cv2.GaussianBlur(light, (0, 0), spread), np.uint8)
        seen = cv2.convertScaleAbs(light, alpha=float(self._gain[frame]))
        if self._noise is None:
            return np.asarray(seen, np.uint8)
        which, x, y = (int(v) for v in self._random.integers((_GRAINS, _SHIFT, _SHIFT)))
        width, height = self._size
        noise = np.ascontiguousarray(self._noise[which, y : y + height, x : x + width])
        return np.asarray(cv2.add(seen, noise, dtype=cv2.CV_8U), np.uint8)


def _gain(spec: ClipSpec) -> Floats:
    """(T,) brightness: a slow wave, or a step as an automatic exposure makes it."""
    random = spec.chance("exposure")
    seconds = np.arange(spec.frames) / FPS
    if random.random() < 0.7:
        wave = np.sin(2 * np.pi * (random.uniform(0.1, 0.4) * seconds + random.random()))
    else:
        at, pace = random.uniform(0.2, 0.8) * seconds[-1], random.uniform(2, 8)
        wave = np.tanh(pace * (seconds - at)) * random.choice((-1, 1))
    return np.asarray(1 + spec.exposure * wave)


def _unsharp(spec: ClipSpec) -> Floats:
    """(T,) standard deviation in pixels of the blur: the focus is lost and found again."""
    if not spec.defocus:
        return np.zeros(spec.frames)
    random = spec.chance("focus")
    seconds = np.arange(spec.frames) / FPS
    at, width = random.uniform(0.2, 0.8) * seconds[-1], random.uniform(0.3, 0.7)
    peak = spec.defocus * spec.size[1] / 240
    return np.asarray(peak * np.exp(-0.5 * ((seconds - at) / width) ** 2))
