"""Which model or look is worth its cost on your videos?

python examples/compare_models.py videos
"""

# %% Candidates: a run of your own, the same at one frame per second, and with motion patches.
import sys
from pathlib import Path

import foveate

videos = Path(sys.argv[1] if len(sys.argv) > 1 else "videos")
run = foveate.train(
    videos,
    model="movinet-a0-stream-lite.actions15",
    out="runs/compare",
    freeze="backbone",
    epochs=40,
)
candidates = {
    "full": foveate.load(run),
    "1 frame/s": foveate.load(run, budget="1fps"),
    "motion patch": foveate.load(run, look="motion-patch"),
}

# %% All of them see the same videos in turns. Differences are paired, with 95 % intervals.
# With few videos expect wide intervals: then nothing is shown, in either direction.
table = foveate.bench(candidates, videos)
print(table.markdown())

# %% The same as data: executed multiply-adds and seconds per video, decoded frames, and so on.
for row in table.rows:
    print(f"{row.name:13} top-1 {row.accuracy.value:.2f}  {row.macs.value / 1e6:6.0f} MMAC/video")
table.write("comparison.json", "comparison")
