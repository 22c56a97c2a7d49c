"""LSTS: a detector of single frames first, then its features carried from frame to frame.

Jiang et al., "Learning Where to Focus for Efficient Video Object Detection", ECCV 2020 (arXiv
1911.05253). The detector is trained as by the recipe `detector`, in a folder `frames` of the run.
Then samples are triples: two key frames and the present one, which is not a key frame. The old
key frame fills the memory, the new one updates it, and the loss is on the present frame only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from foveate.data import Dataset
from foveate.models.detectors import Found
from foveate.models.lsts import Offsets
from foveate.models.registry import create
from foveate.models.spec import InputSpec
from foveate.models.video_detector import VideoDetector, VideoState
from foveate.train.box_clips import targets_of
from foveate.train.initial_model import InitialModel
from foveate.train.kit import randomness
from foveate.train.kit.batches import Prepare
from foveate.train.recipe import Job, Recipe, RecipeContext, train_network
from foveate.train.recipes import detector
from foveate.train.recipes.detector import DetectorConfig, Trained, clips_of, detector_at, job
from foveate.train.run_state import RunSummary
from foveate.train.videos import Source


class LSTSConfig(DetectorConfig):
    """Settings of the recipe `lsts`; those of training are of the second stage."""

    model: str = Field(
        "", description="run folder of a detector to start from; empty: it is trained first"
    )
    neck: dict[str, int | float | str] = Field(
        default_factory=dict, description="arguments of lsts: embedding, init, count, update, ..."
    )
    interval: int = Field(10, ge=2, description="frames from key frame to key frame")
    schedule_of_keys: Literal["online", "offline"] = Field(
        "online", description="offline: the key frame lies in the middle of its frames (look-ahead)"
    )
    frame_epochs: int = Field(30, ge=1, description="of the detector")
    frame_lr: float = Field(1e-3, gt=0, description="of the detector")
    epochs: int = Field(10, ge=1)
    lr: float = Field(3e-4, gt=0)
    backbone_lr: float | None = Field(0.1, ge=0, description="factor on lr of the detector")
    offsets_lr: float = Field(
        100.0, gt=0, description="factor on lr of the offsets; published: 10000, with sgd"
    )
    freeze_norms: bool = Field(True, description="batch norms keep the detector's statistics")


def gaps(interval: int, offline: bool, random: np.random.Generator) -> Sequence[int]:
    """Where the old and the new key frame lie, as frames relative to the present one.

    With an interval of 10 these are the published ranges: online the new key is 1 to 10 frames
    before the present one and the old key 11 to 15; offline the new key is 5 before to 4 after it,
    and the old key 6 to 10 before it.
    """
    half = interval // 2
    if offline:
        return -int(random.integers(half + 1, interval + 1)), int(random.integers(-half, half))
    new = int(random.integers(1, interval + 1))
    return -int(random.integers(interval + 1, interval + half + 1)), -new


def triple_loss(network: VideoDetector, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The detector's loss on the last of three frames (B, 3, 3, H, W)."""
    _, state = network.key(x[:, :, 0], VideoState())
    _, state = network.key(x[:, :, 1], state)
    features, _ = network.nonkey(x[:, :, 2], state)
    targets, sizes = targets_of(y[:, 2])
    return network.loss(features, targets, sizes)


def detect_video(interval: int, network: VideoDetector, frames: Iterator[Tensor]) -> list[Found]:
    """Boxes of the frames (1, 3, H, W) of a video, a key frame at every `interval`-th."""
    state, found = VideoState(), list[Found]()
    for at, frame in enumerate(frames):
        step = network.key if at % interval == 0 else network.nonkey
        features, state = step(frame, state)
        found += network.detect(features, [(frame.shape[2], frame.shape[3])])
    return found


def _built(context: RecipeContext, folder: str) -> InitialModel:
    """LSTS around the trained detector."""
    config, classes = context.config, tuple(context.dataset.classes)
    start = detector_at(config, folder, classes)
    settings = {"detector": start.arch, "detector_settings": start.settings, **config.neck}
    randomness.seed_all(config.seed, "weights")
    network = create("lsts", num_classes=len(classes), **settings)
    assert isinstance(network, VideoDetector)
    network.detector.load_state_dict(start.model.state_dict())
    look = {"name": "key-frames", "every": config.interval}
    if config.schedule_of_keys == "offline":
        look["look_ahead"] = True
    return replace(start, model=network, arch="lsts", settings=settings, preset={"look": look})


def _job(context: RecipeContext, start: InitialModel, source: Source) -> Job:
    config, network = context.config, start.model
    assert isinstance(network, VideoDetector)

    def model(prepared: Prepare) -> Trained:
        return Trained(network, triple_loss, prepared, config.freeze_norms)

    return job(
        context, start, source, model=model, detect=partial(detect_video, config.interval),
        factors=_factors(network, config),
    )  # fmt: skip


def _factors(network: VideoDetector, config: LSTSConfig) -> dict[str, float]:
    """On the learning rate: the detector slower than the necks, the offsets much faster."""
    slow = 1.0 if config.backbone_lr is None else config.backbone_lr
    factors = {f"detector.{name}": slow for name, _ in network.detector.named_parameters()}
    for name, module in network.named_modules():
        if isinstance(module, Offsets):
            factors[f"{name}.table"] = config.offsets_lr
    return factors


def protocol_of(config: LSTSConfig, split: str | None, spec: InputSpec) -> str:
    """Key frames at a fixed interval."""
    where = "no validation" if split is None else f"split {split}"
    return (
        f"{where}; COCO average precision of the first {config.validation_frames} frames of each "
        f"video, a key frame every {config.interval} (online), {spec.size} pixels ({spec.resize})"
    )


def _frames(config: LSTSConfig) -> DetectorConfig:
    """Settings of the first stage."""
    own = {key: getattr(config, key) for key in DetectorConfig.model_fields}
    own |= {"epochs": config.frame_epochs, "lr": config.frame_lr, "backbone_lr": None}
    return DetectorConfig(**own)


def prepare(config: LSTSConfig, dataset: Dataset) -> LSTSConfig:
    """Refuse data without boxes; see `detector.prepare`."""
    detector.prepare(config, dataset)
    return config


def _train(context: RecipeContext) -> RunSummary:
    config: LSTSConfig = context.config
    folder = config.model or str(context.train_stage("frames", detector.RECIPE, _frames(config)))
    drawn = partial(gaps, config.interval, config.schedule_of_keys == "offline")
    summary = train_network(
        context, clips_of(config, context.dataset, gaps=drawn), _job, protocol_of,
        unknown=False, build=lambda own: _built(own, folder),
    )  # fmt: skip
    return replace(summary, stages=context.summarize({}, []).stages)


RECIPE = Recipe("lsts", LSTSConfig, _train, prepare=prepare)
