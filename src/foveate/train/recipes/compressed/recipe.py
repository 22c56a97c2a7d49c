"""Compressed-domain recognition: three networks, then their exits by distillation, then fusion.

CoViAR's I-frame, residual and motion-vector networks (arXiv 1712.00636) are trained separately on
data that is read from the files once; classifiers inside the frozen networks learn from the
motion-vector network, then the residual, then the I-frame network (PKD), and weights and
temperatures of all exits are fitted on clips that no network was trained on (WISE, both Soufleri
et al., arXiv 2407.02713). The networks are stages of the run, and the later steps are checkpoints
of it, so that an interrupted run is resumed where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from foveate.core import ConfigError, FoveateError, MediaError
from foveate.data import Dataset
from foveate.data.compressed import Reading
from foveate.data.splits import held_out
from foveate.media.compressed import CompressedVideo
from foveate.media.container import VECTOR_CODECS
from foveate.models.coviar import CompressedNet, KeyFrameClips, Modality
from foveate.models.registry import is_video_network
from foveate.models.spec import InputSpec
from foveate.models.weights.run import load_run
from foveate.train.initial_model import is_pretrained
from foveate.train.kit.distributed import ProcessGroup
from foveate.train.recipe import Recipe, RecipeContext, train_network
from foveate.train.recipes import supervised
from foveate.train.recipes.compressed.clips import ClipSets, CompressedBatches, keep_all
from foveate.train.recipes.compressed.config import (
    CALIBRATION,
    LONGEST,
    TEACHING,
    CompressedConfig,
)
from foveate.train.recipes.compressed.heads import Trained, exits_of, finish
from foveate.train.recipes.supervised import SupervisedConfig
from foveate.train.run_state import RunSummary
from foveate.train.videos import median_seconds


def _train(context: RecipeContext) -> RunSummary:
    """Train the three networks and their exits; write a run folder that `foveate.load` can open."""
    context.begin()
    sets = read_clips(context.config, context.dataset, context.folder, context.report)
    for modality in TEACHING:
        context.train_stage(
            f"networks/{modality}", _network_recipe(context, sets, modality),
            network_config(context.config, sets, modality), sets.dataset,
        )  # fmt: skip
    cascade = exits_of(context, sets, trained_networks(context.folder))
    figures = finish(context, sets, cascade)
    return context.summarize(
        figures, [line for kept in sets.kept.values() for line in kept.failures]
    )


def prepare(config: CompressedConfig, dataset: Dataset) -> CompressedConfig:
    """Refuse what cannot be trained on; returns the settings with the I-frame backbone named.

    Raises:
        MediaError: Files whose codec exports no motion vectors; the hint is the command that
            transcodes them.
        ConfigError: No training clips, several labels a clip, or several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "the recipe compressed trains in one process", "start it without torchrun"
        )
    if dataset.multilabel:
        raise ConfigError("the recipe compressed needs one class per clip")
    if not len(dataset.subset(config.train_split)):
        raise ConfigError(f"the split {config.train_split!r} has no clips")
    without: list[tuple[str, str]] = []
    for record in dataset.records:
        if record.split not in (config.train_split, config.val_split):
            continue
        try:
            codec = CompressedVideo(record.path).codec
        except FoveateError:
            continue  # reported when it is read
        if codec not in VECTOR_CODECS:
            without.append((dataset.name(record), codec))
    if without:
        name, codec = without[0]
        more = f" (and {len(without) - 1} more clips)" if len(without) > 1 else ""
        raise MediaError(
            f"{name}: {codec} video gives no motion vectors{more}",
            f"foveate data transcode {dataset.root} OUT --gop 12 --codec h264",
        )
    return config.model_copy(update={"iframe": config.backbone("iframe")})


def read_clips(
    config: CompressedConfig,
    dataset: Dataset,
    folder: Path,
    report: Callable[[str, int, int], None] | None = None,
) -> ClipSets:
    """Split calibration clips off the training clips, and read all clips.

    Args:
        config: Of the recipe.
        dataset: Records with their splits.
        folder: The run folder.
        report: Called with what is done, clips done and clips in all.

    Raises:
        DataError: Too many clips cannot be read, or there are too few groups to hold any out.
    """
    dealt = held_out(dataset, config.train_split, config.calibration, CALIBRATION, config.seed)
    cache = folder / "cache" if config.cache is None else Path(config.cache)
    how = Reading(round(config.size * 8 / 7), config.groups, config.places)
    kept = {}
    for name in (config.train_split, CALIBRATION, config.val_split):
        part = dealt.subset(name)
        if len(part):
            progress = None if report is None else partial(report, f"reading {name} clips")
            kept[name] = keep_all(part, cache, how, progress)
    median = median_seconds(dealt, config.train_split)
    return ClipSets(dealt, kept, LONGEST if median is None else min(LONGEST, max(0.1, median)))


def _network_recipe(context: RecipeContext, sets: ClipSets, modality: Modality) -> Recipe:
    """How one of the networks is trained: as `supervised` does, on the clips of its modality."""
    config = context.config

    def source(
        name: str, training: bool, spec: InputSpec, group: ProcessGroup
    ) -> CompressedBatches | None:
        kept = sets.kept.get(name)
        if kept is None:
            return None
        seed = config.seed if training else None
        if training:
            spec = replace(spec, clip_frames=config.drawn)
        return CompressedBatches(
            kept, modality, sets.dataset.classes, spec, config.batch, seed, config.flip
        )

    def train(stage: RecipeContext) -> RunSummary:
        return train_network(stage, source, supervised.job_of, protocol_of, unknown=False)

    return Recipe("compressed", SupervisedConfig, train)


def network_config(
    config: CompressedConfig, sets: ClipSets, modality: Modality
) -> SupervisedConfig:
    """Settings for one of the networks."""
    model = config.backbone(modality)
    settings: dict[str, Any] = {}
    if modality != "iframe" or not is_video_network(model):
        model = f"coviar:{model}"
        settings = {"modality": modality, "dropout": config.dropout}
    return SupervisedConfig(
        model=model,
        settings=settings,
        frames=config.segments,
        rate=config.segments / sets.clip_seconds,
        size=config.size,
        epochs=config.iframe_epochs if modality == "iframe" else config.epochs,
        batch=config.batch,
        freeze="none",
        accumulate=1,
        patience=None,
        lr=config.lr,
        backbone_lr=0.1 if is_pretrained(model) else 1.0,
        weight_decay=config.weight_decay,
        label_smoothing=config.label_smoothing,
        flip=config.flip,
        seed=config.seed,
        train_split=config.train_split,
        val_split=config.val_split,
    )


def trained_networks(folder: Path) -> dict[Modality, Trained]:
    """The networks of a run, each with its input and the name of its backbone.

    Raises:
        WeightsError: One of them is missing or damaged.
    """
    found: dict[Modality, Trained] = {}
    for modality in TEACHING:
        loaded = load_run(folder / "networks" / modality)
        assert loaded.card is not None
        network, backbone = loaded.network, loaded.card.network.arch.removeprefix("coviar:")
        if not isinstance(network, CompressedNet):
            network = KeyFrameClips(network)
        found[modality] = network, loaded.input, backbone
    return found


def protocol_of(config: SupervisedConfig, name: str | None, spec: InputSpec) -> str:
    """One picture of every segment, from the middle of its group."""
    where = "no validation" if name is None else f"split {name}"
    return f"{where}; {spec.clip_frames} groups a clip, their middles, centre square {spec.size}"


RECIPE = Recipe("compressed", CompressedConfig, _train, prepare=prepare)
