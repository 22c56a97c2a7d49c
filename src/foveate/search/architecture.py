"""Search for a MoViNet that is as accurate as possible at a cost per frame.

Four stages, each of which is resumed where it was interrupted:

1. Warm-up: every step trains the shared weights of a network drawn uniformly.
2. Search: every step trains a network drawn by the controller, then rewards the controller for
   another one by its accuracy on held-out clips and by its cost.
3. Derivation: networks drawn by the controller are measured with the shared weights on all held-out
   clips. `pareto.json` lists them; the winner is the most accurate one within the target.
4. The winner is trained from scratch like any other network, into the run folder `winner`.

The test split is never read.

Source: Bender et al., "Can Weight Sharing Outperform Random Architecture Search? An Investigation
With TuNAS", CVPR 2020 (arXiv 2008.06120); Kondratyuk et al., "MoViNets", CVPR 2021 (arXiv
2103.11511), section 3.1.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from foveate.core.config import build
from foveate.core.errors import ConfigError
from foveate.core.files import replace_file
from foveate.core.units import macs
from foveate.data import Dataset
from foveate.data.labelled import Videos
from foveate.models.movinet_config import MoViNetConfig, table_text
from foveate.models.spec import InputSpec
from foveate.models.weights.run import read_run
from foveate.search.controller import Controller, absolute_reward
from foveate.search.costs import Engine, Latencies, Macs, Target
from foveate.search.space import FEW_STEPS, Choice, SearchSpace
from foveate.search.supernet import SuperNet
from foveate.train import run_state
from foveate.train.api import open_for
from foveate.train.config import RecipeConfig
from foveate.train.kit import randomness
from foveate.train.kit.batches import Batch, Prepare, worker_errors
from foveate.train.kit.log import Log
from foveate.train.kit.loop import train
from foveate.train.kit.losses import class_loss
from foveate.train.kit.optim import decay_groups, make_optimizer
from foveate.train.kit.schedule import make_schedule
from foveate.train.kit.state import OnProgress, Run, Settings, resume_from
from foveate.train.recipe import Recipe, RecipeContext, StageInterrupted, run_recipe
from foveate.train.recipes import supervised
from foveate.train.recipes.supervised import SupervisedConfig
from foveate.train.run_state import RunSummary
from foveate.train.videos import Source, Strength, VideoClips, prepare_of

PARETO, LATENCIES, WINNER = "pareto.json", "latencies.json", "winner"
_TRIES = 20  # draws for each candidate that is wanted


# YAML reads 533 as a number.
Kernel = Annotated[str, Field(coerce_numbers_to_str=True)]


class ArchitectureConfig(RecipeConfig):
    """Settings of `foveate search architecture`."""

    free_on_resume = frozenset({"workers"})

    target: str = Field(description="cost per frame: 2ms (CPU, one thread) or 20MMAC")
    kind: Literal["stream", "base"] = "stream"
    engine: Engine = Field("inference", description="the form whose milliseconds count")
    width: float = Field(0.5, gt=0, le=4, description="factor on the widths of the space of A2")
    layers: int = Field(3, ge=1, le=20, description="largest number of layers of a stage")
    kernels: tuple[Kernel, ...] = SearchSpace.kernels
    expansions: tuple[float, ...] = SearchSpace.expansions
    size: int = Field(96, ge=8, le=4096, description="pixels")
    frames: int = Field(8, ge=1, le=10_000, description="in a clip")
    rate: float = Field(4.0, gt=0, le=240, description="frames/s")
    epochs: int = Field(30, ge=2, description="of warm-up and search")
    warm_up: float = Field(0.25, ge=0, lt=1, description="share of the epochs")
    batch: int = Field(16, ge=2)
    lr: float = Field(3e-3, gt=0)
    controller_lr: float = Field(0.05, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    beta: float = Field(-0.3, le=0, description="reward of a cost of twice the target")
    reward_batch: int = Field(32, ge=2, description="held-out clips of a reward")
    held_out: int = Field(512, ge=2, description="most clips of the validation split in memory")
    candidates: int = Field(32, ge=1, description="networks measured at the end")
    train_epochs: int = Field(30, ge=0, description="of the winner, from scratch; 0: leave it out")
    augment: Strength = "light"
    flip: bool = True
    seed: int = Field(0, ge=0)
    workers: int = Field(2, ge=0, le=64, description="loading processes")
    train_split: str = "train"
    val_split: str = "val"

    @model_validator(mode="after")
    def _readable(self) -> ArchitectureConfig:
        """Refuse a target or a space that cannot be read, with their own errors."""
        Target.parse(self.target)
        self.space()
        return self

    def space(self) -> SearchSpace:
        """The networks that can be found."""
        return SearchSpace(
            kernels=self.kernels, expansions=self.expansions, causal=self.kind == "stream"
        ).scaled(self.width, self.layers)  # fmt: skip

    def cost(self, classes: int) -> Macs | Latencies:
        """What a network costs per frame, in the unit of the target."""
        if Target.parse(self.target).unit == "MAC":
            return Macs(self.size, self.frames, classes)
        return Latencies(self.size, self.frames, classes, self.engine)

    def input(self) -> InputSpec:
        """How frames are prepared."""
        return InputSpec(self.size, self.rate, self.frames)


@dataclass(frozen=True)
class Candidate:
    """A network that was measured with the shared weights.

    Attributes:
        table: Its block table; the argument `table` of `movinet-table` and `movinet-table-stream`.
        cost: Per frame, in the unit of the target.
        top1: On the held-out clips.
        loss: Mean cross-entropy there.
        front: Whether no other candidate is both cheaper and more accurate.
    """

    table: str
    cost: float
    top1: float
    loss: float
    front: bool = False


@dataclass(frozen=True)
class Study:
    """What a search found; `pareto.json` as a value.

    Attributes:
        arch: Architecture that takes the tables.
        target: Cost per frame.
        unit: Of costs, `ms` or `MAC`.
        winner: The most accurate candidate within the target.
        candidates: All that were measured, by cost.
    """

    arch: str
    target: float
    unit: str
    winner: Candidate
    candidates: tuple[Candidate, ...]

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Study:
        """Read the result of a search from its folder.

        Raises:
            ConfigError: There is none, or the file is damaged.
        """
        path = Path(folder) / PARETO
        try:
            values = json.loads(path.read_bytes())
            rows = tuple(Candidate(**row) for row in values.pop("candidates"))
            return cls(**{**values, "winner": Candidate(**values["winner"]), "candidates": rows})
        except OSError:
            raise ConfigError(f"{folder}: no finished search in this folder") from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise ConfigError(f"{path.name}: damaged") from None


class _Search(nn.Module):
    """Everything that a checkpoint of the search holds."""

    def __init__(self, config: ArchitectureConfig, classes: int, steps: int) -> None:
        super().__init__()
        self.space = config.space()
        self.supernet = SuperNet(self.space, classes)
        self.controller = Controller(self.space)
        self.warm_steps = round(config.warm_up * steps)
        self.steps: torch.Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor, config: MoViNetConfig) -> torch.Tensor:
        """Logits of clips by one of the networks."""
        logits: torch.Tensor = self.supernet(x, config)
        return logits


@dataclass(frozen=True)
class _HeldOut:
    """Held-out clips in memory, and how a network is rewarded for them."""

    x: torch.Tensor
    y: torch.Tensor
    prepare: Prepare

    @torch.no_grad()
    def measure(
        self, model: _Search, config: MoViNetConfig, chosen: torch.Tensor | None = None
    ) -> tuple[float, float]:
        """Top-1 and mean loss of a network on all clips, or on some of them."""
        x, y = (self.x, self.y) if chosen is None else (self.x[chosen], self.y[chosen])
        training = model.training
        model.eval()
        # Batches of equal size: their statistics normalise.
        parts = torch.arange(len(x)).tensor_split(-(-len(x) // 64))
        logits = torch.cat([model(self.prepare(x[part]), config).float().cpu() for part in parts])
        model.train(training)
        top1 = (logits.argmax(1) == y).float().mean()
        return float(top1), float(class_loss(logits, y).mean())


def _objective(
    config: ArchitectureConfig, cost: Macs | Latencies, held_out: _HeldOut
) -> Callable[[nn.Module, Batch, torch.Generator], torch.Tensor]:
    """A step of the shared weights and, after the warm-up, one of the controller."""
    target = Target.parse(config.target).value

    def objective(model: nn.Module, batch: Batch, stream: torch.Generator) -> torch.Tensor:
        assert isinstance(model, _Search)
        draws = random.Random(stream.initial_seed())
        warm = int(model.steps) < model.warm_steps
        model.steps += 1
        space, controller = model.space, model.controller
        choice = space.draw(draws) if warm else controller.draw(draws)
        x = held_out.prepare(batch["x"])
        logits = model(x, space.config(choice))
        losses = class_loss(logits, batch["y"].to(x.device), config.label_smoothing)
        if warm:
            return losses
        choice = controller.draw(draws)
        network = space.config(choice)
        count = min(config.reward_batch, len(held_out.y))
        chosen = torch.randperm(len(held_out.y), generator=stream)[:count]
        top1, _ = held_out.measure(model, network, chosen)
        reward = absolute_reward(top1, cost(network), target, config.beta)
        surrogate = controller.loss(choice, reward)
        return losses + (surrogate - surrogate.detach())  # the log shows the loss of the weights

    return objective


def _derive(
    model: _Search, config: ArchitectureConfig, cost: Macs | Latencies, held_out: _HeldOut,
    on_progress: Callable[[int, int], None],
) -> Study:  # fmt: skip
    """Measure candidates with the shared weights.

    The controller draws them within the target; a few more are drawn uniformly, for the list.

    Raises:
        ConfigError: None is within the target.
    """
    target = Target.parse(config.target)
    draws = random.Random(f"{config.seed} derivation")
    model.eval()
    found: dict[MoViNetConfig, float] = {}

    def collect(draw: Callable[[], Choice], wanted: int, most: float) -> None:
        for _ in range(_TRIES * wanted):
            if wanted < 1:
                return
            network = model.space.config(draw())
            if network not in found and cost(network) <= most:
                found[network] = cost(network)
                wanted -= 1

    collect(model.controller.likeliest, 1, float("inf"))
    collect(lambda: model.controller.draw(draws), config.candidates, target.value)
    collect(lambda: model.space.draw(draws), -(-config.candidates // 4), float("inf"))
    rows = []
    for network, value in found.items():
        rows.append(Candidate(table_text(network), value, *held_out.measure(model, network)))
        on_progress(len(rows), len(found))
    rows = [
        replace(row, front=not any(_beats(other, row) for other in rows))
        for row in sorted(rows, key=lambda row: row.cost)
    ]
    within = [row for row in rows if row.cost <= target.value]
    if not within:
        raise ConfigError(
            f"target {config.target}: the controller draws only networks that cost more",
            "search again with a larger target or a stronger beta, with another --out",
        )
    winner = max(within, key=lambda row: (row.top1, -row.loss))
    arch = "movinet-table-stream" if config.kind == "stream" else "movinet-table"
    return Study(arch, target.value, target.unit, winner, tuple(rows))


def _beats(one: Candidate, other: Candidate) -> bool:
    """Whether a candidate is at least as good in both respects, and better in one."""
    return (
        one.cost <= other.cost
        and one.top1 >= other.top1
        and (one.cost, one.top1) != (other.cost, other.top1)
    )


def _prepare(config: ArchitectureConfig, dataset: Dataset) -> ArchitectureConfig:
    """Check that the data and the target fit, before anything is written.

    Raises:
        ConfigError: Several labels per clip, or a target that no network meets.
    """
    if dataset.multilabel:
        raise ConfigError("architecture search needs one label per clip")
    target = Target.parse(config.target)
    least = config.cost(len(dataset.classes))(config.space().smallest())
    if least > target.value:
        shown = f"{least:.2f} ms" if target.unit == "ms" else macs(least)
        raise ConfigError(
            f"target {config.target}: the smallest network of the space costs {shown}",
            "give a larger target, or a smaller space (--set width=.25)",
        )
    return config


def _search(context: RecipeContext) -> RunSummary:
    """Run all stages; the `train` of the recipe."""
    config, folder = context.config, context.folder
    if context.group.world > 1:
        raise ConfigError("architecture search runs in one process", "start it without torchrun")
    failures: list[str] = []
    if (folder / PARETO).is_file():
        study = Study.read(folder)
    else:
        study, failures = _shared_search(context)
        text = f"{json.dumps(asdict(study), indent=1)}\n"
        replace_file(folder / PARETO, text.encode())
    figures = {f"{study.unit} per frame": study.winner.cost, "one-shot top1": study.winner.top1}
    if config.train_epochs:
        shared = config.model_dump(
            include={"size", "frames", "rate", "batch", "lr", "weight_decay", "label_smoothing",
                     "augment", "flip", "seed", "workers", "train_split", "val_split"}
        )  # fmt: skip
        settings = SupervisedConfig(
            **shared, model=study.arch, settings={"table": study.winner.table, **FEW_STEPS},
            epochs=config.train_epochs,
        )  # fmt: skip
        figures |= read_run(context.train_stage(WINNER, supervised.RECIPE, settings)).figures
    return context.summarize(figures, failures)


def _shared_search(context: RecipeContext) -> tuple[Study, list[str]]:
    """Train shared weights and controller, and derive; also the clips that could not be read.

    Raises:
        ConfigError: A split without clips, or no network within the target.
        StageInterrupted: The training was interrupted and saved.
    """
    config, dataset, group, folder = (
        context.config, context.dataset, context.group, context.folder
    )  # fmt: skip
    spec, classes = config.input(), len(dataset.classes)
    source: Source = context.source or VideoClips(
        dataset, config.batch, config.seed, config.workers, config.augment, config.flip
    )
    batches = source(config.train_split, True, spec, group)
    val = source(config.val_split, False, spec, group)
    for split, given in ((config.train_split, batches), (config.val_split, val)):
        if given is None:
            raise ConfigError(f"the split {split!r} has no clips")
    assert batches is not None
    assert val is not None
    rows: list[Batch] = []
    with worker_errors(val):
        for batch in val.batches(0):
            rows.append(batch)
            context.report("held-out clips", len(rows), len(val))
            if sum(len(one["y"]) for one in rows) >= config.held_out:
                break
    held_out = _HeldOut(
        torch.cat([one["x"] for one in rows]), torch.cat([one["y"] for one in rows]).cpu(),
        prepare_of(spec, group.device),
    )  # fmt: skip
    cost = config.cost(classes)
    if isinstance(cost, Latencies) and (folder / LATENCIES).is_file():
        cost.load(folder / LATENCIES)
    total = len(batches) * config.epochs
    randomness.seed_all(config.seed, "weights")
    model = _Search(config, classes, total).to(group.device)
    context.begin()
    run = _run_of(context, model, total, spec)

    def save_table() -> None:
        if isinstance(cost, Latencies):
            cost.save(folder / LATENCIES)

    def validate(_: nn.Module) -> tuple[tuple[float, ...], dict[str, float]]:
        save_table()
        likeliest = model.space.config(model.controller.likeliest())
        top1, loss = held_out.measure(model, likeliest)
        return (), {"one-shot top1": top1, "one-shot loss": loss, "cost": cost(likeliest)}

    try:
        with worker_errors(batches):
            outcome = train(
                run, batches, _objective(config, cost, held_out), validate, context.on_progress
            )
    finally:
        run.log.close()
        save_table()
    if outcome == "interrupted":
        raise StageInterrupted
    study = _derive(
        model, config, cost, held_out, lambda done, of: context.report("candidates", done, of)
    )
    save_table()
    return study, [*map(str, batches.failures), *map(str, val.failures)]


def _run_of(context: RecipeContext, model: _Search, total: int, spec: InputSpec) -> Run:
    """The search at its beginning, or as its last checkpoint left it."""
    config, checkpoints, group = context.config, context.checkpoints, context.group
    notes = run_state.notes_of(
        config.model_dump(mode="json"), context.dataset, (config.train_split, config.val_split),
        asdict(spec), group.world,
    )  # fmt: skip
    saved = checkpoints.latest() if context.resume else None
    if saved is not None:
        checkpoints.warnings += run_state.check_same(saved, notes, context.folder)
    groups = decay_groups(model.supernet, config.lr, config.weight_decay)
    groups.append(
        {"params": list(model.controller.parameters()), "lr": config.controller_lr,
         "weight_decay": 0.0}
    )  # fmt: skip
    lengths = None if saved is None else saved.values["log"]
    run = Run(
        model,
        make_optimizer("adamw", groups),
        make_schedule("cosine", total, min(total, total // config.epochs)),
        # Gradients of the controller and of weights differ in size: each tensor by itself.
        Settings(config.epochs, config.seed, clip=1.0, clip_each=True),
        checkpoints,
        Log(context.folder, lengths, step=saved.step if saved else 0),
        group,
        notes=notes,
    )
    if saved is not None:
        resume_from(run, saved)
    return run


RECIPE = Recipe("architecture", ArchitectureConfig, _search, _prepare)


def search_architecture(
    videos: Videos,
    *,
    target: str,
    out: str | os.PathLike[str],
    device: str | None = None,
    on_progress: OnProgress | None = None,
    **settings: Any,
) -> Study:
    """Search for a network of a cost, as `foveate search architecture` does.

    Called again with the same arguments, it resumes an interrupted search.

    Args:
        videos: As in `foveate.train`.
        target: Cost per frame: `2ms` of CPU time on one thread, or `20MMAC`.
        out: Folder of the study; the trained winner is in its folder `winner`.
        device: Where to train; latencies are always those of the CPU.
        on_progress: Called after each step; None for a progress bar on the terminal.
        **settings: Fields of `ArchitectureConfig`.

    Raises:
        ConfigError: A setting is wrong, or `out` holds another run.
        DataError: The data set has faults.
        TrainError: The loss is not finite.
        FoveateError: The search was interrupted; the last checkpoint is kept.
    """
    config = build(ArchitectureConfig, {"target": target, **settings}, "settings")
    dataset, origin = open_for(RECIPE, videos)
    folder = Path(out)
    run_recipe(
        RECIPE, config, dataset, folder, is_begun(folder), on_progress,
        origin=origin, device=device,
    )  # fmt: skip
    return Study.read(folder)


def is_begun(folder: Path) -> bool:
    """Whether a search was begun in a folder."""
    return (folder / run_state.TRAINING).is_file()
