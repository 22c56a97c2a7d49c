"""The store of events: one SQLite file, which is also the spool of what leaves the machine.

An event and its places in the spool are written in one transaction (write-ahead log), so that a
killed program loses neither; a run that begins later delivers what is left.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foveate.core import FoveateError, ResultError
from foveate.live.events import Event
from foveate.live.sinks import SinkStats

_APPLICATION = 0x666F7665  # "fove": tells this file from other databases
_VERSION = 1
_BUSY = 5.0  # seconds to wait for another connection
_TABLES = """
CREATE TABLE IF NOT EXISTS events (
    id TEXT PRIMARY KEY, camera TEXT NOT NULL, label TEXT NOT NULL, zone TEXT,
    state TEXT NOT NULL, revision INTEGER NOT NULL, started_at TEXT NOT NULL, ended_at TEXT,
    peak REAL NOT NULL, clip TEXT, event TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS events_by_time ON events (started_at);
CREATE TABLE IF NOT EXISTS spool (
    number INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT NOT NULL, event TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS spool_by_sink ON spool (sink, number);
"""
_COLUMNS = (
    "id", "camera", "label", "zone", "state", "revision", "started_at", "ended_at", "peak",
    "clip", "event",
)  # fmt: skip
_UPSERT = (
    f"INSERT INTO events ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    f"ON CONFLICT (id) DO UPDATE SET "
    f"{', '.join(f'{name} = excluded.{name}' for name in _COLUMNS[3:])} "
    "WHERE excluded.revision >= events.revision"
)


class Store:
    """Writes events; a sink whose `deliver` also fills the spool.

    Args:
        path: The file; created if it is missing.
        spooled: Names of the sinks that are delivered from the spool, with their statistics.
        most: Events that may wait for one of them; then the oldest are dropped.

    Raises:
        FoveateError: The file cannot be opened, or is something else.
    """

    name = "store"

    def __init__(
        self,
        path: str | os.PathLike[str],
        spooled: dict[str, SinkStats] | None = None,
        most: int = 100_000,
    ) -> None:
        self.path = path = Path(path)
        self._spooled, self._most = spooled or {}, most
        self._connection: sqlite3.Connection | None = None
        with closing(connect(path)) as connection, connection:
            _close_interrupted(connection)

    def deliver(self, event: Event) -> None:
        """Write an event, or a later revision of one, and queue it for every spooled sink.

        Raises:
            FoveateError: The file cannot be written; nothing of it was.
        """
        try:
            if self._connection is None:  # in the thread that uses it
                self._connection = connect(self.path)
            with self._connection as connection:
                text = event.to_json()
                connection.execute(_UPSERT, _row(event, text))
                for sink, stats in self._spooled.items():
                    connection.execute(
                        "INSERT INTO spool (sink, event) VALUES (?, ?)", (sink, text)
                    )
                    stats.lost += _trim(connection, sink, self._most)
        except sqlite3.Error as error:
            raise FoveateError(f"{self.path}: cannot be written ({error})") from None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def connect(path: Path, *, create: bool = True) -> sqlite3.Connection:
    """Open a store.

    Args:
        path: The file.
        create: Whether to create it; otherwise it is only read.

    Raises:
        FoveateError: It cannot be opened, is no store, or of a later version.
    """
    if not create and not path.is_file():
        raise FoveateError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    try:
        # Read-only connections must be able to read the write-ahead log, so the mode is not `ro`.
        connection = sqlite3.connect(path, timeout=_BUSY)
    except sqlite3.Error as error:
        raise FoveateError(f"{path}: cannot be opened ({error})") from None
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if application != _APPLICATION and not (create and empty):
            raise FoveateError(f"{path}: not a store of events", "foveate watch --store writes one")
        if version > _VERSION:
            raise FoveateError(f"{path}: written by a later version", "pip install -U foveate")
        if create:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            if application != _APPLICATION:
                connection.executescript(_TABLES)
                connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                connection.execute(f"PRAGMA user_version = {_VERSION}")
    except sqlite3.Error as error:
        connection.close()
        said = "not a store of events" if isinstance(error, sqlite3.DatabaseError) and (
            "not a database" in str(error)
        ) else f"cannot be opened ({error})"  # fmt: skip
        raise FoveateError(f"{path}: {said}") from None
    except BaseException:
        connection.close()
        raise
    return connection


def _row(event: Event, text: str) -> tuple[Any, ...]:
    return (
        event.id, event.camera, event.label, event.zone, event.state, event.revision,
        _utc(event.started_at), _utc(event.ended_at) if event.ended_at else None,
        event.peak, event.clip.path if event.clip else None, text,
    )  # fmt: skip


def _trim(connection: sqlite3.Connection, sink: str, most: int) -> int:
    """Drop the oldest events that wait for a sink; how many were dropped."""
    found = connection.execute(
        "DELETE FROM spool WHERE number IN ("
        "SELECT number FROM spool WHERE sink = ? ORDER BY number DESC LIMIT -1 OFFSET ?)",
        (sink, most),
    )
    return found.rowcount


def _close_interrupted(connection: sqlite3.Connection) -> None:
    """Close events that a killed run has left open, at their highest score.

    If that run is still there, it writes a later revision when they end.
    """
    rows = connection.execute("SELECT event FROM events WHERE state = 'provisional'").fetchall()
    for (text,) in rows:
        event = Event.from_json(text)
        lasted = event.peak_time - event.start
        ended = datetime.fromtimestamp(event.started_at.timestamp() + lasted, UTC)
        closed = event.model_copy(
            update={
                "state": "closed", "reason": "interrupted", "end": event.peak_time,
                "ended_at": ended,
            }
        )  # fmt: skip
        connection.execute(_UPSERT, _row(closed, closed.to_json()))


class SpoolQueue:
    """Events that wait in a store for one sink; belongs to the thread that makes it.

    Args:
        path: The store.
        sink: Name of the sink.
    """

    def __init__(self, path: Path, sink: str) -> None:
        self._path, self._sink = path, sink
        self._connection = connect(path)

    def head(self, seconds: float) -> tuple[Any, Event] | None:
        """The oldest event."""
        row = self._first()
        if row is None and seconds:
            time.sleep(seconds)
            row = self._first()
        return row

    def _first(self) -> tuple[Any, Event] | None:
        try:
            row = self._connection.execute(
                "SELECT number, event FROM spool WHERE sink = ? ORDER BY number LIMIT 1",
                (self._sink,),
            ).fetchone()
        except sqlite3.Error:
            return None
        return None if row is None else (row[0], Event.from_json(row[1]))

    def done(self, key: Any) -> None:
        """Remove an event that was delivered."""
        try:
            with self._connection as connection:
                connection.execute("DELETE FROM spool WHERE number = ?", (key,))
        except sqlite3.Error as error:
            raise FoveateError(f"{self._path}: cannot be written ({error})") from None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@dataclass(frozen=True)
class EventQuery:
    """Which events of a store; None means all.

    Attributes:
        cameras: Names.
        labels: Names of classes.
        zones: Names.
        state: `provisional` or `closed`.
        since: Events that began then or later.
        until: Events that began before that time.
        min_peak: Least highest score.
        limit: The latest so many.
    """

    cameras: Sequence[str] = ()
    labels: Sequence[str] = ()
    zones: Sequence[str] = ()
    state: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_peak: float | None = None
    limit: int | None = None


def read_events(path: str | os.PathLike[str], query: EventQuery | None = None) -> list[Event]:
    """Read events from a store, also while it is written.

    Returns:
        The events by the time at which they began.

    Raises:
        FoveateError: The file is no store, or is damaged.
    """
    path, query = Path(path), query or EventQuery()
    conditions: list[str] = ["1"]
    values: list[str | float] = []
    for column, names in (
        ("camera", query.cameras), ("label", query.labels), ("zone", query.zones)
    ):  # fmt: skip
        if names:
            conditions.append(f"{column} IN ({', '.join('?' * len(names))})")
            values += list(names)
    for condition, value in (
        ("state = ?", query.state),
        ("started_at >= ?", None if query.since is None else _utc(query.since)),
        ("started_at < ?", None if query.until is None else _utc(query.until)),
        ("peak >= ?", query.min_peak),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    limit = -1 if query.limit is None else query.limit
    text = (
        f"SELECT event FROM events WHERE {' AND '.join(conditions)} "
        "ORDER BY started_at DESC, id LIMIT ?"
    )
    with closing(connect(path, create=False)) as connection:
        try:
            rows = connection.execute(text, (*values, limit)).fetchall()
            return list(_events(rows))[::-1]
        except (sqlite3.Error, ResultError) as error:
            raise FoveateError(f"{path}: damaged ({error})") from None


def _events(rows: Sequence[tuple[str]]) -> Iterator[Event]:
    for (text,) in rows:
        yield Event.from_json(text)


def _utc(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="microseconds")
