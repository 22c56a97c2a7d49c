"""Results while a video is running, and from several videos at once.

python examples/streams.py clip.mp4
"""

# %% One result per step, in constant memory. Each says what its own step cost.
import sys
from collections import Counter
from pathlib import Path

import foveate

demo = Path(__file__).parent / "demo" / "cartwheel.mp4"
clip = sys.argv[1] if len(sys.argv) > 1 else str(demo)
recogniser = foveate.load("movinet-a0-stream-lite.actions15")

for result in recogniser.stream(clip):
    step, best = result.trace.steps[-1], result.labels[0]
    print(
        f"{step.time:5.2f} s  {best.label:12} {best.score:.2f}  {result.cost.macs / 1e6:4.0f} MMAC"
    )

# %% Several sources at once: frames that are ready share a call of the network.
# Here three copies of the clip in memory stand for three cameras.
with foveate.Video(clip) as video:
    pixels = video.frames([i / 10 for i in range(20)]).pixels  # two seconds at 10 frames/s

steps = Counter()
for result in recogniser.stream_many([pixels, pixels[:, :, ::-1], pixels[::-1]], fps=10.0):
    steps[result.labels[0].label] += 1
print("best labels over all steps:", steps.most_common(3))
