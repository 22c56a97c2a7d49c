"""What becomes of the steps of live cameras: events, their clips, and where they are delivered."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from pydantic import Field

from foveate.core.config import Config
from foveate.live.areas import Areas
from foveate.live.clips import ClipRecorder, ClipSettings
from foveate.live.events import Event, EventDetector, EventSettings
from foveate.live.remote import Mqtt, Webhook
from foveate.live.sinks import (
    Command,
    Deliveries,
    JsonLinesFile,
    MemoryQueue,
    Sink,
    SinkSettings,
    SinkStats,
)
from foveate.live.step import StepResult
from foveate.live.store import SpoolQueue, Store
from foveate.media.ring import PacketRing

log = logging.getLogger(__name__)
DEFAULT_STORE = "events.db"
_FLUSH = 3.5  # seconds for everything to be written at the end


class EventConfig(Config):
    """All settings of events."""

    events: EventSettings = Field(default_factory=EventSettings)
    clips: ClipSettings = Field(default_factory=ClipSettings)
    sinks: SinkSettings = Field(default_factory=SinkSettings)


@dataclass(frozen=True)
class EventTargets:
    """Where events go; None for nowhere.

    Attributes:
        events: File of JSON Lines, or `-` for standard output.
        store: SQLite file. With a webhook or MQTT it is `events.db` if None, because events wait
            there for the receiver.
        clips: Folder of clips.
        webhook: Address.
        mqtt: Address with the prefix of the topics.
        on_event: Command for each event.
    """

    events: str | None = None
    store: str | os.PathLike[str] | None = None
    clips: str | os.PathLike[str] | None = None
    webhook: str | None = None
    mqtt: str | None = None
    on_event: str | None = None

    def __bool__(self) -> bool:
        return any(getattr(self, name) is not None for name in self.__dataclass_fields__)


class EventOutputs:
    """Finds events in steps, records their clips and delivers them; never makes a camera wait.

    Args:
        labels: Classes of the model.
        config: Settings of events, clips and sinks.
        targets: Where events go.
        none_below: As for `EventDetector`.

    Raises:
        FoveateError: A setting is wrong, or a target cannot be used; nothing was started.
    """

    def __init__(
        self,
        labels: Sequence[str],
        config: EventConfig | None = None,
        targets: EventTargets | None = None,
        *,
        none_below: float = 0.0,
    ) -> None:
        config, targets = config or EventConfig(), targets or EventTargets()
        settings = config.sinks
        self._detector = EventDetector(labels, config.events, none_below=none_below)
        self.stats: dict[str, SinkStats] = {}
        self._queues: list[MemoryQueue] = []
        self._deliveries: list[Deliveries] = []
        self._recorder: ClipRecorder | None = None
        self._closed = False

        local: list[Sink] = []
        remote: list[Sink] = []
        if targets.webhook is not None:
            remote.append(Webhook(targets.webhook, settings))
        if targets.mqtt is not None:
            remote.append(Mqtt(targets.mqtt, settings))
        if targets.on_event is not None:
            local.append(Command(targets.on_event, settings))
        self.stats = {sink.name: SinkStats() for sink in remote}
        store = None if targets.store is None else Path(targets.store)
        if store is None and remote:
            store = Path(DEFAULT_STORE)
        if store is not None:
            local.insert(0, Store(store, dict(self.stats), settings.spool))
        if targets.events is not None:
            local.append(JsonLinesFile(targets.events, settings))
        if targets.clips is not None:
            self._recorder = ClipRecorder(Path(targets.clips), config.clips, self._put, log.warning)
        for sink in local:
            stats = self.stats[sink.name] = SinkStats()
            waiting = MemoryQueue(settings.queue, stats)
            self._queues.append(waiting)
            self._start(sink, partial(_same, waiting), stats, settings)
        for sink in remote:
            assert store is not None
            self._start(
                sink, partial(SpoolQueue, store, sink.name), self.stats[sink.name], settings
            )

    def _start(
        self,
        sink: Sink,
        waiting: Callable[[], MemoryQueue | SpoolQueue],
        stats: SinkStats,
        settings: SinkSettings,
    ) -> None:
        idle = sink.idle if isinstance(sink, Mqtt) else None
        self._deliveries.append(Deliveries(sink, waiting, stats, settings, idle))

    def set_areas(self, camera: str, areas: Areas) -> PacketRing | None:
        """Add a camera, or change its zones and masks.

        Args:
            camera: Its name.
            areas: Zones for its events and masks for its clips; the pictures that the model sees
                are masked by `media.mask.MaskedSample`.

        Returns:
            The ring into which its reader puts packets; None if no clips are recorded.
        """
        self._detector.set_zones(camera, areas.zones)
        return None if self._recorder is None else self._recorder.ring(camera, areas.masks)

    def add(self, step: StepResult) -> list[Event]:
        """Take a step; the events that are announced or closed with it."""
        return self._deliver(self._detector.add(step))

    def end(self, camera: str) -> list[Event]:
        """The connection of a camera has ended: close its events."""
        return self._deliver(self._detector.end(camera))

    def remove(self, camera: str) -> list[Event]:
        """A camera is not watched any more: close its events and forget it."""
        found = self.end(camera)
        if self._recorder is not None:
            self._recorder.remove(camera)
        return found

    def close(self) -> list[Event]:
        """Close all events, finish clips and flush the sinks, within five seconds.

        Returns:
            The events that were closed. What a webhook or broker has not accepted is in the store
            and delivered by the next run. Safe to call twice.
        """
        if self._closed:
            return []
        self._closed = True
        found = self._deliver(self._detector.close())
        until = time.monotonic() + _FLUSH
        if self._recorder is not None:
            self._recorder.close(_FLUSH / 2)
        # The store first: it fills the spool of the others.
        for one in self._deliveries:
            one.stop(max(0.5, until - time.monotonic()))
            if isinstance(one.sink, Store):
                one.join()
        for one in self._deliveries:
            if not one.join():
                log.warning("%s: did not finish in time", one.sink.name)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *rest: object) -> None:
        self.close()

    def _deliver(self, events: list[Event]) -> list[Event]:
        for event in events:
            if self._recorder is not None:
                self._recorder.take(event)
            self._put(event)
        return events

    def _put(self, event: Event) -> None:
        for waiting in self._queues:
            waiting.put(event)


def _same(waiting: MemoryQueue) -> MemoryQueue:
    return waiting
