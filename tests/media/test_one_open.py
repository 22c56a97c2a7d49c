"""A file whose motion vectors and pictures are wanted is opened once."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import av
import numpy as np
import pytest
from test_vectors import pan

from clips import encode
from foveate.core import MediaError, Motion
from foveate.media import Decoding, Video
from foveate.policy.looks.patches import MotionPatch

TIMES = [0.0, 0.2, 0.4, 0.6]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    real = av.open

    def counted(*arguments: Any, **options: Any) -> Any:
        found.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(av, "open", counted)
    return found


@pytest.fixture(scope="module")
def data() -> bytes:
    return encode(frames=40, size=(96, 64), draw=pan, bframes=2, gop=15)


def equal(first: Motion, second: Motion) -> bool:
    pairs = [(getattr(first, f.name), getattr(second, f.name)) for f in fields(Motion)]
    return all(np.array_equal(a, b) for a, b in pairs)


def test_vectors_and_frames_come_from_one_decoder(data: bytes, opened: list[Any]) -> None:
    with Video(data, vectors=True) as video:
        motion = video.motion(TIMES, "vectors", every=False)
        clip = video.frames(TIMES, (48, 32))
        assert video.next_time(0.6) == pytest.approx(0.64)
        assert len(opened) == 1
        decoded = video.meter.frames
        # What was not kept is decoded by the cursor, which opens the file anew.
        later = video.frames([0.8, 1.2], (48, 32))
        assert len(opened) == 2
        assert equal(motion, video.motion(TIMES, "vectors", every=False))
    with Video(data) as plain:
        assert equal(motion, plain.motion(TIMES, "vectors", every=False))
        assert (clip.pixels == plain.frames(TIMES, (48, 32)).pixels).all()
        assert plain.next_time(0.6) == pytest.approx(0.64)
        assert plain.meter.frames > decoded
        assert (later.pixels == plain.frames([0.8, 1.2], (48, 32)).pixels).all()


@pytest.mark.parametrize(
    ("codec", "options"),
    [("libx264", {"x264-params": "keyint=1"}), ("mpeg4", {}), ("libvpx-vp9", {})],
)
def test_sources_without_a_reader_stay_usable(codec: str, options: dict[str, str]) -> None:
    container = "matroska"
    coded = encode(container, codec, frames=20, size=(96, 64), draw=pan, options=options)
    with Video(coded, vectors=True) as video, Video(coded) as plain:
        motion = video.motion(TIMES, "auto")
        assert equal(motion, plain.motion(TIMES, "auto"))
        assert motion.source == ("vectors" if codec == "mpeg4" else "flow")
        assert (video.frames(TIMES).pixels == plain.frames(TIMES).pixels).all()
        assert video.info == plain.info
        if codec != "mpeg4":
            with pytest.raises(MediaError):
                video.motion(TIMES, "vectors")


def test_frames_first_or_other_settings_open_the_file_again(data: bytes, opened: list[Any]) -> None:
    with Video(data, vectors=True) as video:
        video.frames([1.2], (48, 32))
        video.motion(TIMES, "vectors")
        assert len(opened) == 2
    opened.clear()
    with Video(data, vectors=True, decoding=Decoding(threads=2)) as video:
        video.motion(TIMES, "vectors")
        assert len(opened) == 2


def test_looks_say_whether_they_read_vectors() -> None:
    assert MotionPatch().reads_vectors
    assert not MotionPatch(source="flow").reads_vectors
    assert not MotionPatch(motion="fd").reads_vectors
