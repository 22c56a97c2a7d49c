"""Sound: the right pitch at the right moment, whatever the container does to its times."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from kinds import clip

from clips import encode, number_of
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
        video.audio()
        assert video.meter.bytes <= 1.1 * len(clip("with-sound"))  # nothing is read twice


def copied(data: bytes, container: str, leave_out: tuple[float, float]) -> bytes:
    """A copy without the sound packets of a stretch of time."""
    file = io.BytesIO()
    with av.open(io.BytesIO(data)) as given, av.open(file, "w", format=container) as out:
        picture, sound = given.streams.video[0], given.streams.audio[0]
        streams = {s.index: out.add_stream_from_template(s) for s in (picture, sound)}
        for packet in given.demux(picture, sound):
            if packet.dts is None:
                continue
            at = float(packet.pts * packet.time_base)
            if packet.stream.type == "audio" and leave_out[0] <= at < leave_out[1]:
                continue
            packet.stream = streams[packet.stream.index]
            out.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "mov", "flv"])
def test_a_gap_is_silent_and_moves_nothing(container: str) -> None:
    whole = encode(frames=200, tone=(440.0, 0.0, 8.0), bframes=2, sound_rate=44100)
    data = copied(whole, container, (3.4, 5.4))
    with Video(data) as video:
        wave = video.audio()
        loud = envelope(wave) > 0.1
        assert loud[20:330].all()
        assert not loud[355:530].any()
        assert loud[550:780].all()
        for start, end in ((0.7, 2.0), (3.0, 6.0), (4.0, 4.5), (5.5, 7.5), (4.9, 6.3)):
            part = envelope(video.audio(start, end))
            want = loud[round(start * 100) : round(end * 100)]
            assert ((part > 0.1) != want).sum() <= 3, (start, end)
        for start, end in ((0.7, 2.0), (5.8, 7.5)):
            part = video.audio(start, end)
            want = wave[round(start * 16000) : round(end * 16000)]
            # Containers that count milliseconds place the two within one of each other.
            assert min(
                float(np.abs(want[400 + by : len(want) - 400 + by] - part[400:-400]).mean())
                for by in range(-20, 21)
            ) < 0.03, (start, end)  # fmt: skip


def envelope(wave: np.ndarray) -> np.ndarray:
    """The loudest sample of each hundredth of a second."""
    return np.abs(wave[: len(wave) // 160 * 160].reshape(-1, 160)).max(1)


@pytest.mark.parametrize("layout", ["mono", "stereo", "2.1", "3.0", "quad", "5.0", "5.1", "7.1"])
@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_f32le"])
def test_a_tone_in_all_channels_is_as_loud_as_in_one(layout: str, codec: str) -> None:
    with Video(surround(layout, codec, 0.9)) as video:
        wave = video.audio()
    assert np.abs(wave[2000:14000]).max() == pytest.approx(0.9, abs=0.01)
    assert np.sqrt(np.mean(wave[2000:14000] ** 2)) == pytest.approx(0.9 * 2**-0.5, abs=0.01)


def test_sound_is_never_louder_than_one() -> None:
    with Video(surround("5.1", "pcm_f32le", 3.0)) as video:
        assert np.abs(video.audio()).max() == 1.0


def surround(layout: str, codec: str, loud: float) -> bytes:
    """A second of a tone in all channels, with a picture."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound = out.add_stream(codec, rate=48000, layout=layout)
        out.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        out.mux(stream.encode(None))
        count = sound.codec_context.layout.nb_channels
        tone = loud * np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)
        frame = av.AudioFrame.from_ndarray(
            np.repeat(tone.astype(np.float32), count)[None], "flt", layout
        )
        frame.sample_rate = 48000
        resample = av.AudioResampler(sound.codec_context.format, layout, 48000, frame_size=1024)
        for part in (frame, None):
            for piece in resample.resample(part):
                out.mux(sound.encode(piece))
        out.mux(sound.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("container", ["mpegts", "flv"])
def test_sound_of_joined_recordings_stays_with_the_picture(container: str) -> None:
    parts = [
        encode(container, frames=100, first=first, bframes=2, gop=10, tone=(1000.0, start, 0.5),
               sound_rate=44100)
        for first, start in ((0, 1.0), (100, 2.0))
    ]  # fmt: skip
    data = parts[0] + parts[1][13 if container == "flv" else 0 :]
    with Video(data) as video:
        wave = video.audio()
        assert onset(wave, 16000) == pytest.approx(1.0, abs=0.06)
        assert onset(wave[32000:], 16000) + 2 == pytest.approx(6.0, abs=0.06)
        assert onset(video.audio(5.0, 7.0), 16000) == pytest.approx(1.0, abs=0.06)
        # The picture of that moment: the second part's own frame at two seconds.
        assert number_of(video.frames([6.0 + 1e-3]).pixels[0]) == pytest.approx(150, abs=1)


@pytest.mark.parametrize(
    "container", ["mp4", "matroska", "webm", "mpegts", "flv", "nut", "avi", "asf"]
)
def test_the_length_is_that_of_the_picture(container: str) -> None:
    codec = {"webm": "libvpx", "nut": "mpeg4", "asf": "wmv2"}.get(container, "libx264")
    data = encode(container, codec, 120, tone=(440.0, 0.0, 15.0), sound_rate=44100
                  if container != "webm" else 48000)  # fmt: skip
    with Video(data) as video:
        assert video.info.has_audio
        assert video.info.duration == pytest.approx(4.8, abs=0.05)
        assert video.meter.frames == 1
        assert len(video.audio()) > 14 * 16000


def test_the_length_where_vp8_hides_a_picture() -> None:
    """Two-pass VP8 stores reference pictures that are never shown, and so have no time."""
    data = encode("webm", "libvpx", 60, gop=128, tone=(440.0, 0.0, 5.0))
    with av.open(io.BytesIO(data)) as container:
        coded = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    hidden = bytes([coded[30][0] & ~0x10]) + coded[30][1:]  # RFC 6386, 9.1: show_frame
    assert hidden != coded[30]
    with Video(data.replace(coded[30], hidden)) as video:
        assert video.info.duration == pytest.approx(2.4, abs=0.01)
        assert len(video.times()) == 59


def test_long_plain_sound_is_no_large_index() -> None:
    """A minute of PCM has millions of samples; they are not frames."""
    data = encode("mov", frames=10, tone=(440.0, 0.0, 5.0), sound_codec="pcm_s16le")
    with Video(data, limits=Limits(samples=100_000)) as video:
        assert pitch(video.audio()[:16000], 16000) == pytest.approx(440, abs=4)
