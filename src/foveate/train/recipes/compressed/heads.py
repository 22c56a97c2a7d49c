"""The last stages of the recipe `compressed`: heads by distillation, fusion, thresholds, cards.

Every stage is a checkpoint of the run: the heads of one network after another, then the logits of
the calibration clips with the measured seconds of every stage of the cascade.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from foveate.data import Dataset
from foveate.evaluate.results import commit, now
from foveate.models.coviar import CompressedNet, ExitNetwork, Modality, even_stages
from foveate.models.spec import InputSpec
from foveate.models.weights.run import InputCard, NetworkCard, RunCard, read_run, write_run
from foveate.pipeline.cascade import PUBLISHED_ORDER, CascadeExecutor
from foveate.policy.calibration import Calibration
from foveate.policy.fuse import Wise
from foveate.policy.operating import default_point, operating_points
from foveate.train.job import Progress
from foveate.train.kit import randomness
from foveate.train.kit.checkpoint import Checkpoints, Tensors
from foveate.train.kit.state import Moment, part
from foveate.train.recipes.compressed.clips import CompressedBatches, KeptSet
from foveate.train.recipes.compressed.costs import (
    Cascade,
    cheapest_first,
    costs_of,
    recogniser_of,
    stage_seconds,
)
from foveate.train.recipes.compressed.pkd import ExitCache, cache_exits, recipe, train_heads

if TYPE_CHECKING:
    from foveate.train.recipes.compressed.recipe import CompressedConfig

Trained = tuple[CompressedNet, InputSpec, str]
"""A network, how its input is prepared, and its backbone's name."""


@dataclass(frozen=True)
class Stages:
    """What the last stages work on.

    Attributes:
        config: Of the recipe.
        dataset: With the split `calibration`.
        kept: Clips by split.
        folder: The run folder.
        checkpoints: Of the run; step n is the n-th stage.
        show: Told of the progress.
    """

    config: CompressedConfig
    dataset: Dataset
    kept: Mapping[str, KeptSet]
    folder: Path
    checkpoints: Checkpoints
    show: Progress

    def said(self, stage: str, done: int, total: int) -> None:
        """Tell where the stage is."""
        self.show(Moment(0, 1, done, total, stage=stage))


def exits_of(stages: Stages, trained: Mapping[Modality, Trained]) -> Cascade:
    """Train the heads of all networks, or take those that a checkpoint holds.

    The teachers are the networks themselves, whole, on the same squares of the same pictures.
    """
    config = stages.config
    networks: dict[Modality, ExitNetwork] = {}
    for modality, (whole, _, backbone) in trained.items():
        randomness.seed_all(config.seed, "heads", modality)
        places = even_stages(whole, config.exits)
        networks[modality] = ExitNetwork(whole, places, config.heads, backbone)
    cascade = Cascade(
        networks, {m: t[1] for m, t in trained.items()}, {m: t[2] for m, t in trained.items()}
    )
    saved = stages.checkpoints.latest()
    done = 0 if saved is None else min(saved.step, len(networks))
    tensors: Tensors = {} if saved is None else dict(saved.tensors)
    for modality in list(networks)[:done]:
        networks[modality].heads.load_state_dict(part(tensors, f"{modality}/"))
    if done == len(networks):
        return cascade
    kept = stages.kept[config.train_split]
    caches, labels = {}, {}
    for number, (modality, network) in enumerate(networks.items()):
        stages.said(f"maps of the {modality} network", number, len(networks))
        clips = views_of(stages, kept, modality, cascade.specs[modality], config.head_views)
        # The heads of finished networks need no maps, their logits still teach.
        caches[modality], labels[modality] = cached(network, clips, logits_only=number < done)
    teachers: dict[str, Tensor] = {name: cache.logits for name, cache in caches.items()}
    how = recipe(
        config.head_recipe, config.head_epochs, lr=config.head_lr, batch=2 * config.batch,
        seed=config.seed, temperature=config.temperature,
        **({} if config.head_recipe == "ce" else {"hard_weight": config.hard_weight}),
    )  # fmt: skip
    for number, (modality, network) in enumerate(networks.items()):
        if number < done:
            continue
        stages.said(f"heads of the {modality} network", number, len(networks))
        train_heads(network, caches[modality], labels[modality], how, teachers)
        state = network.heads.state_dict()
        tensors |= {f"{modality}/{name}": value for name, value in state.items()}
        stages.checkpoints.save(number + 1, tensors, {"stage": f"heads of {modality}"}, None)
    return cascade


def views_of(
    stages: Stages, kept: KeptSet, modality: Modality, spec: InputSpec, count: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of clips and labels: the clips as prediction sees them, then drawn views of all.

    Chance depends on the clip and the view alone: the three networks see the same squares.
    """
    config, classes = stages.config, stages.dataset.classes
    for number in range(count):
        batches = CompressedBatches(
            kept, modality, classes, spec, config.batch, config.seed if number else None,
            config.flip, shuffle=False,
        )  # fmt: skip
        # Views are drawn as in epochs behind those of training.
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


def finish(stages: Stages, cascade: Cascade, clip_seconds: float, digest: str) -> dict[str, float]:
    """Fit fusion and thresholds on the calibration clips and write the run's files.

    Args:
        stages: What there is to work on.
        cascade: From `exits_of`.
        clip_seconds: Of a window in prediction.
        digest: Of all clips of training, the calibration clips among them.

    Returns:
        Figures on the validation split, or on the calibration split where there is none.
    """
    config = stages.config
    spec = cascade.specs["iframe"]
    rate = config.segments / clip_seconds
    spec = InputSpec(config.size, rate, config.segments, mean=spec.mean, std=spec.std)
    logits, labels = logits_of(stages, cascade, "calibration")
    seconds = _measured(stages, cascade, spec, logits)
    macs = _macs(cascade, config)
    orders: dict[str, Any] = {}
    for name, order in {
        "measured": cheapest_first(list(cascade.networks), seconds),
        "published": PUBLISHED_ORDER,
    }.items():
        stages.said("fitting the fusion", len(orders), 2)
        orders[name] = _order_card(config, order, cascade, logits, labels, macs, seconds)
    figures = _figures(stages, cascade, orders["measured"])
    calibration = Calibration.model_validate(
        {
            "orders": orders,
            "calibrated_on": len(labels),
            "stage_seconds": seconds,
            "macs": macs,
        }
    )
    card = _run_card(stages, cascade, spec, figures, digest, calibration)
    write_run(stages.folder, {str(m): network for m, network in cascade.networks.items()}, card)
    return figures


def logits_of(stages: Stages, cascade: Cascade, split: str) -> tuple[dict[str, Tensor], Tensor]:
    """Logits (N, classes) of every exit by its name, and labels, of the clips of a split."""
    found: dict[str, Tensor] = {}
    labels = stages.kept[split].labels
    for modality, network in cascade.networks.items():
        stages.said(f"exits of {split} clips", len(found), 3)
        clips = views_of(stages, stages.kept[split], modality, cascade.specs[modality], 1)
        with torch.no_grad():
            rows = [network(x) for x, _ in clips]
        for exit in network.exits:
            found[f"{modality}.{exit}"] = torch.cat([row[exit] for row in rows])
    return found, labels


def _order_card(
    config: CompressedConfig,
    order: Sequence[Modality],
    cascade: Cascade,
    logits: Mapping[str, Tensor],
    labels: Tensor,
    macs: Mapping[str, int],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    networks = {modality: cascade.networks[modality] for modality in order}
    names = [f"{m}.{exit}" for m, network in networks.items() for exit in network.exits]
    stacked = torch.stack([logits[name] for name in names], 1)
    wise = Wise.fit(names, stacked, labels, l1=config.l1, nonnegative=config.nonnegative)
    confidences, classes = wise.confidences(stacked)
    points = operating_points(
        confidences, classes, labels, *costs_of(order, networks, macs, seconds)
    )
    table = [
        {
            "threshold": p.threshold, "accuracy": p.accuracy, "macs": p.macs,
            "seconds": p.seconds, "exits": list(p.exits),
        }
        for p in points
    ]  # fmt: skip
    return {
        "order": list(order),
        "wise": wise.to_json(),
        "table": table,
        "default": default_point(points).threshold,
    }


def _measured(
    stages: Stages, cascade: Cascade, spec: InputSpec, logits: Mapping[str, Tensor]
) -> dict[str, float]:
    """Seconds of every stage on some calibration files; a checkpoint keeps them."""
    last = len(cascade.networks) + 1
    saved = stages.checkpoints.latest()
    if saved is not None and saved.step == last:
        found: dict[str, float] = saved.values["seconds"]
        return found
    stages.said("timing the stages", 0, 1)
    order = list(cascade.networks)
    recogniser = recogniser_of(cascade, spec, stages.dataset.classes, order)
    paths = [record.path for _, record in stages.kept["calibration"].clips]
    paths = paths[:: max(1, len(paths) // stages.config.timed)][: stages.config.timed]
    stage_seconds(recogniser, paths[:1])  # the first calls of everything are slower
    seconds = stage_seconds(recogniser, paths)
    heads = {
        f"{modality}/{name}": value
        for modality, network in cascade.networks.items()
        for name, value in network.heads.state_dict().items()
    }
    stages.checkpoints.save(last, heads, {"stage": "calibration", "seconds": seconds}, None)
    return seconds


def _macs(cascade: Cascade, config: CompressedConfig) -> dict[str, int]:
    """Multiply-adds of every exit beyond the one before, by its name."""
    spec = replace(cascade.specs["iframe"], size=config.size, resize_to=None)
    return CascadeExecutor(cascade.networks, list(cascade.networks), spec=spec).exit_macs(
        config.segments
    )


def _figures(stages: Stages, cascade: Cascade, order: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy with the default threshold, and of all exits together."""
    held = stages.config.val_split
    name = held if held in stages.kept else "calibration"
    logits, labels = logits_of(stages, cascade, name)
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
    stages: Stages,
    cascade: Cascade,
    spec: InputSpec,
    figures: dict[str, float],
    digest: str,
    calibration: Calibration,
) -> RunCard:
    config, dataset = stages.config, stages.dataset
    own = [read_run(stages.folder / "networks" / name) for name in cascade.networks]
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
            "fusion and thresholds fitted on clips held out of training"
        ),
        figures=figures,
        digests={config.train_split: digest},
        started_from=", ".join(started) or None,
        licence=next((card.licence for card in own if card.licence), None),
        notice=" ".join(notices),
        commit=commit(),
        date=now(),
    )
