"""Facts about a clip that need it to be opened: size, length, codec, whether it decodes."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

from foveate.core import FoveateError
from foveate.media import display_name, open_source
from foveate.media.folder import RATE, picture_names
from foveate.media.source import is_pipe

_HEAD = 65536  # bytes at each end of a file that stand for its content


@dataclass(frozen=True)
class Probe:
    """What is known of a clip once it was opened and its first frame decoded.

    Attributes:
        width: Upright width in square pixels.
        height: Upright height in square pixels.
        duration: Seconds, None if only a full pass would tell.
        rate: Mean frames per second, None if unknown.
        frames: Number of frames, None if only a full pass would tell.
        codec: Name of the picture codec.
        has_audio: Whether there is a sound track.
        content: Digest of the length and of both ends of the file; equal for copies.
        warnings: Damage met while opening.
        error: Why it cannot be used, None if it can.
    """

    width: int = 0
    height: int = 0
    duration: float | None = None
    rate: float | None = None
    frames: int | None = None
    codec: str = ""
    has_audio: bool = False
    content: str = ""
    warnings: tuple[str, ...] = ()
    error: str | None = None


def probe(path: Path) -> Probe:
    """Open a clip and decode one frame; what goes wrong is in `error`, nothing is raised."""
    try:
        if is_pipe(path):  # which would be waited for
            return Probe(error="is not a regular file")
        digest = content(path)
        sample = open_source(path, fps=RATE)
        try:
            info = sample.info
            if not len(sample.frames((0.0,), (16, 16))):
                return Probe(content=digest, error="its first frame cannot be decoded")
            return Probe(
                info.width,
                info.height,
                info.duration,
                info.rate,
                info.frames,
                info.codec,
                info.has_audio,
                digest,
                tuple(sample.warnings),
            )
        finally:
            sample.close()
    except (FoveateError, OSError, ValueError, MemoryError) as error:
        return Probe(error=reason(path, error))


def reason(path: Path, error: BaseException) -> str:
    """One line without the name of the clip in front, which the caller gives."""
    line = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        line = f"cannot be read ({error.strerror.lower()})"
    for name in (str(path), display_name(path)):
        line = line.removeprefix(f"{name}: ")
    return line


def content(path: Path) -> str:
    """Digest of a clip's length and of its first and last bytes; equal for copies.

    For a folder: of its number of pictures, and of the first and the last.
    """
    digest = hashlib.sha256()
    if path.is_dir():
        names = picture_names(path)
        digest.update(str(len(names)).encode())
        parts = [path / name for name in (*names[:1], *names[-1:])]
    else:
        parts = [path]
    for part in parts:
        with part.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(str(size).encode() + b":" + file.read(_HEAD))
            file.seek(max(_HEAD, size - _HEAD))
            digest.update(file.read(_HEAD))
    return digest.hexdigest()


def stamp(path: Path) -> tuple[int, int] | None:
    """Size in bytes and time of the last change in nanoseconds; None where there is nothing."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return len(picture_names(path)), status.st_mtime_ns
        return status.st_size, status.st_mtime_ns
    except OSError:
        return None


def to_json(known: Probe) -> str:
    """A probe as one line of JSON."""
    return json.dumps(asdict(known))


def from_json(text: str) -> Probe:
    """Read back what `to_json` wrote."""
    values = json.loads(text)
    return Probe(**{**values, "warnings": tuple(values["warnings"])})
