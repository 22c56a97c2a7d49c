"""Probes of many clips, cached in one small file so that no clip is opened twice.

Clips are opened in child processes: a decoder that crashes, hangs or exhausts memory costs one
child, and the clip is named.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from foveate.core.files import cache_folder
from foveate.data.children import in_children
from foveate.data.probing import Probe, from_json, probe, stamp, to_json

VERSION = 2  # 2: the length is that of the picture


class ProbeCache:
    """Probes in one SQLite file, by path, size and time of change; every write is atomic.

    A file that cannot be written or is damaged is not used; then clips are opened again, which
    only costs time.

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


def _key(path: Path) -> str:
    return os.fsencode(os.path.abspath(path)).decode("utf-8", "surrogateescape")
