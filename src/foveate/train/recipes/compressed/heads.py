"""The last steps of the recipe `compressed`: heads by distillation, fusion, thresholds, card.

Every step is a checkpoint of the run: the heads of one network after another, then the measured
time of every stage of the cascade.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from foveate.evaluate.results import commit, now
from foveate.models.coviar import (
    CompressedNet,
    ExitNetwork,
    KeyFrameClips,
    Modality,
    even_stages,
)
from foveate.models.spec import InputSpec
from foveate.models.weights.run import InputCard, NetworkCard, RunCard, read_run, write_run
from foveate.pipeline.cascade import PUBLISHED_ORDER, CascadeExecutor
from foveate.policy.calibration import Calibration
from foveate.policy.fuse import Wise, cross_fitted
from foveate.policy.operating import default_point, least_sure, operating_points, trust
from foveate.train.kit import randomness
from foveate.train.kit.checkpoint import Tensors
from foveate.train.kit.state import with_prefix
from foveate.train.recipe import RecipeContext
from foveate.train.recipes.compressed.clips import ClipSets, CompressedBatches, KeptSet
from foveate.train.recipes.compressed.config import CALIBRATION, CompressedConfig
from foveate.train.recipes.compressed.costs import (
    Cascade,
    cheapest_first,
    costs_of,
    recogniser_of,
    stage_seconds,
)
from foveate.train.recipes.compressed.pkd import ExitCache, cache_exits, head_recipe, train_heads

Trained = tuple[CompressedNet | KeyFrameClips, InputSpec, str]
"""A network, its input, and the name of its backbone."""


def exits_of(
    context: RecipeContext, sets: ClipSets, trained: Mapping[Modality, Trained]
) -> Cascade:
    """Train the heads of all networks, or load those of a checkpoint.

    The teachers are the complete networks, on the same crops of the same pictures.
    """
    config = context.config
    networks: dict[Modality, ExitNetwork] = {}
    for modality, (whole, _, backbone) in trained.items():
        randomness.seed_all(config.seed, "heads", modality)
        positions = even_stages(whole, config.exits)
        networks[modality] = ExitNetwork(whole, positions, config.heads, backbone)
    cascade = Cascade(
        networks, {m: t[1] for m, t in trained.items()}, {m: t[2] for m, t in trained.items()}
    )
    saved = context.checkpoints.latest()
    done = 0 if saved is None else min(saved.step, len(networks))
    tensors: Tensors = {} if saved is None else dict(saved.tensors)
    for modality in list(networks)[:done]:
        networks[modality].heads.load_state_dict(with_prefix(tensors, f"{modality}/"))
    if done == len(networks):
        return cascade
    kept, classes = sets.kept[config.train_split], sets.dataset.classes
    caches, labels = {}, {}
    for number, (modality, network) in enumerate(networks.items()):
        context.report(f"maps of the {modality} network", number, len(networks))
        clips = views_of(
            config, classes, kept, modality, cascade.specs[modality], config.head_views
        )
        # The heads of finished networks need no maps, but their logits are still teachers.
        caches[modality], labels[modality] = cached(network, clips, logits_only=number < done)
    teachers: dict[str, Tensor] = {name: cache.logits for name, cache in caches.items()}
    how = head_recipe(
        config.head_recipe, config.head_epochs, lr=config.head_lr, batch=2 * config.batch,
        seed=config.seed, temperature=config.temperature,
        **({} if config.head_recipe == "ce" else {"hard_weight": config.hard_weight}),
    )  # fmt: skip
    for number, (modality, network) in enumerate(networks.items()):
        if number < done:
            continue
        context.report(f"heads of the {modality} network", number, len(networks))
        train_heads(network, caches[modality], labels[modality], how, teachers)
        state = network.heads.state_dict()
        tensors |= {f"{modality}/{name}": value for name, value in state.items()}
        context.checkpoints.save(number + 1, tensors, {"stage": f"heads of {modality}"}, None)
    return cascade


def views_of(
    config: CompressedConfig,
    classes: Sequence[str],
    kept: KeptSet,
    modality: Modality,
    spec: InputSpec,
    count: int = 1,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of clips and labels: first the clips as in prediction, then random views of them.

    Random numbers depend on the clip and the view only: all three networks get the same crops.
    """
    for number in range(count):
        batches = CompressedBatches(
            kept, modality, classes, spec, config.batch, config.seed if number else None,
            config.flip, shuffle=False,
        )  # fmt: skip
        # Views are drawn as in epochs after those of training.
        for batch in batches.batches(1_000_000 + number):
            yield batch["x"], batch["y"]


def cached(
    network: ExitNetwork, clips: Iterator[tuple[Tensor, Tensor]], logits_only: bool = False
) -> tuple[ExitCache, Tensor]:
    """Maps of all exits and the labels of the clips."""
    labels: list[Tensor] = []

    def shown() -> Iterator[Tensor]:
        for x, y in clips:
            labels.append(y)
            yield x

    if logits_only:
        with torch.no_grad():
            found = [network.network(x) for x in shown()]
        return ExitCache({}, torch.cat(found)), torch.cat(labels)
    cache = cache_exits(network, shown())
    return cache, torch.cat(labels)


def finish(context: RecipeContext, sets: ClipSets, cascade: Cascade) -> dict[str, float]:
    """Fit fusion and thresholds on the calibration clips and write the run's files.

    Args:
        context: Of the recipe.
        sets: Its clips.
        cascade: From `exits_of`.

    Returns:
        Metrics on the validation split, or on the calibration split if there is none.
    """
    config = context.config
    spec = cascade.specs["iframe"]
    rate = config.segments / sets.clip_seconds
    spec = InputSpec(config.size, rate, config.segments, mean=spec.mean, std=spec.std)
    logits, labels = logits_of(context, sets, cascade, CALIBRATION)
    groups = [record.group or at for at, (_, record) in enumerate(sets.kept[CALIBRATION].clips)]
    seconds = _measured(context, sets, cascade, spec)
    macs = _macs(cascade, config)
    orders: dict[str, Any] = {}
    for name, order in {
        "measured": cheapest_first(list(cascade.networks), seconds),
        "published": PUBLISHED_ORDER,
    }.items():
        context.report("fitting the fusion", len(orders), 2)
        orders[name] = _order_card(config, order, cascade, logits, labels, groups, macs, seconds)
    figures = _figures(context, sets, cascade, orders["measured"])
    calibration = Calibration.model_validate(
        {
            "orders": orders,
            "calibrated_on": len(labels),
            "stage_seconds": seconds,
            "macs": macs,
        }
    )
    card = _run_card(context, cascade, spec, figures, calibration)
    write_run(context.folder, {str(m): network for m, network in cascade.networks.items()}, card)
    return figures


def logits_of(
    context: RecipeContext, sets: ClipSets, cascade: Cascade, split: str
) -> tuple[dict[str, Tensor], Tensor]:
    """Logits (N, classes) of every exit by its name, and labels, of the clips of a split."""
    found: dict[str, Tensor] = {}
    kept, classes = sets.kept[split], sets.dataset.classes
    for modality, network in cascade.networks.items():
        context.report(f"exits of {split} clips", len(found), 3)
        clips = views_of(context.config, classes, kept, modality, cascade.specs[modality])
        with torch.no_grad():
            rows = [network(x) for x, _ in clips]
        for exit in network.exits:
            found[f"{modality}.{exit}"] = torch.cat([row[exit] for row in rows])
    return found, kept.labels


def _order_card(
    config: CompressedConfig,
    order: Sequence[Modality],
    cascade: Cascade,
    logits: Mapping[str, Tensor],
    labels: Tensor,
    groups: Sequence[Hashable],
    macs: Mapping[str, int],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    networks = {modality: cascade.networks[modality] for modality in order}
    names = [f"{m}.{exit}" for m, network in networks.items() for exit in network.exits]
    stacked = torch.stack([logits[name] for name in names], 1)
    settings: dict[str, Any] = {"l1": config.l1, "nonnegative": config.nonnegative}
    wise = Wise.fit(names, stacked, labels, **settings)
    # Thresholds are tried on clips that the fusion behind them has not seen.
    confidences, classes = cross_fitted(names, stacked, labels, groups, **settings)
    floor = least_sure(stacked.shape[-1])
    points = operating_points(
        confidences, classes, labels, *costs_of(order, networks, macs, seconds), floor
    )
    default = default_point(points, floor)
    return {
        "order": list(order),
        "wise": wise.to_json(),
        "table": [asdict(point) for point in points],
        "default": default.threshold,
        "trust": trust(default, len(labels)),
    }


def _measured(
    context: RecipeContext, sets: ClipSets, cascade: Cascade, spec: InputSpec
) -> dict[str, float]:
    """Seconds of every stage on some calibration files, stored in a checkpoint."""
    last = len(cascade.networks) + 1
    saved = context.checkpoints.latest()
    if saved is not None and saved.step == last:
        found: dict[str, float] = saved.values["seconds"]
        return found
    context.report("timing the stages", 0, 1)
    order = list(cascade.networks)
    recogniser = recogniser_of(cascade, spec, sets.dataset.classes, order)
    paths = [record.path for _, record in sets.kept[CALIBRATION].clips]
    timed = context.config.timed
    paths = paths[:: max(1, len(paths) // timed)][:timed]
    stage_seconds(recogniser, paths[:1])  # warm-up
    seconds = stage_seconds(recogniser, paths)
    heads = {
        f"{modality}/{name}": value
        for modality, network in cascade.networks.items()
        for name, value in network.heads.state_dict().items()
    }
    context.checkpoints.save(last, heads, {"stage": CALIBRATION, "seconds": seconds}, None)
    return seconds


def _macs(cascade: Cascade, config: CompressedConfig) -> dict[str, int]:
    """Multiply-adds of every exit beyond the one before, by its name."""
    spec = replace(cascade.specs["iframe"], size=config.size, resize_to=None)
    return CascadeExecutor(cascade.networks, list(cascade.networks), spec=spec).exit_macs(
        config.segments
    )


def _figures(
    context: RecipeContext, sets: ClipSets, cascade: Cascade, order: Mapping[str, Any]
) -> dict[str, float]:
    """Accuracy with the default threshold, and of all exits together."""
    held_out = context.config.val_split
    name = held_out if held_out in sets.kept else CALIBRATION
    logits, labels = logits_of(context, sets, cascade, name)
    wise = Wise.from_json(order["wise"])
    confidences, classes = wise.confidences(torch.stack([logits[e] for e in wise.exits], 1))
    free = [0.0] * len(wise.exits)
    points = operating_points(confidences, classes, labels, free, free)
    default = [p for p in points if p.threshold <= order["default"]][-1]
    return {
        f"top1@{name}-default": default.accuracy,
        f"top1@{name}-all-exits": float((classes[:, -1] == labels).double().mean()),
    }


def _run_card(
    context: RecipeContext,
    cascade: Cascade,
    spec: InputSpec,
    figures: dict[str, float],
    calibration: Calibration,
) -> RunCard:
    config, dataset = context.config, context.dataset
    own = [read_run(context.folder / "networks" / name) for name in cascade.networks]
    started = sorted({card.started_from for card in own if card.started_from})
    notices = [card.notice for card in own if card.notice]
    return RunCard(
        method="cascade",
        networks={
            str(modality): NetworkCard(
                arch="coviar-exits",
                settings={
                    "modality": modality,
                    "backbone": cascade.backbones[modality],
                    "stages": [*even_stages(network.network, config.exits)],
                    "heads": config.heads,
                },
            )
            for modality, network in cascade.networks.items()
        },
        calibration=calibration.model_dump(mode="json"),
        classes=list(dataset.classes),
        input=InputCard.of(spec),
        recipe="compressed",
        configuration=config.model_dump(mode="json"),
        protocol=(
            f"{spec.clip_frames} groups a window, their middles, centre square {spec.size}; "
            "fusion and thresholds fitted on clips held out of training, "
            f"{calibration.orders['measured'].trust}"
        ),
        figures=figures,
        digests={config.train_split: dataset.digest(config.train_split)},
        started_from=", ".join(started) or None,
        licence=next((card.licence for card in own if card.licence), None),
        notice=" ".join(notices),
        commit=commit(),
        date=now(),
    )
