"""A short fuzz of the reader; `benchmarks/fuzz_media.py` runs the long one."""

from __future__ import annotations

import time

import pytest
from child import probe
from kinds import clip
from mutate import mutate

from foveate.core import FoveateError
from foveate.media import Video

NAMES = ("h264-b", "h264-mkv", "mpeg4-avi-b", "h264-ts", "gif", "vp9-ivf", "h264-flv", "mpeg2-ps")
MUTANTS = 40


@pytest.mark.parametrize("name", NAMES)
def test_mutants(name: str, tmp_path, capfd: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
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


def test_times_too_large_for_floats_still_advance() -> None:
    """IVF stores 64-bit times: neighbours may be the same in floating point."""
    data = bytearray(clip("vp9-ivf"))
    at = 32
    for number in range(12):
        data[at + 4 : at + 12] = ((1 << 61) + number).to_bytes(8, "little")
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
