"""Transcoding: vectors where there were none, the same pictures at the same times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from clips import encode, number_of
from foveate.app.main import app
from foveate.core import ConfigError, MediaError
from foveate.media import open_source
from foveate.media.compressed import CompressedVideo, require_vectors
from foveate.media.encode import with_vectors
from foveate.media.facts import facts
from foveate.media.transcode import transcode


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_pictures_times_and_sound_survive(codec, tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.1, 0.14, 0.3, 0.34, 0.4, 0.44, 0.5, 0.54, 0.6, 0.64, 0.7, 0.9]
    source = encode(
        "matroska", "libvpx-vp9", len(times), times=times, size=(96, 64), tone=(440.0, 0.0, 0.9)
    )
    with pytest.raises(MediaError, match="no motion vectors"):
        require_vectors(source)
    target = tmp_path / "out.mp4"
    assert transcode(source, target, with_vectors(codec, 5)) == len(times)
    require_vectors(target)
    video = CompressedVideo(target)
    assert [len(group) for group in video.groups] == [5, 5, 4]
    assert not video.reordered
    with open_source(target) as opened:
        assert np.allclose(opened.times(), times, atol=2e-3)
        clip = opened.frames(opened.times())
        assert [number_of(pixels) for pixels in clip.pixels] == list(range(len(times)))
        assert np.abs(opened.audio(0.2, 0.6)).max() > 0.05


def test_size_and_rotation_are_settled(tmp_path: Path) -> None:
    source = encode("mp4", "libx264", 6, size=(96, 64), rotation=90)
    target = tmp_path / "out.mp4"
    transcode(source, target, with_vectors("h264", 12), size=(51, 80))
    found = facts(target)
    assert (found.width, found.height, found.rotation) == (50, 80, 0)


def test_settings_that_cannot_be_meant() -> None:
    with pytest.raises(ConfigError, match="h264, mpeg4"):
        with_vectors("vp9", 12)
    with pytest.raises(ConfigError, match="from 2 to 300"):
        with_vectors("h264", 1)


def test_the_command_keeps_folders_and_goes_on_after_a_bad_file(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    for name in ("run/a.webm", "walk/a.webm"):
        (videos / name).parent.mkdir(parents=True)
        (videos / name).write_bytes(encode("webm", "libvpx", 8))
    (videos / "walk" / "bad.mp4").write_bytes(b"no video")
    out = tmp_path / "out"
    run = CliRunner().invoke(app, ["data", "transcode", str(videos), str(out), "--gop", "4"])
    assert run.exit_code == 1
    assert "bad.mp4" in run.output
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.*")) == [
        "run/a.mp4", "walk/a.mp4",
    ]  # fmt: skip
    assert len(CompressedVideo(out / "run" / "a.mp4").groups) == 2
    again = CliRunner().invoke(app, ["data", "transcode", str(videos), str(out), "--gop", "4"])
    assert "0 written, 2 already existed, 1 failed" in again.output
