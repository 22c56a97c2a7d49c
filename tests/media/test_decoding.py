"""Settings of decoders: what they change, and what they must leave as it is."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import PictureType

import foveate
from clips import encode
from foveate.core import ConfigError
from foveate.live.camera import CameraSettings, camera
from foveate.media import Decoding, Video

SIZE = (66, 50)  # no multiple of 8
TIMES = [i / 25 for i in range(24)]
EVERY = {"skip_loop_filter": "all"}


def coarse(at: int, size: tuple[int, int]) -> np.ndarray:
    """Waves that change from frame to frame: strong quantisation makes blocks of them."""
    y, x = np.mgrid[: size[1], : size[0]]
    grey = 128 + 60 * np.sin(at + x / 9) + 60 * np.cos(3 * at + y / 7)
    return np.repeat(grey[..., None], 3, 2).astype(np.uint8)


@pytest.fixture(scope="module")
def h264() -> bytes:
    options = {"crf": "35", "x264-params": "b-adapt=0:scenecut=0:deblock=0,0"}
    return encode(frames=24, size=SIZE, gop=24, bframes=2, options=options, draw=coarse)


@pytest.fixture(scope="module")
def mpeg4() -> bytes:
    return encode("avi", "mpeg4", 24, size=SIZE, gop=12, draw=coarse)


def shown(source: bytes, **settings: Any) -> tuple[Any, Any, list[str]]:
    """Frames, what is known, warnings."""
    with Video(source, decoding=Decoding(**settings)) as video:
        return video.frames(TIMES), video.info, video.warnings


def test_the_defaults_set_nothing() -> None:
    assert Decoding().options() == {}
    assert Decoding(lowres=2).options() == {"lowres": "2"}


def test_noref_changes_only_pictures_that_nothing_refers_to(h264: bytes) -> None:
    with av.open(io.BytesIO(h264)) as container:
        kinds = [PictureType(frame.pict_type).name for frame in container.decode(video=0)]
    exact, found = shown(h264)[0], shown(h264, skip_loop_filter="noref")[0]
    changed = (exact.pixels != found.pixels).any((1, 2, 3))
    assert changed.any()
    assert {kind for kind, one in zip(kinds, changed, strict=True) if one} == {"B"}
    every = shown(h264, skip_loop_filter="all")[0]
    assert (exact.pixels != every.pixels).any((1, 2, 3)).mean() > changed.mean()
    assert every.times == found.times == exact.times


@pytest.mark.parametrize("lowres", [1, 2, 3])
@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg"])
def test_lowres_keeps_sizes_times_and_about_the_picture(codec: str, lowres: int) -> None:
    more = {"pix_fmt": "yuvj420p"} if codec == "mjpeg" else {}
    source = encode("avi", codec, 24, size=SIZE, gop=12, draw=coarse, **more)  # type: ignore[arg-type]
    (exact, info, _), (found, same, warnings) = shown(source), shown(source, lowres=lowres)
    assert same == info
    assert found.times == exact.times
    assert found.pixels.shape == exact.pixels.shape == (24, SIZE[1], SIZE[0], 3)
    difference = np.abs(found.pixels.astype(int) - exact.pixels).mean()
    assert 0 < difference < 4 * 2**lowres
    assert warnings == []


def test_lowres_is_said_to_be_impossible_where_it_is(h264: bytes) -> None:
    exact, found = shown(h264), shown(h264, lowres=1)
    assert (exact[0].pixels == found[0].pixels).all()
    assert found[1] == exact[1]
    assert found[2] == ["decode.lowres: h264 is decoded at full size only"]


def test_motion_vectors_stay_as_they_are(mpeg4: bytes) -> None:
    fields, pictures = [], []
    for settings in ({}, {"lowres": 1}):
        with Video(mpeg4, decoding=Decoding(**settings)) as video:
            motion = video.motion(TIMES[2:8], "vectors")
            fields.append(motion.field)
            pictures.append(video.frames(TIMES[2:8]).pixels)  # what the vectors' decoder kept
            assert video.warnings == []
    assert fields[0] is not None
    assert np.array_equal(*fields)
    assert pictures[0].shape == pictures[1].shape


def test_the_loop_filter_of_pictures_beside_vectors_is_skipped_too(h264: bytes) -> None:
    pictures = []
    for settings in ({}, EVERY):
        with Video(h264, decoding=Decoding(**settings)) as video:
            video.motion(TIMES[2:8], "vectors")
            pictures.append(video.frames(TIMES[2:8]).pixels)
    assert (pictures[0] != pictures[1]).any()


def test_a_result_names_the_settings_that_change_pixels(h264: bytes) -> None:
    recogniser = foveate.load("movinet-a0-stream-lite.actions15", offline=True, decode=EVERY)
    result = recogniser.predict(h264)
    assert result.trace is not None
    assert result.trace.decode == EVERY
    assert recogniser.preset.decode == Decoding(skip_loop_filter="all")
    frames = np.zeros((5, 48, 64, 3), np.uint8)
    array = recogniser.predict(frames, fps=5)
    assert array.trace is not None
    assert array.trace.decode == {}
    with pytest.raises(ConfigError, match="only for files"):
        recogniser.watch([iter([])])


@pytest.mark.parametrize("setting", [{"lowres": 4}, {"skip_loop_filter": "some"}, {"low": 1}])
def test_a_wrong_setting_is_one_line(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"decode.{next(iter(setting))}"):
        foveate.load("movinet-a0-stream-lite.actions15", offline=True, decode=setting)


def test_a_camera_skips_the_loop_filter(h264: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(h264)
    pictures = []
    for setting in ("none", "all"):
        settings = CameraSettings(url=str(path), skip_loop_filter=setting)  # type: ignore[arg-type]
        opened = camera("gate", settings).connect()
        received = [frame for piece in opened.received for frame in piece.frames or ()]
        pictures.append(received[20].picture.to_ndarray(format="rgb24"))
        opened.close()
    assert (pictures[0] != pictures[1]).any()
