"""Motion-guided sampling in time: which frames to look at, from the maps that also give windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foveate.policy.motion.inputs import Floats


def motion_times(
    times: Sequence[float], maps: Floats, count: int, power: float = 0.5
) -> tuple[float, ...]:
    """`count` of the times such that about equal motion lies between them (MGSampler).

    The motion of a frame is the sum of its map to the power `power`; the times stand where the
    running sum passes the middle of each of `count` equal shares (Zhi et al., ICCV 2021). Frames
    at rest still count a little, so a clip without motion is sampled evenly.

    Args:
        times: (T,) seconds, ascending.
        maps: (T, h, w).
        count: How many times to choose; all of them if there are no more.
        power: Flattens the curve; 0 samples evenly.

    Returns:
        Ascending, no time twice.
    """
    if count >= len(times):
        return tuple(times)
    if count < 1:
        return ()
    motion = maps.reshape(len(maps), -1).sum(1).astype(np.float64) ** power
    total = motion.sum()
    share = motion / total if total > 0 else np.full(len(times), 1 / len(times))
    running = np.cumsum(0.9 * share + 0.1 / len(times))
    marks = (np.arange(count) + 0.5) / count * running[-1]
    at = np.searchsorted(running, marks).clip(0, len(times) - 1)
    # No frame twice: push each one behind the one before it, then pull the tail inside.
    rank = np.arange(count)
    at = np.maximum.accumulate(at - rank) + rank
    at = np.minimum(at, len(times) - count + rank)
    return tuple(times[i] for i in at)
