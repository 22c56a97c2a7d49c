"""A folder of numbered pictures with the interface of a video file."""

from __future__ import annotations

import os
import re
import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Self

import cv2
import numpy as np

from foveate.core import (
    Clip,
    Group,
    GroupPicture,
    LimitError,
    MediaError,
    Meter,
    Motion,
    SampleInfo,
)
from foveate.core.text import plural
from foveate.media.array import checked_rate
from foveate.media.container import Geometry
from foveate.media.convert import fitted
from foveate.media.limits import DEFAULT_LIMITS, Limits
from foveate.media.names import is_image
from foveate.media.pairs import numbered_motion
from foveate.media.source import display_name

if TYPE_CHECKING:
    from foveate.core.loop import Pixels, Waveform

PICTURES = frozenset([".jpg", ".jpeg", ".png"])
RATE = 25.0  # frames per second of folders where none is given
_MAX_FILE = 256 * 1024 * 1024
_NUMBER = re.compile(r"(\d+)(?=\D*$)")
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG_SIZES = frozenset([*range(0xC0, 0xD0)]) - {0xC4, 0xC8, 0xCC}  # start-of-frame markers
_APP1 = 0xE1
_ORIENTATION = 0x0112


def is_picture(name: str) -> bool:
    """Whether a file name could be a numbered picture: JPEG or PNG with a number in it."""
    return Path(name).suffix.lower() in PICTURES and _NUMBER.search(Path(name).stem) is not None


def picture_names(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the numbered pictures in a folder, in the order of their numbers."""
    names = [name for name in os.listdir(folder) if is_picture(name) and name[0] != "."]
    return sorted(names, key=lambda name: (_number(name), name))


class FrameFolder:
    """Numbered JPEG or PNG files as a video of constant rate; satisfies `core.Sample`.

    The pictures are shown one after the other in the order of their numbers, whatever number the
    first one has and whatever step there is between them, upright as their EXIF data say. A picture
    that cannot be decoded shows nothing and is warned about. All are given in the size of the first
    one unless asked otherwise; those of another shape are fitted in, black beside them.

    Args:
        folder: The folder.
        fps: Frames per second; 25 if None, with a warning.
        limits: Bounds on work.

    Raises:
        MediaError: No such folder, no numbered pictures in it, a first one that is damaged, or
            `fps` is no rate.
        LimitError: Pictures larger than `limits.pixels`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        fps: float | None = None,
        *,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.name = display_name(folder)
        self.meter = Meter()
        self.warnings: list[str] = []
        self._limits = limits
        self._fps = checked_rate(self.name, RATE if fps is None else fps)
        self._folder = Path(folder)
        try:
            self._names = picture_names(folder)
            others = sum(is_image(n) and not is_picture(n) for n in os.listdir(folder))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise MediaError(f"{self.name}: cannot be listed ({reason})") from None
        if not self._names:
            raise MediaError(f"{self.name}: holds no numbered pictures (JPEG or PNG)")
        self._times = [i / self._fps for i in range(len(self._names))]
        size = picture_size(self._bytes(0))
        if size is None:
            raise MediaError(f"{self.name}: {display_name(self._names[0])} is no picture")
        self._size = size
        numbers = [_number(name) for name in self._names]
        gaps = {b - a for a, b in pairwise(numbers)}
        series = {_NUMBER.sub("", Path(name).stem) for name in self._names}
        if len(series) > 1 and 0 in gaps:
            self._warn("pictures of several series have the same numbers: they are shown in turn")
        elif 0 in gaps:
            self._warn("several pictures have the same number: they are shown in turn")
        elif len(gaps) > 1:
            self._warn("the numbers of the pictures are not evenly spaced")
        if others:
            self._warn(
                f"not read: {plural(others, 'picture')} without a number, or not JPEG or PNG"
            )
        if fps is None:
            self._warn(f"a folder has no frame rate: {RATE:g} frames per second assumed")

    def __len__(self) -> int:
        return len(self._names)

    def total_bytes(self) -> int:
        """Length of all pictures together."""
        return sum(os.path.getsize(self._folder / name) for name in self._names)

    def close(self) -> None:
        """Nothing is held open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def info(self) -> SampleInfo:
        """Size of the first picture, their number, and the rate that was given."""
        suffix = Path(self._names[0]).suffix.lower()
        return SampleInfo(
            self.name,
            *self._size,
            duration=len(self._names) / self._fps,
            rate=self._fps,
            frames=len(self._names),
            codec="png" if suffix == ".png" else "mjpeg",
        )

    def keyframes(self) -> tuple[float, ...]:
        """All times: each picture stands alone."""
        return tuple(self._times)

    def frames(
        self,
        times: Sequence[float],
        size: tuple[int, int] | None = None,
        *,
        keep: bool | Sequence[float] = False,
    ) -> Clip:
        """The frames shown at those times; see `Video.frames`."""
        width, height = size or self._size
        if any(b < a for a, b in pairwise(times)):
            raise ValueError("times must be ascending")
        if width <= 0 or height <= 0:
            raise ValueError(f"size must be positive, not {width}x{height}")
        if len(times) * width * height * 3 > self._limits.clip_bytes:
            raise LimitError(
                f"{self.name}: more than {self._limits.clip_bytes} bytes of frames in one piece",
                "ask for fewer times or a smaller size",
            )
        out = np.empty((len(times), height, width, 3), np.uint8)
        shown: list[float] = []
        last: tuple[int, Pixels | None] = (-1, None)
        for seconds in times:
            at = self._shown_at(seconds)
            if at is None:
                continue
            if last[0] != at:
                last = at, self._decode(at, (width, height))
            if last[1] is not None:
                out[len(shown)] = last[1]
                shown.append(self._times[at])
        return Clip(out[: len(shown)], tuple(shown))

    def motion(
        self,
        times: Sequence[float],
        source: str = "auto",
        around: int = 2,
        *,
        every: bool = True,
        single: bool = False,
    ) -> Motion:
        """Motion between each picture and the next one; see `core.Sample.motion`."""
        return numbered_motion(self, self._decode, self._shown_at, times, source, around)

    def next_time(self, after: float) -> float | None:
        """Time of the first frame later than `after`; None at the end."""
        at = bisect_right(self._times, after + 1e-9)
        return self._times[at] if at < len(self._times) else None

    def groups(self) -> tuple[Group, ...]:
        """Pictures have no groups."""
        raise MediaError(f"{self.name}: pictures have no motion vectors", "give a video file")

    def pictures(self, kind: str, places: Mapping[int, Sequence[int]]) -> Iterator[GroupPicture]:
        """Pictures have no groups."""
        raise MediaError(f"{self.name}: pictures have no motion vectors", "give a video file")

    def audio(self, start: float = 0.0, end: float | None = None, rate: int = 16000) -> Waveform:
        """Pictures have no sound."""
        raise MediaError(f"{self.name}: no sound track")

    def _shown_at(self, seconds: float) -> int | None:
        if not 0 <= seconds < len(self._times) / self._fps - 1e-9:
            return None
        return bisect_right(self._times, seconds + 1e-9) - 1

    def _bytes(self, at: int) -> bytes:
        path = self._folder / self._names[at]
        try:
            if path.stat().st_size > _MAX_FILE:
                raise LimitError(f"{self.name}: {display_name(path.name)} exceeds {_MAX_FILE} B")
            data = path.read_bytes()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise MediaError(
                f"{self.name}: {display_name(path.name)} cannot be read ({reason})"
            ) from None
        self.meter.bytes += len(data)
        size = picture_size(data)
        if size is not None and size[0] * size[1] > self._limits.pixels:
            raise LimitError(
                f"{self.name}: pictures of {size[0]}x{size[1]} pixels, "
                f"the limit is {self._limits.pixels} pixels",
                "raise limits.pixels if you trust the files",
            )
        return data

    def _decode(self, at: int, size: tuple[int, int]) -> Pixels | None:
        """One picture as (H, W, 3) uint8 RGB of that size, None where it is damaged or missing."""
        if at >= len(self._names):
            return None
        data = np.frombuffer(self._bytes(at), np.uint8)
        try:
            picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
        except cv2.error:
            picture = None
        if picture is None:
            self._warn(f"{display_name(self._names[at])} is damaged")
            return None
        self.meter.frames += 1
        height, width = picture.shape[:2]
        left, top, across, down = 0, 0, *size
        if (width, height) != self._size:
            self._warn("the pictures differ in size: they are fitted into the first one's")
            now, first = (
                Geometry(of[0], of[1], Fraction(1), 0) for of in ((width, height), self._size)
            )
            left, top, across, down = fitted(now, first, size)
        if (width, height) != (across, down):
            shrinks = across * down < width * height
            mode = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
            picture = cv2.resize(picture, (across, down), interpolation=mode)
        if (across, down) != size:
            whole = np.zeros((size[1], size[0], 3), np.uint8)
            whole[top : top + down, left : left + across] = picture
            picture = whole
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)

    def _warn(self, line: str) -> None:
        if line not in self.warnings:
            self.warnings.append(line)


def picture_size(data: bytes) -> tuple[int, int] | None:
    """`(width, height)` of an upright JPEG or PNG file by its header; None for anything else."""
    if data.startswith(_PNG) and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        turned = _is_turned(data.partition(b"IDAT")[0].partition(b"eXIf")[2])
        return _upright(width, height, turned)
    if not data.startswith(b"\xff\xd8"):
        return None
    place, turned = 2, False
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in _JPEG_SIZES:
            height, width = struct.unpack(">HH", data[place + 5 : place + 9])
            return _upright(width, height, turned)
        if marker == 0xFF:  # padding
            place += 1
            continue
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == _APP1 and data[place + 4 : place + 10] == b"Exif\0\0":
            turned = _is_turned(data[place + 10 : end])
        place = end
    return None


def _upright(width: int, height: int, turned: bool) -> tuple[int, int] | None:
    if not width or not height:
        return None
    return (height, width) if turned else (width, height)


def _is_turned(exif: bytes) -> bool:
    """Whether EXIF data swap width and height: orientation 5 to 8 in the first directory."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return False
    with suppress(struct.error):
        (at,) = struct.unpack(f"{order}I", exif[4:8])
        (count,) = struct.unpack(f"{order}H", exif[at : at + 2])
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack(f"{order}HHIH", exif[entry : entry + 10])
            if tag == _ORIENTATION:
                return value in range(5, 9)
    return False


def _number(name: str) -> int:
    found = _NUMBER.search(Path(name).stem)
    return int(found.group(1)[-18:]) if found else -1


def write_pictures(frames: Pixels, folder: Path) -> None:
    """Write frames without loss as the numbered pictures of a new folder.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        folder: Created.

    Raises:
        MediaError: It exists, or cannot be written.
    """
    try:
        folder.mkdir(parents=True)
        for number, frame in enumerate(frames):
            _, data = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            (folder / f"{number:06d}.png").write_bytes(data.tobytes())
    except OSError as error:
        name = display_name(folder)
        raise MediaError(f"{name}: cannot be written ({error.strerror})") from None
