"""Renders one clip of the benchmark: the truth first, pixels only as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from foveate.data.mocap15.background import background
from foveate.data.mocap15.figure import Body, Figure, between, body
from foveate.data.mocap15.motion import Floats
from foveate.data.mocap15.objects import Thing, posts, things
from foveate.data.mocap15.sensor import Sensor
from foveate.data.mocap15.sound import RATE, Waveform, beat, sound, tones
from foveate.data.mocap15.spec import FPS, SEGMENT, ClipSpec
from foveate.data.mocap15.stage import Stage, stage

Pixels = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]

_MOMENTS = 5  # drawn while the shutter is open

VERSION = 1  # of the pictures: raised with every change that gives other pixels for a seed


@dataclass(frozen=True)
class Track:
    """One instance in the frames of a clip.

    Attributes:
        instance: Number within the clip; 0 is the actor.
        kind: `person`, `ball`, `box` or `cone`.
        boxes: (x1, y1, x2, y2) per frame in pixels, clipped to the frame, whole even where
            something is in front; None where it is outside.
    """

    instance: int
    kind: str
    boxes: tuple[Box | None, ...]


@dataclass(frozen=True)
class RenderedClip:
    """A clip with its exact answers; pixels are drawn when `frames` is iterated.

    Attributes:
        spec: What was asked for.
        tracks: Boxes of actor and objects.
        matrices: (T, 2, 3) affine maps from the background's pixels to the frame's.
    """

    spec: ClipSpec
    tracks: tuple[Track, ...]
    matrices: Floats
    _stage: Stage
    _who: Body
    _figure: Figure
    _things: tuple[Thing, ...]
    _posts: tuple[Thing, ...] = ()

    @property
    def label(self) -> str:
        """Name of the class."""
        return self.spec.label

    @property
    def camera(self) -> str:
        """The camera's regime."""
        return self.spec.camera

    @property
    def travel(self) -> float:
        """Share of the recorded way along the ground that the actor goes.

        Below 1 its feet slide, at 0 it acts on the spot.
        """
        return self._stage.travel

    @property
    def stature(self) -> float:
        """The actor's height, see `ClipSpec.stature`, after it was made to fit."""
        return self.spec.stature * self._stage.shrink

    def frames(self, *, actor: bool = True, objects: bool = True) -> Iterator[Pixels]:
        """Draw the frames, (H, W, 3) uint8 RGB, the same ones at every call.

        Args:
            actor: Whether to draw the actor.
            objects: Whether to draw the objects.
        """
        sensor = Sensor(self.spec)
        scene, first = self._scene()
        still = self.spec.camera == "static"
        picture: Pixels | None = None
        for number in range(len(self.matrices)):
            moments = []
            for moment in self._moments(number):
                matrix = between(self.matrices, moment)
                if picture is None or not still:
                    seen = _from(matrix, first)
                    picture = np.asarray(
                        cv2.warpAffine(scene, seen, self.spec.size, borderMode=cv2.BORDER_REFLECT),
                        np.uint8,
                    )
                frame = picture.copy()
                for thing in self._things if objects else ():
                    thing.draw(frame, moment, matrix)
                if actor:
                    self._figure.draw(frame, moment, _from(matrix, self._stage.anchor))
                for post in self._posts:
                    post.draw(frame, moment, matrix)
                moments.append(frame)
            light = moments[0] if len(moments) == 1 else np.mean(moments, 0).astype(np.uint8)
            yield sensor.read(light, number)

    def _moments(self, number: int) -> list[float]:
        """Frame numbers, with fractions, at which light is collected for a frame."""
        if not self.spec.shutter:
            return [number]
        spread = (np.arange(_MOMENTS) + 0.5) / _MOMENTS - 0.5
        moments = number + self.spec.shutter * spread
        return [float(one) for one in np.clip(moments, 0, len(self.matrices) - 1)]

    def sound(self) -> Waveform | None:
        """(N,) float32 at 16 kHz, or None where the clip has no sound track."""
        spec = self.spec
        if spec.audible is None:
            return None
        return sound(spec.label, spec.audible, spec.frames / FPS, spec.chance("sound"))

    def truth(self) -> dict[str, Any]:
        """Everything there is to know of the clip, as plain values for JSON."""
        spec = self.spec
        return {
            "version": VERSION,
            "seed": spec.seed,
            "index": spec.index,
            "label": spec.label,
            "split": spec.split,
            "size": list(spec.size),
            "fps": FPS,
            "frames": spec.frames,
            "actor": {
                "body": spec.body,
                "mirror": spec.mirror,
                "stature": round(self.stature, 4),
                "travel": self.travel,
                "parts": [asdict(part) for part in spec.parts],
            },
            "camera": {
                "regime": spec.camera,
                "sector": spec.sector,
                "azimuth": round(spec.azimuth, 3),
                "elevation": round(spec.elevation, 3),
                "matrices": np.round(self.matrices.reshape(-1, 6), 5).tolist(),
            },
            "background": spec.background,
            "degraded": {
                "shutter": round(spec.shutter, 4),
                "posts": spec.posts,
                "defocus": round(spec.defocus, 4),
            },
            "tracks": [
                {"instance": track.instance, "class": track.kind, "boxes": track.boxes}
                for track in self.tracks
            ],
            "timeline": [
                {"start": part.start, "end": part.end, "label": part.label}
                for part in spec.parts
                if part.label is not None
            ],
            "audio": _heard(spec),
        }

    def _scene(self) -> tuple[Pixels, Floats]:
        """The surroundings and the world pixel that is their first one."""
        spec = self.spec
        low, high = self._stage.movement.reach(spec.size)
        low, high = np.floor(low) - 2, np.ceil(high) + 2
        clothes = np.array([self._who.colours[name] for name in ("shirt", "trousers")])
        width, height = (int(edge) for edge in high - low)
        random = spec.chance("background")
        unit = spec.size[1] / 240
        return background(spec.background, (width, height), unit, clothes, random), low


def render_clip(spec: ClipSpec) -> RenderedClip:
    """Place the camera, the actor and the objects of a clip; no pixel is drawn yet.

    Args:
        spec: From `clip_specs`, or changed with `dataclasses.replace`.
    """
    who = body(spec.body)
    staged = stage(spec, who)
    matrices = staged.movement.matrices(spec.size)
    light = np.array([*spec.chance("exposure").uniform((-1, -1.2), (1, -0.5)), -0.7])
    figure = Figure(staged.sight, who, light)
    low, high = staged.movement.reach(spec.size)
    seconds = np.arange(spec.frames) / FPS
    unit = spec.size[1] / 240
    found = things(spec.distractors, low, high, seconds, unit, spec.chance("objects"))
    actor = [_from(matrix, staged.anchor) for matrix in matrices]
    tracks = [_track(0, "person", figure.box, actor, spec.size)]
    tracks += [
        _track(number, thing.kind, thing.box, matrices, spec.size)
        for number, thing in enumerate(found, start=1)
    ]
    front = posts(spec.posts, low, high, spec.frames, unit, spec.chance("posts"))
    return RenderedClip(
        spec, tuple(tracks), matrices, staged, who, figure, tuple(found), tuple(front)
    )


def _from(matrix: Floats, origin: Floats) -> Floats:
    """The map from pixels that count from `origin`, given the map from world pixels."""
    shift = matrix[:, :2] @ origin + matrix[:, 2]
    return np.concatenate([matrix[:, :2], shift[:, None]], axis=1)


def _track(
    instance: int,
    kind: str,
    box: Callable[[int, Floats], Box],
    matrices: Any,
    size: tuple[int, int],
) -> Track:
    boxes = (_clipped(box(frame, matrix), size) for frame, matrix in enumerate(matrices))
    return Track(instance, kind, tuple(boxes))


def _clipped(box: Box, size: tuple[int, int]) -> Box | None:
    x1, y1 = max(box[0], 0.0), max(box[1], 0.0)
    x2, y2 = min(box[2], float(size[0])), min(box[3], float(size[1]))
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None


def _heard(spec: ClipSpec) -> dict[str, Any] | None:
    """Truth of the sound: where it is heard, and per segment what is seen and heard."""
    if spec.audible is None:
        return None
    segments = []
    for number in range(round(spec.frames / FPS / SEGMENT)):
        middle = (number + 0.5) * SEGMENT
        segments.append(
            {
                "start": round(number * SEGMENT, 2),
                "end": round((number + 1) * SEGMENT, 2),
                "visible": any(p.label and p.start < middle < p.end for p in spec.parts),
                "audible": any(start < middle < end for start, end in spec.audible),
            }
        )
    return {
        "rate": RATE,
        "tones": list(tones(spec.label)),
        "beat": beat(spec.label),
        "audible": [list(stretch) for stretch in spec.audible],
        "segments": segments,
    }
