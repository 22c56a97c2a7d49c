"""Training a detector on single frames of video, by the loss of the detector itself.

The result detects objects in every frame by itself; the recipe `lsts` begins with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from foveate.core import ConfigError
from foveate.data import Dataset
from foveate.evaluate.detection import IOUS, DetectionMeasure, FrameObjects, TrueVideo
from foveate.evaluate.metrics import value_of
from foveate.models.detectors import Detector, Found
from foveate.models.registry import create, entry
from foveate.models.spec import InputSpec
from foveate.models.weights.builtin import run_folder
from foveate.models.weights.run import load_run
from foveate.train.box_clips import BoxClips, targets_of
from foveate.train.config import TrainingConfig
from foveate.train.initial_model import InitialModel
from foveate.train.kit import randomness
from foveate.train.kit.batches import Batch, Batches, Prepare, worker_errors
from foveate.train.recipe import Job, Recipe, RecipeContext, train_network
from foveate.train.run_state import RunSummary
from foveate.train.videos import Source, prepare_of

METHOD = "detector"
EVERY_FRAME = {"look": {"name": "key-frames", "every": 1}}


class DetectorConfig(TrainingConfig):
    """Settings of the recipe `detector`."""

    model: str = Field("", description="run folder to start from; empty: random weights")
    detector: str = Field(
        "ssdlite320-mobilenet-v3-large", description="architecture, such as rfcn:resnet18"
    )
    detector_settings: dict[str, Any] = Field(
        default_factory=dict, description="arguments of the architecture's builder"
    )
    freeze: Literal["none"] = "none"
    frames: Literal[1] = 1
    batch: int = Field(8, ge=1, description="samples in a step, over all processes")
    accumulate: int | None = Field(1, ge=1)
    per_video: int = Field(15, ge=1, description="annotated frames of a video in an epoch")
    validation_frames: int = Field(40, ge=1, description="frames of each video in validation")


def prepare(config: DetectorConfig, dataset: Dataset) -> DetectorConfig:
    """Refuse data without boxes, and a detector without a loss.

    Raises:
        ConfigError: The clips have no boxes, there are none to train on, or it is FastestDet.
    """
    if config.detector == "fastestdet":
        raise ConfigError("detector: fastestdet cannot be trained here", "such as rfcn:resnet18")
    if not dataset.has_boxes:
        raise ConfigError(
            f"{dataset.root}: the clips have no boxes", "known formats: foveate data check --help"
        )
    if not len(dataset.subset(config.train_split)):
        raise ConfigError(f"the split {config.train_split!r} has no clips")
    return config


class Trained(nn.Module):
    """A network with the loss of a batch as its forward pass.

    Args:
        network: Trained.
        loss: Terms of the loss from (network, frames, y); see `train.box_clips`.
        prepare: From uint8 frames to the network's input.
        freeze_norms: Batch norms keep their statistics.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Any, Tensor, Tensor], dict[str, Tensor]],
        prepare: Prepare,
        freeze_norms: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.loss, self.prepare = network, loss, prepare
        self.freeze_norms = freeze_norms

    def train(self, mode: bool = True) -> Trained:
        """Set the mode of everything but frozen norms."""
        super().train(mode)
        for module in self.modules() if self.freeze_norms else ():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of each sample, (B,); detectors give their mean only."""
        x = self.prepare(x)
        total = torch.stack(
            [one.float() for one in self.loss(self.network, x, y.to(x.device)).values()]
        )
        return total.sum().expand(len(x))


def job(
    context: RecipeContext,
    start: InitialModel,
    source: Source,
    *,
    model: Callable[[Prepare], Trained],
    detect: Callable[[Any, Iterator[Tensor]], list[Found]],
    factors: Mapping[str, float] | None = None,
) -> Job:
    """Training on frames with boxes; validated by mean average precision.

    Args:
        context: Of the run.
        start: The network.
        source: Of the samples.
        model: The network with its loss.
        detect: Boxes of the frames (1, 3, H, W) of a video.
        factors: On the learning rate, by the name of the parameter in the start's network.

    Raises:
        ConfigError: No training clip has boxes.
    """
    config, group, spec = context.config, context.group, start.input
    batches = source(config.train_split, True, spec, group)
    if batches is None:
        raise ConfigError(f"no clip of the split {config.train_split!r} has boxes")
    held_out = source(config.val_split, False, spec, group) if group.is_main else None
    prepared = prepare_of(spec, group.device)

    def objective(net: nn.Module, batch: Batch, stream: torch.Generator) -> Tensor:
        losses: Tensor = net(batch["x"], batch["y"])
        return losses

    def validate(net: nn.Module) -> tuple[tuple[float, ...], dict[str, float]]:
        if held_out is None:
            return (), {}
        assert isinstance(net, Trained)
        found = average_precision(
            partial(detect, net.network), held_out, prepared, len(context.dataset.classes)
        )
        return (found["map@frame"], found["map50@frame"]), found

    if factors is not None:
        factors = {f"network.{name}": factor for name, factor in factors.items()}
    return Job(model(prepared), batches, held_out, objective, validate, factors=factors)


def average_precision(
    detect: Callable[[Iterator[Tensor]], list[Found]],
    videos: Batches,
    prepare: Prepare,
    classes: int,
) -> dict[str, float]:
    """mAP and mAP50 on the sequences of validation.

    Args:
        detect: Boxes of the frames (1, 3, H, W) of a video.
        videos: A video per batch.
        prepare: From uint8 frames to the network's input.
        classes: Their number.
    """
    truth, found = [], []
    with worker_errors(videos):
        for batch in videos.batches(0):
            if not len(batch["x"]):
                continue
            x, y = batch["x"], batch["y"][0]
            said = detect(prepare(x[:, :, at : at + 1])[:, :, 0] for at in range(x.shape[2]))
            targets, _ = targets_of(y)
            frames = [at for at in range(len(y)) if y[at, 0, 2] > 0]
            truth.append(TrueVideo({at: _objects(targets[at]) for at in frames}))
            found.append({at: _objects(said[at]) for at in frames})
    measure = DetectionMeasure(truth, found, classes)
    values = {"map50@frame": IOUS[:1], "map@frame": IOUS}
    # Without a single box of a class in validation, its precision is not known.
    figures = {name: value_of(measure.statistic(ious), len(truth)) for name, ious in values.items()}
    return {name: 0.0 if value != value else value for name, value in figures.items()}


def _objects(found: Found) -> FrameObjects:
    boxes, labels = found["boxes"].double().cpu().numpy(), found["labels"].cpu().numpy()
    scores = found["scores"].double().cpu().numpy() if "scores" in found else labels * 0.0
    return FrameObjects(boxes, labels, scores)


def input_of(config: DetectorConfig) -> InputSpec:
    """The input of the settings' detector.

    Raises:
        ConfigError: The architecture has none, and no size is set.
    """
    spec = entry(config.detector).input
    if spec is None and config.size is None:
        raise ConfigError(f"{config.detector}: has no input of its own", "set size")
    spec = spec or InputSpec(config.size or 0, 25.0, 1, crop="none")
    rate = config.rate or spec.frames_per_second
    return replace(spec, size=config.size or spec.size, frames_per_second=rate, clip_frames=1)


def detector_at(config: DetectorConfig, model: str, classes: tuple[str, ...]) -> InitialModel:
    """A trained detector.

    Args:
        config: Settings; the size may differ from that of the training.
        model: Its run folder.
        classes: Which it must have.

    Raises:
        ConfigError: It is no run folder of a detector, or has other classes.
    """
    folder = run_folder(model)
    if folder is None:
        raise ConfigError(f"model={model}: no run folder", "train one with --recipe detector")
    loaded = load_run(folder)
    card = loaded.card
    assert card is not None
    if loaded.method != METHOD or not isinstance(loaded.network, Detector):
        raise ConfigError(
            f"model={model}: is no detector of single frames", "train one with --recipe detector"
        )
    if loaded.labels != classes:
        raise ConfigError(f"model={model}: has other classes: {', '.join(loaded.labels)}")
    spec = loaded.input if config.size is None else replace(loaded.input, size=config.size)
    return InitialModel(
        loaded.network, card.network.arch, dict(card.network.settings), spec,
        card.started_from or "an earlier run", card.licence, card.notice, METHOD,
        EVERY_FRAME,
    )  # fmt: skip


def _built(context: RecipeContext) -> InitialModel:
    """The detector to be trained.

    Raises:
        ConfigError: The architecture is no detector, or the run folder does not fit.
        ModelError: It is not known, or has no such setting.
    """
    config, classes = context.config, tuple(context.dataset.classes)
    if config.model:
        return detector_at(config, config.model, classes)
    randomness.seed_all(config.seed, "weights")
    network = create(config.detector, num_classes=len(classes), **config.detector_settings)
    if not isinstance(network, Detector):
        raise ConfigError(f"detector={config.detector}: is no detector", "such as rfcn:resnet18")
    return InitialModel(
        network, config.detector, config.detector_settings, input_of(config), method=METHOD,
        preset=EVERY_FRAME,
    )  # fmt: skip


def frame_loss(network: Detector, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The detector's loss on frames (B, 3, 1, H, W)."""
    targets, sizes = targets_of(y[:, -1])
    return network.loss(network.high(network.low(x[:, :, -1])), targets, sizes)


def detect_frames(network: Detector, frames: Iterator[Tensor]) -> list[Found]:
    """Boxes of each frame (1, 3, H, W) by itself."""
    return [network(frame)[0] for frame in frames]


def _job(context: RecipeContext, start: InitialModel, source: Source) -> Job:
    def model(prepared: Prepare) -> Trained:
        return Trained(start.model, frame_loss, prepared)

    return job(context, start, source, model=model, detect=detect_frames)


def protocol_of(config: DetectorConfig, split: str | None, spec: InputSpec) -> str:
    """Every frame by itself."""
    where = "no validation" if split is None else f"split {split}"
    return (
        f"{where}; COCO average precision of the first {config.validation_frames} frames of each "
        f"video, each by itself, {spec.size} pixels ({spec.resize})"
    )


def clips_of(config: DetectorConfig, dataset: Dataset, **more: Any) -> BoxClips:
    """The samples of a recipe."""
    return BoxClips(
        dataset, config.batch, config.seed, config.workers, config.per_video,
        config.validation_frames, flip=config.flip, **more,
    )  # fmt: skip


def _train(context: RecipeContext) -> RunSummary:
    source = clips_of(context.config, context.dataset)
    return train_network(context, source, _job, protocol_of, unknown=False, build=_built)


RECIPE = Recipe("detector", DetectorConfig, _train, prepare=prepare)
