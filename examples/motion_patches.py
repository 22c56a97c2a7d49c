"""What it saves to show the network only a window around what moves.

python examples/motion_patches.py clip.mp4
"""

# %% The same model with several looks on one clip.
import sys
from pathlib import Path

import cv2

import foveate

demo = Path(__file__).parent / "demo" / "cartwheel.mp4"
clip = sys.argv[1] if len(sys.argv) > 1 else str(demo)
model = "movinet-a0-stream-lite.actions15"

for look in ("uniform", "resize", "centre", "motion-patch"):
    result = foveate.load(model, look=look).predict(clip)
    best = result.labels[0]
    print(f"{look:13} {best.label:12} {best.score:.2f}  {result.cost.macs / 1e6:5.0f} MMAC")

# %% Where it looked: boxes are xyxy in pixels of the upright source, one per frame.
# One clip proves nothing about accuracy; `foveate bench --looks` compares looks on labelled videos.
steps = result.trace.steps
print(f"motion from {steps[0].modalities}, confidence {steps[0].gate:.2f}")
for time, box in list(zip(steps[0].frames, steps[0].boxes, strict=True))[:3]:
    print(f"{time:5.2f} s  {[round(side) for side in box]}")

# %% Draw the windows into the frames.
with foveate.Video(clip) as video:
    shown = video.frames(steps[0].frames)
for number, (pixels, box) in enumerate(zip(shown.pixels, steps[0].boxes, strict=True)):
    left, top, right, bottom = (round(side) for side in box)
    drawn = cv2.rectangle(pixels[..., ::-1].copy(), (left, top), (right, bottom), (0, 200, 255), 2)
    if number % 4 == 0:
        cv2.imwrite(f"patch-{number:02d}.jpg", drawn)
        print(f"patch-{number:02d}.jpg")
