"""Sound: the right pitch at the right moment, whatever the container does to its times."""

from __future__ import annotations

import numpy as np
import pytest
from kinds import clip

from clips import encode
from foveate.core import LimitError, MediaError
from foveate.media import Limits, Video


def pitch(wave: np.ndarray, rate: int) -> float:
    """The strongest frequency."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return float(np.argmax(spectrum) * rate / len(wave))


def onset(wave: np.ndarray, rate: int) -> float:
    """Seconds at which it gets loud."""
    return float(np.argmax(np.abs(wave) > 0.2) / rate)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "avi", "flv", "webm", "mov"])
@pytest.mark.parametrize("rate", [16000, 22050])
def test_tone(container: str, rate: int) -> None:
    codec = "libvpx" if container == "webm" else "libx264"
    sound_rate = 44100 if container == "flv" else 48000
    data = encode(container, codec, frames=50, tone=(1000.0, 0.0, 2.0), sound_rate=sound_rate)
    with Video(data) as video:
        wave = video.audio(rate=rate)
        assert wave.dtype == np.float32
        assert len(wave) == pytest.approx(2 * rate, rel=0.06)
        assert pitch(wave[rate // 4 : rate], rate) == pytest.approx(1000, abs=8)
        assert 0.4 < np.abs(wave[rate // 4 : rate]).max() < 0.62


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_sound_that_starts_later_is_late(container: str) -> None:
    data = encode(container, frames=60, bframes=2, tone=(800.0, 1.0, 1.0))
    with Video(data) as video:
        assert onset(video.audio(), 16000) == pytest.approx(1.0, abs=0.05)
        assert onset(video.audio(0.5, 1.5), 16000) == pytest.approx(0.5, abs=0.05)
        assert np.abs(video.audio(0.0, 0.9)).max() < 0.05


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_a_stretch_is_cut_from_the_whole(container: str) -> None:
    data = encode(container, frames=100, tone=(440.0, 0.0, 4.0))
    with Video(data) as video:
        whole = video.audio()
        for start, end in ((0.0, 1.0), (1.25, 2.0), (2.5, 3.5)):
            part = video.audio(start, end)
            assert len(part) == round((end - start) * 16000)
            reference = whole[round(start * 16000) : round(end * 16000)]
            # Decoding from the middle may shift by a few samples: compare with the best of them.
            inner = part[200:-200]
            best = min(
                float(np.abs(reference[200 + d : len(reference) - 200 + d] - inner).mean())
                for d in range(-30, 31)
            )
            assert best < 0.03


def test_sound_that_changes_its_rate_midway() -> None:
    """Found by fuzzing: damage can do the same, and the resampler refuses it."""
    first = encode("mpegts", frames=50, tone=(1000.0, 0.0, 2.0), sound_rate=48000)
    second = encode("mpegts", frames=50, first=50, tone=(1000.0, 0.0, 2.0), sound_rate=32000)
    with Video(first + second) as video:
        wave = video.audio()
    assert len(wave) == pytest.approx(4 * 16000, rel=0.06)
    for at in (8000, 40000):
        assert pitch(wave[at : at + 8000], 16000) == pytest.approx(1000, abs=8)


def test_silence_where_there_is_none() -> None:
    data = encode(frames=50, tone=(440.0, 0.0, 1.0))
    with Video(data) as video:
        assert len(video.audio(0.0, 3.0)) == 48000
        assert np.abs(video.audio(1.5, 3.0)).max() < 1e-3


def test_no_sound() -> None:
    with Video(clip("h264-mp4")) as video:
        assert not video.info.has_audio
        with pytest.raises(MediaError, match="no sound track"):
            video.audio()


def test_bounds() -> None:
    with Video(clip("with-sound"), limits=Limits(clip_bytes=10_000)) as video:
        with pytest.raises(LimitError):
            video.audio()
        with pytest.raises(LimitError):
            video.audio(0.0, 2.0)
        with pytest.raises(ValueError, match="start"):
            video.audio(-1.0)
    with Video(clip("with-sound")) as video:
        before = video.meter.bytes
        video.audio()
        assert video.meter.bytes > before


def test_long_plain_sound_is_no_large_index() -> None:
    """A minute of PCM has millions of samples; they are not frames."""
    data = encode("mov", frames=10, tone=(440.0, 0.0, 5.0), sound_codec="pcm_s16le")
    with Video(data, limits=Limits(samples=100_000)) as video:
        assert pitch(video.audio()[:16000], 16000) == pytest.approx(440, abs=4)
