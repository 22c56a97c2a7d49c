"""Draw `docs/pictures/patches.jpg`: frames of the bundled clip with the motion patch bright.

python scripts/draw_patches.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

import foveate

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "examples" / "demo" / "cartwheel.mp4"
OUT = ROOT / "docs" / "pictures" / "patches.jpg"
MODEL = "movinet-a0-stream-lite.actions15"
SHOWN, GAP, DARK = 4, 8, 0.4


def main() -> None:
    """Predict, and draw some of the frames that were looked at."""
    result = foveate.load(MODEL, look="motion-patch").predict(CLIP)
    assert result.trace is not None
    looks = [
        look for step in result.trace.steps for look in zip(step.frames, step.boxes, strict=True)
    ]
    chosen = [looks[round(at)] for at in np.linspace(1, len(looks) - 2, SHOWN)]
    with foveate.Video(str(CLIP)) as video:
        frames = video.frames([time for time, _ in chosen]).pixels
    panels = []
    for frame, (_, box) in zip(frames, chosen, strict=True):
        left, top, right, bottom = (round(side) for side in box)
        panel = (frame * DARK).astype(np.uint8)
        panel[top:bottom, left:right] = frame[top:bottom, left:right]
        cv2.rectangle(panel, (left, top), (right - 1, bottom - 1), (255, 200, 0), 2)
        panels += [panel, np.full((len(panel), GAP, 3), 255, np.uint8)]
    strip = np.concatenate(panels[:-1], axis=1)
    cv2.imwrite(str(OUT), strip[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
