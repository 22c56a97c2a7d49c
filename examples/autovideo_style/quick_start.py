"""AutoVideo's quick start as a typed pipeline: fit on labelled videos, measure, use it.

python examples/autovideo_style/quick_start.py videos
"""

import sys

import foveate
from foveate.primitives import TSN, Flip, RandomCrop, ResizeShorter, Segments, Supervised

pipeline = foveate.Pipeline(
    sampler=Segments(frames=8),
    transforms=(ResizeShorter(72), RandomCrop(64), Flip()),
    recogniser=TSN(backbone="efficientnet_lite0.imagenet_lite0", dropout=0.2),
    training=Supervised(freeze="backbone", epochs=100),
)
print(pipeline)
run = foveate.fit(pipeline, sys.argv[1], out="runs/autovideo")
print("top-1 on test clips:", foveate.evaluate(run, sys.argv[1]).figure("top1").value)
