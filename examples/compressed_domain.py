"""Recognise from motion vectors, key frames and residuals, with exits that skip what is not needed.

python examples/compressed_domain.py videos
"""

# %% What a compressed file holds, without a model.
import sys
from pathlib import Path

import foveate
from foveate.media.compressed import CompressedVideo

videos = Path(sys.argv[1] if len(sys.argv) > 1 else "videos")
clip = next(iter(sorted(videos.rglob("*.mp4"))))
video = CompressedVideo(str(clip))
print(f"{clip.name}: {len(video.groups)} groups of pictures")
picture = next(iter(video.vectors({0: [4]})))
print(f"motion accumulated from {picture.reference:.2f} s to {picture.time:.2f} s,")
print(f"on 8x8 cells {picture.motion.shape}, at most {abs(picture.motion).max():.1f} pixels")

# %% Train a cascade: three networks with exits inside, their fusion and thresholds.
# These settings are tiny, so that the example takes seconds. Leave them out for real networks.
small = {"iframe": "test_resnet", "mv": "test_resnet", "residual": "test_resnet", "size": 32}
run = foveate.train(
    videos, recipe="compressed", out="runs/compressed",
    epochs=2, iframe_epochs=1, head_epochs=3, exits=2, segments=2, timed=2, **small,
)  # fmt: skip
print(run.outcome)

# %% What was not needed was not executed: the ledger has no stage for it.
for order in ("measured", "published"):
    result = foveate.load(run, look={"name": "groups", "order": order}).predict(clip)
    stages = [stage.name for stage in result.cost.stages if stage.name.startswith("network")]
    print(f"{order:10} decided at {list(result.exits)}, executed {stages}")

# %% A budget per decision chooses the threshold from the calibration in the run folder.
recogniser = foveate.load(run, budget=foveate.Budget(macs_per_answer=5e9))
print(recogniser.predict(clip).summary())
