"""Sound as images: log spectrograms, and mel filters after Slaney."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from foveate.core import Sample

Floats = npt.NDArray[np.float32]

RATE = 24_000  # samples per second
SECONDS = 1.28
SAMPLES = round(RATE * SECONDS)
_FFT, _WINDOW, _HOP = 511, 240, 120  # samples; an odd FFT gives exactly 256 columns
_FLOOR = 1e-6
_LINEAR_HZ, _MELS_PER_HZ, _LOG_STEP = 1000.0, 3 / 200, math.log(6.4) / 27


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
    return np.asarray(np.log(_power(wave, _FFT, _WINDOW, _HOP) + np.float32(_FLOOR)), np.float32)


def log_mel(
    wave: Floats, *, rate: int = 16_000, bands: int = 64, fft: int = 512, window: int = 400,
    hop: int = 160, low: float = 125.0, high: float = 7500.0,
) -> Floats:  # fmt: skip
    """Logarithm of the power in mel bands.

    Args:
        wave: (N,) float32 mono samples.
        rate: Samples per second.
        bands: Number of bands.
        fft: Samples of the Fourier transform.
        window: Samples of the Hann window.
        hop: Samples from one column to the next.
        low: Lower edge of the first band in Hz.
        high: Upper edge of the last band in Hz.

    Returns:
        (bands, columns) float32.
    """
    filters = mel_filters(rate, fft, bands, low, high)
    power = filters @ _power(wave, fft, window, hop)
    return np.asarray(np.log(power + np.float32(_FLOOR)), np.float32)


def hz_to_mel(hz: float) -> float:
    """Slaney's scale: linear to 1000 Hz, logarithmic above (Auditory Toolbox, 1998)."""
    if hz < _LINEAR_HZ:
        return hz * _MELS_PER_HZ
    return _LINEAR_HZ * _MELS_PER_HZ + math.log(hz / _LINEAR_HZ) / _LOG_STEP


def mel_to_hz(mel: float) -> float:
    """The inverse of `hz_to_mel`."""
    knee = _LINEAR_HZ * _MELS_PER_HZ
    if mel < knee:
        return mel / _MELS_PER_HZ
    return _LINEAR_HZ * math.exp((mel - knee) * _LOG_STEP)


def mel_filters(rate: int, fft: int, bands: int, low: float, high: float) -> Floats:
    """Triangular filters, even on Slaney's scale, each of unit area.

    Args:
        rate: Samples per second.
        fft: Samples of the Fourier transform.
        bands: Number of filters.
        low: Lower edge of the first one in Hz.
        high: Upper edge of the last one in Hz.

    Returns:
        (bands, fft // 2 + 1) float32, in 1/Hz.
    """
    if not 0 <= low < high <= rate / 2:
        raise ValueError(f"bands from {low} to {high} Hz at {rate} samples per second")
    mels = np.linspace(hz_to_mel(low), hz_to_mel(high), bands + 2)
    edges = np.array([mel_to_hz(mel) for mel in mels])
    bins = np.arange(fft // 2 + 1) * rate / fft
    left, centre, right = (edges[i : i + bands, None] for i in range(3))
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    shape = np.maximum(0.0, np.minimum(rising, falling))
    return np.asarray(shape * 2.0 / (right - left), np.float32)


def around(
    sample: Sample, middle: float, *, start: float = 0.0, end: float, rate: int = RATE
) -> Floats:
    """`SECONDS` of sound around a time.

    The stretch moves back inside at the borders of the clip, sound that is too short is repeated,
    and a clip without sound gives zeros.

    Args:
        sample: The source.
        middle: Seconds.
        start: Seconds at which the clip starts: what is heard before belongs to another label.
        end: Seconds at which it ends.
        rate: Samples per second.

    Returns:
        (`SECONDS` * rate,) float32 in -1..1.

    Raises:
        MediaError: There is sound, and it cannot be decoded.
    """
    count = round(SECONDS * rate)
    if not sample.info.has_audio:
        return np.zeros(count, np.float32)
    first = max(start, min(middle - SECONDS / 2, end - SECONDS))
    found = sample.audio(first, min(end, first + SECONDS), rate)
    wave = np.asarray(found, np.float32)[:count]
    if not len(wave):
        return np.zeros(count, np.float32)
    # A sample less is the rounding of times, not a short sound: it is not worth a seam.
    if count - len(wave) <= 2:
        return np.pad(wave, (0, count - len(wave)))
    return np.resize(wave, count)


def _power(wave: Floats, fft: int, window: int, hop: int) -> Floats:
    """(fft // 2 + 1, columns) squared magnitudes, zeros beyond the ends of the wave."""
    hann = np.zeros(fft, np.float32)
    left = (fft - window) // 2
    hann[left : left + window] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    padded = np.pad(np.asarray(wave, np.float32), fft // 2)
    pieces = np.lib.stride_tricks.sliding_window_view(padded, fft)[::hop]
    found = np.fft.rfft(pieces * hann, axis=1).T
    return np.asarray(found.real**2 + found.imag**2, np.float32)
