"""Paths, bytes, file objects and arrays: the same frames from each."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import clip

from clips import encode, number_of, picture
from foveate.core import LimitError, MediaError, Sample
from foveate.media import ArrayVideo, Limits, Video, find_media, name_of, open_source


class Pipe(io.RawIOBase):
    """Reads but cannot seek."""

    def __init__(self, data: bytes) -> None:
        self._inner = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def readinto(self, buffer: Any) -> int:
        return self._inner.readinto(buffer)


class Rude(io.BytesIO):
    """Gives more than it was asked for."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(-1 if size is None or size < 0 else size + 1000)


class Broken(io.BytesIO):
    """Fails after a while."""

    reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        if size and self.reads > 4:
            raise OSError(5, "Input/output error")
        return super().read(size)


def numbers(source: Any) -> list[int]:
    with open_source(source) as video:  # type: ignore[union-attr]
        return [number_of(p) for p in video.frames([0.0, 0.4, 1.0, 2.0]).pixels]


def test_every_way_to_give_a_file(tmp_path: Path) -> None:
    data = clip("h264-b")
    path = tmp_path / "clip.mp4"
    path.write_bytes(data)
    want = [0, 10, 25, 50]
    assert numbers(path) == numbers(str(path)) == want
    assert numbers(data) == numbers(bytearray(data)) == numbers(memoryview(data)) == want
    assert numbers(io.BytesIO(data)) == numbers(Pipe(data)) == want
    with path.open("rb") as file:
        assert numbers(file) == want
        assert not file.closed
    assert numbers(Rude(data)) == want


def test_array_gives_the_same_face() -> None:
    frames = np.stack([picture(n) for n in range(60)])
    video = open_source(frames, fps=25)
    assert isinstance(video, ArrayVideo)
    assert isinstance(video, Sample)
    assert isinstance(Video(clip("h264-mp4")), Sample)
    assert numbers_of(video, [0.0, 0.41, 2.0]) == [0, 10, 50]
    assert len(video.frames([-0.1, 2.4, 5.0])) == 0
    assert video.next_time(0.0) == pytest.approx(0.04)
    assert video.next_time(2.36) is None
    assert video.info.duration == pytest.approx(2.4)
    with pytest.raises(MediaError, match="no sound"):
        video.audio()


def numbers_of(video: Any, times: list[float]) -> list[int]:
    return [number_of(p) for p in video.frames(times).pixels]


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 4, 4)), np.zeros((0, 4, 4, 3), np.uint8), np.zeros((2, 4, 4, 3))]
)
def test_bad_arrays(bad: np.ndarray) -> None:
    with pytest.raises(MediaError):
        ArrayVideo(bad, 25)


def test_array_needs_a_rate() -> None:
    with pytest.raises(MediaError, match="positive"):
        ArrayVideo(np.zeros((2, 4, 4, 3), np.uint8), 0)


@pytest.mark.parametrize("bad", [None, 5, 2.5, object()])
def test_not_a_source(bad: Any) -> None:
    with pytest.raises(MediaError, match="not a source"):
        Video(bad)


def test_text_mode_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(clip("h264-mp4"))
    with path.open("r", encoding="latin-1") as file, pytest.raises(MediaError, match="'rb'"):
        Video(file)  # type: ignore[arg-type]


def test_a_disk_that_fails_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MediaError, match="cannot be read"):
        Video(Broken(clip("h264-mp4")))
    assert capfd.readouterr().err == ""


def test_a_pipe_is_bounded() -> None:
    with pytest.raises(LimitError, match="buffer"):
        Video(Pipe(clip("h264-mp4")), limits=Limits(buffer_bytes=1000))


def test_clip_bytes_bound_one_answer() -> None:
    with (
        Video(clip("h264-mp4"), limits=Limits(clip_bytes=100_000)) as video,
        pytest.raises(LimitError, match="in one piece"),
    ):
        video.frames([n / 25 for n in range(20)])


def test_two_videos_share_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    path.write_bytes(clip("h264-mkv"))
    with path.open("rb") as file, Video(file) as one, Video(file) as two:
        for n in (3, 40, 7):
            assert numbers_of(one, [n / 25]) == [n]
            assert numbers_of(two, [(n + 5) / 25]) == [n + 5]


def test_nothing_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(clip("h264-b"))
    folder = "/proc/self/fd"
    if not os.path.isdir(folder):
        pytest.skip("reads /proc")
    before = len(os.listdir(folder))
    for _ in range(5):
        with Video(path) as video:
            video.frames([2.0, 3.0])
            video.frames([0.1])
            video.keyframes()
            info = video.info
        assert video.info == info
        video.close()
        path.with_name("bad.mp4").write_bytes(clip("h264-b")[:500])
        with pytest.raises(MediaError):
            Video(path.with_name("bad.mp4"))
    assert len(os.listdir(folder)) == before


def test_find_media(tmp_path: Path) -> None:
    for name in ("b.MP4", "a.mkv", "x/c.webm", "notes.txt", ".hidden.mp4", ".git/d.mp4"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert [p.name for p in find_media(tmp_path)] == ["a.mkv", "b.MP4", "c.webm"]


def test_names_fit_in_one_line() -> None:
    assert name_of("a\nb.mp4") == "a\\nb.mp4"
    assert name_of(b"abc") == "<bytes>"
    assert name_of(os.fsdecode(b"\xff.mp4")) == "\\xff.mp4"
    assert len(name_of("x" * 9999)) < 400


@pytest.mark.shared
def test_real_files(shared: Path) -> None:
    found = find_media(shared / "data" / "samples")
    assert found
    for path in found:
        with Video(path) as video:
            length = video.info.duration or 1.0
            clip = video.frames([length * i / 8 for i in range(8)], (96, 96))
            assert len(clip) == 8
            assert video.warnings == []


def test_threads_change_nothing() -> None:
    data = encode(frames=20, bframes=2)
    with Video(data) as one, Video(data, threads=2) as two:
        times = [n / 25 for n in range(20)]
        assert (one.frames(times).pixels == two.frames(times).pixels).all()
