"""AdaFocus: networks that glance at whole frames and focus on learned patches of them.

* `variant=v1`: glance and focus networks alone, then focus and classifier on random patches, then
  the policy by PPO, then the classifier on the policy's patches. Each stage but the last has a run
  folder inside that of the run.
* `variant=v2`: all parts at once; the gradient reaches the policy through the crop.
* `variant=uni`: all parts at once; a temporal policy chooses frames, a spatial one windows.

With `freeze=backbone` the two backbones keep their weights and the glance's maps are computed once.
Where backbones are frozen anyway (the last two stages of V1), all features are. Finally the exits
are calibrated on training clips that were held out. Sources: see `models.adafocus`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from foveate.core import ConfigError
from foveate.data import Dataset, samplers
from foveate.data.splits import held_out
from foveate.evaluate.results import now
from foveate.models.adafocus import is_causal
from foveate.models.adafocus_card import coarse_to_fine
from foveate.models.spec import InputSpec
from foveate.models.weights.builtin import run_folder
from foveate.models.weights.run import load_run, read_run, write_run
from foveate.pipeline.adafocus import AdaFocusExecutor, exit_seconds
from foveate.pipeline.loading import load
from foveate.policy.operating import fit_exits
from foveate.train.features import FeatureSet, computed_once, kept_features, key_of
from foveate.train.initial_model import InitialModel
from foveate.train.kit import randomness
from foveate.train.kit.batches import (
    Batch,
    Batches,
    Prepare,
    TensorBatches,
    outputs_of,
    worker_errors,
)
from foveate.train.kit.loop import Objective
from foveate.train.recipe import Job, Recipe, RecipeContext, train_network
from foveate.train.recipes import supervised
from foveate.train.recipes.adafocus import networks, objectives, ppo
from foveate.train.recipes.adafocus.config import AdaFocusConfig
from foveate.train.recipes.supervised import SupervisedConfig, validation_of
from foveate.train.run_state import RunSummary
from foveate.train.videos import Source, VideoClips, prepare_of

CALIBRATION = "calibration"  # the split on which nothing is trained but the exits
_ALONE = {"glance": "glance_size", "focus": "size"}  # side of what each network sees alone


def prepare(config: AdaFocusConfig, dataset: Dataset) -> AdaFocusConfig:
    """Refuse what cannot be trained on; returns the settings with the backbones named.

    Raises:
        ConfigError: Several labels a clip, several processes, or settings that exclude each other.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("the recipe adafocus trains in one process", "start it without torchrun")
    if dataset.multilabel:
        raise ConfigError("the recipe adafocus needs one class per clip")
    if config.variant == "v1" and config.freeze == "backbone" and config.tune == "focus":
        raise ConfigError("tune=focus trains the focus network", "set freeze=none")
    named = {part: config.backbone(part) for part in ("glance", "focus")}
    return config.model_copy(update=named)


def _train(context: RecipeContext) -> RunSummary:
    """Train the variant's stages, then calibrate the exits of the best network."""
    config: AdaFocusConfig = context.config
    dataset = whole = context.dataset
    if config.calibration and context.source is None:
        dataset = held_out(
            dataset, config.train_split, config.calibration, CALIBRATION, config.seed
        )
    context = replace(context, dataset=dataset)
    if config.variant == "v1":
        context, job = _stages_of_v1(context)
    else:
        job = end_to_end
    summary = _trained(context, job)
    if summary.outcome == "interrupted":
        return summary
    done = context.summaries
    calibrate(context, config, whole)
    return replace(
        summary,
        warnings=[*(w for stage in done for w in stage.warnings), *summary.warnings,
                  *_not_learned(context, summary)],
        failures=list(dict.fromkeys(f for s in (*done, summary) for f in s.failures)),
        stages={str(s.folder.relative_to(context.folder)): s.figures for s in done},
    )  # fmt: skip


def _trained(context: RecipeContext, job: Callable[..., Job]) -> RunSummary:
    """One stage, in the run folder of the context."""
    build = networks.initial_network
    return train_network(context, _source(context), job, protocol_of, unknown=False, build=build)


def _source(context: RecipeContext) -> Source:
    """Where clips come from."""
    shared = context.config.model_dump(include={"batch", "seed", "workers", "augment", "flip"})
    return context.source or Clips(context.dataset, **shared)


def _stages_of_v1(context: RecipeContext) -> tuple[RecipeContext, Callable[..., Job]]:
    """Train all stages of V1 but the last; returns what the last one is trained with."""
    config: AdaFocusConfig = context.config
    alone, random, policy, last = config.stages
    update: dict[str, Any] = {"stages": (0, 0, 0, 0)}
    if alone and not config.model and config.freeze == "none":
        for part, side in _ALONE.items():
            source = config.backbone(part)  # type: ignore[arg-type]
            if run_folder(source) is None:
                settings = _alone(context, source, getattr(config, side), alone)
                update[part] = str(context.train_stage(part, supervised.RECIPE, settings))
    config = config.model_copy(update=update)
    of_stage = partial(_stage, context)
    first = config.model_copy(update={"epochs": random})
    begun = context.train_stage("random", of_stage(random_patches), first)
    second = config.model_copy(
        update={"epochs": policy, "model": str(begun), "lr": config.ppo_lr, "policy_lr": 1.0,
                "weight_decay": 0.0}
    )  # fmt: skip
    found = context.train_stage("policy", of_stage(policy_by_ppo), second)
    # As published: a tenth of the rate of the first stage.
    third = config.model_copy(update={"epochs": last, "model": str(found), "lr": config.lr / 10})
    return replace(context, config=third), partial(policy_patches, features=context)


def _stage(context: RecipeContext, job: Callable[..., Job]) -> Recipe:
    """A stage of V1 as a recipe; features are stored in the folder of the whole run."""
    run = partial(_trained, job=partial(job, features=context))
    return Recipe(context.recipe.name, AdaFocusConfig, run)


def _alone(context: RecipeContext, backbone: str, side: int, epochs: int) -> SupervisedConfig:
    """Stage 0 of V1: one backbone on whole frames, the mean over their logits (TSN)."""
    config: AdaFocusConfig = context.config
    names = SupervisedConfig.model_fields.keys() & AdaFocusConfig.model_fields.keys()
    own = {name: getattr(config, name) for name in names}
    spec = networks.input_of(context)
    return SupervisedConfig(
        **own
        | {
            "model": f"tsn:{backbone}", "size": side, "epochs": epochs, "settings": {},
            "rate": spec.frames_per_second, "lr": config.lr * config.classifier_lr,
            "backbone_lr": 1 / config.classifier_lr if config.classifier_lr else 1.0,
        }
    )  # fmt: skip


@dataclass(frozen=True)
class Clips(VideoClips):
    """Clips of one frame from each of equal parts of a window, as in TSN."""

    def sampling(self, spec: InputSpec) -> samplers.Sampling:
        """See `in_parts`."""
        return partial(in_parts, count=spec.clip_frames, rate=spec.frames_per_second)


def in_parts(
    start: float, end: float, random: Any = None, *, count: int, rate: float
) -> samplers.Times:
    """Times in equal parts of a window: anywhere in each in training, else its centre.

    Prediction takes the centres, too; windows are placed as by `samplers.window`.
    """
    found = samplers.window(start, end, random, count=count, rate=rate)
    step = min(1 / rate, (end - start) / count)
    return samplers.segments(found[0], min(end, found[0] + count * step), random, count=count)


def ordered(context: RecipeContext, spec: InputSpec) -> Prepare:
    """Normalises clips; those of V2 get the order in which frames are counted, coarse to fine.

    A glance that remembers the frames before sees them in their order.
    """
    normalised = prepare_of(spec, context.group.device)
    config: AdaFocusConfig = context.config
    if config.variant != "v2" or is_causal(config.backbone("glance")):
        return normalised
    order = coarse_to_fine(spec.clip_frames)
    return lambda x: normalised(x)[:, :, order]


# --- jobs -------------------------------------------------------------------------------------


def end_to_end(context: RecipeContext, start: InitialModel, source: Source) -> Job:
    """V2 or Uni-AdaFocus; with `freeze=backbone` on clips in memory and maps computed once."""
    config: AdaFocusConfig = context.config
    network: Any = start.model
    ready = ordered(context, start.input)
    options: dict[str, Any] = {}
    losses: Any = objectives.v2_losses
    if config.variant == "uni":
        losses = objectives.uni_losses
        options = {"draws": config.draws, "extent": config.extent}
    maps: Tensor | None = None
    batches: Batches | None
    if config.freeze == "backbone":
        networks.freeze(network, ("glance", "focus"))
        held = _in_memory(context, source, start.input)
        at: Any = slice(None)
        if config.variant == "uni":
            at = network.glance_frames(start.input.clip_frames)
        seen = _features(
            context, start, held, config.train_split,
            lambda x: network.look(x.transpose(1, 2)[:, at])[0].flatten(1), context,
        )  # fmt: skip
        shape = (config.frames, network.glance.map_channels, network.cells, network.cells)
        batches, maps = held, seen.x[:, 0].unflatten(1, shape)
    else:
        batches = source(config.train_split, True, start.input, context.group)

    def objective(net: Any, batch: Batch, stream: torch.Generator) -> Tensor:
        frames = ready(batch["x"]).transpose(1, 2)
        glanced = None
        if maps is not None:
            _frozen_norms(net)
            known = maps[batch["index"]].to(frames.device)
            glanced = known, known.mean((3, 4))
        labels = batch["y"].to(frames.device)
        found: Tensor = losses(
            net, frames, labels, stream, config.label_smoothing, glanced, **options
        )
        return found

    return _job(context, start, source, batches, objective)


def random_patches(
    context: RecipeContext, start: InitialModel, source: Source, features: RecipeContext
) -> Job:
    """Stage 1 of V1: focus and classifier on patches at random places; validated on some, too."""
    return _patches(context, start, source, features, random=True)


def policy_patches(
    context: RecipeContext, start: InitialModel, source: Source, features: RecipeContext
) -> Job:
    """Stage 3 of V1: the classifier, as released, or the focus too, on the policy's patches."""
    return _patches(context, start, source, features, random=False)


def _patches(
    context: RecipeContext, start: InitialModel, source: Source, features: RecipeContext,
    random: bool,
) -> Job:  # fmt: skip
    config: AdaFocusConfig = context.config
    smoothing = config.label_smoothing
    if config.freeze == "backbone" or not (random or config.tune == "focus"):
        networks.freeze(start.model, ("glance", "focus", "policy"))

        def losses(net: Any, seen: ppo.GridFeatures, labels: Tensor, stream: Any) -> Tensor:
            logits = ppo.grid_logits(net, seen, stream if random else None)
            return objectives.every(logits, labels, smoothing)

        return _on_grid(context, start, source, features, losses, random)
    networks.freeze(start.model, ("glance", "policy"))
    ready = ordered(context, start.input)

    def objective(net: Any, batch: Batch, stream: torch.Generator) -> Tensor:
        _frozen_norms(net)
        frames = ready(batch["x"]).transpose(1, 2)
        logits = objectives.v1_logits(net, frames, stream if random else None)
        return objectives.every(logits, batch["y"].to(frames.device), smoothing)

    def answer(x: Tensor) -> Tensor:
        drawn = randomness.generator(config.seed, "validation") if random else None
        return objectives.v1_logits(start.model, x.transpose(1, 2), drawn)[:, -1]  # type: ignore[arg-type]

    batches = source(config.train_split, True, start.input, context.group)
    job = _job(context, start, source, batches, objective)
    validate = validation_of(job.held_out, ready, False)
    return replace(job, validate=lambda net: validate(_Called(answer)))


def policy_by_ppo(
    context: RecipeContext, start: InitialModel, source: Source, features: RecipeContext
) -> Job:
    """Stage 2 of V1, on features of all patches of the grid."""
    config: AdaFocusConfig = context.config
    networks.freeze(start.model, ("glance", "focus", "classifier"))

    def losses(net: Any, seen: ppo.GridFeatures, labels: Tensor, stream: Any) -> Tensor:
        return ppo.ppo_losses(net, seen, labels, config, stream)

    return _on_grid(context, start, source, features, losses)


def _on_grid(
    context: RecipeContext, start: InitialModel, source: Source, features: RecipeContext,
    losses: Callable[[Any, ppo.GridFeatures, Tensor, torch.Generator], Tensor],
    random: bool = False,
) -> Job:  # fmt: skip
    """Training and validation on features of all patches of the grid, computed once.

    Args:
        context: Of the stage.
        start: V1.
        source: Of the clips.
        features: Of the whole run, in whose folder features are stored.
        losses: Of features and labels.
        random: Validate on patches at random places instead of the policy's.

    Raises:
        ConfigError: No training clips.
    """
    config: AdaFocusConfig = context.config
    network: Any = start.model
    device = context.group.device
    known: dict[str, tuple[FeatureSet, ppo.GridFeatures]] = {}
    for split in (config.train_split, config.val_split):
        clips = source(split, False, start.input, context.group)
        if clips is not None:
            found = _features(
                context, start, clips, split, partial(ppo.grid_features, network), features
            )
            grid = ppo.GridFeatures.unpack(found.x[:, 0], network, start.input.clip_frames)
            known[split] = found, grid
    if config.train_split not in known:
        raise ConfigError(f"the split {config.train_split!r} has no clips")

    def seen(split: str, rows: Tensor) -> ppo.GridFeatures:
        grid = known[split][1][rows]
        return ppo.GridFeatures(grid.maps.to(device), grid.focus.to(device))

    def objective(net: Any, batch: Batch, stream: torch.Generator) -> Tensor:
        _frozen_norms(net)
        rows = seen(config.train_split, batch["x"])
        return losses(net, rows, batch["y"].to(device), stream)

    def answer(rows: Tensor) -> Tensor:
        drawn = randomness.generator(config.seed, "validation") if random else None
        return ppo.grid_logits(network, seen(config.val_split, rows), drawn)[:, -1]

    trained = known[config.train_split][0]
    batches = TensorBatches(torch.arange(len(trained.y)), trained.y, config.batch, config.seed)
    kept = None
    if config.val_split in known:
        labels = known[config.val_split][0].y
        kept = TensorBatches(torch.arange(len(labels)), labels, 256)
    validate = validation_of(kept, lambda x: x, False)
    return Job(
        network, batches, kept, objective, lambda net: validate(_Called(answer)),
        trained.failures, trained.warnings, networks.factors_of(network, config),
    )  # fmt: skip


class _Called(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, x: Tensor) -> Tensor:
        """What the function returns."""
        return self._function(x)


def _job(
    context: RecipeContext, start: InitialModel, source: Source, batches: Batches | None,
    objective: Objective,
) -> Job:  # fmt: skip
    config: AdaFocusConfig = context.config
    if batches is None:
        raise ConfigError(f"the split {config.train_split!r} has no clips")
    kept = source(config.val_split, False, start.input, context.group)
    validate = validation_of(kept, ordered(context, start.input), False)
    factors = networks.factors_of(start.model, config)
    return Job(start.model, batches, kept, objective, validate, factors=factors)


def _frozen_norms(network: nn.Module) -> None:
    """Parts that are not trained normalise with the statistics that they have."""
    for part in network.children():
        if not any(p.requires_grad for p in part.parameters()):
            part.eval()


def _in_memory(context: RecipeContext, source: Source, spec: InputSpec) -> TensorBatches:
    """The training clips as they are in prediction, decoded once and drawn in a random order.

    Raises:
        ConfigError: There are none.
    """
    config: AdaFocusConfig = context.config
    clips = source(config.train_split, False, spec, context.group)
    if clips is None:
        raise ConfigError(f"the split {config.train_split!r} has no clips")
    with worker_errors(clips):
        found = [batch for batch in clips.batches(0) if len(batch["x"])]
    x, y = (torch.cat([batch[key] for batch in found]) for key in ("x", "y"))
    held = TensorBatches(x, y, config.batch, config.seed)
    held.failures, held.warnings = list(clips.failures), list(clips.warnings)
    return held


class _Backbones(nn.Module):
    """Both backbones, and features made with them; other parts do not change the features."""

    def __init__(self, network: Any, features: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.glance, self.focus = network.glance, network.focus
        self._features = features

    def features(self, x: Tensor) -> Tensor:
        """(B, 1, K) of clips (B, 3, T, S, S)."""
        return self._features(x).unsqueeze(1)


def _features(
    context: RecipeContext, start: InitialModel, batches: Batches, split: str,
    features: Callable[[Tensor], Tensor], folder: RecipeContext,
) -> FeatureSet:  # fmt: skip
    """Features (N, 1, K) of a split, read from the folder of the run or computed."""
    context.begin()
    network = _Backbones(start.model, features)
    config: AdaFocusConfig = context.config
    if isinstance(batches, TensorBatches):
        in_order = TensorBatches(batches.x, batches.y, config.batch)
        in_order.failures, in_order.warnings = batches.failures, batches.warnings
        batches = in_order
    inputs = {
        "data": context.dataset.digest(split), "split": split, "input": asdict(start.input),
        "settings": start.settings, "arch": start.arch,
    }  # fmt: skip
    kept = partial(
        kept_features, folder.folder / "features", split, key_of(network, **inputs), network,
        batches, ordered(context, start.input), False,
        partial(context.report, f"features of {split}"),
    )  # fmt: skip
    return computed_once(context.group, batches, kept)


# --- after training ---------------------------------------------------------------------------


def protocol_of(config: AdaFocusConfig, split: str | None, spec: InputSpec) -> str:
    """One clip from the middle of each video, all exits taken."""
    where = "no validation" if split is None else f"split {split}"
    return (
        f"{where}; one clip of {spec.clip_frames} frames at {spec.frames_per_second:.3g}/s from "
        f"the middle of each video, centre crop of {spec.size} pixels, glance of "
        f"{config.glance_size} and patches of {config.patch}; no early exit"
    )


def calibrate(context: RecipeContext, config: AdaFocusConfig, whole: Dataset) -> None:
    """Fit thresholds of the best network's exits, and complete its card.

    Args:
        context: Of the last stage.
        config: Of the whole run.
        whole: The data set from which the calibration clips were taken; the card names it.
    """
    loaded = load_run(context.folder)
    network: Any = loaded.network
    split = CALIBRATION if len(context.dataset.subset(CALIBRATION)) else config.train_split
    ready = ordered(context, loaded.input)
    clips = _source(context)(split, False, loaded.input, context.group)
    assert clips is not None
    network.to(context.group.device)
    context.report("calibrating exits", 0, 1)

    def steps(x: Tensor) -> Tensor:
        logits: Tensor = network.steps(x.transpose(1, 2)).logits
        return logits

    with torch.no_grad():
        logits, labels = outputs_of(_Called(steps), clips, ready)
    exits = network.exits(loaded.input.clip_frames, config.chunk)
    macs = AdaFocusExecutor(network, loaded.input, context.group.device).exit_macs(config.chunk)
    fitted = partial(
        fit_exits, logits[:, list(exits.values())], labels, list(macs.values()), list(exits)
    )
    card = read_run(context.folder).model_copy(
        update={
            "configuration": config.model_dump(mode="json"), "date": now(),
            "calibration": fitted().model_dump(mode="json"),
            "digests": {config.train_split: whole.digest(config.train_split)},
        }
    )  # fmt: skip
    card = write_run(context.folder, loaded.networks, card)
    if not config.timed or context.source is not None:
        return
    paths = [record.path for record in context.dataset.subset(split).records]
    paths = paths[:: max(1, len(paths) // config.timed)][: config.timed]
    recogniser = load(context.folder, device=str(context.group.device))
    exit_seconds(recogniser, paths[:1])  # warm-up
    seconds = exit_seconds(recogniser, paths)
    timed = fitted(seconds_by_step=seconds).model_dump(mode="json")
    write_run(context.folder, loaded.networks, card.model_copy(update={"calibration": timed}))


def _not_learned(context: RecipeContext, summary: RunSummary) -> list[str]:
    """A warning if the network is no better than one that always gives the same class."""
    guessing = 1 / len(context.dataset.classes)
    for name, value in summary.figures.items():
        if name.startswith("mean-class-accuracy") and value <= 1.1 * guessing:
            return [
                f"the network did not learn: {name} is {value:.3f}, guessing gives {guessing:.3f}; "
                "try a higher lr, more epochs, or pretrained backbones, and check the labels"
            ]
    return []


RECIPE = Recipe("adafocus", AdaFocusConfig, _train, prepare=prepare)
