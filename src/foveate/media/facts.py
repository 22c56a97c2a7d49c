"""What a file and this installation are: for `probe` and `doctor`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import av
import av.codec
import numpy as np
import numpy.typing as npt

from foveate.media.container import choose_sound, open_video
from foveate.media.convert import colour_name
from foveate.media.folder import FrameFolder
from foveate.media.limits import DEFAULT_LIMITS, Limits
from foveate.media.source import Source, opener, rereadable
from foveate.media.video import Video
from foveate.media.write import ENCODERS

STEADY = 0.05  # a share of frame intervals further off than a tick may be this large


@dataclass(frozen=True)
class Sound:
    """A sound track: codec, samples per second, channels."""

    codec: str
    rate: int
    channels: int


@dataclass(frozen=True)
class Facts:
    """What one pass over the packet headers of a file tells.

    Attributes:
        source: Name of the file.
        container: FFmpeg's name of the container format.
        bytes: Length of the file.
        codec: Picture codec.
        pixel_format: FFmpeg's name of the pixel format.
        width: Upright width in square pixels.
        height: Upright height in square pixels.
        rotation: Clockwise degrees applied to make frames upright.
        mirrored: Whether left and right change places before frames are turned.
        rate: Mean frames per second, None if unknown.
        variable_rate: Whether the intervals between frames differ.
        duration: Seconds, None if unknown.
        frames: Frames in the file.
        keyframes: Key frames among them.
        sound: The sound track, None if there is none.
        stream: Number of the picture stream among all streams.
        streams: How many streams there are.
        choice: Why this picture stream.
        colour: The matrix by which pictures become RGB, and why where they are not tagged.
        motion_vectors: Whether the decoder can export motion vectors for this codec.
        warnings: What was noticed.
    """

    source: str
    container: str
    bytes: int
    codec: str
    pixel_format: str
    width: int
    height: int
    rotation: int
    mirrored: bool
    rate: float | None
    variable_rate: bool
    duration: float | None
    frames: int
    keyframes: int
    sound: Sound | None
    stream: int
    streams: int
    choice: str
    colour: str
    motion_vectors: bool
    warnings: tuple[str, ...] = ()


def facts(source: Source, limits: Limits = DEFAULT_LIMITS, *, fps: float | None = None) -> Facts:
    """Read all packet headers of a file; one frame is decoded, for its rotation.

    Args:
        source: A path, bytes, an open binary file, or a folder of numbered pictures.
        limits: Bounds on work.
        fps: Frames per second of a folder; 25 if None.

    Raises:
        MediaError: It is no video that can be opened.
        LimitError: It has more frames than `limits.samples`.
    """
    if isinstance(source, str | os.PathLike) and os.path.isdir(source):
        return _folder_facts(FrameFolder(source, fps, limits=limits))
    source = rereadable(source, limits)
    with Video(source, limits=limits) as video:
        index = video.packet_index()
        info = video.info
        times = video.keyframes()
        mirrored, warnings = video.geometry.mirrored, tuple(video.warnings)
    opened = open_video(opener(source, limits), limits)
    try:
        audio = choose_sound(opened.container)
        codec = opened.stream.codec_context
        rgb = codec.format is not None and codec.format.is_rgb
        return Facts(
            source=info.name,
            container=opened.container.format.name,
            bytes=opened.reader.size(),
            codec=info.codec,
            pixel_format=codec.pix_fmt,
            width=info.width,
            height=info.height,
            rotation=info.rotation,
            mirrored=mirrored,
            rate=info.rate,
            variable_rate=index.ticks is not None and _varies(index.ticks),
            duration=info.duration,
            frames=index.frames,
            keyframes=len(times),
            sound=_sound(audio) if audio is not None else None,
            stream=opened.stream.index,
            streams=len(opened.container.streams),
            choice=opened.choice,
            colour="RGB" if rgb else colour_name(codec.colorspace, codec.height),
            motion_vectors=info.has_vectors,
            warnings=warnings,
        )
    finally:
        opened.close()


def _folder_facts(folder: FrameFolder) -> Facts:
    info = folder.info
    return Facts(
        source=info.name, container="numbered pictures", bytes=folder.total_bytes(),
        codec=info.codec, pixel_format="RGB", width=info.width, height=info.height, rotation=0,
        mirrored=False, rate=info.rate, variable_rate=False, duration=info.duration,
        frames=len(folder), keyframes=len(folder), sound=None, stream=0, streams=1,
        choice="the only moving picture", colour="RGB", motion_vectors=False,
        warnings=tuple(folder.warnings),
    )  # fmt: skip


def _varies(ticks: npt.NDArray[np.int64]) -> bool:
    """Whether more than a few intervals differ by more than one tick from the usual one."""
    steps = np.sort(np.diff(ticks))
    if len(steps) < 2:
        return False
    return bool((np.abs(steps - steps[len(steps) // 2]) > 1).mean() > STEADY)


def _sound(stream: Any) -> Sound | None:
    codec = stream.codec_context
    return Sound(codec.name, codec.sample_rate, codec.channels) if codec is not None else None


def encoder() -> str | None:
    """The encoder that `VideoWriter` would use, None if there is none."""
    for name in ENCODERS:
        try:
            av.codec.Codec(name, "w")
        except ValueError:
            continue
        return name
    return None


def libraries() -> str:
    """Versions of the FFmpeg libraries in use."""
    return ", ".join(
        f"{name[3:]} {'.'.join(map(str, version))}" for name, version in av.library_versions.items()
    )
