"""What opening a clip tells, kept in one small file so that no clip is opened twice for it.

Clips are opened in child processes: a decoder that crashes, hangs or eats memory costs one child,
and the clip that did it is named.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from foveate.core import FoveateError
from foveate.core.files import cache_folder
from foveate.media import display_name, open_source
from foveate.media.folder import RATE, picture_names

VERSION = 2  # 2: the length is that of the picture
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


class ProbeCache:
    """Probes in one SQLite file, by path, size and time of change; every write is atomic.

    A file that cannot be written or is damaged is not used; then clips are opened again, which
    costs time and nothing else.

    Args:
        file: The file, or None for one in the user's cache folder.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file or cache_folder() / "probes.sqlite"
        self._database = self._open()

    def __enter__(self) -> ProbeCache:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def get(self, paths: Iterable[Path]) -> dict[Path, Probe]:
        """Probes of the clips that have not changed since."""
        found: dict[Path, Probe] = {}
        if self._database is None:
            return found
        query = "SELECT size, changed, data FROM probes WHERE path = ? AND version = ?"
        for path in paths:
            try:
                row = self._database.execute(query, (_key(path), VERSION)).fetchone()
            except sqlite3.Error:
                return found
            if row is not None and stamp(path) == (row[0], row[1]):
                found[path] = from_json(row[2])
        return found

    def put(self, probes: Mapping[Path, Probe]) -> None:
        """Keep probes; all or none of them."""
        if self._database is None:
            return
        rows = [
            (_key(path), *at, VERSION, to_json(known))
            for path, known in probes.items()
            if (at := stamp(path)) is not None
        ]
        try:
            with self._database:
                self._database.executemany("REPLACE INTO probes VALUES (?, ?, ?, ?, ?)", rows)
        except sqlite3.Error:
            self._database.close()
            self._database = None

    def _open(self) -> sqlite3.Connection | None:
        try:
            return self._connect()
        except (sqlite3.OperationalError, OSError):
            return None  # a folder that may not be written, or another process at work
        except sqlite3.DatabaseError:
            pass  # no database, or a damaged one: begin anew
        try:
            self.file.unlink(missing_ok=True)
            return self._connect()
        except (sqlite3.Error, OSError):
            return None

    def _connect(self) -> sqlite3.Connection:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self.file, timeout=20.0)
        try:
            with database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS probes (path TEXT PRIMARY KEY, size INTEGER, "
                    "changed INTEGER, version INTEGER, data TEXT)"
                )
        except sqlite3.Error:
            database.close()
            raise
        return database


def probes(
    paths: Sequence[Path],
    cache: ProbeCache,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Path, Probe]:
    """Probes of many clips; only those that changed are opened, in child processes.

    Args:
        paths: The clips.
        cache: Where probes are kept.
        workers: Child processes; 0 opens them in this process.
        progress: Called with (clips done, clips in all).
    """
    from foveate.data.children import in_children

    known = cache.get(paths)
    wanted = [path for path in dict.fromkeys(paths) if path not in known]
    total, fresh = len(known) + len(wanted), {}
    results = ((p, probe(p)) for p in wanted) if not workers else in_children(wanted, workers)
    for path, found in results:
        known[path] = fresh[path] = found
        if progress is not None:
            progress(len(known), total)
        if len(fresh) >= 500:
            cache.put(fresh)
            fresh = {}
    cache.put(fresh)
    return known


def to_json(known: Probe) -> str:
    """A probe as one line of JSON."""
    return json.dumps(asdict(known))


def from_json(text: str) -> Probe:
    """Read back what `to_json` wrote."""
    values = json.loads(text)
    return Probe(**{**values, "warnings": tuple(values["warnings"])})


def _key(path: Path) -> str:
    return os.fsencode(os.path.abspath(path)).decode("utf-8", "surrogateescape")
