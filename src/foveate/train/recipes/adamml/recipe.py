"""AdaMML: networks of each modality, then policies that choose among them for each segment.

Panda et al., "AdaMML", ICCV 2021 (arXiv 2105.05165), section 3 and its public code: every modality
is trained by itself; then all networks with decisions of an untrained policy (warm-up); then
networks and policy in turn, epoch by epoch; then the networks once more. The last two are done for
each factor on the cost, so that one run has a curve of operating points.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveate.core import ConfigError, InputSpec, ModelError, Result
from foveate.core.files import replace_file
from foveate.core.text import did_you_mean
from foveate.data import DataError, Dataset, Record
from foveate.data.probing import probe
from foveate.evaluate.results import commit, now
from foveate.models import backbones
from foveate.models.adamml import (
    CHANNELS,
    SOUND,
    AdaMML,
    SegmentNet,
    VideoNet,
    seen_of,
)
from foveate.models.backbones_weights import BACKBONES
from foveate.models.registry import create, is_video_network
from foveate.models.weights import table
from foveate.models.weights.load import load as load_weights
from foveate.models.weights.resolve import locate
from foveate.models.weights.run import InputCard, NetworkCard, RunCard, write_run
from foveate.models.yamnet import FILE, YAMNetHead, load_yamnet
from foveate.pipeline.adamml import AdaMMLExecutor
from foveate.pipeline.recogniser import Recogniser
from foveate.policy.looks.modalities import CurveCard, Modalities, PointCard, patches_of
from foveate.train.kit import randomness
from foveate.train.recipe import Recipe, RecipeContext
from foveate.train.recipes.adamml.clips import (
    Reading,
    SegmentBatches,
    SegmentSet,
    keep_all,
    require_modalities,
)
from foveate.train.recipes.adamml.config import (
    ALIASES,
    PUBLISHED_COSTS,
    AdaMMLConfig,
    default_visual,
)
from foveate.train.recipes.adamml.stages import (
    Known,
    Labelled,
    exit_pass,
    exit_threshold,
    falling,
    networks_pass,
    policy_pass,
    proxy_pass,
    run_stage,
    unimodal,
)
from foveate.train.run_state import RunSummary


def _train(context: RecipeContext) -> RunSummary:
    """Train all stages, and write a run folder that `foveate.load` can open."""
    config: AdaMMLConfig = context.config
    model = build_model(config, len(context.dataset.classes))
    spec = spec_of(config)
    context.begin()
    how = reading_of(config, model)
    kept = {split: _kept(context, how, split) for split in (config.train_split, config.val_split)}
    require_modalities(kept[config.train_split], model.modalities)

    def batches_of(part: SegmentSet) -> SegmentBatches:
        return SegmentBatches(
            part, how, spec, context.dataset.classes, config.batch, config.segments, config.flip,
            config.seed, config.columns,
        )  # fmt: skip

    known, unknown = map(batches_of, _divided(config, kept[config.train_split]))
    for name in model.modalities:
        stage = unimodal(model, name, config, known)
        epochs = config.alone_epochs(name)
        run_stage(context, f"only-{name}", model.nets[name], [stage], epochs)
    for at, name in enumerate(model.seen if config.policy_epochs and config.lambdas else ()):
        randomness.seed_all(config.seed, "policy", name)
        net: Any = model.policy.nets[at]
        labelled = Labelled(net, model.num_classes)
        stage = proxy_pass(model, at, labelled, config, known)
        run_stage(context, f"only-policy-{name}", labelled, [stage], config.policy_epochs)
    start = config.temperature
    networks = networks_pass(model, config, known, lambda epoch: 1.0, lambda epoch: start)
    epochs = config.warmup_epochs
    if not config.lambdas:
        epochs += config.tune_epochs + config.joint_epochs * (config.joint == "alternate")
    run_stage(context, "warm-up", model, [networks], epochs)
    costs = _costs(context, model, spec, how.look)
    points, trained, exits = [], {}, []
    computed = None
    if config.joint != "alternate" and config.lambdas:
        computed = Known.of(model, unknown)
    for number, strength in enumerate(config.lambdas or (0.0,)):
        own = copy.deepcopy(model)
        if config.lambdas:
            _joint(context, own, number, strength, costs, (known, unknown), computed)
        network = f"point-{number}"
        trained[network] = own
        look = how.look
        if config.exit is not None:
            name, net = _with_exit(own)
            stage = exit_pass(name, net, config, known)
            run_stage(context, f"exit-{number}", net.exit, [stage], config.exit_epochs)
            exits.append(exit_threshold(name, net, batches_of(kept[config.val_split])))
            look = replace(look, exit=max(exits))
        points.append(_measured(context, own, spec, look, network, strength))
    default = max(range(len(points)), key=lambda at: (points[at].accuracy, -points[at].macs))
    curve = CurveCard(
        modalities=list(model.modalities), seen=list(model.seen), frames=config.frames,
        seconds=config.seconds, costs=costs, points=points, default=default,
        calibrated_on=len(kept[config.val_split]), exit=max(exits, default=None),
        patch_size=None if how.look.patches is None else config.patch_size,
    )  # fmt: skip
    card = _card(context, trained, spec, curve)
    write_run(context.folder, trained, card)
    failures = [line for one in kept.values() for line in one.failures]
    return context.summarize(card.figures, failures)


def prepare(config: AdaMMLConfig, dataset: Dataset) -> AdaMMLConfig:
    """Refuse what cannot be trained on; returns the settings with the visual backbone named.

    Raises:
        ConfigError: Unknown modalities, no training or validation clips, several labels a clip,
            several processes, no published costs for these modalities, or networks that do not fit
            them.
        DataError: Sound is a modality, and no training clip has any.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("the recipe adamml trains in one process", "start it without torchrun")
    unknown = [name for name in config.modalities if name not in CHANNELS]
    if unknown:
        hint = did_you_mean(unknown[0], [*CHANNELS, *ALIASES])
        raise ConfigError(f"modalities: {unknown[0]!r} is not one of {', '.join(CHANNELS)}", hint)
    if len(set(config.modalities)) < len(config.modalities):
        raise ConfigError(f"modalities={','.join(config.modalities)}: each may be there once")
    try:
        seen_of(config.modalities, config.proxy)
    except ModelError as error:
        raise ConfigError(f"modalities: {error.cause}", "leave one out, or set proxy") from None
    if config.costs == "published" and frozenset(config.modalities) not in PUBLISHED_COSTS:
        known = "; ".join("+".join(costs) for costs in PUBLISHED_COSTS.values())
        raise ConfigError(
            f"costs=published: the paper has none for {'+'.join(config.modalities)}",
            f"it has them for {known}",
        )
    if dataset.multilabel:
        raise ConfigError("the recipe adamml needs one class per clip")
    for split in (config.train_split, config.val_split):
        if not len(dataset.subset(split)):
            why = "" if split == config.train_split else "; operating points are measured on it"
            raise ConfigError(f"the split {split!r} has no clips{why}")
    train = dataset.subset(config.train_split).records
    heard = [name for name in config.modalities if name in SOUND]
    if heard and not any(probe(one.path).has_audio for one in train):
        raise DataError(
            f"modalities: none of the {len(train)} training clips has {heard[0]}",
            f"leave out {heard[0]}",
        )
    if "yamnet" in config.modalities:
        locate(FILE, offline=True)  # missing weights are refused before anything is written
    return config.model_copy(update={"visual": config.visual or default_visual()})


def build_model(config: AdaMMLConfig, classes: int) -> AdaMML:
    """The networks at the start: pretrained where the name of a backbone has a tag."""
    randomness.seed_all(config.seed, "weights")
    model = create("adamml", num_classes=classes, **settings_of(config))
    assert isinstance(model, AdaMML)
    nets: list[tuple[str, str, Any]] = [
        *((name, config.backbone(name), net) for name, net in model.nets.items()),
        *((name, config.policy_audio if name == "sound" else config.policy, net)
          for name, net in zip(model.seen, model.policy.nets, strict=True)),
    ]  # fmt: skip
    for name, backbone, net in nets:
        if isinstance(net, YAMNetHead):
            net.net.load_state_dict(load_yamnet().state_dict())
        elif isinstance(net, VideoNet):
            if "." in backbone:
                pretrained = load_weights(backbone, num_classes=classes).network
                net.net.load_state_dict(pretrained.state_dict())
        elif "." in backbone:
            outputs = None if net.fc is None else classes
            started = SegmentNet(
                backbone, CHANNELS[name], net.frames, outputs, config.dropout, pretrained=True
            )
            net.load_state_dict(started.state_dict(), strict=net.exit is None)
    return model.eval()


def settings_of(config: AdaMMLConfig) -> dict[str, Any]:
    """Arguments of the network's builder, as they are stored."""
    return {
        "modalities": list(config.modalities), "visual": config.backbone("rgb"),
        "motion": config.backbone("mv"), "exit": config.exit, "patch_side": config.patch_size,
        "audio": config.audio, "policy_backbone": config.policy,
        "policy_audio": config.policy_audio, "frames": config.frames,
        "dropout": config.dropout, "hidden": config.hidden, "state": config.state,
        "proxy": config.proxy, "policy_side": config.policy_size,
        "columns": config.columns,
    }  # fmt: skip


def spec_of(config: AdaMMLConfig) -> InputSpec:
    """The input of prediction: a window of whole segments."""
    mean, std = normalisation_of(config.backbone("rgb"))
    return InputSpec(
        config.size, config.frames / config.seconds, config.frames * config.window,
        mean=mean, std=std, resize=config.resize, resize_to=_stored_side(config),
    )  # fmt: skip


def normalisation_of(visual: str) -> tuple[backbones.Triple, backbones.Triple]:
    """Mean and standard deviation of the network of frames; the registry's take 0 to 1."""
    if is_video_network(visual):
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return backbones.normalisation(visual)[:2]


def reading_of(config: AdaMMLConfig, model: AdaMML) -> Reading:
    """What is stored of every clip."""
    patches = patches_of(config.patch_size) if "patch" in model.modalities else None
    look = Modalities(model.modalities, model.seen, config.frames, config.seconds, patches=patches)
    spec = replace(spec_of(config), size=_stored_side(config))
    return Reading(look, model.inputs, spec, config.kept)


def recogniser_of(network: AdaMML, spec: InputSpec, classes: Any, look: Modalities) -> Recogniser:
    """A recogniser of a network, before there is a run folder."""
    executor = AdaMMLExecutor(network, spec, look.fixed, exit=look.exit)
    return Recogniser(executor, tuple(classes), look=look, window=spec.clip_seconds)


def _stored_side(config: AdaMMLConfig) -> int:
    """A little larger than the input, as 256 is than 224."""
    return round(config.size * 8 / 7)


def _kept(context: RecipeContext, how: Reading, split: str) -> SegmentSet:
    config = context.config
    folder = context.folder / "cache" if config.cache is None else Path(config.cache)
    progress = partial(context.report, f"reading {split} clips")
    return keep_all(context.dataset.subset(split), folder, how, progress)


def _divided(config: AdaMMLConfig, kept: SegmentSet) -> tuple[SegmentSet, SegmentSet]:
    """Clips for the networks and for the policy: the same, unless some are held out.

    Which ones does not depend on the seed.
    """
    count = round(config.held_out * len(kept))
    if not count:
        return kept, kept
    order = torch.randperm(len(kept), generator=randomness.generator("held out"))
    return kept.subset(order[count:].tolist()), kept.subset(order[:count].tolist())


def _with_exit(model: AdaMML) -> tuple[str, Any]:
    """Name and network of the modality of frames, which has the exit."""
    return next((name, net) for name, net in model.nets.items() if net.exit is not None)


def _joint(
    context: RecipeContext, model: AdaMML, number: int, strength: float,
    costs: Mapping[str, float], batches: tuple[SegmentBatches, SegmentBatches],
    computed: Known | None,
) -> None:  # fmt: skip
    """Networks and policy in turn, or the policy alone; then the networks alone."""
    config: AdaMMLConfig = context.config
    weights = strength * torch.tensor([costs[name] for name in model.modalities])
    known, unknown = batches

    def temperature(epoch: int) -> float:
        return float(config.temperature * config.cooling**epoch)

    rates = falling(config)
    passes = [policy_pass(model, config, unknown, weights, rates, temperature, computed)]
    if computed is None:
        passes.insert(0, networks_pass(model, config, known, rates, temperature))
    # What is trained is saved after every epoch, and nothing else.
    part = model if computed is None else nn.ModuleList(passes[0].trained)
    run_stage(context, f"joint-{number}", part, passes, config.joint_epochs)
    last = temperature(config.joint_epochs)
    alone = networks_pass(model, config, known, lambda epoch: 1.0, lambda epoch: last)
    run_stage(context, f"tune-{number}", model, [alone], config.tune_epochs)


def _costs(
    context: RecipeContext, model: AdaMML, spec: InputSpec, look: Modalities
) -> dict[str, float]:
    """Weight of the cost of each modality; that of the most expensive one is 1 where measured.

    Measured are the milliseconds of what the policy can save: the network, and reading what the
    policy does not look at anyway. They are stored, so that a resumed run has the same.
    """
    config: AdaMMLConfig = context.config
    if config.costs == "published":
        return dict(PUBLISHED_COSTS[frozenset(config.modalities)])
    path = context.folder / "stages" / "costs.json"
    if path.is_file():
        stored: dict[str, float] = json.loads(path.read_text("utf-8"))
        return stored
    records = _some(context.dataset.subset(config.val_split), config.timed)
    spent: dict[str, float] = {}
    for name in model.modalities:
        context.report("timing the modalities", len(spent), len(model.modalities))
        alone = recogniser_of(model, spec, context.dataset.classes, replace(look, fixed=(name,)))
        results = _results(alone, [records[0], *records])[1:]
        stages = [f"network-{name}"]
        if name not in model.seen:
            stages += ["decode", "transform"]
        spent[name] = sum(one.cost.stage(stage).seconds for one in results for stage in stages)
    most = max(spent.values()) or 1.0
    costs = {name: value / most for name, value in spent.items()}
    replace_file(path, f"{json.dumps(costs)}\n".encode())
    return costs


def _measured(
    context: RecipeContext, network: AdaMML, spec: InputSpec, look: Modalities, name: str,
    strength: float,
) -> PointCard:  # fmt: skip
    """An operating point, measured on the validation clips; stored, as `_costs` is."""
    config: AdaMMLConfig = context.config
    path = context.folder / "stages" / f"{name}.json"
    if path.is_file():
        return PointCard.model_validate_json(path.read_text("utf-8"))
    context.report("measuring the operating points", 0, 1)
    if not config.lambdas:
        look = replace(look, fixed=look.modalities)
    dataset = context.dataset.subset(config.val_split)
    recogniser = recogniser_of(network, spec, dataset.classes, look)
    records = [dataset.records[0], *dataset.records]  # the first one warms up
    results = _results(recogniser, records)[1:]
    right, answers = 0, 0
    for record, result in zip(dataset.records, results, strict=True):
        right += bool(result.ok and result.labels[0].index == dataset.indices(record)[0])
        answers += sum(result.exits.values())  # windows
    good = [result for result in results if result.ok]
    counts = dict.fromkeys(("policy", *network.modalities), 0)
    for result in good:
        for step in result.trace.steps if result.trace else ():
            if step.part in counts and step.proposals:
                counts[step.part] += len(step.proposals["segments"]) // 2
    segments = counts["policy"] or max(counts.values())
    point = PointCard(
        network=name,
        strength=strength,
        accuracy=right / len(results),
        macs=sum(result.cost.macs for result in good) / max(1, answers),
        seconds=sum(result.cost.seconds for result in good) / max(1, answers),
        rates={m: counts[m] / max(1, segments) for m in network.modalities},
    )
    replace_file(path, f"{point.model_dump_json()}\n".encode())
    return point


def _results(recogniser: Recogniser, records: list[Record]) -> list[Result]:
    return list(recogniser.predict_many([record.path for record in records]))


def _some(dataset: Dataset, count: int) -> list[Record]:
    records = list(dataset.records)
    return records[:: max(1, len(records) // count)][:count]


def _card(
    context: RecipeContext, trained: Mapping[str, AdaMML], spec: InputSpec, curve: CurveCard
) -> RunCard:
    config: AdaMMLConfig = context.config
    dataset, n = context.dataset, curve.calibrated_on
    settings = {**settings_of(config), "num_classes": len(dataset.classes)}
    visual = str(config.visual)
    pretrained = "." in visual
    known = table.find(visual) if pretrained and is_video_network(visual) else BACKBONES.get(visual)
    return RunCard(
        method="adamml",
        networks={name: NetworkCard(arch="adamml", settings=settings) for name in trained},
        classes=list(dataset.classes),
        input=InputCard.of(spec),
        preset=None if config.lambdas else {"look": {"name": "modalities", "use": "all"}},
        calibration=curve.model_dump(mode="json"),
        recipe="adamml",
        configuration=config.model_dump(mode="json"),
        protocol=(
            f"split {config.val_split}; windows of up to {config.window} segments of "
            f"{config.seconds:g} s, {config.frames} frames each, centre square {config.size}"
        ),
        figures={
            f"top1@clip-1,n={n}"
            if number == curve.default
            else f"top1@clip-1,point-{number},n={n}": point.accuracy
            for number, point in enumerate(curve.points)
        },
        digests={config.train_split: dataset.digest(config.train_split)},
        started_from=visual if pretrained else None,
        licence=None if known is None else known.licence,
        commit=commit(),
        date=now(),
    )


RECIPE = Recipe("adamml", AdaMMLConfig, _train, prepare=prepare)
