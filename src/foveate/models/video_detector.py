"""LSTS around a detector: whole on key frames, its low part on the others.

Source: Jiang et al., ECCV 2020 (arXiv 1911.05253); the modules are those of `models.lsts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.core.errors import ModelError
from foveate.models.detectors import Detector, Found, Maps, Target
from foveate.models.lsts import NeckState, TemporalNeck
from foveate.models.macs import on_meta
from foveate.models.registry import create, register

STRIDE = 16  # of the level for which the offsets of the paper are meant


@dataclass(frozen=True)
class VideoState:
    """What is carried from frame to frame of a video; the start is `VideoState()`.

    Attributes:
        levels: State of the neck of each feature map, by its name.
        size: `(H, W)` of the frames; None before the first.
    """

    levels: Mapping[str, NeckState] = field(default_factory=dict)
    size: tuple[int, int] | None = None


class VideoDetector(nn.Module):
    """A detector with a temporal neck on each of its feature maps.

    Args:
        detector: Any detector in two parts.
        **neck: Settings of each `TemporalNeck`.
    """

    def __init__(self, detector: Detector, **neck: Any) -> None:
        super().__init__()
        self.detector = detector
        low, features = _shapes(detector)
        self.sources = {name: _source(low, shape) for name, shape in features.items()}
        self.necks = nn.ModuleDict()
        for name, (channels, height) in features.items():
            made = TemporalNeck(channels, low[self.sources[name]][0], **neck)
            with torch.no_grad():  # the same distances in the picture on every level
                made.offsets.table.mul_(STRIDE * height / _SIDE)
            self.necks[f"level{name}"] = made

    def key(self, x: Tensor, state: VideoState) -> tuple[Maps, VideoState]:
        """Features to detect on in key frames, and the new state.

        Args:
            x: (N, 3, H, W); each row is a frame of another video.
            state: Of the frames before; it is not changed. Frames of another size begin anew.
        """
        size = (x.shape[2], x.shape[3])
        before = state.levels if state.size == size else {}
        features, levels = {}, {}
        for name, whole in self.detector.high(self.detector.low(x)).items():
            neck, last = self._neck(name), before.get(name, NeckState())
            features[name], levels[name] = neck.key(whole, last)
        return features, VideoState(levels, size)

    def nonkey(self, x: Tensor, state: VideoState) -> tuple[Maps, VideoState]:
        """Features to detect on in other frames, from their low part; and the new state.

        Args:
            x: As for `key`.
            state: Of the frames before; it is not changed.

        Raises:
            ModelError: There was no key frame of this size.
        """
        if state.size != (x.shape[2], x.shape[3]):
            raise ModelError("no key frame of this size was seen", "start with a key frame")
        low = self.detector.low(x)
        features, levels = {}, {}
        for name, last in state.levels.items():
            assert last.key is not None
            own = low[self.sources[name]]
            if own.shape[2:] != last.key.shape[2:]:
                own = F.interpolate(own, size=last.key.shape[2:], mode="area")
            features[name], levels[name] = self._neck(name).nonkey(own, last)
        return features, replace(state, levels=levels)

    def _neck(self, name: str) -> TemporalNeck:
        neck: Any = self.necks[f"level{name}"]
        return neck  # type: ignore[no-any-return]

    def detect(self, features: Maps, sizes: Sequence[tuple[int, int]]) -> list[Found]:
        """Boxes of each frame; see `Detector.detect`."""
        return self.detector.detect(features, sizes)

    def loss(
        self, features: Maps, targets: Sequence[Target], sizes: Sequence[tuple[int, int]]
    ) -> dict[str, Tensor]:
        """The detector's loss; see `Detector.loss`."""
        return self.detector.loss(features, targets, sizes)

    def forward(self, x: Tensor) -> list[Found]:
        """Boxes of single images (N, 3, H, W): the plain detector."""
        found: list[Found] = self.detector(x)
        return found

    def groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Parameter groups for an optimizer; the offsets move much faster than other weights."""
        own = [p for p in self.detector.parameters() if p.requires_grad]
        groups = [{"params": own, "lr": lr, "weight_decay": weight_decay}]
        for neck in self.necks.values():
            assert isinstance(neck, TemporalNeck)
            groups += neck.groups(lr, weight_decay)
        return groups


@register("lsts", classifier=False, tiny={
    "num_classes": 3, "detector": "rfcn:resnet18", "detector_settings": {"channels": 64},
    "embedding": 16, "count": 8,
}, tiny_input=(2, 3, 1, 64, 64))  # fmt: skip
def lsts(
    num_classes: int = 30,
    detector: str = "rfcn:resnet101",
    detector_settings: Mapping[str, Any] | None = None,
    embedding: int = 256,
    init: str = "gaussian",
    count: int | None = None,
    form: str = "lattice",
    normalisation: str = "softmax",
    update: float = 1.0,
    hidden: int = 256,
) -> VideoDetector:
    """LSTS around any detector.

    Args:
        num_classes: Classes without the background.
        detector: Architecture of the detector.
        detector_settings: Further arguments of its builder.
        embedding: See `LearnedSampling`.
        init: See `Offsets`.
        count: See `Offsets`.
        form: See `LearnedSampling`.
        normalisation: See `LearnedSampling`.
        update: See `TemporalNeck`.
        hidden: See `TemporalNeck`.

    Raises:
        ModelError: The architecture is no detector.
    """
    network = create(detector, num_classes=num_classes, **(detector_settings or {}))
    if not isinstance(network, Detector):
        raise ModelError(f"{detector}: is no detector in two parts", "such as rfcn:resnet18")
    return VideoDetector(
        network, embedding=embedding, init=init, count=count, form=form,
        normalisation=normalisation, update=update, hidden=hidden,
    )  # fmt: skip


def stack_states(states: Sequence[VideoState]) -> VideoState:
    """One state for a batch of videos whose states have equal shapes."""
    first = states[0]
    if len(states) == 1:
        return first

    def joined(kind: str, name: str) -> Tensor | None:
        rows = [getattr(state.levels[name], kind) for state in states]
        return None if rows[0] is None else torch.cat(rows)

    levels = {
        name: replace(one, memory=joined("memory", name), key=joined("key", name))
        for name, one in first.levels.items()
    }
    return VideoState(levels, first.size)


def split_state(state: VideoState, count: int) -> list[VideoState]:
    """The states of the videos of a batch (copies, so that one does not hold all others)."""
    if count == 1:
        return [state]

    def row(value: Tensor | None, at: int) -> Tensor | None:
        return None if value is None else value[at : at + 1].clone()

    return [
        replace(
            state,
            levels={
                name: NeckState(row(one.memory, at), row(one.key, at), one.frames)
                for name, one in state.levels.items()
            },
        )
        for at in range(count)
    ]


_SIDE = 320


def _shapes(detector: Detector) -> tuple[dict[str, tuple[int, int]], dict[str, tuple[int, int]]]:
    """Channels and height of the maps of `low` and of `high`, for frames of `_SIDE` pixels."""
    with torch.no_grad(), torch.device("meta"):
        shadow: Any = on_meta(detector).eval()
        low = shadow.low(torch.zeros(1, 3, _SIDE, _SIDE))
        features = shadow.high(low)
    return tuple(  # type: ignore[return-value]
        {name: (one.shape[1], one.shape[2]) for name, one in maps.items()}
        for maps in (low, features)
    )


def _source(low: Mapping[str, tuple[int, int]], shape: tuple[int, int]) -> str:
    """The map of `low` that a feature map is lifted from: the deepest of at least its height."""
    large = [name for name, (_, height) in low.items() if height >= shape[1]]
    return (large or list(low))[-1]
