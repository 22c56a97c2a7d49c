"""`VideoWriter`: whole or not at all, and what it wrote reads back."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clips import number_of, picture
from foveate.core import MediaError
from foveate.media import Video, VideoWriter


def write(path: Path, size: tuple[int, int] = (64, 48), times: list[float] | None = None) -> None:
    times = times or [n / 25 for n in range(10)]
    with VideoWriter(path, size) as writer:
        for number, seconds in enumerate(times):
            writer.write(picture(number, size), seconds)


def test_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    write(path)
    with Video(path) as video:
        got = video.frames([n / 25 for n in range(10)])
        assert [number_of(p) for p in got.pixels] == list(range(10))
        assert np.allclose(got.times, [n / 25 for n in range(10)], atol=1e-4)
    assert os.listdir(tmp_path) == ["out.mp4"]


def test_the_index_stands_before_the_frames(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    write(path, times=[n / 25 for n in range(120)])
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    with Video(path) as video:
        assert video.info.frames == 120
        assert number_of(video.frames([119 / 25]).pixels[0]) == 119


def test_odd_sizes_lose_a_pixel(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    write(path, (67, 49))
    with Video(path) as video:
        assert (video.info.width, video.info.height) == (66, 48)


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    path, times = tmp_path / "out.mp4", [0.0, 0.1, 0.15, 0.9, 2.0]
    write(path, times=times)
    with Video(path) as video:
        got = video.frames(times)
        assert np.allclose(got.times, times, atol=1e-4)
        assert [number_of(p) for p in got.pixels] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["a:b.mp4", "http:x.mp4", "a%03d.mp4", "-x.mp4", "with space.mp4"])
def test_any_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path(name))
    assert os.listdir(tmp_path) == [name]
    with Video(name) as video:
        assert number_of(video.frames([0.2]).pixels[0]) == 5


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with suppress(RuntimeError), VideoWriter(tmp_path / "out.mp4", (64, 48)) as writer:
        writer.write(picture(0), 0.0)
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_the_old_file_stays_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")
    with suppress(RuntimeError), VideoWriter(path, (64, 48)) as writer:
        writer.write(picture(0), 0.0)
        assert path.read_bytes() == b"old"
        raise RuntimeError
    assert path.read_bytes() == b"old"


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="cannot be written"):
        VideoWriter(tmp_path / "no" / "out.mp4", (64, 48))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    opened = Path.open

    def full(self: Path, *rest: Any, **more: Any) -> Any:
        return opened(Path("/dev/full") if "partial" in self.name else self, *rest, **more)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(MediaError, match="cannot be written"):
        write(tmp_path / "out.mp4")
    assert os.listdir(tmp_path) == []
    assert capfd.readouterr().err == ""
