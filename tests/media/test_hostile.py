"""The bad-input corpus: each file refused in one line or decoded, bounded in time and memory."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from corpus import Case, build
from surgery import h264_skips

from clips import encode
from foveate.core import LimitError
from foveate.media import Limits, Video
from foveate.media.source import opener

CHILD = str(Path(__file__).with_name("child.py"))
MOST_BYTES = 1_000_000_000
MOST_SECONDS = 20.0

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    """A port on which nobody may knock."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        yield server


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory, listener: socket.socket) -> list[Case]:
    """The whole corpus, on disk."""
    return build(tmp_path_factory.mktemp("corpus"), listener.getsockname()[1])


def run(cases: list[Case]) -> list[dict[str, Any]]:
    """What a child process says of each file; it is started again where it dies."""
    answers: list[dict[str, Any]] = []
    while len(answers) < len(cases):
        left = cases[len(answers) :]
        lines = "".join(json.dumps({"path": case.path}) + "\n" for case in left)
        done = subprocess.run(
            [sys.executable, CHILD], input=lines, capture_output=True, text=True, timeout=900
        )
        answers += [json.loads(line) for line in done.stdout.splitlines()]
        assert "Traceback" not in done.stderr, done.stderr
        if len(answers) < len(cases):
            answers.append({"escape": f"died ({done.returncode})", "seconds": 0, "peak": 0})
    return answers


def complaint(case: Case, answer: dict[str, Any]) -> str | None:
    """What is wrong with the way a case was handled, None if nothing is."""
    if "escape" in answer:
        return f"{case.name}: {answer['escape']}"
    if answer["seconds"] > MOST_SECONDS or answer["peak"] > MOST_BYTES:
        return f"{case.name}: {answer['seconds']:.1f} s, {answer['peak'] / 1e6:.0f} MB"
    line = answer.get("error")
    if line is not None and ("\n" in line or not _names(line, str(case.path))):
        return f"{case.name}: its line does not name the file: {line!r}"
    if case.expect == "refused" and (line is None or case.words not in line):
        return f"{case.name}: should be refused for {case.words!r}, but: {line!r}"
    if case.expect == "decodes" and (line is not None or answer["frames"] < case.frames):
        return f"{case.name}: should give {case.frames} frames: {line or answer['frames']}"
    return None


def _names(line: str, path: str) -> bool:
    stem = os.path.basename(path).encode("ascii", "ignore").decode()[:20]
    return stem.split("\0")[0].split("\n")[0].strip("\\") in line


def test_whole_corpus(cases: list[Case], listener: socket.socket) -> None:
    answers = run(cases)
    complaints = [complaint(*pair) for pair in zip(cases, answers, strict=True)]
    assert [text for text in complaints if text is not None] == []
    with pytest.raises(BlockingIOError):
        listener.accept()


def _can_trace() -> bool:
    tool = shutil.which("strace")
    if tool is None:
        return False
    return subprocess.run([tool, "-f", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not _can_trace(), reason="needs strace and the right to use it")
def test_nothing_else_is_opened(cases: list[Case], tmp_path: Path) -> None:
    """MotionInput from the kernel: the named file is opened, no other one, and no address."""
    marks = ("hls", "ffconcat", "mpd", "asx", "ram", "dref", "sdp", "link", "name", "wrong", "gif")
    told = [case for case in cases if case.name.startswith(marks) or "link" in case.name]
    lines = "".join(json.dumps({"path": case.path}) + "\n" for case in told)
    log = tmp_path / "trace"
    subprocess.run(
        ["strace", "-f", "-qq", "-s", "4096", "-e", "trace=open,openat,socket,connect", "-o",
         str(log), sys.executable, CHILD],
        input=lines, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    trace = log.read_text(errors="replace")
    assert "wrong-ending" not in trace
    assert "really-mkv.avi" in trace
    assert "canary" not in trace
    assert "socket(" not in trace
    assert "connect(" not in trace


def test_decode_bombs_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten bytes that decode to millions of pixels: stopped by pixels per byte read."""
    data = h264_skips(120, 68, 3000)
    limits = Limits(pixels_per_byte=1000.0)
    monkeypatch.setattr("foveate.media.work._FREE_PIXELS", 100_000_000)
    with Video(data, limits=limits) as video, pytest.raises(LimitError, match="pixels per byte"):
        video.frames([n / 5 for n in range(600)], (16, 16))


def test_stalls_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding for long without anything that was asked for."""
    monkeypatch.setattr("foveate.media.work._HONEST_BYTES", 1e9)
    data = h264_skips(120, 68, 3000)
    began = time.monotonic()
    with (
        Video(data, limits=Limits(stall_seconds=0.2)) as video,
        pytest.raises(LimitError, match="no wanted frame"),
    ):
        video.frames([110.0], (16, 16))
    assert time.monotonic() - began < 5


def test_a_hoarding_decoder_is_stopped(tmp_path: Path) -> None:
    """In a process of its own: one that has freed much memory grows by none of it."""
    (tmp_path / "hoard.h264").write_bytes(h264_skips(240, 135, 40, 16))
    code = (
        "from foveate.media import Limits, Video\n"
        "with Video('hoard.h264', limits=Limits(decoder_bytes=100_000_000)) as video:\n"
        "    video.frames([n / 25 for n in range(40)], (16, 16))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "LimitError" in done.stderr
    assert "decoder holds" in done.stderr


def test_limits_are_flags() -> None:
    data = encode(frames=20)
    with pytest.raises(LimitError, match=r"limits\.pixels"):
        Video(data, limits=Limits(pixels=64 * 47))
    with pytest.raises(LimitError, match=r"limits\.samples"):
        Video(data, limits=Limits(samples=19))
    with Video(data, limits=Limits(samples=20, pixels=64 * 48)) as video:
        assert len(video.frames([0.4])) == 1


def test_reading_in_circles_ends() -> None:
    reader = opener(bytes(1000), Limits())()
    reader.renew()
    for _ in range(1_000_000):
        reader.seek(0)
        if not reader.read(1000):
            break
    assert reader.bytes < 100_000_000
    with pytest.raises(LimitError, match="circles"):
        reader.check()


def test_opening_has_a_deadline() -> None:
    reader = opener(bytes(1000), Limits())()
    reader.renew(seconds=-1.0)
    assert reader.read(10) == bytes(10)
    assert reader.read(10) == b""
    with pytest.raises(LimitError, match="too long"):
        reader.check()


def test_a_still_scene_is_no_bomb() -> None:
    """Twenty seconds of nothing happening, as a screen recorder writes them."""
    from clips import picture

    still = picture(7, (640, 360))
    data = encode(
        frames=500, gop=250, size=(640, 360), options={"preset": "ultrafast", "crf": "35"},
        draw=lambda number, size: still,
    )  # fmt: skip
    with Video(data) as video:
        assert len(video.frames([n / 25 for n in range(0, 500, 5)], (64, 36))) == 100
        assert len(video.frames([19.9], (64, 36))) == 1
