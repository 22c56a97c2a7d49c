"""Opens a container through `Reader` with everything that could reach elsewhere switched off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import av.error

from foveate.core import MediaError, Meter
from foveate.media import preflight
from foveate.media.limits import Limits
from foveate.media.oversize import refused_size, too_large
from foveate.media.source import Reader
from foveate.media.work import Work

# Containers that hold their own frames. Playlists, scripts, capture devices and single pictures
# are not among them, whatever a file is called.
FORMATS = (
    "matroska,webm", "avi", "mpegts", "mpeg", "mpegvideo", "flv",
    "live_flv", "gif", "apng", "h264", "hevc", "vvc", "obu", "av1", "ivf", "m4v", "h263", "mjpeg",
    "mjpeg_2000", "ogg", "asf", "asf_o", "dv", "yuv4mpegpipe", "nut", "vc1", "wav", "mp3", "aac",
    "flac", "amr",
)  # fmt: skip

# Opened only after its boxes were walked: an index in it costs a hundred times its bytes.
MOV = ("mov,mp4,m4a,3gp,3g2,mj2",)

# Codecs whose FFmpeg decoders can export motion vectors (flag `+export_mvs`).
VECTOR_CODECS = frozenset(
    {"h264", "mpeg4", "mpeg1video", "mpeg2video", "h263", "h263p", "msmpeg4v2", "msmpeg4v3",
     "wmv1", "wmv2", "flv", "flv1", "snow"}
)  # fmt: skip

BUFFER_BYTES = 16384
LONGEST_TICK = 10  # seconds; a coarser unit of time is damage, and would hold frames for ever
_MOST_FRAMES = 1000  # per second; a higher rate is a damaged or meaningless field


@dataclass(frozen=True)
class Geometry:
    """From coded pixels to upright square ones: size, pixel shape, mirroring and rotation."""

    width: int
    height: int
    shape: Fraction
    rotation: int  # clockwise degrees that make the picture upright
    mirrored: bool = False  # whether left and right change places before it is turned

    @property
    def square(self) -> tuple[int, int]:
        """`(width, height)` in square pixels, not yet turned."""
        width, height = self.width, self.height
        if self.shape > 1:
            width = max(1, round(width * self.shape))
        elif self.shape < 1:
            height = max(1, round(height / self.shape))
        return width, height

    @property
    def upright(self) -> tuple[int, int]:
        """`(width, height)` in square pixels after rotation."""
        width, height = self.square
        return (height, width) if self.rotation in (90, 270) else (width, height)


@dataclass(frozen=True)
class Plan:
    """Where the display times of a stream come from.

    Attributes:
        source: `given` by the packets; `sorted`, decode times in the order that the codec says;
            `numbered`, one tick for each frame in that order; `counted`, no packet has a time and
            frames are numbered as they come out of the decoder.
        base: Seconds per tick.
        unpacks: Whether packets may hold two pictures (packed B-frames), which are taken apart.
        slots: Where `sorted` finds decode times: in `dts`, or in `pts` that were written wrongly.
        warning: What to tell the user, None if all is as it should be.
    """

    source: str
    base: Fraction
    unpacks: bool = False
    slots: str = "dts"
    warning: str | None = None


@dataclass
class Opened:
    """An open container with its chosen picture stream (None where only sound was asked for)."""

    reader: Reader
    container: Any
    stream: Any
    choice: str = ""  # why this stream
    restarts: int = 0  # how often the times were seen to start again
    moved: bool = False  # whether times were seen that are not later than the ones before
    disordered: bool = False  # whether equal times were seen where pictures are reordered
    plan: Plan | None = None  # known once `packets` was called
    warn: Callable[[str], None] = lambda line: None
    _counted: tuple[int, int] = (0, 0)  # bytes of the reader, and bytes it gave, that were counted

    @property
    def base(self) -> Fraction:
        """Seconds per tick of the display times."""
        return Fraction(self.stream.time_base) if self.plan is None else self.plan.base

    def count(self, meter: Meter, work: Work | None = None) -> None:
        """Add what was read since the last call to the counts."""
        read, given = self._counted
        self._counted = self.reader.bytes, self.reader.given
        meter.bytes += self.reader.bytes - read
        if work is not None:
            work.read(self.reader.given - given)

    def close(self) -> None:
        """Release the container, then the file; safe to call twice."""
        if self.container is not None:
            self.container.close()
        self.container = self.stream = None
        self.reader.close()


def _refuse(url: str, flags: int, options: dict[str, str]) -> Any:
    raise PermissionError("a media file may not open another file")


def open_container(open_reader: Callable[[], Reader], limits: Limits) -> tuple[Reader, Any]:
    """Check the header, then open the container; nothing is decoded for the caller.

    Raises:
        MediaError: With the reason, if this is not a container that may be opened.
        LimitError: It could not be opened because its pictures are larger than `limits.pixels`.
    """
    try:
        return _open_container(open_reader, limits)
    except MediaError as error:
        check_size(open_reader, limits, error)
        raise


def check_size(open_reader: Callable[[], Reader], limits: Limits, error: MediaError) -> None:
    """Say the true reason where something was refused because its pictures are too large.

    Raises:
        LimitError: They are.
    """
    if not isinstance(error, FormatError):
        return
    size = refused_size(lambda: _open_container(open_reader, limits), limits)
    if size is not None and size[0] * size[1] > limits.pixels:
        reader = open_reader()
        reader.close()
        raise too_large(reader.label, size, limits) from None


class FormatError(MediaError):
    """FFmpeg could not open or decode it, whatever the reason."""


def _open_container(open_reader: Callable[[], Reader], limits: Limits) -> tuple[Reader, Any]:
    reader = open_reader()
    try:
        formats = MOV if preflight.check(reader, limits) else FORMATS
        reader.renew(limits.open_seconds)
        container = av.open(
            reader,
            options={"max_pixels": str(limits.pixels), "threads": "1"},
            container_options={
                "format_whitelist": ",".join(formats),
                "protocol_whitelist": "none",
            },
            io_open=_refuse,
            metadata_errors="replace",
            timeout=(limits.open_seconds, limits.open_seconds),
            buffer_size=BUFFER_BYTES,
        )
        reader.check()
        reader.renew()
    except av.error.FFmpegError as error:
        reader.close()
        reader.check()
        raise FormatError(f"{reader.label}: {_open_reason(error)}") from None
    except BaseException:
        reader.close()
        raise
    return reader, container


def open_video(
    open_reader: Callable[[], Reader],
    limits: Limits,
    warn: Callable[[str], None] = lambda line: None,
) -> Opened:
    """Open a container and choose its picture stream, see `choose_stream`.

    Args:
        open_reader: Opens the source from its start.
        limits: Bounds on work.
        warn: Takes one line about times that are missing or in disorder.

    Raises:
        MediaError: No picture stream, one that cannot be decoded, or a file that cannot be opened.
        LimitError: A picture larger than `limits.pixels`.
    """
    reader, container = open_container(open_reader, limits)
    opened = Opened(reader, container, None, warn=warn)
    try:
        opened.stream, opened.choice = _choose(container, reader.label)
        _check_stream(opened.stream, reader.label, limits)
    except BaseException as error:
        opened.close()
        if isinstance(error, MediaError):
            check_size(open_reader, limits, error)
        raise
    return opened


def _choose(container: Any, name: str) -> tuple[Any, str]:
    found = choose_stream(container)
    if found is not None:
        return found
    if container.streams.video:
        raise MediaError(f"{name}: no video stream (cover art only)")
    if container.streams.audio:
        raise MediaError(f"{name}: no video stream (audio only)")
    raise MediaError(f"{name}: no video stream")


def choose_stream(container: Any) -> tuple[Any, str] | None:
    """The picture stream that is meant, and why that one; None if there is no moving picture.

    Pictures that stand still are left out; then flags decide, then size: the first stream that has
    at least a quarter of the pixels of the largest one.
    """
    flags = av.stream.Disposition
    stills = flags.attached_pic | flags.timed_thumbnails | flags.still_image
    videos = [stream for stream in container.streams.video if not stream.disposition & stills]
    left = [s for s in videos if s.codec_context is not None and s.frames != 1]
    left = left or [s for s in videos if s.codec_context is not None] or videos
    if not left:
        return None
    reason = "the only moving picture" if len(left) == 1 else "the first of several alike"
    for flag, word in ((flags.default, "default"), (flags.forced, "forced")):
        flagged = [stream for stream in left if stream.disposition & flag]
        if flagged and len(flagged) < len(left):
            left, reason = flagged, f"flagged as {word}"
    largest = max(_area(stream) for stream in left)
    large = [stream for stream in left if _area(stream) * 4 >= largest]
    if len(large) < len(left):
        reason = "the first large one"
    return large[0], reason


def choose_sound(container: Any) -> Any:
    """The sound track that is meant, None if there is none: flagged as default, else the first."""
    flags = av.stream.Disposition
    tracks = list(container.streams.audio)
    for asked in (
        [s for s in tracks if s.codec_context is not None and s.disposition & flags.default],
        [s for s in tracks if s.codec_context is not None],
    ):
        if asked:
            return asked[0]
    return tracks[0] if tracks else None


def sound_span(container: Any, origin: float) -> tuple[float, float] | None:
    """When the chosen sound track starts and ends, in seconds from `origin`; None if not stated.

    Args:
        container: An open container.
        origin: Container time in seconds that counts as zero.
    """
    stream = choose_sound(container)
    if stream is None or not stream.duration or not stream.time_base:
        return None
    base = float(stream.time_base)
    start = (stream.start_time or 0) * base - origin
    return start, start + stream.duration * base


def _area(stream: Any) -> int:
    codec = stream.codec_context
    return 0 if codec is None else codec.width * codec.height


def _check_stream(stream: Any, name: str, limits: Limits) -> None:
    codec = stream.codec_context
    if codec is None:
        raise MediaError(f"{name}: unknown codec, nothing here can decode it")
    # A stored "frames" claim is checked too: it costs nothing and says early what is wrong.
    if codec.width * codec.height > limits.pixels:
        raise too_large(name, (codec.width, codec.height), limits)
    if not stream.time_base or codec.width <= 0 or codec.height <= 0 or codec.pix_fmt is None:
        raise FormatError(f"{name}: no frame could be decoded (damaged, encrypted or zero frames)")


def geometry(stream: Any, rotation: int, mirrored: bool = False) -> Geometry:
    """Size, pixel shape and orientation of a picture stream.

    Args:
        stream: The picture stream.
        rotation: Clockwise degrees that make the picture upright.
        mirrored: Whether it is mirrored before.
    """
    codec = stream.codec_context
    shape = pixel_shape(stream.sample_aspect_ratio or codec.sample_aspect_ratio)
    return Geometry(codec.width, codec.height, shape, rotation, mirrored)


def pixel_shape(ratio: Fraction | None) -> Fraction:
    """Width of a pixel by its height; what is not known or absurd counts as square."""
    return ratio if ratio and Fraction(1, 8) <= ratio <= 8 else Fraction(1)


def claimed_seconds(stream: Any, numbered: bool) -> float | None:
    """How long a picture stream claims to be.

    What a container claims for all of its streams is the length of the longest: it counts only
    where there is one. FFmpeg gives each stream of an ASF file the length of the file.

    Args:
        stream: The picture stream.
        numbered: Whether its frames are numbered, so that its own times mean nothing.
    """
    container = stream.container
    if stream.duration and stream.duration > 0 and not numbered and container.format.name != "asf":
        return float(stream.duration * stream.time_base)
    if not container.duration or container.duration < 0:
        return None
    return container.duration / 1e6 if numbered or len(container.streams) == 1 else None


def frame_rate(stream: Any) -> Fraction | None:
    """Mean frames per second, None if the container does not say or says nonsense."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate is not None and 0 < rate <= _MOST_FRAMES:
            return Fraction(rate)
    return None


def codec_name(stream: Any) -> str:
    """Name of a stream's codec, whichever decoder is built in: `av1`, not `libdav1d`."""
    return str(stream.codec_context.codec.canonical_name)


def numbered_rate(stream: Any) -> Fraction:
    """Frames per second by which frames are numbered: the container's word if it can be meant."""
    rate = frame_rate(stream)
    return rate if rate is not None and rate * LONGEST_TICK >= 1 else Fraction(25)


def _open_reason(error: av.error.FFmpegError) -> str:
    if isinstance(error, av.error.InvalidDataError):
        return "not a video that can be read (damaged, truncated or of an unknown format)"
    if isinstance(error, av.error.ArgumentError):
        return "not a container that is allowed (a playlist, a picture or a rare format)"
    if isinstance(error, av.error.ExitError):
        return "opening it took too long"
    if isinstance(error, av.error.EOFError):
        return "ends before its header does"
    if isinstance(error, av.error.MemoryError):
        return "asks for more memory than there is"
    return (error.strerror or str(error)).lower()
