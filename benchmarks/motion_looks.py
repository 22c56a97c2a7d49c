"""What the accuracy tables compare: the looks, two of which need a network or the answer.

`Glance` gives an activation window its activations and `Answer` gives the oracle its scores; both
run the network that is judged, and count or hide what that costs: a glance is charged to its look,
an oracle's trials are nobody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import foveate
from foveate.core import Selection
from foveate.models import count_macs
from foveate.models import load as load_weights
from foveate.pipeline import views
from foveate.pipeline.network import network_for
from foveate.pipeline.recogniser import Recogniser

looks = foveate.looks
RANDOM_SEEDS = 5
CONTEXT, DETAIL = 64 / 172, 80 / 172  # sides of a pair: the whole frame small, and a window
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Setting:
    """What a table varies of the looks.

    Attributes:
        size: Side in pixels of what the network is shown.
        glance: Side of the frames behind an activation window.
        cells: The oracle tries cells x cells windows; 0 leaves it out.
        patch: Further arguments of the motion patch, as chosen on validation clips.
    """

    size: int
    glance: int = 112
    cells: int = 7
    patch: tuple[tuple[str, Any], ...] = ()


class Glance:
    """Last convolutional maps of a network on small frames; counts its multiply-adds."""

    def __init__(self, run: str) -> None:
        self._module, entry, _ = load_weights(run)
        self._spec, self.macs = entry.input, 0
        self._costs: dict[tuple[int, ...], int] = {}
        self._last: torch.Tensor | None = None
        for layer in self._module.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Conv3d):
                layer.register_forward_hook(self._keep)

    def _keep(self, _layer: Any, _inputs: Any, found: torch.Tensor) -> None:
        if found.shape[-1] > 1 and found.shape[-2] > 1:
            self._last = found

    @torch.inference_mode()
    def __call__(self, pixels: Any) -> Any:
        """(T, h, w, 3) uint8 → rectified maps (T', C, h', w')."""
        x_bcthw = views.to_views(pixels, self._spec, CPU)
        self._module.features(x_bcthw)
        assert self._last is not None
        maps, self._last = self._last.relu(), None
        if maps.ndim == 5:  # (1, C, T', h', w'): times between are their neighbours'
            maps = maps[0].transpose(0, 1)
            maps = maps[torch.arange(len(pixels)) * len(maps) // len(pixels)]
        shape = tuple(x_bcthw.shape)
        if shape not in self._costs:
            own = hasattr(self._module, "macs")
            count = self._module.macs if own else lambda s, m: count_macs(self._module, s, m)
            self._costs[shape] = count(shape, "features")
        self.macs += self._costs[shape]
        return maps.numpy()

    def taken(self) -> int:
        """Multiply-adds since the last call."""
        spent, self.macs = self.macs, 0
        return spent


class Answer:
    """Probability that the network gives the true class in a window: what an oracle knows.

    Attributes:
        truth: The true label of the clip in work; set it before each clip.
    """

    def __init__(self, run: str, size: int) -> None:
        module, entry, labels = load_weights(run)
        self._network = network_for(module, CPU, entry.input)
        self._spec, self._labels, self._size = entry.input, list(labels), size
        self.truth = ""
        self._held: tuple[Any, Any] = (None, None)

    def __call__(self, sample: Any, times: tuple[float, ...], box: Any) -> float:
        """The true class's probability; the frames are decoded once for all windows."""
        source = sample.info.width, sample.info.height
        selection = Selection(times=times, boxes=(box,) * len(times), size=self._size)
        key = id(sample), times
        if self._held[0] != key:
            size = views.decode_size_for(source, self._spec, selection)
            self._held = key, sample.frames(times, size)
        clip = self._held[1]
        if not len(clip):
            return 0.0
        shown = views.cut_out(clip, source, self._spec, selection)
        evidence, _ = self._network(views.to_views(shown, self._spec, CPU), None)
        scores = evidence.logits[evidence.exit][0].softmax(-1)
        return float(scores[self._labels.index(self.truth)])


@dataclass
class Entry:
    """One line of a table.

    Attributes:
        recognisers: One, or one per seed.
        glance: To be charged, for an activation window.
        answer: To be told the truth, for an oracle.
    """

    recognisers: list[Recogniser]
    glance: Glance | None = None
    answer: Answer | None = None


def entries(
    run: str, setting: Setting, names: Iterable[str], variants: Mapping[str, Any] | None = None
) -> dict[str, Entry]:
    """The looks of those names over one trained network.

    Args:
        run: Run folder, or a model with weights.
        setting: What all of them share.
        names: Keys of the table below.
        variants: Name → arguments that a motion patch of its own has besides the setting's.
    """
    _, entry, labels = load_weights(run)
    size, names, whole = setting.size, list(names), entry.input.size
    glance = Glance(run) if "activation" in names else None
    answer = Answer(run, size) if "oracle" in names else None
    patch = {"size": size, **dict(setting.patch)}
    # All windows cover as much as the motion patch's, so that only their places differ.
    extent = patch.get("extent")
    fixed = {"frame": round(size / extent)} if isinstance(extent, float) else {}
    same = {"size": size, **fixed}
    made: dict[str, list[Any]] = {
        "full": [None],
        "resize": [looks.Resize(size=size)],
        "centre": [looks.CentrePatch(**same)],
        "random": [looks.RandomPatch(**same, seed=s) for s in range(RANDOM_SEEDS)],
        "rwf-crop": [looks.RwfCrop(**same)],
        "rwf-crop-fixed": [looks.RwfCrop(**same, fixed=True)],
        "mocrop": [looks.MoCropPatch(**same)],
        "activation": [looks.ActivationPatch(**same, features=glance, glance=setting.glance)],
        "mv-patch": [looks.MotionPatch(**{**patch, "motion": "mv_affine", "source": "auto"})],
        "motion-patch": [looks.MotionPatch(**patch)],
        "context": [looks.Resize(size=round(whole * CONTEXT))],
        "detail": [looks.MotionPatch(**{**patch, "size": round(whole * DETAIL)})],
        "oracle": [looks.OracleGrid(**same, score=answer, cells=setting.cells)],
    }
    wanted = {name: made[name] for name in names}
    for name, arguments in (variants or {}).items():
        wanted[name] = [looks.MotionPatch(**{**patch, **arguments})]
    return {
        name: Entry(
            [foveate.load(run, look=look, top_k=len(labels)) for look in group],
            glance if name == "activation" else None,
            answer if name == "oracle" else None,
        )
        for name, group in wanted.items()
    }


def scores_of(result: Any, count: int) -> Any:
    """(classes,) scores of a Result that keeps all labels."""
    scores = np.zeros(count)
    for score in result.labels:
        scores[score.index] = score.score
    return scores
