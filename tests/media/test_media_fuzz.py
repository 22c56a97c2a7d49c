"""A short fuzz of the reader; `benchmarks/fuzz_media.py` runs the long one."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from child import probe
from kinds import clip
from mutate import mutate

from foveate.core import FoveateError
from foveate.media import Video

NAMES = (
    "h264-b",
    "h264-mkv",
    "mpeg4-avi-b",
    "h264-ts",
    "gif",
    "vp9-ivf",
    "h264-flv",
    "mpeg2-ps",
    "with-sound",
)
MUTANTS = 40


@pytest.mark.parametrize("name", NAMES)
def test_mutants(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mutant.bin"
    other = clip(NAMES[(NAMES.index(name) + 1) % len(NAMES)])
    for seed in range(MUTANTS):
        path.write_bytes(mutate(clip(name), other, seed))
        began = time.monotonic()
        answer = probe(str(path), seconds=5.0)
        assert "escape" not in answer, (seed, answer)
        assert time.monotonic() - began < 4, (seed, answer)
    assert "Traceback" not in capfd.readouterr().err


def test_mutation_is_repeatable() -> None:
    data, other = clip("gif"), clip("h264-ts")
    assert mutate(data, other, 5) == mutate(data, other, 5)
    assert mutate(data, other, 5) != mutate(data, other, 6)


@pytest.mark.parametrize("high", [40, 55, 61, 63])
def test_times_too_large_for_floats_still_advance(high: int) -> None:
    """IVF stores 64-bit times: neighbours may be the same in floating point."""
    data = bytearray(clip("vp9-ivf"))
    at = 32
    for number in range(12):
        data[at + 4 : at + 12] = ((1 << high) + number).to_bytes(8, "little")
        at += 12 + int.from_bytes(data[at : at + 4], "little")
    try:
        video = Video(bytes(data))
    except FoveateError:
        return
    with video:
        now, steps = 0.0, 0
        while (following := video.next_time(now)) is not None:
            assert following > now
            now, steps = following, steps + 1
            assert steps < 200


def test_a_time_that_overflows_when_moved() -> None:
    """Found by fuzzing: times start again behind one that is near the end of all numbers."""
    data = bytearray(clip("vp9-ivf"))
    at = 32
    for time_ in (0, 1, (1 << 62) + 5, 3, 4):
        data[at + 4 : at + 12] = time_.to_bytes(8, "little")
        at += 12 + int.from_bytes(data[at : at + 4], "little")
    with Video(bytes(data)) as video:
        assert len(video.frames([0.0, 0.04])) == 2


def test_a_tick_of_years_holds_no_frame_for_ever() -> None:
    """Found by fuzzing: the header's unit of time was damaged; each frame was shown for years."""
    data = bytearray(clip("vp9-ivf"))
    data[16:24] = (1).to_bytes(4, "little") + (0xFFFFFFF0).to_bytes(4, "little")  # rate, scale
    with Video(bytes(data)) as video:
        assert video.times() == pytest.approx([i / 25 for i in range(80)])
        assert video.info.rate == 25
        assert video.info.duration is None or video.info.duration < 1e10
        assert len(video.frames([0.0, 1.0, 100.0])) == 2


def test_an_index_that_points_nowhere() -> None:
    """Found by fuzzing: a seek that the container refuses while key frames are listed."""
    data = clip("mjpeg-avi")
    at = data.rindex(b"idx1") + 8
    lies = b"".join(
        data[at + i : at + i + 8] + b"\xff\xff\xff\x7f" + data[at + i + 12 : at + i + 16]
        for i in range(0, len(data) - at - 15, 16)
    )
    for mutant in (data[:at] + lies, data[: at + 64], data[: at - 400] + data[at - 8 :]):
        assert "escape" not in probe(mutant)
