"""Compressed-domain recognition: three networks, then their exits by distillation, then fusion.

CoViAR's I-frame, residual and motion-vector networks (arXiv 1712.00636) are trained each by itself
on what is read from the files once; classifiers inside the frozen networks learn from the
motion-vector network, then the residual, then the I-frame network (PKD), and weights and
temperatures of all exits are fitted on clips that no network was trained on (WISE, both Soufleri
et al., arXiv 2407.02713). Each stage leaves its result in the run folder, so that a run which is
broken off goes on behind the last one; the networks go on within their training.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from foveate.core import ConfigError, FoveateError, MediaError
from foveate.core.config import Config
from foveate.data import Dataset, split
from foveate.data.compressed import Reading
from foveate.media.compressed import CompressedVideo
from foveate.media.container import VECTOR_CODECS
from foveate.models.backbones import asks_for_weights
from foveate.models.backbones_weights import BACKBONES, find_file
from foveate.models.coviar import SETS, CompressedNet, Modality, Style
from foveate.models.spec import InputSpec
from foveate.models.weights.builtin import CARD
from foveate.models.weights.run import load_run
from foveate.train import run_state as session
from foveate.train.job import Job, Progress, job_of
from foveate.train.kit import randomness
from foveate.train.kit.distributed import Team
from foveate.train.kit.progress import TerminalProgress
from foveate.train.kit.state import Moment
from foveate.train.recipe import Bench, Recipe, carry_out
from foveate.train.recipes.compressed.clips import CompressedBatches, KeptSet, keep_all
from foveate.train.recipes.compressed.heads import Stages, Trained, exits_of, finish
from foveate.train.recipes.supervised import SupervisedConfig, source_of
from foveate.train.run_state import RunSummary
from foveate.train.videos import median_seconds

TEACHING: tuple[Modality, ...] = ("mv", "residual", "iframe")  # the order of distillation
CALIBRATION = "calibration"  # the split that no network sees
LONGEST = 10.0  # seconds of a window
_FREE = frozenset({"cache", "timed"})  # settings that change no number of the networks


class CompressedConfig(Config):
    """Everything that can be set."""

    iframe: str | None = Field(
        None, description="backbone on key frames; None: EfficientNet-Lite0 if its weights are here"
    )
    mv: str = Field(SETS["small"]["mv"], description="backbone on motion vectors")
    residual: str = Field(SETS["small"]["residual"], description="backbone on residuals")
    size: int = Field(112, ge=32, le=1024, description="side of the networks' input in pixels")
    segments: int = Field(3, ge=1, le=64, description="groups of pictures seen of a clip")
    drawn: int = Field(1, ge=1, le=64, description="groups of a clip in a step of training")
    groups: int = Field(12, ge=1, le=1000, description="groups of a video that are kept")
    places: int = Field(2, ge=1, le=64, description="residuals of a group that are kept")
    cache: str | None = Field(None, description="folder of the kept files; None: in the run folder")
    epochs: int = Field(60, ge=1, description="of the networks on vectors and residuals")
    iframe_epochs: int = Field(10, ge=1, description="of the network on key frames")
    batch: int = Field(16, ge=2)
    lr: float = Field(2e-3, gt=0, description="of AdamW; a tenth for pretrained backbones")
    weight_decay: float = Field(0.05, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    dropout: float = Field(0.2, ge=0, lt=1, description="before the networks' own classifiers")
    flip: bool = Field(True, description="mirror half of the clips")
    heads: Style = Field("light", description="form of the classifiers inside the networks")
    exits: int = Field(3, ge=1, le=16, description="classifiers inside each network")
    head_recipe: str = Field("pkd", description="pkd, pkd-own, kd, anti or ce; see train.pkd")
    head_epochs: int = Field(60, ge=3)
    head_views: int = Field(2, ge=1, le=16, description="of each clip that heads learn from")
    head_lr: float = Field(5e-3, gt=0)
    temperature: float = Field(1.0, gt=0, le=100, description="of distillation")
    hard_weight: float = Field(0.0, ge=0, description="of the labels in distillation")
    calibration: float = Field(0.2, gt=0, lt=0.5, description="share of the training clips")
    l1: float = Field(0.0, ge=0, description="penalty on the weights of exits")
    nonnegative: bool = Field(True, description="no exit counts against")
    timed: int = Field(24, ge=1, description="calibration files on which stages are timed")
    seed: int = Field(0, ge=0)
    train_split: str = "train"
    val_split: str = "val"

    def backbone(self, modality: Modality) -> str:
        """The backbone of a network; of key frames what is installed if none is named."""
        if modality != "iframe":
            return self.mv if modality == "mv" else self.residual
        return self.iframe or default_iframe()


def default_iframe() -> str:
    """EfficientNet-Lite0 with image weights where they are installed, else a small network."""
    name = SETS["small"]["iframe"]
    try:
        find_file(BACKBONES[name])
    except FoveateError:
        return SETS["small"]["mv"]
    return name


@dataclass(frozen=True)
class Parts:
    """The clips of a run.

    Attributes:
        dataset: With a split `calibration` taken from the training clips.
        kept: By split.
        clip_seconds: Of a window in prediction: the median training clip, at most `LONGEST`.
    """

    dataset: Dataset
    kept: Mapping[str, KeptSet]
    clip_seconds: float


def fit(
    config: CompressedConfig,
    dataset: Dataset,
    out: Path,
    resume: bool = False,
    progress: Progress | None = None,
    *,
    origin: Mapping[str, Any] | None = None,
    device: str | None = None,
    offline: bool = False,
) -> RunSummary:
    """Train the three networks and their exits; leave a run folder that `foveate.load` can open.

    Args:
        config: What to do.
        dataset: Records with their splits, one class each.
        out: The run folder.
        resume: Go on behind the last stage that was finished.
        progress: Told of every step; a bar on the terminal when None.
        origin: How the data set was opened, for whoever resumes.
        device: Where networks are trained; CUDA if there is one when None.
        offline: Never touch the network for weights.

    Raises:
        MediaError: A codec exports no motion vectors; nothing is trained then.
        ConfigError: Settings or data that do not fit, or a folder that holds another run.
        FoveateError: Too many bad clips, or a disk that is full.
    """
    began = time.perf_counter()
    folder = Path(out)
    config = config.model_copy(update={"iframe": config.backbone("iframe")})
    require_trainable(config, dataset)
    training = session.Training("compressed", config.model_dump(mode="json"), dict(origin or {}))
    if resume:
        _check_same(config, session.read_training(folder), folder)
    checkpoints = session.begin(folder, training, resume)
    with ExitStack() as held:
        held.enter_context(randomness.preserved())
        show = progress or held.enter_context(TerminalProgress())
        parts = read_parts(config, dataset, folder, show)
        summaries = []
        for modality in TEACHING:
            done = _train_network(config, parts, modality, folder, show, device, offline)
            if done is not None:
                summaries.append(done)
                if done.outcome == "interrupted":
                    return replace(done, folder=folder)
        networks = trained_networks(folder)
        stages = Stages(config, parts.dataset, parts.kept, folder, checkpoints, show)
        cascade = exits_of(stages, networks)
        figures = finish(stages, cascade, parts.clip_seconds, dataset.digest(config.train_split))
    return _summary(folder, summaries, figures, parts, began)


def require_trainable(config: CompressedConfig, dataset: Dataset) -> None:
    """Refuse what cannot be trained on, before anything is.

    Raises:
        MediaError: Files whose codec exports no vectors; the cure is the line that transcodes.
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
            continue  # told when it is read
        if codec not in VECTOR_CODECS:
            without.append((dataset.name(record), codec))
    if without:
        name, codec = without[0]
        more = f" (and {len(without) - 1} more clips)" if len(without) > 1 else ""
        raise MediaError(
            f"{name}: {codec} video gives no motion vectors{more}",
            f"foveate data transcode {dataset.root} OUT --gop 12 --codec h264",
        )


def read_parts(config: CompressedConfig, dataset: Dataset, folder: Path, show: Progress) -> Parts:
    """Take the calibration clips out of those of training, and read all that is needed.

    Raises:
        DataError: Too many clips cannot be read, or there are too few groups to hold any out.
    """
    dealt = _held_out(config, dataset)
    cache = folder / "cache" if config.cache is None else Path(config.cache)
    how = Reading(round(config.size * 8 / 7), config.groups, config.places)
    kept = {}
    for name in (config.train_split, CALIBRATION, config.val_split):
        part = dealt.subset(name)
        if not len(part):
            continue

        def told(done: int, total: int, name: str = name) -> None:
            show(Moment(0, 1, done, total, stage=f"reading {name} clips"))

        kept[name] = keep_all(part, cache, how, told)
    usual = median_seconds(dealt, config.train_split)
    return Parts(dealt, kept, LONGEST if usual is None else min(LONGEST, max(0.1, usual)))


def _held_out(config: CompressedConfig, dataset: Dataset) -> Dataset:
    """Some groups of the training clips become the calibration split."""
    training = dataset.subset(config.train_split)
    shares = {config.train_split: 1 - config.calibration, CALIBRATION: config.calibration}
    dealt = split(training, shares, config.seed)
    side = {id(old): new.split for old, new in zip(training.records, dealt.records, strict=True)}
    records = tuple(replace(r, split=side.get(id(r), r.split)) for r in dataset.records)
    return replace(dataset, records=records)


def _train_network(
    config: CompressedConfig,
    parts: Parts,
    modality: Modality,
    folder: Path,
    show: Progress,
    device: str | None,
    offline: bool,
) -> RunSummary | None:
    """Train one network in a run folder of its own; None if that was done before."""
    home = folder / "networks" / modality
    if (home / CARD).is_file():
        return None

    def source(name: str, training: bool, spec: InputSpec, us: Team) -> CompressedBatches | None:
        kept = parts.kept.get(name)
        if kept is None:
            return None
        seed = config.seed if training else None
        classes = parts.dataset.classes
        if training:
            spec = replace(spec, clip_frames=config.drawn)
        return CompressedBatches(kept, modality, classes, spec, config.batch, seed, config.flip)

    def told(now: Moment) -> None:
        stage = f"{modality} network, epoch {now.epoch + 1}/{now.epochs}"
        show(replace(now, stage=stage) if now.stage == "train" else now)

    return carry_out(
        RECIPE, network_config(config, parts, modality), parts.dataset, home,
        (home / session.TRAINING).is_file(), told,
        source=source, device=device, offline=offline,
    )  # fmt: skip


def network_config(config: CompressedConfig, parts: Parts, modality: Modality) -> SupervisedConfig:
    """How one of the networks is trained."""
    backbone = config.backbone(modality)
    pretrained = asks_for_weights(f"coviar:{backbone}")
    return SupervisedConfig(
        model=f"coviar:{backbone}",
        settings={"modality": modality, "dropout": config.dropout},
        frames=config.segments,
        rate=config.segments / parts.clip_seconds,
        size=config.size,
        epochs=config.iframe_epochs if modality == "iframe" else config.epochs,
        batch=config.batch,
        lr=config.lr,
        backbone_lr=0.1 if pretrained else 1.0,
        weight_decay=config.weight_decay,
        label_smoothing=config.label_smoothing,
        flip=config.flip,
        seed=config.seed,
        train_split=config.train_split,
        val_split=config.val_split,
    )


def trained_networks(folder: Path) -> dict[Modality, Trained]:
    """The networks of a run, each with how its input is prepared and its backbone's name.

    Raises:
        WeightsError: One of them is not trained yet, or damaged.
    """
    found: dict[Modality, Trained] = {}
    for modality in TEACHING:
        loaded = load_run(folder / "networks" / modality)
        assert isinstance(loaded.network, CompressedNet)
        assert loaded.card is not None
        backbone = loaded.card.network.arch.partition(":")[2]
        found[modality] = loaded.network, loaded.input, backbone
    return found


def _summary(
    folder: Path,
    summaries: list[RunSummary],
    figures: dict[str, float],
    parts: Parts,
    began: float,
) -> RunSummary:
    return RunSummary(
        folder=folder,
        outcome="finished",
        epochs=sum(one.epochs for one in summaries),
        steps=sum(one.steps for one in summaries),
        figures=figures,
        seconds=time.perf_counter() - began,
        clips_per_second=statistics.mean(s.clips_per_second for s in summaries)
        if summaries else 0.0,
        loader_share=statistics.mean(s.loader_share for s in summaries) if summaries else 0.0,
        peak_memory_mb=session.peak_memory_mb(),
        warnings=[line for one in summaries for line in one.warnings],
        failures=[line for kept in parts.kept.values() for line in kept.failures],
    )  # fmt: skip


def _check_same(config: CompressedConfig, training: session.Training, folder: Path) -> None:
    """Refuse to go on with other settings.

    Raises:
        ConfigError: A setting changed; one line says which.
    """
    for name, value in config.model_dump(mode="json").items():
        before = training.configuration.get(name)
        if name not in _FREE and before != value:
            raise ConfigError(f"{folder}: the run was begun with {name}={before}, not {value}")


def _job(bench: Bench) -> Job:
    return job_of(
        bench.config, bench.dataset, bench.start, bench.source, bench.us, bench.folder, bench.show
    )


def protocol_of(name: str | None, spec: InputSpec) -> str:
    """One picture of every segment, from the middle of its group."""
    where = "no validation" if name is None else f"split {name}"
    return f"{where}; {spec.clip_frames} groups a clip, their middles, centre square {spec.size}"


RECIPE = Recipe("compressed", source_of, _job, protocol_of)
