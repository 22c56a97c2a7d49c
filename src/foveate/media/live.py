"""Opens cameras and other live addresses: the only module that lets FFmpeg reach a network.

An address is opened because a user typed it. Each scheme may use its own protocols and containers
only, so that what a camera sends cannot make FFmpeg read local files.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import av
import av.error
import cv2
import numpy as np

from foveate.core import MediaError, SampleInfo
from foveate.media.container import (
    codec_name,
    frame_rate,
    geometry,
    open_video,
)
from foveate.media.convert import Converter, orientation
from foveate.media.decoding import SkipLoopFilter
from foveate.media.limits import DEFAULT_LIMITS, Limits
from foveate.media.source import opener

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

_STREAMS = "mpegts,hls,flv,mpjpeg,mjpeg,matroska,webm,h264,hevc,mov,mp4,ogg,asf"
# Scheme → (protocols, containers) that FFmpeg may use for it.
_ALLOWED = {
    "rtsp": ("rtsp,rtp,udp,tcp", "rtsp"),
    "rtsps": ("rtsps,rtsp,rtp,udp,tcp,tls", "rtsp"),
    "http": ("http,https,tcp,tls,crypto", _STREAMS),
    "https": ("http,https,tcp,tls,crypto", _STREAMS),
    "tcp": ("tcp", "mpegts,flv,mpjpeg,h264,hevc"),
    "udp": ("udp", "mpegts"),
}
SCHEMES = tuple(_ALLOWED)
# Their demuxers number the frames instead of saying when they were taken.
_UNTIMED = ("mpjpeg", "mjpeg", "h264", "hevc")
_PROBE = {"probesize": "200000", "analyzeduration": "500000", "fpsprobesize": "0"}
_JUMP = 10.0  # seconds by which times may advance; beyond that the clock was set
_DISORDER = 0.2  # seconds by which damaged times may go back; the frames keep their order
_LUMA_STEP = 8  # every eighth pixel of every eighth row tells whether anything moves


class AccessDenied(MediaError):
    """The camera is there and refuses the user name or password."""


@dataclass(eq=False)
class LiveFrame:
    """One received frame.

    Attributes:
        picture: An `av.VideoFrame`, or (H, W, 3) uint8 RGB.
        time: Seconds of the source's clock; the reader makes it begin at zero with each epoch.
        wall: When it was received, in seconds of the Unix clock.
        tick: The same on the monotonic clock, for ages.
        number: Frames of the epoch before it.
        begins: Why a new epoch begins with this frame, None if it continues the one before.
        looked: Whether the model has seen it.
    """

    picture: Any
    time: float
    wall: float
    tick: float
    number: int = 0
    begins: str | None = None
    looked: bool = False

    def luma(self) -> Pixels:
        """A coarse grid of its brightness (h, w) uint8, without converting the frame."""
        if isinstance(self.picture, np.ndarray):
            return np.asarray(self.picture[::_LUMA_STEP, ::_LUMA_STEP, 1])
        plane = self.picture.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        return rows[: self.picture.height : _LUMA_STEP, : self.picture.width : _LUMA_STEP]


@dataclass(frozen=True)
class Received:
    """What came in one piece.

    Attributes:
        frames: Decoded from it, None if it cannot be decoded.
        packet: The `av.Packet`; None for an iterable of frames.
        stream: Its stream, likewise.
        time: Display time of the packet in seconds of the source's clock, None if it has none.
    """

    frames: list[LiveFrame] | None
    packet: Any = None
    stream: Any = None
    time: float | None = None


@dataclass
class LiveInput:
    """One connection: a file, a device, an address or an iterable of frames.

    Attributes:
        name: What it is called in messages.
        received: Gives what comes, until the connection ends.
        close: Releases it.
        live: Whether frames come by themselves, so that those that are not taken are lost.
    """

    name: str
    received: Iterator[Received]
    close: Callable[[], None] = field(default=lambda: None)
    live: bool = True


def open_address(
    address: str,
    name: str,
    *,
    timeouts: tuple[float, float] = (10.0, 10.0),
    transport: str = "tcp",
    limits: Limits = DEFAULT_LIMITS,
    skip_loop_filter: SkipLoopFilter = "none",
) -> LiveInput:
    """Connect to an address such as `rtsp://camera/stream` or to a device such as `/dev/video0`.

    Args:
        address: With credentials, if there are any; they appear in no message.
        name: What it is called in messages.
        timeouts: Seconds to connect, and seconds without data.
        transport: `tcp` or `udp`, for RTSP.
        limits: Bounds on the size of a picture.
        skip_loop_filter: Pictures decoded without the deblocking filter, see `Decoding`.

    Raises:
        AccessDenied: The user name or password is wrong or missing.
        MediaError: Nothing answers, or what comes is no video.
    """
    options, format_ = dict(_PROBE), None
    options["fflags"] = "nobuffer"
    scheme = urlsplit(address).scheme.lower()
    if address.startswith("/dev/"):
        allowed, format_ = {"protocol_whitelist": "file"}, "v4l2"
        if not os.path.exists(address):
            raise MediaError(f"{name}: no such device")
    else:
        protocols, formats = _ALLOWED[scheme]
        allowed = {"protocol_whitelist": protocols, "format_whitelist": formats}
        if scheme.startswith("rtsp"):
            options["rtsp_transport"] = transport
    try:
        container = av.open(
            address,
            format=format_,
            options={**options, **allowed, "max_pixels": str(limits.pixels)},
            metadata_errors="replace",
            timeout=timeouts,
        )
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise _failed(name, error, timeouts[0]) from None
    try:
        stream = _moving(container, name)
        untimed = container.format.name in _UNTIMED
        received = _decoded(container, stream, name, timeouts[1], untimed, limits, skip_loop_filter)
        if container.format.name == "hls":  # whole segments arrive at once
            received = _paced(received)
    except BaseException:
        container.close()
        raise
    return LiveInput(name, received, container.close)


def open_paced(
    path: Any,
    name: str,
    *,
    real: bool,
    limits: Limits = DEFAULT_LIMITS,
    skip_loop_filter: SkipLoopFilter = "none",
) -> LiveInput:
    """Open a file as if it were filmed now; like every file it cannot open anything else.

    Args:
        path: Any source of `Video` that can be read again.
        name: What it is called in messages.
        real: Give frames at their times; otherwise as fast as they are taken.
        limits: Bounds on work.
        skip_loop_filter: Pictures decoded without the deblocking filter, see `Decoding`.

    Raises:
        MediaError: It is no video that can be opened.
    """
    opened = open_video(opener(path, limits), limits)
    received = _decoded(
        opened.container, opened.stream, name, None, False, limits, skip_loop_filter
    )
    return LiveInput(name, _paced(received) if real else received, opened.close, live=real)


def open_iterable(frames: Iterator[tuple[Any, float]], name: str, live: bool) -> LiveInput:
    """Frames that a program gives, with their times in seconds.

    Args:
        frames: Pairs of (H, W, 3) uint8 RGB and ascending seconds.
        name: What it is called in messages.
        live: Whether frames that are not taken are lost.
    """

    def given() -> Iterator[Received]:
        before: LiveFrame | None = None
        for item, seconds in frames:
            picture = np.array(item)  # a copy: the program may use its memory again
            if picture.ndim != 3 or picture.shape[-1] != 3 or picture.dtype != np.uint8:
                what = f"shape {picture.shape} and type {picture.dtype}"
                raise MediaError(f"{name}: a frame of {what}", "give (H, W, 3) uint8 RGB")
            frame = LiveFrame(picture, seconds, time.time(), time.monotonic())
            if before is None:
                frame.begins = "connected"
            elif picture.shape != before.picture.shape:
                frame.begins = "the picture changed its size"
            elif seconds <= before.time:
                frame.begins = "the clock of the source went back"
            before = LiveFrame(picture, seconds, frame.wall, frame.tick)
            yield Received([frame])

    return LiveInput(name, given(), live=live)


def _moving(container: Any, name: str) -> Any:
    """The first picture stream that can be decoded: the usual choice by size may not be known."""
    for stream in container.streams.video:
        if stream.codec_context is not None:
            return stream
    raise MediaError(f"{name}: no video stream")


def _decoded(
    container: Any,
    stream: Any,
    name: str,
    read_seconds: float | None,
    untimed: bool,
    limits: Limits,
    skip_loop_filter: SkipLoopFilter,
) -> Iterator[Received]:
    """Packets with their frames, until the connection ends.

    Raises:
        MediaError: Nothing came for `read_seconds`, or the connection broke.
    """
    codec = stream.codec_context
    clock = _Clock(None if untimed else float(stream.time_base))
    codec.thread_type, codec.thread_count = "SLICE", 1
    codec.options = {
        **codec.options, "max_pixels": str(limits.pixels), "skip_loop_filter": skip_loop_filter
    }  # fmt: skip
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError as error:
            raise _failed(name, error, read_seconds or 0.0) from None
        at = None
        if packet.pts is not None and not untimed:
            at = float(packet.pts * packet.time_base)
        try:
            pictures = codec.decode(packet if packet.size else None)
        except (av.error.FFmpegError, ValueError):
            yield Received(None if packet.size else [], packet, stream, at)
            continue
        yield Received([clock(picture) for picture in pictures], packet, stream, at)


class _Clock:
    """Stamps frames, and tells where their times or their size do not continue."""

    def __init__(self, base: float | None) -> None:
        self._base = base  # seconds per tick; not that of frames, which lack it after a flush
        self._last = 0.0
        self._size: tuple[int, int] | None = None

    def __call__(self, picture: Any) -> LiveFrame:
        wall, tick = time.time(), time.monotonic()
        seconds = tick if self._base is None or picture.pts is None else picture.pts * self._base
        size = picture.width, picture.height
        begins = None
        if self._size is None:
            begins = "connected"
        elif size != self._size:
            begins = f"the picture changed from {self._size[0]}x{self._size[1]}"
        elif not -_DISORDER < seconds - self._last < _JUMP:
            begins = f"the clock of the source jumped by {seconds - self._last:.1f} s"
        else:
            seconds = max(seconds, self._last + 1e-6)
        self._size, self._last = size, seconds
        return LiveFrame(picture, seconds, wall, tick, begins=begins)


def _paced(pieces: Iterator[Received]) -> Iterator[Received]:
    """The same at the pace of their times, stamped when they are given."""
    begun = 0.0
    for piece in pieces:
        for frame in piece.frames or ():
            now = time.monotonic()
            if frame.begins:
                begun = now - frame.time
            time.sleep(max(0.0, begun + frame.time - now))
            frame.wall, frame.tick = time.time(), time.monotonic()
        yield piece


def describe(
    frame: LiveFrame, name: str, stream: Any
) -> tuple[SampleInfo, Callable[[Any, tuple[int, int] | None], Pixels]]:
    """What is known of an epoch from its first frame, and how its frames become pixels.

    Args:
        frame: The first one.
        name: What it is called in messages.
        stream: Its stream, None for an iterable of frames.

    Returns:
        Facts, and a function from a picture and a `(width, height)` to (H, W, 3) uint8 RGB.
    """
    picture = frame.picture
    if isinstance(picture, np.ndarray):
        height, width = picture.shape[:2]
        return SampleInfo(name, width, height), scaled
    # A stream that is joined between key frames states no size; its first frame has one.
    shape = replace(
        geometry(stream, *orientation(picture)), width=picture.width, height=picture.height
    )
    width, height = shape.upright
    # A guess may be the rate of fields; the feed measures what the container does not state.
    rate = frame_rate(stream) if stream.average_rate else None
    info = SampleInfo(
        name, width, height, rate=float(rate) if rate else None, codec=codec_name(stream),
        rotation=shape.rotation,
    )  # fmt: skip
    return info, Converter(shape)


def scaled(picture: Any, size: tuple[int, int] | None) -> Pixels:
    """A picture (H, W, 3) at a `(width, height)`, itself if it has that size."""
    height, width = picture.shape[:2]
    if size is None or size == (width, height):
        return np.asarray(picture)
    shrinks = size[0] * size[1] < width * height
    mode = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size, interpolation=mode))


def _failed(name: str, error: Exception, seconds: float) -> MediaError:
    """The reason in words; FFmpeg's own message holds the address with its credentials."""
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return AccessDenied(
            f"{name}: the user name or password is wrong or missing",
            "write rtsp://USER:PASSWORD@HOST/..., or ${VARIABLE} for what must not be readable",
        )
    if isinstance(error, av.error.ExitError):
        return MediaError(f"{name}: no data for {seconds:g} s")
    known: dict[type[Exception], str] = {
        av.error.HTTPNotFoundError: "there is no such stream (404)",
        av.error.ConnectionRefusedError: "connection refused",
        av.error.ConnectionResetError: "the connection was reset",
        av.error.InvalidDataError: "what it sends is no video",
        av.error.EOFError: "the connection was closed",
        av.error.PermissionError: "permission denied",
        av.error.FileNotFoundError: "no such device",
    }
    for kind, text in known.items():
        if isinstance(error, kind):
            return MediaError(f"{name}: {text}")
    if getattr(error, "errno", None) == errno.EIO:  # what FFmpeg makes of a closed connection
        return MediaError(f"{name}: the connection was closed")
    text = (getattr(error, "strerror", None) or type(error).__name__).lower()
    return MediaError(f"{name}: {text}")
