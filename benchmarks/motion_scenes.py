"""The controlled scenes of the containment test: a textured disc before a textured background.

Three cameras: at rest, panning by three pixels a frame, panning while zooming to and fro. The disc
goes along a Lissajous path over the frame, so that it is seen everywhere; the place of the disc is
known exactly. Sensor noise has a standard deviation of two grey levels.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache

import av
import cv2
import numpy as np
import numpy.typing as npt

CAMERAS = ("static", "pan", "pan+zoom")
SIZE = (340, 256)
DISC = 60  # pixels across
PAN = 3.0  # pixels per frame
ZOOM = 1.35
NOISE = 2.0
ENCODINGS: dict[str, tuple[str, int, dict[str, str]]] = {
    "x264": ("libx264", -1, {}),
    "x264-p1": ("libx264", 0, {"refs": "1", "weightp": "0", "sc_threshold": "0"}),
    "mpeg4-gop12": ("mpeg4", 0, {"qmin": "4", "qmax": "4"}),
}

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """A clip with the disc's box in every frame.

    Attributes:
        frames: (T, H, W, 3) uint8 RGB.
        boxes: (T, 4) `xyxy` of the disc.
    """

    frames: Pixels
    boxes: npt.NDArray[np.float64]


@cache
def scene(camera: str, frames: int = 250, seed: int = 0) -> Scene:
    """Draw a scene; the same arguments give the same pixels."""
    if camera not in CAMERAS:
        raise ValueError(f"camera {camera!r} is none of {CAMERAS}")
    random = np.random.default_rng(seed)
    far = _texture(random, (1600, 900), 24)
    near = _texture(random, (DISC, DISC), 9)
    mask = np.zeros((DISC, DISC), np.float32)
    cv2.circle(mask, (DISC // 2, DISC // 2), DISC // 2 - 1, 1.0, -1, cv2.LINE_AA)
    width, height = SIZE
    at = np.arange(frames)
    room = np.array([width - DISC, height - DISC]) / 2 - 2
    # Each seed begins elsewhere on the path; drawn apart, so that seed 0 is as it always was.
    begin = np.random.default_rng((seed, 1)).uniform(0, 83 * 59) if seed else 0.0
    turn = 2 * np.pi * (at + begin)
    path = np.stack([np.sin(turn / 83), np.sin(turn / 59 + 0.7)], -1)
    middles = np.array([width, height]) / 2 + path * room
    drawn = np.empty((frames, height, width, 3), np.uint8)
    for k in range(frames):
        matrix = _camera(camera, k, frames)
        picture = cv2.warpAffine(far, matrix, SIZE, borderMode=cv2.BORDER_REFLECT)
        blended = _put(picture.astype(np.float32), near, mask, middles[k])
        noisy = blended + random.normal(0, NOISE, blended.shape)
        drawn[k] = np.clip(noisy + 0.5, 0, 255)
    boxes = np.concatenate([middles - DISC / 2, middles + DISC / 2], 1)
    return Scene(drawn, boxes)


def encoded(frames: Pixels, encoding: str, rate: int = 25) -> bytes:
    """A clip as Matroska in one of `ENCODINGS`."""
    codec, bframes, options = ENCODINGS[encoding]
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream = out.add_stream(codec, rate=rate, options={"threads": "1", **options})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        if bframes >= 0:
            stream.codec_context.max_b_frames = bframes
        if codec == "mpeg4":
            stream.codec_context.gop_size = 12
        for picture in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return file.getvalue()


def contains(
    boxes: npt.NDArray[np.floating], inner: npt.NDArray[np.floating], slack: float = 2.0
) -> npt.NDArray[np.bool_]:
    """(T,) whether windows (T, 4) hold the boxes (T, 4), give or take `slack` pixels."""
    low = (boxes[:, :2] <= inner[:, :2] + slack).all(1)
    high = (boxes[:, 2:] >= inner[:, 2:] - slack).all(1)
    return np.asarray(low & high)


def _camera(camera: str, k: int, frames: int) -> npt.NDArray[np.float64]:
    zoom = 1.0
    if camera == "pan+zoom":
        zoom = 1 + (ZOOM - 1) * (0.5 - 0.5 * np.cos(2 * np.pi * k / 90))
    shift = 0.0 if camera == "static" else PAN * k
    middle = np.array(SIZE) / 2
    centre = np.array([420 + shift % 760, 450.0])
    return np.concatenate([np.eye(2) * zoom, (middle - zoom * centre)[:, None]], 1)


def _texture(random: np.random.Generator, size: tuple[int, int], grain: int) -> Pixels:
    """Noise of several scales, as surfaces have."""
    out = np.zeros((size[1], size[0], 3), np.float32)
    for scale, weight in ((grain, 1.0), (grain // 2, 0.7), (max(2, grain // 5), 0.5)):
        small = random.normal(0, 1, (-(-size[1] // scale) + 1, -(-size[0] // scale) + 1, 3))
        out += weight * cv2.resize(small.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 45 * out, 0, 255).astype(np.uint8)


def _put(
    picture: npt.NDArray[np.float32],
    disc: Pixels,
    mask: npt.NDArray[np.float32],
    middle: npt.NDArray[np.float64],
) -> npt.NDArray[np.float32]:
    """Blend the disc in at a place between the pixels."""
    corner = middle - DISC / 2
    matrix = np.array([[1, 0, corner[0]], [0, 1, corner[1]]])
    cover = cv2.warpAffine(mask, matrix, SIZE)[..., None]
    front = cv2.warpAffine(disc.astype(np.float32), matrix, SIZE, borderMode=cv2.BORDER_REPLICATE)
    return picture * (1 - cover) + front * cover
