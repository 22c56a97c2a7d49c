"""Clips of events, cut at key frames from the packets of the last seconds.

A thread writes the clips. It takes packets from the ring of each camera, so a slow disk or an
encoder delays nothing else; where it falls behind by more than the ring holds, the clip is written
without the rest, and its `complete` is false.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from foveate.core import FoveateError, MediaError, Result, Segment, Trace, TraceStep
from foveate.core.config import Config
from foveate.live.areas import Polygon
from foveate.live.events import Event, EventClip
from foveate.media import Video, VideoWriter
from foveate.media.mask import mask_pixels
from foveate.media.ring import PacketRing, StoredPacket, Template, group_frames
from foveate.media.video import every_frame
from foveate.media.write import PacketWriter

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

Report = Callable[[str], None]
_POLL = 0.2  # seconds between two looks at the rings
_TOLERANCE = 0.05  # seconds by which times of packets and frames may differ
_STALLED = 10.0  # seconds without packets after which a clip is finished
_NAME = re.compile(r"^\d{8}T\d{6}Z-.+-[0-9a-f]{8}(\.annotated)?\.(mp4|mkv)$")
_PARTIAL = re.compile(r"^\.\d{8}T\d{6}Z-.+\.(\d+)\.[0-9a-f]+\.partial$")  # process, object


class ClipSettings(Config):
    """What clips contain, and how much space they may take."""

    before: float = Field(5.0, ge=0, description="seconds before the event (pre-roll)")
    after: float = Field(5.0, ge=0, description="seconds after the event (post-roll)")
    annotated: bool = Field(False, description="also write a copy with the event drawn into it")
    quota_mb: float = Field(
        10_000.0, gt=0, description="megabytes of all clips; the oldest are removed first"
    )
    ring_seconds: float = Field(
        30.0, gt=0, description="seconds of packets kept in memory beyond `before`, per camera"
    )
    ring_mb: float = Field(64.0, gt=0, description="megabytes of packets kept per camera")


@dataclass
class _Clip:
    """A clip that is being written."""

    event: Event
    path: Path
    ring: PacketRing
    template: Template
    masks: list[Polygon]
    next: int  # number of the next packet
    writer: PacketWriter | VideoWriter | None = None
    group: list[StoredPacket] = field(default_factory=list)  # to be decoded, if there are masks
    start: float | None = None
    end: float = 0.0
    moved: float = field(default_factory=time.monotonic)  # when the last packet came


class ClipRecorder:
    """Writes a clip for every event; one thread for all cameras.

    Args:
        folder: For the clips, `CAMERA/TIME-LABEL-ID.mp4`; created if it is missing.
        settings: Seconds around events, and space.
        on_saved: Called in the thread with the event of every finished clip.
        report: Called with one line where a clip cannot be written.

    Raises:
        FoveateError: The folder cannot be created.
    """

    def __init__(
        self,
        folder: Path,
        settings: ClipSettings,
        on_saved: Callable[[Event], None],
        report: Report = lambda line: None,
    ) -> None:
        self.folder, self.settings = folder, settings
        self._on_saved, self._report = on_saved, report
        self._rings: dict[str, PacketRing] = {}
        self._masks: dict[str, list[Polygon]] = {}
        self._clips: dict[str, _Clip] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for left in self._files(_PARTIAL):
                if not _runs(left):  # it was killed
                    left.unlink(missing_ok=True)
        except OSError as error:
            raise FoveateError(
                f"{folder}: cannot be used for clips ({(error.strerror or str(error)).lower()})"
            ) from None
        self._thread = threading.Thread(target=self._run, name="foveate-clips", daemon=True)
        self._thread.start()

    def ring(self, camera: str, masks: list[Polygon] | None = None) -> PacketRing:
        """The ring into which the reader of a camera puts its packets.

        Args:
            camera: Its name.
            masks: Parts of the picture that are made black. Clips of such a camera are decoded and
                encoded again, because packets cannot be masked; nothing is stored without masks.
        """
        with self._lock:
            self._masks[camera] = list(masks or [])
            if camera not in self._rings:
                kept = self.settings.before + self.settings.ring_seconds
                self._rings[camera] = PacketRing(kept, round(self.settings.ring_mb * 1e6))
            return self._rings[camera]

    def remove(self, camera: str) -> None:
        """Forget a camera; clips that are being written are finished."""
        with self._lock:
            ring = self._rings.pop(camera, None)
        if ring is not None:
            ring.end()

    def take(self, event: Event) -> None:
        """Begin the clip of an event that is announced, or let it end with a closed one."""
        with self._lock:
            if event.id in self._clips:
                self._clips[event.id].event = event
                return
            if event.end is not None:
                return
            ring = self._rings.get(event.camera)
            template = None if ring is None else ring.template(event.epoch)
            if ring is None or template is None or not template.copies:
                return
            first = ring.first_for(event.epoch, event.start - self.settings.before)
            if first is None:
                self._report(f"{event.camera}: no packets for a clip of {event.label}")
                return
            masks = self._masks[event.camera]
            suffix = ".mp4" if masks or template.format == "mp4" else ".mkv"
            name = f"{event.started_at:%Y%m%dT%H%M%SZ}-{safe_name(event.label)}-{event.id[:8]}"
            path = self.folder / safe_name(event.camera) / f"{name}{suffix}"
            self._clips[event.id] = _Clip(event, path, ring, template, masks, first)

    def close(self, seconds: float = 3.0) -> None:
        """Finish all clips with the packets that there are; safe to call twice.

        Args:
            seconds: How long to wait for the thread. What is not finished then is removed at the
                next start.
        """
        self._closing.set()
        self._thread.join(seconds)

    @property
    def writing(self) -> int:
        """How many clips are being written."""
        with self._lock:
            return len(self._clips)

    # --- the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        looked = 0.0
        while True:
            closing = self._closing.wait(_POLL)
            with self._lock:
                clips = list(self._clips.values())
            for clip in clips:
                if self._advance(clip, closing):
                    with self._lock:
                        del self._clips[clip.event.id]
            if clips and time.monotonic() - looked > 5.0:
                looked = time.monotonic()
                self._keep_quota()
            if closing:
                return

    def _advance(self, clip: _Clip, closing: bool) -> bool:
        """Write what has come; whether the clip is over, finished or given up."""
        try:
            # Asked first: packets that came before the end of the connection are still written.
            more = clip.ring.is_open(clip.event.epoch) and not closing
            packets = clip.ring.since(clip.next, clip.event.epoch)
            if packets is None:  # too slow: the rest was removed from the ring
                more, packets = False, []
            for packet in packets:
                end = clip.event.end
                if end is not None and packet.decoded_at > end + self.settings.after:
                    more = False
                    break
                self._write(clip, packet)
                clip.next = packet.number + 1
                clip.moved = time.monotonic()
            if more and time.monotonic() - clip.moved < _STALLED:
                return False
            if clip.event.end is None:
                return closing  # the event is closed a little later than the connection
            self._finish(clip)
            return True
        except Exception as error:  # FFmpeg has many; other clips must go on
            self._report(f"{clip.event.camera}: no clip of {clip.event.label}: {error}")
            if clip.writer is not None:
                clip.writer.abandon()
            return True

    def _write(self, clip: _Clip, packet: StoredPacket) -> None:
        if clip.start is None:
            clip.start = packet.seconds
        clip.end = max(clip.end, packet.seconds)
        if not clip.masks:
            if clip.writer is None:
                clip.path.parent.mkdir(parents=True, exist_ok=True)
                clip.writer = PacketWriter(clip.path, clip.template)
            assert isinstance(clip.writer, PacketWriter)
            clip.writer.write(packet)
            return
        if packet.key and clip.group:
            self._encode(clip)
        clip.group.append(packet)

    def _encode(self, clip: _Clip) -> None:
        """Decode a group of pictures, mask it, and encode it."""
        group, clip.group = clip.group, []
        span = max(packet.seconds for packet in group) - group[0].seconds
        rate = min(240.0, max(1.0, (len(group) - 1) / span)) if span > 0 else 25.0
        for seconds, pixels in group_frames(clip.template, group):
            masked = mask_pixels(pixels, clip.masks)
            clip.writer = clip.writer or self._encoder(clip.path, masked, rate)
            assert isinstance(clip.writer, VideoWriter)
            clip.writer.write(masked, seconds - (clip.start or 0.0))

    def _encoder(self, path: Path, frame: Pixels, rate: float) -> VideoWriter:
        path.parent.mkdir(parents=True, exist_ok=True)
        return VideoWriter(path, (frame.shape[1], frame.shape[0]), rate)

    def _finish(self, clip: _Clip) -> None:
        if clip.group:
            self._encode(clip)
        if clip.writer is None or clip.start is None:
            raise MediaError("there are no packets of it")
        clip.writer.close()
        event = clip.event
        complete = clip.start <= event.start + _TOLERANCE
        complete &= event.end is not None and clip.end >= event.end - _TOLERANCE
        saved = EventClip(path=str(clip.path), start=clip.start, end=clip.end, complete=complete)
        if not complete:
            self._report(f"{event.camera}: the clip of {event.label} does not contain all of it")
        event = event.model_copy(update={"revision": 2, "clip": saved})
        self._on_saved(event)
        copy = self._annotate(clip) if self.settings.annotated else None
        if copy is not None:
            saved = saved.model_copy(update={"annotated": str(copy)})
            self._on_saved(event.model_copy(update={"revision": 3, "clip": saved}))
        self._keep_quota()

    def _annotate(self, clip: _Clip) -> Path | None:
        """Draw the event into a copy of its clip."""
        from foveate.viz import annotate_video

        path = clip.path.with_suffix(".annotated.mp4")
        try:
            with Video(clip.path) as video:
                info = video.info
                size = (info.width, info.height)
                with VideoWriter(path, size, info.rate or 25.0) as writer:
                    annotate_video(every_frame(video), _drawn(clip, size), writer)
        except FoveateError as error:
            self._report(f"{clip.event.camera}: no annotated copy: {error}")
            return None
        return path

    # --- space ------------------------------------------------------------------------------

    def _files(self, pattern: re.Pattern[str]) -> list[Path]:
        """Files of the recorder, the oldest first; others are never touched."""
        found = [path for path in self.folder.glob("*/*") if pattern.match(path.name)]
        return sorted(found, key=lambda path: (path.stat().st_mtime, path.name))

    def _keep_quota(self) -> None:
        """Remove the oldest clips until all, unfinished ones included, are within the quota."""
        with suppress(OSError):  # a file that the user removed meanwhile
            clips = self._files(_NAME)
            used = sum(path.stat().st_size for path in [*clips, *self._files(_PARTIAL)])
            for path in clips[:-1]:
                if used <= self.settings.quota_mb * 1e6:
                    break
                used -= path.stat().st_size
                path.unlink()


def _runs(partial: Path) -> bool:
    """Whether the process that writes an unfinished clip is still there."""
    found = _PARTIAL.match(partial.name)
    try:
        os.kill(int(found[1]) if found else 0, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def safe_name(name: str) -> str:
    """A name as part of a path or a topic: letters, digits, `.`, `-` and `_`, at most 80."""
    return re.sub(r"[^\w.-]+", "_", name).strip(".")[:80] or "_"


def _drawn(clip: _Clip, size: tuple[int, int]) -> Result:
    """The event as a result of its clip."""
    event, start = clip.event, clip.start or 0.0
    end = clip.end if event.end is None else event.end
    steps = [] if event.box is None else [_step(event.peak_time - start, event.box)]
    return Result(
        source=event.source,
        model="",
        segments=[
            Segment(
                start=event.start - start, end=end - start, label=event.label,
                index=event.index, score=event.peak,
            )
        ],
        trace=Trace(size=list(size), steps=steps),
    )  # fmt: skip


def _step(seconds: float, box: list[float]) -> TraceStep:
    return TraceStep(time=seconds, frames=[seconds], boxes=[box])
