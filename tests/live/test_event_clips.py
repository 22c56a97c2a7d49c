"""Clips: each contains its event from a key frame on, is masked where asked, and within a quota."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import clips
from foveate.core import FoveateError
from foveate.live.areas import Areas
from foveate.live.clips import ClipRecorder, ClipSettings, safe_name
from foveate.live.events import Event
from foveate.live.outputs import EventConfig, EventOutputs, EventTargets
from foveate.live.store import read_events
from foveate.media import Video
from live.steps import LABELS, WALL, step
from live.test_event_store import event
from media.test_packet_ring import numbers, packets

RATE, GOP, FRAMES = 25, 10, 500  # twenty seconds
BETWEEN = [(0.0, 0.0), (1.0, 0.0), (1.0, 0.4), (0.0, 0.4)]  # the upper part of the picture


@pytest.fixture(scope="module")
def data() -> bytes:
    return clips.encode(frames=FRAMES, gop=GOP, rate=RATE)


def film(
    data: bytes, outputs: EventOutputs, areas: Areas | None = None, high: tuple = (8.0, 11.0)
) -> list[Event]:
    """A camera that shows a file as fast as possible; `walk` is seen between two times."""
    ring = outputs.set_areas("gate", areas or Areas())
    assert ring is not None
    found: list[Event] = []
    for number, (stream, packet, seconds) in enumerate(packets(data)):
        if not number:
            ring.begin(stream, 1)
        ring.add(packet, seconds)
        if number % 5 == 0:
            found += outputs.add(step(seconds, 0.9 if high[0] <= seconds < high[1] else 0.0))
    ring.end()
    return found + outputs.end("gate")


def watch(
    data: bytes, folder: Path, clip: dict[str, Any] | None = None, **more: Any
) -> tuple[list[Event], list[Event]]:
    """Watch a file; the events, and those in the store with their clips."""
    values = {"events": {"silent": ["idle"]}, "clips": {"before": 2, "after": 1, **(clip or {})}}
    targets = EventTargets(store=folder / "events.db", clips=folder / "clips")
    with EventOutputs(LABELS, EventConfig.model_validate(values), targets) as outputs:
        given = film(data, outputs, **more)
    return given, read_events(folder / "events.db")


def test_a_clip_contains_its_event_with_what_is_before_and_after(
    data: bytes, tmp_path: Path
) -> None:
    given, [stored] = watch(data, tmp_path)
    assert [one.revision for one in given] == [0, 1]
    assert stored.revision == 2
    clip = stored.clip
    assert clip is not None
    assert clip.complete
    assert Path(clip.path).parent == tmp_path / "clips" / "gate"
    assert Path(clip.path).name.startswith("20270115T080008Z-walk-")
    assert stored.start - 2 - GOP / RATE <= clip.start <= stored.start - 2
    assert stored.end + 0.9 <= clip.end <= stored.end + 1.1
    first = round(clip.start * RATE)
    assert numbers(Path(clip.path)) == list(range(first, round(clip.end * RATE) + 1))
    assert [p.name for p in (tmp_path / "clips" / "gate").iterdir()] == [Path(clip.path).name]


def test_an_event_that_ends_with_the_stream_has_a_clip_up_to_its_end(
    data: bytes, tmp_path: Path
) -> None:
    _, [stored] = watch(data, tmp_path, high=(18.0, 99.0))
    assert stored.reason == "stream"
    assert stored.clip is not None
    assert stored.clip.complete
    assert numbers(Path(stored.clip.path))[-1] == FRAMES - 1


def test_a_ring_that_is_too_short_is_said(data: bytes, tmp_path: Path) -> None:
    _, [stored] = watch(data, tmp_path, {"before": 0, "ring_seconds": 0.1}, high=(8.0, 18.0))
    assert stored.clip is None or not stored.clip.complete


def test_masks_hide_every_frame_of_a_clip(data: bytes, tmp_path: Path) -> None:
    areas = Areas(masks=[BETWEEN])
    _, [stored] = watch(data, tmp_path, {"annotated": True}, areas=areas)
    assert stored.clip is not None
    assert stored.clip.complete
    assert stored.clip.annotated is not None
    for path in (stored.clip.path, stored.clip.annotated):
        with Video(path) as video:
            frames = video.frames(video.times()).pixels
        assert len(frames) == round((stored.clip.end - stored.clip.start) * RATE) + 1
        upper = frames[:, : round(0.35 * frames.shape[1])]
        assert np.percentile(upper, 99) < 16 or path == stored.clip.annotated
        assert frames[:, -8:].mean() > 60
        # The number is drawn in the upper half: the mask has hidden its first row of bits.
        assert len(set(map(clips.number_of, frames))) <= 2


def test_an_annotated_copy_has_every_frame_and_differs_during_the_event(tmp_path: Path) -> None:
    data = clips.encode(frames=160, gop=GOP, rate=RATE, size=(160, 120))
    _, [stored] = watch(data, tmp_path, {"annotated": True}, high=(2.6, 4.6))
    assert stored.revision == 3
    assert stored.clip is not None
    assert stored.clip.annotated is not None
    with Video(stored.clip.path) as plain, Video(stored.clip.annotated) as drawn:
        times = plain.times()
        assert len(drawn.times()) == len(times)
        a = plain.frames(times).pixels.astype(int)
        b = drawn.frames(drawn.times()).pixels.astype(int)
    lower = np.abs(a - b)[:, 90:, :90].mean((1, 2, 3))
    assert stored.end is not None
    seconds = np.array(times) + stored.clip.start
    inside = (seconds > stored.start) & (seconds < stored.end)
    outside = (seconds < stored.start - 0.05) | (seconds > stored.end + 0.05)
    assert lower[inside].min() > 3 * lower[outside].max()


def test_no_packets_means_no_clip_and_the_events_all_the_same(tmp_path: Path) -> None:
    targets = EventTargets(store=tmp_path / "events.db", clips=tmp_path / "clips")
    with EventOutputs(LABELS, None, targets) as outputs:
        outputs.set_areas("gate", Areas())
        for i in range(20):
            outputs.add(step(i / 5, 0.9))
    assert {one.state for one in read_events(tmp_path / "events.db")} == {"closed"}
    assert not list((tmp_path / "clips").rglob("*.*"))


def test_the_oldest_clips_are_removed_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    (folder / "gate").mkdir(parents=True)
    names = [f"20260101T0000{n:02d}Z-walk-{n:08x}.mp4" for n in range(5)]
    for age, name in enumerate(reversed(names)):
        (folder / "gate" / name).write_bytes(bytes(1000))
        os.utime(folder / "gate" / name, (WALL - age, WALL - age))
    (folder / "gate" / "holiday.mp4").write_bytes(bytes(9000))
    killed = folder / "gate" / f".{names[0]}.{2**22 + 1}.2f.partial"
    other = folder / "gate" / f".{names[1]}.{os.getpid()}.2f.partial"
    killed.write_bytes(bytes(1000))
    other.write_bytes(b"")
    recorder = ClipRecorder(folder, ClipSettings(quota_mb=0.0025), lambda saved: None)
    recorder._keep_quota()
    recorder.close()
    left = sorted(p.name for p in (folder / "gate").iterdir())
    assert left == [other.name, *names[3:], "holiday.mp4"]


def test_a_full_disk_is_one_line_and_no_half_clip(data: bytes, tmp_path: Path, caplog) -> None:
    folder = tmp_path / "clips"
    (folder).mkdir()
    (folder / "gate").write_text("a file where the folder should be")
    watch(data, tmp_path)
    assert "no clip of walk" in caplog.text
    assert [p.name for p in folder.iterdir()] == ["gate"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FoveateError, match="cannot be used for clips"):
        ClipRecorder(tmp_path / "file" / "clips", ClipSettings(), lambda saved: None)


def test_taking_an_event_does_not_wait(data: bytes, tmp_path: Path) -> None:
    recorder = ClipRecorder(tmp_path, ClipSettings(), lambda saved: None)
    began = time.perf_counter()
    for number in range(100):
        recorder.take(event(number, 0))
        recorder.take(event(number, 1))
    assert time.perf_counter() - began < 0.1
    recorder.close()


def test_names_are_safe() -> None:
    assert safe_name("../../etc/passwd") == "_.._etc_passwd"
    assert safe_name("...") == "_"
    assert safe_name("Tür 1/α") == "Tür_1_α"
    assert len(safe_name("x" * 500)) == 80
