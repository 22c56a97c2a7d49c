"""The short form of benchmarks/seven_algorithms.py: the task, and that its pipelines are valid."""

from __future__ import annotations

import pytest
import torch
from benchmarks import seven_algorithms as seven

from foveate.train.pipelines import recipe_of


def test_no_single_frame_tells_the_class() -> None:
    """The first frames of all classes are drawn alike; the classes differ in how they go on."""
    x, y = seven.clips(40, 3)
    assert x.shape == (40, 3, seven.FRAMES, seven.SIDE, seven.SIDE)
    assert set(y.tolist()) == set(range(len(seven.CLASSES)))
    still = x[y == seven.CLASSES.index("still")]
    square = still >= 90
    assert torch.equal(square[:, :, 0], square[:, :, -1])
    right = x[y == seven.CLASSES.index("right")] >= 90
    moved = right[:, :, 0].roll(seven.SPEED * (seven.FRAMES - 1), dims=-1)
    assert torch.equal(moved, right[:, :, -1])


@pytest.mark.parametrize("name", seven.ENTRIES)
def test_every_algorithm_is_a_pipeline(name: str) -> None:
    config = recipe_of(seven.pipeline_of(name))[1].model_dump()
    assert config["augment"] == ({"kind": "resize", "size": seven.SIDE},)
    assert config["frames"] == seven.FRAMES
