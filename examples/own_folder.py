"""Train and measure a model on your own clips, one folder per class.

python examples/own_folder.py videos
"""

# %% The clips: a folder per class, ten or more clips each. Bad files are named first.
import sys
from pathlib import Path

import foveate
from foveate.data import check

videos = Path(sys.argv[1] if len(sys.argv) > 1 else "videos")
print("\n".join(check(videos).lines()))

# %% Train the last layer of a pretrained network on features that are computed once.
# For footage of people start from "movinet-a0-stream-lite.k600", which is downloaded once.
run = foveate.train(
    videos,
    model="movinet-a0-stream-lite.actions15",
    out="runs/own_folder",
    freeze="backbone",
    epochs=60,
)
print(run.outcome, run.figures)

# %% Measure it on clips that were held out. The interval says how far to trust the figure.
evaluation = foveate.evaluate(run, videos, split="test")
top1 = evaluation.figure("top1")
print(
    f"top-1 {top1.value:.2f}, 95 % interval {top1.low:.2f} to {top1.high:.2f}, n = {evaluation.n}"
)

# %% Use it. A run folder is a model wherever one is named: foveate predict clip.mp4 --model RUN
recogniser = foveate.load(run)
clips = sorted(path for path in videos.rglob("*.mp4"))[:4]
for result in recogniser.predict_many(clips, batch=2):
    best = result.labels[0]
    print(f"{Path(result.source).name:20} {best.label:15} {best.score:.2f}")
