"""The rendered clips of the benchmark: key frames show the class, and only some clips move."""

from __future__ import annotations

import numpy as np
from benchmarks.compressed_premise import (
    FRAMES,
    MOVING,
    SHAPES,
    SIDE,
    TEXTURES,
    frames_of,
    path_of,
    pattern,
)


def moves(seed: int) -> bool:
    first, *rest = frames_of("disc", "dots", (0, 0, seed))
    return bool((abs(rest[8].astype(int) - first).max(2) > 60).mean() > 0.01)


def test_a_clip_depends_on_its_seed_alone() -> None:
    one, same, other = (np.stack(list(frames_of("star", "checks", (0, 1, k)))) for k in (2, 2, 3))
    assert one.shape == (FRAMES, SIDE, SIDE, 3)
    assert (one == same).all()
    assert (one != other).any()


def test_some_clips_stand_still() -> None:
    share = np.mean([moves(k) for k in range(40)])
    assert abs(share - MOVING) < 0.2


def test_every_shape_has_its_own_motion_and_every_texture_its_own_pattern() -> None:
    seconds = np.arange(FRAMES) / 25
    motions = [path_of(k, seconds) for k in range(len(SHAPES))]
    patterns = [pattern(name, SIDE, np.random.default_rng(0)) for name in TEXTURES]
    for several in (motions, patterns):
        assert not any(
            np.array_equal(a, b) for k, a in enumerate(several) for b in several[k + 1 :]
        )
    assert all(0.2 < one.mean() < 0.8 for one in patterns)
