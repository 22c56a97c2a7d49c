"""Sound as images: log spectrograms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from foveate.core import Sample

Floats = npt.NDArray[np.float32]

RATE = 24_000  # samples per second
SECONDS = 1.28
SAMPLES = round(RATE * SECONDS)
_FFT, _WINDOW, _HOP = 511, 240, 120  # samples; an odd FFT gives exactly 256 columns
_FLOOR = 1e-6
WAVE_RATE, WAVE_SECONDS = 16_000, 0.975  # of waveforms, as YAMNet takes them
SILENCE = np.full((256, 256), np.log(_FLOOR), np.float32)
"""The log spectrogram of zeros."""
SILENCE.flags.writeable = False


def log_spectrogram(wave: Floats) -> Floats:
    """Logarithm of the power in time and frequency.

    STFT with a Hann window of 10 ms every 5 ms, centred, zeros beyond the ends; log(|X|² + 1e-6),
    not normalised. AdaMML (Panda et al., ICCV 2021), section 4.1 and its public code.

    Args:
        wave: (N,) float32 mono samples at `RATE`.

    Returns:
        (256, 1 + (N - 1) // 120) float32: frequency upward, then time; 256 columns for
        `SAMPLES` samples.
    """
    return np.asarray(np.log(_power(wave) + np.float32(_FLOOR)), np.float32)


def around(
    sample: Sample, middle: float, *, start: float = 0.0, end: float, rate: int = RATE,
    seconds: float = SECONDS,
) -> Floats:  # fmt: skip
    """Sound around a time.

    The stretch moves back inside at the borders of the clip, sound that is too short is repeated,
    and a clip without sound gives zeros.

    Args:
        sample: The source.
        middle: Seconds.
        start: Seconds at which the clip starts: what is heard before belongs to another label.
        end: Seconds at which it ends.
        rate: Samples per second.
        seconds: How much.

    Returns:
        (seconds * rate,) float32 in -1..1.

    Raises:
        MediaError: There is sound, and it cannot be decoded.
    """
    count = round(seconds * rate)
    if not sample.info.has_audio:
        return np.zeros(count, np.float32)
    first = max(start, min(middle - seconds / 2, end - seconds))
    found = sample.audio(first, min(end, first + seconds), rate)
    wave = np.asarray(found, np.float32)[:count]
    if not len(wave):
        return np.zeros(count, np.float32)
    # A sample less is the rounding of times, not a short sound: it is not worth a seam.
    if count - len(wave) <= 2:
        return np.pad(wave, (0, count - len(wave)))
    return np.resize(wave, count)


def _power(wave: Floats) -> Floats:
    """(256, columns) squared magnitudes, zeros beyond the ends of the wave."""
    hann = np.zeros(_FFT, np.float32)
    left = (_FFT - _WINDOW) // 2
    hann[left : left + _WINDOW] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)
    padded = np.pad(np.asarray(wave, np.float32), _FFT // 2)
    pieces = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP]
    found = np.fft.rfft(pieces * hann, axis=1).T
    return np.asarray(found.real**2 + found.imag**2, np.float32)
