"""Specifications of rendered clips: everything random is sampled before anything is rendered."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from foveate.core import ConfigError
from foveate.data.mocap15.acting import Part
from foveate.data.mocap15.camera import REGIMES
from foveate.data.mocap15.motion import ACTIONS, library

MODES = ("actions", "timeline", "audiovisual", "detection")
DEGRADATIONS = ("blur", "occlusion", "defocus")
SPLITS = ("train", "val", "test")
FPS = 25
SEGMENT = 1.28  # s in which a class is seen, heard, both or neither
TIMELINE = "timeline"  # label of clips with several actions

# Twelve, three and five of twenty clips of a class, mixed so that few clips have all splits.
_TURNS = "TETVTTETETVTTETTEVTT"
_SPLIT_OF = {"T": "train", "V": "val", "E": "test"}
# What no two splits share. Sectors are eighteen degrees of the angle between the camera and the
# direction the actor faces at first, left and right alike: a mirrored actor seen from the left is
# the picture of an actor seen from the right.
SECTORS = {"train": (0, 2, 3, 5, 7, 8), "val": (4, 9), "test": (1, 6)}
SECTOR_DEGREES = 18.0
BACKGROUNDS = {
    "train": ("clouds", "bricks", "checks", "strokes", "hills", "panels"),
    "val": ("dots", "planks"),
    "test": ("cells", "waves", "weave"),
}
BODIES = {"train": range(24), "val": range(24, 32), "test": range(32, 48)}
# Random streams; each purpose has its own, so that a change in one does not affect the others.
_PURPOSES = (
    "spec", "motion", "camera", "background", "objects", "noise", "exposure", "sound", "degrade",
    "posts", "focus",
)  # fmt: skip


@dataclass(frozen=True)
class ClipSpec:
    """One clip to render; equal specifications give equal pixels.

    Attributes:
        seed: Seed of the set.
        index: Number of the clip in the set.
        mode: One of `MODES`.
        label: Name of the action, or `TIMELINE`.
        split: One of `SPLITS`.
        size: `(width, height)` in pixels.
        frames: How many, at `FPS` per second.
        parts: What the actor does.
        audible: `(start, end)` seconds in which the action's sound is heard; None: no sound track.
        camera: One of `mocap15.camera.REGIMES`.
        azimuth: Degrees; 0 is in front of the actor at the start.
        elevation: Degrees above the horizon.
        distance: Metres to the actor.
        stature: Height of the actor, standing, seen level and where it starts, as a share of the
            frame's height at the camera's longest focal length.
        mirror: Whether left and right of the recording are exchanged.
        body: Number of the body.
        background: Name of the family of textures.
        distractors: How many objects there are.
        noise: Standard deviation of the sensor's noise in grey levels.
        exposure: Greatest relative change of brightness in the clip.
        shutter: Share of the time between two frames in which light is collected; what moves in it
            is blurred.
        posts: How many posts stand in front of everything.
        defocus: Standard deviation, in pixels of a frame 240 pixels high, of the blur where the
            clip is most out of focus.
    """

    seed: int
    index: int
    mode: str
    label: str
    split: str
    size: tuple[int, int]
    frames: int
    parts: tuple[Part, ...]
    audible: tuple[tuple[float, float], ...] | None
    camera: str
    azimuth: float
    elevation: float
    distance: float
    stature: float
    mirror: bool
    body: int
    background: str
    distractors: int
    noise: float
    exposure: float
    shutter: float = 0.0
    posts: int = 0
    defocus: float = 0.0

    @property
    def sector(self) -> int:
        """Number of the camera's sector, see `SECTORS`."""
        return min(int(abs(self.azimuth) / SECTOR_DEGREES), 9)

    def chance(self, purpose: str) -> np.random.Generator:
        """A new random generator for one purpose, the same at every call."""
        return _chance(self.seed, self.index, purpose)


def _chance(seed: int, index: int, purpose: str) -> np.random.Generator:
    sequence = np.random.SeedSequence(seed, spawn_key=(index, _PURPOSES.index(purpose)))
    return np.random.Generator(np.random.Philox(sequence))


def clip_specs(
    n: int,
    seed: int,
    mode: str = "actions",
    *,
    size: tuple[int, int] = (320, 240),
    degrade: Collection[str] | None = None,
    degraded: Collection[str] = ("test",),
) -> list[ClipSpec]:
    """Specify n clips.

    Classes take turns, and within a class the splits do (60, 15 and 25 in a hundred). A clip
    depends on the seed and its own number only, not on n.

    Args:
        n: How many.
        seed: Not negative.
        mode: `actions`: one action per clip, 2 to 4 s. `timeline`: several, with idle gaps.
            `audiovisual`: segments of 1.28 s in which the class is seen, heard, both or neither.
            `detection`: as `actions`, with two to four objects in every clip.
        size: `(width, height)` in pixels, even.
        degrade: Any of `DEGRADATIONS`; None: all of them in the mode `detection`, none otherwise.
        degraded: The splits in which clips are degraded.

    Raises:
        ConfigError: An argument is out of range.
    """
    if degrade is None:
        degrade = DEGRADATIONS if mode == "detection" else ()
    for given, known, what in ((degrade, DEGRADATIONS, "degradation"), (degraded, SPLITS, "split")):
        for name in given:
            if name not in known:
                raise ConfigError(f"{what} {name!r} is unknown", f"one of: {', '.join(known)}")
    if mode not in MODES:
        raise ConfigError(f"mode {mode!r} is unknown", f"one of: {', '.join(MODES)}")
    if n < 1 or seed < 0:
        raise ConfigError("the number of clips must be positive and the seed not negative")
    if min(size) < 32 or size[0] % 2 or size[1] % 2:
        raise ConfigError(f"size {size[0]}x{size[1]} must be even and at least 32x32")
    specs = [_spec(index, seed, mode, size) for index in range(n)]
    return [_degraded(spec, degrade) if spec.split in degraded else spec for spec in specs]


def _degraded(spec: ClipSpec, names: Collection[str]) -> ClipSpec:
    """Draws how much a clip is degraded; each degradation is independent of the others."""
    random = spec.chance("degrade")
    drawn: dict[str, dict[str, Any]] = {
        "blur": {"shutter": float(random.uniform(0.5, 1.0))},
        "occlusion": {"posts": int(random.integers(1, 4))},
        "defocus": {"defocus": float(random.uniform(1.5, 4.0))},
    }
    return replace(spec, **{k: v for name in names for k, v in drawn[name].items()})


def _spec(index: int, seed: int, mode: str, size: tuple[int, int]) -> ClipSpec:
    random = _chance(seed, index, "spec")
    action = ACTIONS[index % len(ACTIONS)]
    split = _SPLIT_OF[_TURNS[index // len(ACTIONS) % len(_TURNS)]]
    sector = random.choice(SECTORS[split])
    azimuth = (sector + random.random()) * SECTOR_DEGREES * random.choice((-1, 1))
    parts, audible = _play(mode, action, random)
    least = 2 if mode == "detection" else 0
    return ClipSpec(
        seed=seed,
        index=index,
        mode=mode,
        label=TIMELINE if mode == "timeline" else action,
        split=split,
        size=size,
        frames=round(parts[-1].end * FPS),
        parts=parts,
        audible=audible,
        camera=str(random.choice(REGIMES)),
        azimuth=float(azimuth),
        elevation=float(random.uniform(5, 40)),
        distance=float(random.uniform(5, 9)),
        stature=float(np.exp(random.uniform(np.log(0.21), np.log(0.45)))),
        mirror=bool(random.random() < 0.5),
        body=int(random.choice(BODIES[split])),
        background=str(random.choice(BACKGROUNDS[split])),
        distractors=least + (int(random.integers(1, 4 - least)) if random.random() < 0.5 else 0),
        noise=float(random.uniform(1, 4.5)),
        exposure=float(random.uniform(0.03, 0.2)),
    )


def _play(
    mode: str, action: str, random: np.random.Generator
) -> tuple[tuple[Part, ...], tuple[tuple[float, float], ...] | None]:
    """What is done, and when it is heard."""
    if mode == "timeline":
        return _timeline(action, random), None
    if mode == "audiovisual":
        return _audiovisual(action, random)
    seconds = int(random.integers(2 * FPS, 4 * FPS + 1)) / FPS
    return (_act(action, 0.0, seconds, random),), None


def _act(action: str, start: float, end: float, random: np.random.Generator) -> Part:
    """An action at a random speed and phase, shown for a given time."""
    recording = library().recordings[action]
    speed = float(random.uniform(0.7, 1.4))
    shown = (end - start) * speed
    if recording.repeats:
        phase = random.uniform(0, recording.period)
    else:  # as much of it as there is time for
        spare = recording.length - shown
        phase = random.uniform(min(0.0, spare), max(0.0, spare))
    return Part(action, start, end, float(phase), speed)


def _timeline(action: str, random: np.random.Generator) -> tuple[Part, ...]:
    """Three to five actions with idle gaps before, between and after."""
    others = [name for name in ACTIONS if name != action]
    more = random.choice(others, int(random.integers(2, 5)), replace=False)
    actions = [action, *(str(name) for name in more)]
    random.shuffle(actions)
    parts, now = [], 0.0
    for name in actions:
        begin = _later(now, random.uniform(0.8, 1.8))
        recording = library().recordings[name]
        part = _act(name, begin, _later(begin, random.uniform(1.6, 3.2)), random)
        if not recording.repeats:  # from its first pose to its last
            end = _later(begin, recording.length / part.speed)
            part = Part(name, begin, end, 0.0, part.speed)
        parts += [Part(None, now, begin), part]
        now = part.end
    parts.append(Part(None, now, _later(now, random.uniform(0.8, 1.8))))
    return tuple(parts)


def _later(now: float, seconds: float) -> float:
    """The time of the frame that comes nearest to some seconds later."""
    return round((now + seconds) * FPS) / FPS


def _audiovisual(
    action: str, random: np.random.Generator
) -> tuple[tuple[Part, ...], tuple[tuple[float, float], ...]]:
    """Four to six segments; in at least one of them the class is seen or heard."""
    count = int(random.integers(4, 7))
    states = random.integers(0, 4, count)
    states[random.integers(count)] = random.integers(1, 4)
    parts, audible = [], []
    for first, last in _runs(states & 1):
        start, end = round(first * SEGMENT, 2), round(last * SEGMENT, 2)
        seen = bool(states[first] & 1)
        parts.append(_act(action, start, end, random) if seen else Part(None, start, end))
    for first, last in _runs(states & 2):
        if states[first] & 2:
            audible.append((round(first * SEGMENT, 2), round(last * SEGMENT, 2)))
    return tuple(parts), tuple(audible)


def _runs(values: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """`(first, last + 1)` of stretches of equal values."""
    cuts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return list(pairwise(cuts))
