"""Writes frames as an MP4 that plays everywhere, and copies packets into files."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import av
import av.error
import numpy as np

from foveate.core import MediaError
from foveate.media.ring import Remuxer, StoredPacket, Template
from foveate.media.source import display_name

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

# H.264 plays everywhere; MPEG-4 part 2 is in every FFmpeg.
ENCODERS = ("libx264", "libopenh264", "h264", "mpeg4")
KEY_SECONDS = 2.0  # a key frame this often, so that players and this library seek well
_TICKS = 90_000


class _Movie:
    """A file that is written beside its path and gets its name when it is whole.

    Args:
        path: The file.
        format: FFmpeg's name of the container.

    Raises:
        MediaError: The file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], format: str) -> None:
        self._path = Path(path)
        # FFmpeg gets the file's name: an absolute path is never taken for an address.
        whole = Path(os.path.abspath(self._path))
        self._partial = whole.with_name(f".{whole.name[:100]}.{os.getpid()}.{id(self):x}.partial")
        try:
            self._file = _Target(self._partial)
        except OSError as error:
            raise MediaError(f"{self.name}: cannot be written ({error.strerror})") from None
        self._container = av.open(
            self._file,
            "w",
            format=format,
            options={"movflags": "faststart"} if format == "mp4" else {},
            io_open=self._again,
        )

    @property
    def name(self) -> str:
        """The file's name, fit for a message."""
        return display_name(self._path)

    def _mux(self, make: Callable[[], Any]) -> None:
        try:
            self._container.mux(make())
            self._file.check()
        except (av.error.FFmpegError, OSError) as error:
            raise self._failed(error) from None

    def _last_packets(self) -> Any:
        """Packets that the encoder still holds."""
        return []

    def close(self) -> None:
        """Finish the file and give it its name; safe to call twice.

        Raises:
            MediaError: It cannot be written.
        """
        if self._file.closed:
            return
        try:
            self._container.mux(self._last_packets())
            self._container.close()
            self._file.close()
            os.replace(self._partial, self._path)
        except (av.error.FFmpegError, OSError) as error:
            raise self._failed(error) from None

    def abandon(self) -> None:
        """Delete the unfinished file."""
        with suppress(av.error.FFmpegError, OSError, ValueError):
            self._container.close()
        with suppress(OSError):
            self._file.close()
        self._partial.unlink(missing_ok=True)

    def _again(self, url: str, flags: int, options: dict[str, str]) -> Any:
        """The unfinished file, opened for reading: FFmpeg moves the frames to insert the index."""
        return self._partial.open("rb", buffering=0)

    def _failed(self, error: av.error.FFmpegError | OSError) -> MediaError:
        self.abandon()
        cause = self._file.error or error
        return MediaError(f"{self.name}: cannot be written ({cause.strerror})")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


class VideoWriter(_Movie):
    """Encodes (H, W, 3) uint8 RGB frames with their times into one MP4.

    The file appears under its name only when `close` (or the end of the `with` block) is reached
    without an error; until then it is written beside it under a temporary name. Its index is moved
    to the front at the end, so that a player can begin before it has the whole file.

    Args:
        path: The file to write.
        size: `(width, height)`; odd sizes are cut by one pixel, as the encoders need.
        rate: Nominal frames per second, for the encoder's rate control.

    Raises:
        MediaError: The file cannot be written, or no encoder is available.
    """

    def __init__(
        self, path: str | os.PathLike[str], size: tuple[int, int], rate: float = 25.0
    ) -> None:
        super().__init__(path, "mp4")
        self._size = (max(2, size[0] // 2 * 2), max(2, size[1] // 2 * 2))
        self._last = -1
        self._stream = self._add_stream(rate)

    def write(self, frame: Pixels, seconds: float) -> None:
        """Add one frame.

        Args:
            frame: (H, W, 3) uint8 RGB of the writer's size.
            seconds: When it is shown; later than the frame before it.

        Raises:
            MediaError: The file cannot be written, for example because the disk is full.
        """
        width, height = self._size
        picture = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(frame[:height, :width]), format="rgb24"
        )
        picture.pts = self._last = max(self._last + 1, round(seconds * _TICKS))
        picture.time_base = Fraction(1, _TICKS)
        self._mux(lambda: self._stream.encode(picture))

    def _last_packets(self) -> Any:
        return self._stream.encode(None)

    def _add_stream(self, rate: float) -> Any:
        for name in ENCODERS:
            try:
                stream: Any = self._container.add_stream(
                    name, rate=Fraction(rate).limit_denominator(1000)
                )
            except (av.error.FFmpegError, ValueError):
                continue
            stream.width, stream.height = self._size
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = Fraction(1, _TICKS)
            stream.codec_context.gop_size = max(1, round(rate * KEY_SECONDS))
            if name == "libx264":
                stream.options = {"preset": "veryfast", "crf": "23"}
            return stream
        self.abandon()
        raise MediaError(f"{self.name}: no encoder for MP4 is available")


class PacketWriter(_Movie):
    """Copies the packets of a ring into one file, without decoding.

    The file appears like that of a `VideoWriter`.

    Args:
        path: The file to write.
        template: Parameters of the stream.

    Raises:
        MediaError: The file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], template: Template) -> None:
        super().__init__(path, template.format)
        self._remuxer = Remuxer(self._container, template)

    def write(self, packet: StoredPacket) -> None:
        """Add one packet, in the order of decoding; the first one is a key frame.

        Raises:
            MediaError: The file cannot be written.
        """
        self._mux(lambda: self._remuxer.packet(packet))


class _Target:
    """A file that keeps its first error until `check`, and swallows what comes after it.

    An exception thrown through FFmpeg's callbacks could be reported twice, on standard error.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self.name = str(path)
        self.error: OSError | None = None

    @property
    def closed(self) -> bool:
        return self._file.closed

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self.error is not None:
            raise self.error

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        try:
            while view and self.error is None:
                view = view[self._file.write(view) :]
        except OSError as error:
            self.error = error
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        """Close the file; raises what went wrong before."""
        self._file.close()
        self.check()
