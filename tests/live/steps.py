"""Steps of a camera for tests of events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from foveate.core.result import Detection
from foveate.live.events import Event, EventDetector
from foveate.live.step import StepResult

LABELS = ("walk", "fall", "idle")
WALL = 1_800_000_000.0


def step(time: float, walk: float = 0.0, camera: str = "gate", **more: Any) -> StepResult:
    """A step at 5 frames per second with a score for `walk`."""
    values: dict[str, Any] = {
        "camera": camera, "source": f"rtsp://{camera}", "epoch": 1, "time": time,
        "wall": WALL + time, "age": 0.02, "size": (200, 100),
        "scores": {"walk": walk, "fall": 0.0, "idle": round(1 - walk, 6)},
    }  # fmt: skip
    return StepResult(**{**values, **more})


def seen(time: float, *boxes: tuple[float, float, float, float, float]) -> StepResult:
    """A step of a detector: boxes of `walk` with their scores."""
    found = [
        Detection(time=time, box=list(box[:4]), label="walk", index=0, score=box[4])
        for box in boxes
    ]
    return step(time, scores={}, detections=found)


def run(detector: EventDetector, scores: Iterable[float], rate: float = 5.0) -> list[Event]:
    """All events of a series of scores, closed at its end."""
    found = [e for i, s in enumerate(scores) for e in detector.add(step(i / rate, s))]
    return found + detector.close()
