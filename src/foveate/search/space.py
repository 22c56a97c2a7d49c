"""The MoViNet search space: decisions, and the block table that follows from them.

Source: Kondratyuk et al., "MoViNets: Mobile Video Networks for Efficient Video Recognition",
CVPR 2021 (arXiv 2103.11511), section 3.1. Every bottleneck chooses kernel and expansion, every
stage its width and how many layers it has, stem and head their widths.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from foveate.core.errors import ConfigError
from foveate.models.movinet_config import (
    BlockConfig,
    LayerConfig,
    MoViNetConfig,
    base,
    stream,
)

# For trainings from scratch of hundreds of steps, not of the thousands of the published recipe.
FEW_STEPS = {"rezero": 0.5, "norm_momentum": 0.1}

Choice = tuple[int, ...]
"""For every decision of a space, which of its options is taken."""

Pick = Callable[[int], int]
"""Called with the number of the next decision, returns the option to take."""


def multiple_of_8(value: float) -> int:
    """The nearest multiple of 8, at least 8."""
    return max(8, int(value + 4) // 8 * 8)


@dataclass(frozen=True)
class SearchSpace:
    """Which networks can be found; the defaults are the published space of the size of A2.

    Attributes:
        stem: Channels of the stem, before multipliers.
        widths: Channels of the stages, before multipliers.
        strides: Of the first layer of each stage.
        project: Channels of the per-frame features, before multipliers.
        hidden: Width of the dense layer before the classifier; not searched.
        layers: Largest number of layers of a stage; the smallest is 1.
        multipliers: Factors on widths; products are rounded to multiples of 8.
        kernels: Depthwise kernels, time first: `533` is 5x3x3.
        expansions: Expanded channels as multiples of the stage's width before multipliers.
        causal: Search stream networks instead of networks of whole clips.
    """

    stem: int = 16
    widths: tuple[int, ...] = (24, 48, 96, 96, 192)
    strides: tuple[int, ...] = (2, 2, 2, 1, 2)
    project: int = 512
    hidden: int = 2048
    layers: int = 10
    multipliers: tuple[float, ...] = (0.75, 1.0, 1.25)
    kernels: tuple[str, ...] = ("133", "155", "177", "511", "711", "333", "533")
    expansions: tuple[float, ...] = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
    causal: bool = True

    def __post_init__(self) -> None:
        sizes = (self.layers, len(self.multipliers), len(self.kernels), len(self.expansions))
        if not self.widths or len(self.widths) != len(self.strides) or min(sizes) < 1:
            raise ConfigError("a search space needs stages, layers, multipliers, kernels and "
                              "expansions")  # fmt: skip
        for kernel in self.kernels:
            if len(kernel) != 3 or set(kernel) - set("1357") or kernel[1] != kernel[2]:
                raise ConfigError(f"kernel {kernel!r}: not understood", "write 533 for 5x3x3")

    def scaled(self, width: float, layers: int) -> SearchSpace:
        """The same space with other widths and numbers of layers.

        Args:
            width: Factor on all widths; results are rounded to multiples of 8.
            layers: Largest number of layers of a stage.
        """

        def times(value: int) -> int:
            return multiple_of_8(value * width)

        return replace(
            self, stem=times(self.stem), widths=tuple(map(times, self.widths)),
            project=times(self.project), hidden=times(self.hidden), layers=layers,
        )  # fmt: skip

    @property
    def options(self) -> tuple[int, ...]:
        """How many options every decision has, in the order of a `Choice`."""
        widths, layer = len(self.multipliers), (len(self.kernels), len(self.expansions))
        stage = (widths, self.layers, *layer * self.layers)
        return (widths, *stage * len(self.widths), widths)

    def largest(self) -> MoViNetConfig:
        """The network whose weights contain those of every network of the space."""
        return self._extreme(max)

    def smallest(self) -> MoViNetConfig:
        """A network that no network of the space is smaller than."""
        return self._extreme(min)

    def _extreme(self, of: Callable[[Iterable[Any]], Any]) -> MoViNetConfig:
        """The network of the least or the greatest of everything."""
        spans = [of(kernel[axis] for kernel in self.kernels) for axis in range(3)]
        one = replace(
            self, multipliers=(of(self.multipliers),), kernels=("".join(spans),),
            expansions=(of(self.expansions),), layers=of((1, self.layers)),
        )  # fmt: skip
        return one.config([count - 1 for count in one.options])

    def config(self, choice: Sequence[int]) -> MoViNetConfig:
        """The network of a choice."""
        return self.walk(choice.__getitem__)[0]

    def walk(self, pick: Pick) -> tuple[MoViNetConfig, tuple[int, ...]]:
        """Make the decisions that matter, in order.

        Args:
            pick: Chooses the option of a decision. It is not called for layers beyond the number of
                layers of their stage.

        Returns:
            The network, and the numbers of the decisions that were made.
        """
        made: list[int] = []
        numbers: Iterator[int] = iter(range(len(self.options)))

        def decide() -> int:
            made.append(next(numbers))
            return pick(made[-1])

        def width(value: int) -> int:
            return multiple_of_8(value * self.multipliers[decide()])

        stem = width(self.stem)
        blocks = []
        for plain, stride in zip(self.widths, self.strides, strict=True):
            channels, count = width(plain), decide() + 1
            layers = []
            for i in range(self.layers):
                if i >= count:
                    next(numbers), next(numbers)
                    continue
                kernel, expansion = self.kernels[decide()], self.expansions[decide()]
                wide = multiple_of_8(plain * expansion)
                layers.append(LayerConfig(wide, int(kernel[0]), int(kernel[1])))
            blocks.append(BlockConfig(channels, stride, tuple(layers)))
        table = MoViNetConfig(stem, tuple(blocks), width(self.project), self.hidden)
        return (stream(table) if self.causal else base(table)), tuple(made)

    def draw(self, generator: random.Random) -> Choice:
        """A uniformly random choice."""
        return tuple(generator.randrange(count) for count in self.options)
