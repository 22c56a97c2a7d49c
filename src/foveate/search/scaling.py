"""Search for the depth, width, resolution and frame rate at which a network is scaled.

How much of a larger budget each of the four should get is drawn at random; every variant that costs
what was asked for is trained briefly, and the most accurate one wins. Its block table can be used
as it is, or its scale can be that of the space of an architecture search.

Source: Kondratyuk et al., "MoViNets: Mobile Video Networks for Efficient Video Recognition",
CVPR 2021 (arXiv 2103.11511), section 3.1, after Tan and Le, "EfficientNet", ICML 2019 (arXiv
1905.11946).
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pydantic import Field, model_validator

from foveate.core.errors import ConfigError
from foveate.core.files import replace_file
from foveate.data import Dataset
from foveate.models.movinet_config import (
    TABLES,
    BlockConfig,
    MoViNetConfig,
    base,
    parse_table,
    stream,
    table_text,
)
from foveate.models.weights.run import read_run
from foveate.search.costs import Macs
from foveate.search.space import FEW_STEPS, multiple_of_8
from foveate.train.config import RecipeConfig
from foveate.train.recipe import Recipe, RecipeContext
from foveate.train.recipes import supervised
from foveate.train.recipes.supervised import SupervisedConfig
from foveate.train.run_state import RunSummary
from foveate.train.videos import Strength

RESULT = "scaling.json"
_TRIES = 2000


class ScalingConfig(RecipeConfig):
    """Settings of `foveate search scaling`."""

    free_on_resume = frozenset({"workers"})

    factor: float = Field(gt=0, le=1000, description="cost per second of video over the base's")
    table: str = Field("a0", description="the base: a0 to a5, t0, or a block table")
    kind: Literal["stream", "base"] = "stream"
    size: int = Field(96, ge=16, le=2048, description="pixels, of the base")
    rate: float = Field(4.0, gt=0, le=120, description="frames/s, of the base")
    seconds: float = Field(2.0, gt=0, le=600, description="of a clip")
    trials: int = Field(8, ge=1, le=1000)
    tolerance: float = Field(0.1, gt=0, lt=1, description="how far the cost may be off")
    epochs: int = Field(15, ge=1, description="of every trial")
    batch: int = Field(16, ge=1)
    lr: float = Field(3e-3, gt=0)
    augment: Strength = "light"
    flip: bool = True
    seed: int = Field(0, ge=0)
    workers: int = Field(2, ge=0, le=64, description="loading processes")
    train_split: str = "train"
    val_split: str = "val"

    @model_validator(mode="after")
    def _readable(self) -> ScalingConfig:
        self.network()
        return self

    def network(self) -> MoViNetConfig:
        """The base."""
        table = TABLES[self.table] if self.table in TABLES else parse_table(self.table)
        return stream(table) if self.kind == "stream" else base(table)


@dataclass(frozen=True)
class Variant:
    """A scaled network.

    Attributes:
        depth: Factor on the layers of every stage.
        width: Factor on all widths.
        resolution: Factor on the side of the frames.
        rate: Factor on frames per second.
        table: Block table.
        size: Side of the frames in pixels.
        frames_per_second: Of its clips.
        frames: In a clip.
        macs_per_second: Multiply-adds per second of video.
        top1: On validation clips after a short training, None before it.
    """

    depth: float
    width: float
    resolution: float
    rate: float
    table: str
    size: int
    frames_per_second: float
    frames: int
    macs_per_second: float
    top1: float | None = None


def scaled(config: MoViNetConfig, depth: float, width: float) -> MoViNetConfig:
    """A network with other numbers of layers and channels.

    Args:
        config: The network.
        depth: Factor on the layers of every stage, at least one remains; added layers repeat the
            last one.
        width: Factor on all widths, which are rounded to multiples of 8.
    """

    def times(value: int) -> int:
        return multiple_of_8(value * width)

    blocks = []
    for stage in config.blocks:
        count = max(1, round(depth * len(stage.layers)))
        layers = (*stage.layers, *stage.layers[-1:] * count)[:count]
        layers = tuple(replace(one, expanded=times(one.expanded)) for one in layers)
        blocks.append(BlockConfig(times(stage.width), stage.stride, layers, stage.shrink))
    return replace(
        config, stem=times(config.stem), blocks=tuple(blocks), project=times(config.project)
    )


def variants(config: ScalingConfig, classes: int) -> Iterator[Variant]:
    """Yield distinct variants of the cost that was asked for, at random.

    The logarithm of the factor is divided at random between the four; cost is about linear in depth
    and rate and quadratic in width and resolution.
    """
    network, draws = config.network(), random.Random(f"{config.seed} scaling")

    def cost(one: MoViNetConfig, size: int, rate: float) -> float:
        frames = max(1, round(rate * config.seconds))
        return Macs(size, frames, classes)(one) * rate

    wanted = config.factor * cost(network, config.size, config.rate)
    known = set()
    for _ in range(_TRIES):
        parts = [draws.expovariate(1.0) for _ in range(4)]
        depth, width, resolution, rate = (
            config.factor ** (part / sum(parts) * power)
            for part, power in zip(parts, (1.0, 0.5, 0.5, 1.0), strict=True)
        )
        one = scaled(network, depth, width)
        size, per_second = round(config.size * resolution / 8) * 8, config.rate * rate
        found = cost(one, size, per_second)
        if (one, size) in known or abs(found / wanted - 1) > config.tolerance:
            continue
        known.add((one, size))
        frames = max(1, round(per_second * config.seconds))
        yield Variant(
            depth, width, resolution, rate, table_text(one), size, per_second, frames, found
        )


def _prepare(config: ScalingConfig, dataset: Dataset) -> ScalingConfig:
    """Check that there is something to measure on.

    Raises:
        ConfigError: No validation clips.
    """
    if not len(dataset.subset(config.val_split)):
        raise ConfigError(f"the split {config.val_split!r} has no clips")
    return config


def _search(context: RecipeContext) -> RunSummary:
    """Train every trial in a run folder of its own; a trial that is finished is not repeated.

    Raises:
        ConfigError: No variant has the cost.
    """
    config = context.config
    rows: list[Variant] = []
    shared = config.model_dump(
        include={"epochs", "batch", "lr", "augment", "flip", "seed", "workers", "train_split",
                 "val_split"}
    )  # fmt: skip
    for number, one in zip(
        range(config.trials), variants(config, len(context.dataset.classes)), strict=False
    ):
        settings = SupervisedConfig(
            **shared, model="movinet-table-stream" if config.kind == "stream" else "movinet-table",
            settings={"table": one.table, **FEW_STEPS}, size=one.size, rate=one.frames_per_second,
            frames=one.frames,
        )  # fmt: skip
        figures = read_run(
            context.train_stage(f"trial-{number}", supervised.RECIPE, settings)
        ).figures
        rows.append(replace(one, top1=next(iter(figures.values()))))
        best = max(rows, key=lambda row: row.top1 or 0.0)
        content: dict[str, Any] = {"winner": f"trial-{rows.index(best)}"}
        content["trials"] = [asdict(row) for row in rows]
        text = f"{json.dumps(content, indent=1)}\n"
        replace_file(context.folder / RESULT, text.encode())
    if not rows:
        raise ConfigError(
            f"no variant costs {config.factor:g} times the base within {config.tolerance:.0%}",
            "give a larger tolerance, or another factor",
        )
    return context.summarize({"best top1": best.top1 or 0.0}, [])


RECIPE = Recipe("scaling", ScalingConfig, _search, _prepare)
