"""Draw the gallery of `docs/reference/transforms.md`: two frames of a clip after each transform.

python scripts/draw_transforms.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from foveate.media import Video
from foveate.primitives.augment import Add, GaussianBlur, Grey, Noise, Pooling, Solarize
from foveate.primitives.augment.base import Augmentation
from foveate.primitives.base import registered
from foveate.viz.images import to_jpeg
from foveate.viz.lettering import draw

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "examples" / "demo" / "cartwheel.mp4"
OUT = ROOT / "docs" / "pictures"
SIZE, TIMES, SEED = (144, 108), (0.6, 1.4), 1  # of which first draws are near their limits
COLUMNS, GAP, CAPTION = 4, 6, 18
# The families of the page; every transform is in one of them.
FAMILIES: dict[str, tuple[str, ...]] = {
    "size": ("resize", "resize-shorter", "centre-crop", "random-crop", "random-resized-crop", "pad",
             "pad-to-aspect", "crop-to-aspect", "crop-and-pad"),
    "flips-and-geometry": ("flip", "vertical-flip", "quarter-turns", "affine", "stretch",
                           "perspective", "elastic", "grid-distortion", "jigsaw"),
    "arithmetic": ("add", "noise", "replace", "cutout", "channel-dropout", "solarize", "jpeg"),
    "colour": ("brightness", "saturation", "hue", "colour-jitter", "grey", "channel-shuffle",
               "colour-temperature", "posterize"),
    "contrast": ("contrast", "gamma", "sigmoid-contrast", "log-contrast", "equalize",
                 "autocontrast", "clahe"),
    "blur": ("gaussian-blur", "box-blur", "median-blur", "motion-blur", "bilateral-blur",
             "defocus-blur", "glass-blur", "zoom-blur"),
    "convolution-edges-pooling": ("sharpness", "filter", "directed-edges", "canny", "pooling"),
    "weather": ("fog", "rain", "snow", "spatter"),
    "policies": ("rand-augment", "trivial-augment"),
    "transforms-of-transforms": ("sequential", "sometimes", "one-of", "some-of", "with-channels",
                                 "blend", "identity"),
}  # fmt: skip
SHOWN: dict[str, dict[str, Any]] = {
    "resize": {"size": 72}, "resize-shorter": {"size": 72}, "centre-crop": {"size": 72},
    "random-crop": {"size": 72}, "random-resized-crop": {"size": 72}, "pad": {"size": 114},
    "noise": {"strength": 0.15}, "filter": {"name": "emboss"}, "elastic": {"strength": 120.0},
    "sequential": {"transforms": (Grey(p=1), Noise(strength=0.15))},
    "sometimes": {"transforms": (Solarize(p=1),), "p": 1.0},
    "one-of": {"transforms": (Pooling(size=8), Grey(p=1))},
    "some-of": {"transforms": (Grey(p=1), GaussianBlur(), Pooling(size=8)), "least": 2},
    "with-channels": {"transforms": (Add(limit=200),)},
    "blend": {"transforms": (Solarize(p=1, threshold=0),), "mask": "checkerboard"},
}  # fmt: skip


def main() -> None:
    """Draw an image per family, each transform with its kind and two frames of the clip."""
    found = registered("transforms")
    assert sorted(found) == sorted(kind for kinds in FAMILIES.values() for kind in kinds)
    with Video(str(CLIP)) as video:
        frames = video.frames(TIMES, size=SIZE).pixels
    clip = torch.from_numpy(frames).permute(0, 3, 1, 2)
    for family, kinds in FAMILIES.items():
        cells = [cell("without", clip)]
        for kind in kinds:
            settings = SHOWN.get(kind, {})
            if issubclass(found[kind], Augmentation):
                settings = {"p": 1.0, **settings}
            one: Any = found[kind](**settings)
            cells.append(cell(kind, one.apply(clip, np.random.default_rng(SEED))))
        cells += [np.full_like(cells[0], 255)] * (-len(cells) % COLUMNS)
        rows = [np.concatenate(cells[at : at + COLUMNS], 1) for at in range(0, len(cells), COLUMNS)]
        picture = np.concatenate(rows)
        (OUT / f"transforms-{family}.jpg").write_bytes(to_jpeg(picture, len(picture), 75))


def cell(kind: str, clip: torch.Tensor) -> np.ndarray:
    """Two frames beside each other below their caption, (H, W, 3)."""
    width, height = SIZE
    out = np.full((height + CAPTION + GAP, 2 * width + 2 * GAP, 3), 255, np.uint8)
    caption = Image.fromarray(out)
    draw(ImageDraw.Draw(caption), kind, (0, 13), 13, (0, 0, 0))
    out = np.array(caption)
    for place, frame in enumerate(clip.permute(0, 2, 3, 1).numpy()):
        shown = frame[: height + GAP, : width + GAP]
        left = place * width
        out[CAPTION : CAPTION + shown.shape[0], left : left + shown.shape[1]] = shown
    return out


if __name__ == "__main__":
    main()
