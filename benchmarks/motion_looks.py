"""What the accuracy tables compare: the looks over one trained network, by the tables' names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import foveate
from foveate.evaluate.oracle import OracleRecogniser
from foveate.evaluate.truth import Labelled
from foveate.models import load as load_weights
from foveate.pipeline.recogniser import Recogniser

looks = foveate.looks
RANDOM_SEEDS = 5
CONTEXT, DETAIL = 64 / 172, 80 / 172  # sides of a pair: the whole frame small, and a window


@dataclass(frozen=True)
class Setting:
    """What a table varies of the looks.

    Attributes:
        size: Side in pixels of what the network is shown.
        glance: Side of the frames behind an activation window.
        cells: The oracle tries cells x cells windows.
        patch: Further arguments of the motion patch, as chosen on validation clips.
    """

    size: int
    glance: int = 112
    cells: int = 7
    patch: tuple[tuple[str, Any], ...] = ()


def entries(
    run: str,
    dataset: Labelled,
    setting: Setting,
    names: Iterable[str],
    variants: Mapping[str, Any] | None = None,
) -> dict[str, list[Recogniser]]:
    """The looks of those names over one trained network: a recogniser each, or one per seed.

    Args:
        run: Run folder, or a model with weights.
        dataset: Tells the oracle the answers.
        setting: What all of them share.
        names: Keys of the table below.
        variants: Name → arguments that a motion patch of its own has besides the setting's.
    """
    loaded = load_weights(run)
    size, names, whole = setting.size, list(names), loaded.input.size
    patch = {"size": size, **dict(setting.patch)}
    # All windows cover as much as the motion patch's, so that only their places differ.
    same = {k: v for k, v in patch.items() if k in ("size", "extent") and v != "auto"}
    made: dict[str, list[Any]] = {
        "full": [None],
        "resize": [looks.Resize(size=size)],
        "centre": [looks.CentrePatch(**same)],
        "random": [looks.RandomPatch(**same, seed=s) for s in range(RANDOM_SEEDS)],
        "rwf-crop": [looks.RwfCrop(**same)],
        "rwf-crop-fixed": [looks.RwfCrop(**same, fixed=True)],
        "mocrop": [looks.MoCropPatch(**same)],
        "activation": [looks.ActivationPatch(**same, glance=setting.glance)],
        "mv-patch": [looks.MotionPatch(**{**patch, "motion": "mv_affine", "source": "auto"})],
        "motion-patch": [looks.MotionPatch(**patch)],
        "context": [looks.Resize(size=round(whole * CONTEXT))],
        "detail": [looks.MotionPatch(**{**patch, "size": round(whole * DETAIL)})],
        "oracle": [looks.CentrePatch(**same)],  # of the same size and extent
    }
    wanted = {name: made[name] for name in names}
    for name, arguments in (variants or {}).items():
        wanted[name] = [looks.MotionPatch(**{**patch, **arguments})]
    table = {
        name: [foveate.load(run, look=look, top_k=len(loaded.labels)) for look in group]
        for name, group in wanted.items()
    }
    if "oracle" in table:
        table["oracle"] = [OracleRecogniser(table["oracle"][0], dataset, None, setting.cells)]
    return table


def scores_of(result: Any, count: int) -> Any:
    """(classes,) scores of a Result that keeps all labels."""
    scores = np.zeros(count)
    for score in result.labels:
        scores[score.index] = score.score
    return scores
