"""Every kind of clip that the reader is tried on, by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

from oracle import Oracle, oracle

from clips import encode

_OPEN = {
    "preset": "medium",
    "x264-params": "open-gop=1:b-pyramid=2:scenecut=0:threads=1:bframes=3:keyint=12",
}
_PYRAMID = {
    "preset": "medium",
    "x264-params": "b-pyramid=2:b-adapt=0:bframes=8:ref=8:scenecut=0:threads=1",
}
_HEVC_OPEN = {
    "preset": "fast",
    "x265-params": "open-gop=1:keyint=20:log-level=none:pools=none:frame-threads=1:scenecut=0",
}
_ALTREF = {"auto-alt-ref": "1", "lag-in-frames": "12", "deadline": "good", "cpu-used": "4"}
_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
_GAPS = [i * 0.04 + i // 20 * 17 for i in range(60)]
_UNEVEN = [i * 0.04 + (0.02 if i % 3 == 0 else 0) + i // 20 * 2 for i in range(80)]


@dataclass(frozen=True)
class Kind:
    """A clip and what is needed to know its frames without the reader under test.

    Attributes:
        options: What `clips.encode` is given.
        rate: Frames per second where the container's times are missing or wrong.
        which: Number of the picture stream.
        size: `(width, height)` of upright square pixels, where it is not the coded size.
    """

    options: dict[str, Any] = field(default_factory=dict)
    rate: float | None = None
    which: int = 0
    size: tuple[int, int] | None = None


def _kind(container: str = "mp4", codec: str = "libx264", **options: Any) -> Kind:
    own = {name: options.pop(name) for name in ("known", "which", "upright") if name in options}
    options.setdefault("frames", 80)
    return Kind(
        {"container": container, "codec": codec, **options},
        rate=own.get("known"),
        which=own.get("which", 0),
        size=own.get("upright"),
    )


KINDS = {
    "h264-mp4": _kind(),
    "h264-b": _kind(bframes=3),
    "h264-open-gop": _kind(bframes=3, options=_OPEN),
    "h264-open-gop-ts": _kind("mpegts", bframes=3, options=_OPEN),
    "h264-open-gop-mkv": _kind("matroska", bframes=3, options=_OPEN),
    "h264-pyramid": _kind(bframes=8, gop=50, options=_PYRAMID),
    "h264-long-gop": _kind(bframes=2, gop=60, frames=240),
    "h264-all-key": _kind(gop=1),
    "h264-short-gop": _kind(gop=2, bframes=2),
    "h264-fragments": _kind(bframes=2, gop=40, frames=160, mux=_FRAGMENTS),
    "h264-mov": _kind("mov", bframes=2),
    "h264-mkv": _kind("matroska", bframes=2),
    "h264-ts": _kind("mpegts", bframes=2, gop=60, frames=240),
    "h264-flv": _kind("flv", bframes=2),
    "h264-raw": _kind("h264", bframes=2, known=25, frames=40),
    "h264-avi-b": _kind("avi", bframes=2, known=25, frames=40),
    "h264-avi-stripped": _kind("avi", strip=True),
    "mpeg4-avi": _kind("avi", "mpeg4", gop=40, frames=160),
    "mpeg4-avi-b": _kind("avi", "mpeg4", bframes=2),
    "mpeg4-nut": _kind("nut", "mpeg4", bframes=2),
    "mpeg4-raw": _kind("m4v", "mpeg4", bframes=2),
    "mpeg2-ts": _kind("mpegts", "mpeg2video", bframes=2),
    "mpeg2-ps": _kind("mpeg", "mpeg2video", bframes=2, frames=120, size=(160, 128)),
    "mpeg1-ps": _kind("mpeg", "mpeg1video", bframes=2),
    "vp8-webm": _kind("webm", "libvpx", gop=40, options=_ALTREF),
    "vp9-webm": _kind("webm", "libvpx-vp9", gop=40, options=_ALTREF),
    "vp9-ivf": _kind("ivf", "libvpx-vp9"),
    "av1-webm": _kind("webm", "libsvtav1", gop=30),
    "av1-mp4": _kind("mp4", "libsvtav1", gop=30),
    "hevc-mp4": _kind("mp4", "libx265", bframes=3),
    "hevc-open-gop": _kind("mp4", "libx265", bframes=3, options=_HEVC_OPEN),
    "hevc-open-gop-ts": _kind("mpegts", "libx265", bframes=3, options=_HEVC_OPEN),
    "hevc-raw": _kind("hevc", "libx265", bframes=3, known=25, frames=40),
    "mjpeg-avi": _kind("avi", "mjpeg", pix_fmt="yuvj420p"),
    "mjpeg-raw": _kind("mjpeg", "mjpeg", pix_fmt="yuvj420p"),
    "prores-mov": _kind("mov", "prores", pix_fmt="yuv422p10le", frames=30),
    "ffv1-mkv": _kind("matroska", "ffv1"),
    "huffyuv-avi": _kind("avi", "huffyuv", pix_fmt="rgb24", frames=30),
    "gif": _kind("gif", "gif", pix_fmt="rgb8", rate=10),
    "apng": _kind("apng", "apng", pix_fmt="rgb24"),
    "wmv-asf": _kind("asf", "wmv2"),
    "h263-3gp": _kind("3gp", "h263", size=(176, 144), upright=(192, 144)),
    "sorenson-flv": _kind("flv", "flv"),
    "y4m": _kind("yuv4mpegpipe", "wrapped_avframe", frames=20),
    "thumbnail-first": _kind(thumbnail=True, which=1),
    "cover-art": _kind(cover=True),
    "with-sound": _kind(tone=(440.0, 0.0, 2.0)),
    "uneven": _kind(bframes=3, times=_UNEVEN),
    "gaps": _kind(bframes=2, frames=60, times=_GAPS),
    "gaps-mkv": _kind("matroska", bframes=2, frames=60, times=_GAPS),
    "gaps-ts": _kind("mpegts", bframes=2, frames=60, times=_GAPS),
    "starts-below-zero": _kind(bframes=2, times=[i * 0.04 - 0.5 for i in range(80)]),
    "one-per-second": _kind("mpegts", bframes=3, rate=1, gop=8, frames=40),
    "ten-bits": _kind(pix_fmt="yuv420p10le"),
    "444": _kind(pix_fmt="yuv444p"),
    "grey": _kind(pix_fmt="gray"),
    "odd-size": _kind(pix_fmt="yuv444p", size=(67, 49)),
    "wide-pixels": _kind(shape=Fraction(2, 1), upright=(128, 48)),
    "tall-pixels": _kind(shape=Fraction(1, 2), upright=(64, 96)),
    "one-frame": _kind(frames=1),
    "five-frames": _kind(frames=5, bframes=2),
}


@cache
def clip(name: str) -> bytes:
    """The encoded clip."""
    return encode(**KINDS[name].options)


@cache
def truth(name: str) -> Oracle:
    """What a plain full decode says of it."""
    kind = KINDS[name]
    return oracle(clip(name), rate=kind.rate, which=kind.which, size=kind.size)
