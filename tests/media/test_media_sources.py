"""Paths, bytes, file objects and arrays: the same frames from each."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import numpy as np
import pytest
from kinds import clip

from clips import encode, number_of, picture
from foveate.core import LimitError, MediaError, Sample
from foveate.media import (
    ArrayVideo,
    Decoding,
    Limits,
    Video,
    display_name,
    find_media,
    name_of,
    open_source,
)


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


def test_an_array_has_the_interface_of_a_file() -> None:
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


@pytest.mark.parametrize("fps", [0, -1, 0.05, float("inf"), float("nan"), "10", 1e300, [1], True])
def test_a_rate_is_a_number_that_can_be_meant(fps: Any, tmp_path: Path) -> None:
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    (tmp_path / "1.png").write_bytes(cv2.imencode(".png", pixels[0])[1].tobytes())
    for source in (pixels, list(pixels), iter(pixels), tmp_path):
        with pytest.raises(MediaError, match=r"fps must be a number from 0\.1 to 10000, not"):
            open_source(source, fps=fps)


@pytest.mark.parametrize("few", [np.uint8([0]), np.arange(3, dtype=np.uint8)], ids=len)
def test_frames_in_memory_need_a_rate_and_a_folder_says_which_is_assumed(
    few: np.ndarray, tmp_path: Path
) -> None:
    pixels = np.zeros((len(few), 4, 4, 3), np.uint8)
    with pytest.raises(MediaError, match="no frame rate"):
        open_source(pixels)
    for source in (list(pixels), iter(pixels)):
        with pytest.raises(MediaError, match="without times and without fps"):
            open_source(source)
    for number, frame in enumerate(pixels):
        (tmp_path / f"{number}.png").write_bytes(cv2.imencode(".png", frame)[1].tobytes())
    assert open_source(tmp_path).warnings == [
        "a folder has no frame rate: 25 frames per second assumed"
    ]
    assert open_source(tmp_path, fps=25).warnings == []


def timed(count: int = 60, start: float = 1e9, every: float = 0.04) -> Iterator[tuple[Any, float]]:
    """Frames that are written into the same memory, as from a camera."""
    memory = np.empty_like(picture(0))
    for n in range(count):
        memory[:] = picture(n)
        yield memory, start + n * every


def test_an_iterable_of_frames_and_times_is_the_array_of_its_frames() -> None:
    stream = open_source(timed())
    array = open_source(np.stack([picture(n) for n in range(60)]), fps=25)
    assert stream.info.duration is None
    times = [0.0, 0.41, 0.41, 2.0, 2.3]
    assert numbers_of(stream, times) == numbers_of(array, times) == [0, 10, 10, 50, 57]
    ours, theirs = (one.motion([0.0, 1.0], "flow") for one in (stream, array))
    assert (ours.field == theirs.field).all()
    assert stream.next_time(2.0) == pytest.approx(2.04)
    assert stream.next_time(2.36) is None
    assert stream.info.duration == pytest.approx(2.4)
    assert numbers_of(stream, [2.399, 2.41]) == [59]


def test_an_iterable_is_read_no_further_than_asked_and_its_memory_is_bounded() -> None:
    read = []
    bytes_of_ten = 10 * picture(0).nbytes
    stream = open_source(
        (read.append(n) or pair for n, pair in enumerate(timed())),
        limits=Limits(clip_bytes=bytes_of_ten),
    )
    assert read == [0]
    assert numbers_of(stream, [0.2]) == [5]
    assert read[-1] == 6
    assert numbers_of(stream, [1.0, 1.2]) == [25, 30]
    with pytest.raises(LimitError, match="no longer kept"):
        stream.frames([0.2])


def test_a_pause_between_frames_is_a_gap_as_in_a_file() -> None:
    stream = open_source([(picture(0), 0.0), (picture(1), 60.0)])
    assert numbers_of(stream, [0.0, 9.9, 30.0, 60.0]) == [0, 0, 1]


def broken() -> Iterator[tuple[Any, float]]:
    yield picture(0), 0.0
    raise OSError("the cable is out")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (["a.mp4", "b.mp4"], "several paths are not one video (use predict_many)"),
        (iter([Path("a.mp4")]), "several paths are not one video"),
        ([], "zero frames"),
        ([(picture(0), 1.0), (picture(1), 1.0)], "times must ascend"),
        ([(picture(0), 0.0), (picture(1)[:5], 1.0)], "shapes be the same"),
        ([(picture(0), float("nan"))], "a frame at nan s"),
        ([(picture(0) / 255, 0.0)], "type float64"),
        ([("a frame", 0.0)], "give frames (H, W, 3) uint8 RGB"),
        (broken(), "cannot be read (OSError: the cable is out)"),
        ({"a": 1}, "dict is not a source of video"),
        ("", "an empty name"),
    ],
)
def test_what_no_frames_can_be_taken_from_is_one_line(source: Any, says: str) -> None:
    with pytest.raises(MediaError) as caught:
        open_source(source).frames([0.0, 2.0])
    assert says in str(caught.value)


def test_a_named_pipe_is_read_once_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    with pytest.raises(MediaError, match=r"nothing was written to this pipe in 0\.1 s"):
        open_source(pipe, limits=Limits(open_seconds=0.1))
    assert find_media(tmp_path) == []
    writer = Thread(target=lambda: pipe.write_bytes(clip("h264-b")), daemon=True)
    writer.start()
    video = open_source(pipe)
    writer.join(10)
    assert video.info.name == str(pipe)
    assert numbers_of(video, [0.0, 0.4]) == [0, 10]
    assert video.motion([0.4], "vectors").field is not None  # reads the file once more


def test_a_stream_that_cannot_seek_is_read_once_for_all() -> None:
    with Video(Pipe(clip("h264-b"))) as video:  # type: ignore[arg-type]
        assert video.motion([0.4], "vectors").field is not None
        assert numbers_of(video, [0.4]) == [10]


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(clip("h264-mp4"))
    closed = path.open("rb")
    closed.close()
    with pytest.raises(MediaError, match="cannot be read"):
        open_source(closed)
    with path.open("r", encoding="utf-8") as text, pytest.raises(MediaError, match="'rb'"):
        open_source(text)


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
    with Video(data) as one, Video(data, decoding=Decoding(threads=2)) as two:
        times = [n / 25 for n in range(20)]
        assert (one.frames(times).pixels == two.frames(times).pixels).all()


def test_names_that_no_file_can_have() -> None:
    """Lone surrogates, as from a JSON file: Python uses some of them for bytes, not these."""
    assert display_name("a\ud800b") == "a\\ud800b"
    assert display_name("a\udcffb") == "a\\xffb"
    with pytest.raises(MediaError, match=r"^.ud800\.mp4: no file can have this name$"):
        Video("\ud800.mp4")
