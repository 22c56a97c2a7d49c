"""Sound of the rendered benchmark: one pattern of tones per action, in noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from foveate.data.mocap15.motion import ACTIONS, Floats

Waveform = npt.NDArray[np.float32]

RATE = 16000
_LOWEST = 350.0  # Hz
_STEP = 2**0.135  # from one tone to the next; thirty tones reach 4.9 kHz
_FADE = 0.01  # s


def tones(action: str) -> tuple[float, float]:
    """The two frequencies in Hz of an action's pattern, which no other action has."""
    place = ACTIONS.index(action)
    return _LOWEST * _STEP ** (2 * place), _LOWEST * _STEP ** (2 * place + 1)


def beat(action: str) -> float:
    """Pulses per second of an action's pattern."""
    return 4.0 + ACTIONS.index(action) % 5


def sound(
    action: str,
    audible: tuple[tuple[float, float], ...],
    seconds: float,
    random: np.random.Generator,
) -> Waveform:
    """Draw the sound of a clip.

    Args:
        action: The action whose pattern is audible.
        audible: `(start, end)` seconds of the stretches in which it is heard.
        seconds: Length.
        random: Random generator: loudness, pitch (within 1.5 %), beat, colour of the noise.

    Returns:
        (N,) float32 in -1..1 at `RATE`.
    """
    count = round(seconds * RATE)
    times = np.arange(count) / RATE
    noise = _noise(count, random)
    pitch, loudness = random.uniform(0.985, 1.015), random.uniform(0.7, 2.5)
    pulse = times * beat(action) * random.uniform(0.92, 1.08) + random.random()
    shape = np.sin(np.pi * (pulse % 1)) ** 2
    low, high = tones(action)
    frequency = np.where(np.floor(pulse) % 2 == 0, low, high) * pitch
    pattern = np.sin(2 * np.pi * np.cumsum(frequency) / RATE) * shape
    heard = np.zeros(count)
    for start, end in audible:
        heard = np.maximum(heard, _window(times, start, end))
    mixed = noise + loudness * pattern * heard
    return np.asarray((mixed * 0.16).clip(-1, 1), np.float32)


def _noise(count: int, random: np.random.Generator) -> Floats:
    """(N,) noise with a standard deviation of one half, between white and pink."""
    white = np.fft.rfft(random.standard_normal(count))
    frequency = np.maximum(np.fft.rfftfreq(count, 1 / RATE), 50.0)
    shaped = np.fft.irfft(white * frequency ** -random.uniform(0.1, 0.5), count)
    return np.asarray(0.5 * shaped / max(float(shaped.std()), 1e-9))


def _window(times: Floats, start: float, end: float) -> Floats:
    """One from start to end, with short fades inside."""
    rise = np.clip((times - start) / _FADE, 0, 1)
    return np.asarray(rise * np.clip((end - times) / _FADE, 0, 1))
