"""Sinks of events, each in a thread of its own: the thread that gives the events never waits.

A sink is an object with `deliver(event)`, which raises where it fails; `Deliveries` calls it again
with back-off until it succeeds. What leaves the machine is spooled on disk, see `live.store`.
"""

from __future__ import annotations

import logging
import os
import queue
import random
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any, Protocol

from pydantic import Field

from foveate.core import ConfigError, FoveateError
from foveate.core.config import Config
from foveate.live.events import Event

log = logging.getLogger(__name__)
_IDLE = 5.0  # seconds between two calls while nothing waits


class SinkSettings(Config):
    """How events are delivered."""

    rotate_mb: float = Field(50.0, gt=0, description="size at which the JSON Lines are rotated")
    rotate_keep: int = Field(5, ge=1, description="rotated files that are kept")
    queue: int = Field(10_000, ge=1, description="events waiting in memory for a local sink")
    spool: int = Field(
        100_000, ge=1, description="events waiting on disk for webhook and MQTT; then the oldest go"
    )
    timeout: float = Field(10.0, gt=0, description="seconds for a webhook or broker to answer")
    retry_first: float = Field(1.0, gt=0, description="seconds before the first retry")
    retry_most: float = Field(60.0, gt=0, description="seconds between retries at most")
    command_timeout: float = Field(30.0, gt=0, description="seconds after which it is killed")
    command_revisions: tuple[int, ...] = Field(
        (0,),
        description="when it runs: 0 at the beginning, 1 at the end, 2 with the clip, 3 with its "
        "annotated copy",
    )


class RejectedError(FoveateError):
    """A delivery that will not succeed later: it is not repeated."""


class Sink(Protocol):
    """A receiver of events."""

    name: str

    def deliver(self, event: Event) -> None:
        """Deliver one event.

        Raises:
            RejectedError: It will never be accepted.
            FoveateError: It should be tried again.
            OSError: Likewise.
        """

    def close(self) -> None:
        """Flush and release everything."""


@dataclass
class SinkStats:
    """What became of the events of one sink.

    Attributes:
        delivered: Events that were accepted.
        failures: Attempts that failed.
        lost: Events that were given up: rejected, or more than may wait.
        error: The last failure, None if there was none or it is over.
    """

    delivered: int = 0
    failures: int = 0
    lost: int = 0
    error: str | None = None


class Waiting(Protocol):
    """Events that wait for one sink, in order."""

    def head(self, seconds: float) -> tuple[Any, Event] | None:
        """The oldest event with its key; None if none came within that time."""

    def done(self, key: Any) -> None:
        """Remove the oldest event, which has that key."""

    def close(self) -> None:
        """Release everything, in the thread of the sink."""


class MemoryQueue:
    """Events that wait in memory; the oldest are dropped where there are too many.

    Args:
        most: Number of events.
        stats: Counts those that were dropped.
    """

    def __init__(self, most: int, stats: SinkStats) -> None:
        self._queue: queue.Queue[Event] = queue.Queue(most)
        self._head: Event | None = None
        self._stats = stats

    def put(self, event: Event) -> None:
        """Add an event; never waits."""
        while True:
            try:
                self._queue.put_nowait(event)
                return
            except queue.Full:
                try:
                    self._queue.get_nowait()
                    self._stats.lost += 1
                except queue.Empty:
                    continue

    def head(self, seconds: float) -> tuple[Any, Event] | None:
        """The oldest event."""
        if self._head is None:
            try:
                self._head = self._queue.get(timeout=seconds) if seconds else self._queue.get(False)
            except queue.Empty:
                return None
        return self._head.id, self._head

    def done(self, key: Any) -> None:
        """Remove the event that `head` gave."""
        self._head = None

    def close(self) -> None:
        """Nothing to close."""


class Deliveries:
    """Delivers waiting events to a sink in a thread.

    Args:
        sink: Receives them.
        waiting: Makes the queue; called in the thread.
        stats: Is updated.
        settings: Time between retries.
        idle: Called every few seconds while nothing waits, such as to stay connected.
    """

    def __init__(
        self,
        sink: Sink,
        waiting: Callable[[], Waiting],
        stats: SinkStats,
        settings: SinkSettings,
        idle: Callable[[], object] | None = None,
    ) -> None:
        self.sink, self.stats, self._settings = sink, stats, settings
        self._idle, self._idle_at = idle, 0.0
        self._waiting = waiting
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name=f"foveate-{sink.name}", daemon=True)
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Let the thread deliver what waits, for at most that long; see `join`."""
        self._deadline = time.monotonic() + seconds
        self._closing.set()

    def join(self) -> bool:
        """Wait until the deadline of `stop`; whether the thread has ended."""
        self._thread.join(max(0.0, self._deadline - time.monotonic()) + 0.2)
        return not self._thread.is_alive()

    def _run(self) -> None:
        waiting = self._waiting()
        pause = 0.0
        try:
            while time.monotonic() < self._deadline:
                closing = self._closing.is_set()
                item = waiting.head(0.0 if closing else 0.2)
                if item is None:
                    if closing:
                        break
                    self._rest()
                    continue
                key, event = item
                try:
                    self.sink.deliver(event)
                    waiting.done(key)
                    self.stats.delivered += 1
                    if pause:
                        log.info("%s: works again", self.sink.name)
                    pause, self.stats.error = 0.0, None
                except RejectedError as error:
                    waiting.done(key)
                    self.stats.lost += 1
                    self.stats.error = str(error)
                    log.warning("%s: %s", self.sink.name, error)
                except (FoveateError, OSError) as error:
                    self.stats.failures += 1
                    self.stats.error = _line(error)
                    if not pause:
                        log.warning("%s: %s; trying again", self.sink.name, _line(error))
                    if closing:
                        break  # what is spooled is delivered by the next run
                    first, most = self._settings.retry_first, self._settings.retry_most
                    pause = min(most, 2 * pause or first)
                    self._closing.wait(pause * random.uniform(0.8, 1.2))
        except Exception:  # the thread must not die silently
            log.exception("%s: stopped", self.sink.name)
        finally:
            for part in (self.sink, waiting):
                try:
                    part.close()
                except (FoveateError, OSError) as error:
                    log.warning("%s: %s", self.sink.name, _line(error))

    def _rest(self) -> None:
        """Nothing waits."""
        if self._idle is None or time.monotonic() < self._idle_at:
            return
        self._idle_at = time.monotonic() + _IDLE
        try:
            self._idle()
            self.stats.error = None
        except (FoveateError, OSError) as error:
            if self.stats.error != _line(error):
                log.warning("%s: %s", self.sink.name, _line(error))
            self.stats.error = _line(error)


def _line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__


class JsonLinesFile:
    """Appends one line of JSON per revision of an event to a file, and rotates it.

    `FILE` has the latest events, `FILE.1` those before. Each line is flushed, the file is synced
    to disk at the end. A line that a killed run has left unfinished is completed by a line break.

    Args:
        target: A path; `-` is standard output, which is not rotated.
        settings: Size and number of files.

    Raises:
        FoveateError: The file cannot be written.
    """

    name = "events"

    def __init__(self, target: str, settings: SinkSettings) -> None:
        self._path = None if target == "-" else Path(target)
        self._settings = settings
        self._file: Any = None
        self._rotates = False
        try:
            self._open()
        except OSError as error:
            raise FoveateError(f"{target}: cannot be written ({_line(error)})") from None

    def _open(self) -> None:
        if self._path is None:
            self._file = sys.stdout.buffer
            return
        self._file = self._path.open("ab")
        self._rotates = self._path.is_file()  # a pipe or a device is not
        if self._rotates and self._file.tell():
            with self._path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    self._file.write(b"\n")

    def deliver(self, event: Event) -> None:
        """Write one line."""
        if self._file is None:
            self._open()
        try:
            self._file.write(event.to_json().encode("utf-8") + b"\n")
            self._file.flush()
        except OSError:
            if self._path is not None:
                self._file, file = None, self._file
                file.close()
            raise
        if self._rotates and self._file.tell() > self._settings.rotate_mb * 1e6:
            self._rotate()

    def _rotate(self) -> None:
        assert self._path is not None
        path = self._path
        self._file.close()
        self._file = None
        for number in range(self._settings.rotate_keep - 1, -1, -1):
            older = path if not number else path.with_name(f"{path.name}.{number}")
            if older.exists():
                os.replace(older, path.with_name(f"{path.name}.{number + 1}"))
        self._open()

    def close(self) -> None:
        """Sync the file to disk."""
        if self._path is not None and self._file is not None:
            if self._rotates:
                os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


class Command:
    """Runs a program for every event, without a shell.

    Each word of the command may have fields in braces, such as `{label}`; see `FIELDS`. The event
    is on standard input as JSON. A command that fails or takes too long is reported, not repeated.

    Args:
        line: The command; words are separated as in a shell.
        settings: Time limit, and at which revisions it runs.

    Raises:
        ConfigError: It cannot be split into words, or names an unknown field.
    """

    name = "command"
    FIELDS = (
        "id", "camera", "label", "zone", "state", "reason", "start", "end", "started_at",
        "ended_at", "seconds", "peak", "clip",
    )  # fmt: skip

    def __init__(self, line: str, settings: SinkSettings) -> None:
        self._settings = settings
        try:
            self._words = shlex.split(line)
            parsed = [part for word in self._words for part in Formatter().parse(word)]
        except ValueError:
            raise ConfigError(
                f"--on-event {line}: cannot be read", "such as 'notify-send {label} {camera}'"
            ) from None
        for _, name, spec, conversion in parsed:
            if name is not None and (name not in self.FIELDS or spec or conversion):
                raise ConfigError(
                    f"--on-event: no field {{{name}}}", f"one of: {', '.join(self.FIELDS)}"
                )
        if not self._words:
            raise ConfigError("--on-event: no command")

    def deliver(self, event: Event) -> None:
        """Run it, if it is due at this revision."""
        if event.revision not in self._settings.command_revisions:
            return
        words = [word.format_map(fields_of(event)) for word in self._words]
        try:
            done = subprocess.run(
                words, input=event.to_json().encode(), stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, timeout=self._settings.command_timeout, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            limit = self._settings.command_timeout
            raise RejectedError(f"{words[0]}: killed after {limit:g} s") from None
        except (OSError, ValueError) as error:
            raise RejectedError(f"{words[0]}: {_line(error)}") from None
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise RejectedError(
                f"{words[0]}: exit code {done.returncode}"
                + (f" ({said[-1][:200]})" if said else "")
            )

    def close(self) -> None:
        """Nothing to close."""


def fields_of(event: Event) -> dict[str, str]:
    """The fields of an event as text, empty where there is none; NUL characters removed."""
    values: dict[str, Any] = {
        name: getattr(event, name) for name in Command.FIELDS if name != "clip"
    }
    values["clip"] = event.clip.path if event.clip is not None else None
    return {name: _text(value).replace("\0", "") for name, value in values.items()}


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
