"""Log spectrograms against their formula, and intervals at the borders."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from foveate.media import spectrogram as sound


def tone(hertz: float, rate: int = sound.RATE, seconds: float = sound.SECONDS) -> np.ndarray:
    at = np.arange(round(rate * seconds)) / rate
    return np.sin(2 * math.pi * hertz * at).astype(np.float32)


def test_a_spectrogram_has_exactly_256_by_256_values() -> None:
    out = sound.log_spectrogram(np.random.default_rng(0).normal(size=sound.SAMPLES))
    assert out.shape == (256, 256)
    assert out.dtype == np.float32


def test_it_is_the_logarithm_of_the_power_under_a_hann_window() -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, sound.SAMPLES)
    found = sound.log_spectrogram(wave.astype(np.float32))
    window = np.zeros(511)
    window[135:375] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(240) / 240)
    padded = np.pad(wave.astype(np.float32), 255)
    for column in (0, 7, 100, 255):
        piece = padded[120 * column : 120 * column + 511] * window
        expected = np.log(np.abs(np.fft.rfft(piece)) ** 2 + 1e-6)
        np.testing.assert_allclose(found[:, column], expected, atol=2e-3)


def test_silence_is_the_floor_and_a_tone_is_where_it_belongs() -> None:
    silence = sound.log_spectrogram(np.zeros(sound.SAMPLES, np.float32))
    np.testing.assert_allclose(silence, math.log(1e-6), rtol=1e-6)
    for hertz in (440.0, 3000.0, 9000.0):
        peak = int(sound.log_spectrogram(tone(hertz)).mean(1).argmax())
        assert abs(peak * sound.RATE / 511 - hertz) < sound.RATE / 511


@dataclass
class Track:
    """A source whose sound says the time: the value at t seconds is t."""

    seconds: float = 10.0
    has_audio: bool = True

    def __post_init__(self) -> None:
        self.info = SimpleNamespace(has_audio=self.has_audio)

    def audio(self, start: float, end: float, rate: int) -> np.ndarray:
        return (start + np.arange(round((end - start) * rate)) / rate).astype(np.float32)


def ends(middle: float, track: Any = None, **more: float) -> tuple[float, float]:
    wave = sound.around(track or Track(), middle, **more)
    assert wave.shape == (sound.SAMPLES,)
    return round(float(wave[0]), 2), round(float(wave[-1]), 2)


def test_a_stretch_lies_around_its_middle_and_moves_inside_at_the_borders() -> None:
    assert ends(5.0, end=10.0) == (4.36, 5.64)
    assert ends(0.1, end=10.0) == (0.0, 1.28)
    assert ends(9.9, end=10.0) == (8.72, 10.0)


def test_nothing_is_heard_from_outside_a_labelled_stretch() -> None:
    assert ends(3.1, start=3.0, end=6.0) == (3.0, 4.28)
    wave = sound.around(Track(), 3.2, start=3.0, end=3.4)  # type: ignore[arg-type]
    assert 3.0 <= float(wave.min()) <= float(wave.max()) < 3.4


def test_short_sound_is_repeated() -> None:
    wave = sound.around(Track(), 0.25, end=0.5)  # type: ignore[arg-type]
    assert len(wave) == sound.SAMPLES
    np.testing.assert_array_equal(wave[12_000:24_000], wave[:12_000])


def test_a_clip_without_sound_is_silent() -> None:
    assert not sound.around(Track(has_audio=False), 5.0, end=10.0).any()  # type: ignore[arg-type]


def test_it_is_what_torch_computes() -> None:
    torch = pytest.importorskip("torch")
    wave = np.random.default_rng(3).normal(0, 0.2, sound.SAMPLES).astype(np.float32)
    found = torch.stft(
        torch.from_numpy(wave), 511, 120, 240, torch.hann_window(240), center=True,
        pad_mode="constant", return_complex=True,
    )  # fmt: skip
    expected = torch.log(found.abs().square() + 1e-6).numpy()
    np.testing.assert_allclose(sound.log_spectrogram(wave), expected, atol=2e-3)
