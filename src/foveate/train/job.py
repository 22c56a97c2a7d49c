"""What a recipe trains on what: a network on clips, or its head on features that are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from foveate.core import ConfigError, FoveateError
from foveate.data import Dataset
from foveate.data.mixing import cutmix, mixup
from foveate.data.prepare import to_float
from foveate.evaluate import metrics
from foveate.models.spec import InputSpec
from foveate.train.features import FeatureSet, Head, draw_view, kept_features, key_of, several
from foveate.train.initial_model import Start
from foveate.train.kit.batches import Batch, Batches, TensorBatches
from foveate.train.kit.distributed import Team
from foveate.train.kit.loop import Objective, Validate
from foveate.train.kit.losses import multilabel_loss, soft_cross_entropy
from foveate.train.kit.state import Moment
from foveate.train.videos import Source, mirror_of

if TYPE_CHECKING:
    from foveate.train.recipes.supervised import SupervisedConfig

Progress = Callable[[Moment], None]


@dataclass(frozen=True)
class Job:
    """What is trained on what.

    Attributes:
        model: The whole network, or its head.
        batches: Clips, or features.
        held_out: Of the validation split, None if there is none (and where nobody validates).
        objective: Losses of a batch.
        validate: Scores of a model.
        failures: Clips of which no features could be computed.
        warnings: Clips that were damaged when features were computed.
    """

    model: nn.Module
    batches: Batches
    held_out: Batches | None
    objective: Objective
    validate: Validate
    failures: list[str]
    warnings: list[str]

    def told(self) -> tuple[list[str], list[str]]:
        """All that could not be read, and all that was damaged, in training and validation."""
        sources = [source for source in (self.batches, self.held_out) if source is not None]
        failed = [str(failure) for source in sources for failure in source.failures]
        damaged = [line for source in sources for line in source.warnings]
        return self.failures + failed, self.warnings + damaged


def job_of(
    config: SupervisedConfig,
    dataset: Dataset,
    start: Start,
    source: Source,
    us: Team,
    folder: Path,
    show: Progress | None,
) -> Job:
    """Gather what the loop needs; with `freeze=backbone` the features are computed here.

    Raises:
        ConfigError: No training clips, a network without a head of its own, or cutmix on features.
        FoveateError: Not one clip could be read, or the features cannot be written.
    """
    prepare = prepare_of(start.input, us)
    sets: list[FeatureSet | None] = []
    batches: Batches | None
    held_out: Batches | None
    if config.freeze == "backbone":
        if config.cutmix:
            raise ConfigError("cutmix cuts pictures: it cannot go with freeze=backbone")
        model: nn.Module = Head(start.model)
        sets = [
            _features(config, dataset, start, source, us, folder, split, show)
            for split in (config.train_split, config.val_split)
        ]
        if sets[0] is None:
            raise ConfigError(f"the split {config.train_split!r} has no clips")
        batches, held_out = _feature_batches(config, us, sets[0], sets[1])
    else:
        model = start.model
        batches = source(config.train_split, True, start.input, us)
        held_out = source(config.val_split, False, start.input, us) if us.leads else None
    if batches is None:
        raise ConfigError(f"the split {config.train_split!r} has no clips")
    classes = len(dataset.classes)
    return Job(
        model,
        batches,
        held_out,
        objective_of(config, classes, dataset.multilabel, prepare),
        validation_of(held_out, prepare, dataset.multilabel),
        [line for one in sets if one is not None for line in one.failures],
        [line for one in sets if one is not None for line in one.warnings],
    )


def _features(
    config: SupervisedConfig,
    dataset: Dataset,
    start: Start,
    source: Source,
    us: Team,
    folder: Path,
    split: str,
    show: Progress | None,
) -> FeatureSet | None:
    """Features of a split; the leader computes them, the others read what it wrote."""
    # A mirror image is one more view, unless it would belong to another class.
    mirror = mirror_of(dataset.classes)
    views = config.flip and config.augment != "none" and mirror == tuple(range(len(mirror)))
    batches = source(split, False, start.input, us)
    if batches is None:
        return None
    # Random patches are drawn several times, so that a frozen network does not learn one by heart.
    draws = getattr(source, "draws", 1) if split == config.train_split else 1
    look = None if config.look is None else config.look.model_dump(mode="json")

    def told(done: int, total: int) -> None:
        if show is not None:
            show(Moment(0, 1, done, total, stage=f"features of {split}"))

    def kept(draw: int) -> FeatureSet:
        drawn: Any = source
        clips = batches if draw == 0 else drawn.drawn(draw)(split, False, start.input, us)
        more = {} if look is None else {"look": look, "draw": draw}
        key = key_of(
            start.model, data=dataset.digest(split), split=split, input=asdict(start.input),
            views=views, **more,
        )  # fmt: skip
        return kept_features(
            folder / "features", split, key, start.model, lambda: clips,
            prepare_of(start.input, us), views, told,
        )  # fmt: skip

    with explained(batches):
        found = [kept(draw) for draw in range(draws)] if us.leads else None
    us.wait()
    return several(found or [kept(draw) for draw in range(draws)])


def _feature_batches(
    config: SupervisedConfig, us: Team, train: FeatureSet, val: FeatureSet | None
) -> tuple[Batches, Batches | None]:
    batches = TensorBatches(
        train.x, train.y, config.batch, config.seed, us.rank, us.world, draw_view
    )
    return batches, None if val is None else TensorBatches(val.x[:, 0], val.y, 256)


def prepare_of(spec: InputSpec, us: Team) -> Callable[[torch.Tensor], torch.Tensor]:
    """uint8 clips as the network takes them; floating-point samples pass as they are."""
    return lambda x: to_float(x.to(us.device, non_blocking=True), spec.mean, spec.std)


def mixes_of(config: SupervisedConfig) -> list[tuple[Any, float]]:
    """What mixes the clips of a batch, with its alpha; with several, every batch draws one."""
    return [
        (mix, alpha) for mix, alpha in ((mixup, config.mixup), (cutmix, config.cutmix)) if alpha
    ]


def objective_of(
    config: SupervisedConfig,
    classes: int,
    multilabel: bool,
    prepare: Callable[[torch.Tensor], torch.Tensor],
) -> Objective:
    loss = multilabel_loss if multilabel else soft_cross_entropy
    mixes = mixes_of(config)

    def objective(model: nn.Module, batch: Batch, stream: torch.Generator) -> torch.Tensor:
        x = prepare(batch["x"])
        y = batch["y"].to(x.device)
        if mixes:
            random = np.random.default_rng(stream.initial_seed())
            mix, alpha = mixes[int(random.integers(len(mixes)))]
            x, y = mix(x, y, random, classes=classes, alpha=alpha)
        return loss(model(x), y, config.label_smoothing)

    return objective


def validation_of(
    held_out: Batches | None,
    prepare: Callable[[torch.Tensor], torch.Tensor],
    multilabel: bool,
) -> Validate:
    loss = multilabel_loss if multilabel else soft_cross_entropy

    def validate(model: nn.Module) -> tuple[tuple[float, ...], dict[str, float]]:
        if held_out is None:
            return (), {}
        logits, labels = [], []
        with explained(held_out):
            for batch in held_out.batches(0):
                if len(batch["x"]):
                    logits.append(model(prepare(batch["x"])).float().cpu())
                    labels.append(batch["y"].cpu())
        if not logits:
            raise FoveateError("not one clip of the validation split could be read")
        scores, truth = torch.cat(logits), torch.cat(labels)
        mean = float(loss(scores, truth).mean())
        figures = _figures(scores, truth, multilabel)
        # Of two epochs that name as many clips right, the surer one is better.
        named = metrics.Protocol("clip", 1).name("loss")
        return (next(iter(figures.values())), -mean), {**figures, named: mean}

    return validate


def _figures(scores: torch.Tensor, truth: torch.Tensor, multilabel: bool) -> dict[str, float]:
    named, n = metrics.Protocol("clip", 1).name, len(truth)
    values, labels = scores.numpy(), truth.numpy()
    if multilabel:
        value = metrics.value_of(metrics.mean_average_precision(values, labels), n)
        return {named("map"): 0.0 if np.isnan(value) else value}
    right = metrics.hits(values, labels)
    return {
        named("top1"): float(right.mean()),
        named("mean-class-accuracy"): metrics.value_of(
            metrics.mean_class_accuracy(right, labels), n
        ),
    }


@contextmanager
def explained(batches: Batches) -> Iterator[None]:
    """Turn torch's word of a dead loading process into one that can be understood."""
    try:
        yield
    except RuntimeError as error:
        explain = getattr(batches, "explain", None)
        found = explain(error) if explain is not None else None
        if found is None:
            raise
        raise found from None
