"""Block tables and settings of the MoViNets, and the names and shapes of their stream state.

Source: Kondratyuk et al., "MoViNets: Mobile Video Networks for Efficient Video Recognition",
CVPR 2021 (arXiv 2103.11511), with the settings of the released models (tensorflow/models,
`official/projects/movinet`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F

from foveate.core.errors import ModelError
from foveate.models.layers.memory import Memory
from foveate.models.streaming import State, empty_mean

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu6": F.relu6,
    "swish": F.silu,
    "hard-swish": F.hardswish,
}


GATES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sigmoid": torch.sigmoid,
    "hard-sigmoid": lambda x: F.relu6(x + 3) * 0.16667,
    "hard-sigmoid-0.2": lambda x: (0.2 * x + 0.5).clamp(0, 1),
}
# Fields of a configuration that can be chosen for a released block table, with their values.
OPTIONS: dict[str, tuple[Any, ...]] = {
    "conv": ("3d", "2plus1d"),
    "squeeze": ("none", "mean", "mean+frame"),
    "gate": tuple(GATES),
    "activation": tuple(ACTIVATIONS),
    "head_activation": tuple(ACTIVATIONS),
    "positions": (False, True),
    "padding": ("same", "symmetric"),
}


@dataclass(frozen=True)
class LayerConfig:
    """A bottleneck: expanded channels, temporal kernel (1: none), spatial kernel."""

    expanded: int
    temporal: int
    kernel: int


@dataclass(frozen=True)
class BlockConfig:
    """Layers of one width; the first has the spatial stride, the others stride 1.

    Attributes:
        width: Channels between the layers.
        stride: Of the first layer.
        layers: The bottlenecks.
        shrink: With `padding="symmetric"`: by how many pixels the padding of the strided layer
            falls short of half its kernel.
    """

    width: int
    stride: int
    layers: tuple[LayerConfig, ...]
    shrink: int = 0


@dataclass(frozen=True)
class MoViNetConfig:
    """One network: block table (paper, table 1) and kind.

    Attributes:
        stem: Channels of the 3x3 stride-2 stem.
        blocks: The stages.
        project: Channels of the per-frame features.
        hidden: Width of the dense layer before the classifier.
        causal: Whether no frame sees later ones, so that the network can stream.
        conv: `3d`, a depthwise kernel over time and space; or `2plus1d`, one over space and one
            over time, each with its normalisation and activation. They are different networks.
        norm: Batch normalisation behind convolutions; else they have biases.
        activation: `swish`, `hard-swish` or `relu6`.
        squeeze: Squeeze-excitation of every layer: `none`; `mean`, over all frames (causal: so
            far); or `mean+frame`, over frames so far beside the frame itself.
        gate: Its gate: `sigmoid`, `hard-sigmoid` (relu6(x + 3) * .16667, as TensorFlow rounds
            1/6) or `hard-sigmoid-0.2` (clamp(.2 x + .5), as Keras and the PyTorch port have it).
        head_activation: Behind the dense layer.
        positions: Whether squeeze-excitation is given the number of the frame.
        padding: `same`, as TensorFlow pads; or `symmetric`, as the PyTorch port may.
    """

    stem: int
    blocks: tuple[BlockConfig, ...]
    project: int
    hidden: int = 2048
    causal: bool = True
    conv: str = "2plus1d"
    norm: bool = True
    activation: str = "hard-swish"
    squeeze: str = "mean+frame"
    gate: str = "hard-sigmoid"
    head_activation: str = "swish"
    positions: bool = False
    padding: str = "same"


def block(width: int, stride: int, layers: str, shrink: int = 0) -> BlockConfig:
    """Read a stage from the table's notation: ``"184/533"`` is 184 channels, kernel (5,3,3)."""
    parsed = []
    for word in layers.split():
        expanded, kernel = word.split("/")
        parsed.append(LayerConfig(int(expanded), int(kernel[0]), int(kernel[1])))
    return BlockConfig(width, stride, tuple(parsed), shrink)


def table_text(config: MoViNetConfig) -> str:
    """A block table as one line: ``stem | width/stride layers | ... | project hidden``.

    >>> table_text(TINY)
    '4 | 4/2 8/155 | 8/2 12/533 12/333 | 12/1 16/333 16/155 | 24 32'
    """
    stages = (
        " ".join(
            [f"{stage.width}/{stage.stride}"]
            + [f"{one.expanded}/{one.temporal}{one.kernel}{one.kernel}" for one in stage.layers]
        )
        for stage in config.blocks
    )
    return " | ".join([str(config.stem), *stages, f"{config.project} {config.hidden}"])


def parse_table(text: str) -> MoViNetConfig:
    """Read a block table from the line that `table_text` writes.

    Raises:
        ModelError: It is not such a line, or a size in it is out of range.
    """
    wanted = ModelError(
        f"table {text[:80]!r}: not a block table of a MoViNet",
        "write it as '8 | 8/2 24/155 | 32/2 80/333 80/333 | 480 2048'",
    )
    if re.fullmatch(r"\d{1,4} \|( \d{1,4}/[12]( \d{1,4}/[1357]([1357])\3)+ \|)+ \d{1,4} \d{1,4}",
                    text) is None:  # fmt: skip
        raise wanted
    stem, *stages, last = text.split(" | ")
    blocks = []
    for stage in stages:
        first, _, layers = stage.partition(" ")
        width, stride = map(int, first.split("/"))
        blocks.append(block(width, stride, layers))
    project, hidden = map(int, last.split())
    widths = [int(stem), project, hidden, *(stage.width for stage in blocks)]
    if min(widths + [one.expanded for stage in blocks for one in stage.layers]) < 1:
        raise wanted
    return MoViNetConfig(int(stem), tuple(blocks), project, hidden)


TABLES = {
    "a0": MoViNetConfig(
        stem=8,
        blocks=(
            block(8, 2, "24/155"),
            block(32, 2, "80/333 80/333 80/333", 1),
            block(56, 2, "184/533 112/333 184/333", 1),
            block(56, 1, "184/533 184/333 184/333 184/333"),
            block(104, 2, "384/533 280/155 280/155 344/155"),
        ),
        project=480,
    ),
    "a1": MoViNetConfig(
        stem=16,
        blocks=(
            block(16, 2, "40/155 40/333"),
            block(40, 2, "96/333 120/333 96/333 96/333", 1),
            block(64, 2, "216/533 128/333 216/333 168/333 216/333", 1),
            block(64, 1, "216/533 216/333 216/333 128/333 128/155 216/333"),
            block(136, 2, "456/533 360/155 360/155 360/155 456/155 456/333 544/133"),
        ),
        project=600,
    ),
    "a2": MoViNetConfig(
        stem=16,
        blocks=(
            block(16, 2, "40/155 40/333 64/333"),
            block(40, 2, "96/333 120/333 96/333 96/333 120/333"),
            block(72, 2, "240/533 160/333 240/333 192/333 240/333"),
            block(72, 1, "240/533 240/333 240/333 240/333 144/155 240/333"),
            block(144, 2, "480/533 384/155 384/155 480/155 480/155 480/333 576/133"),
        ),
        project=640,
    ),
    "a3": MoViNetConfig(
        stem=16,
        blocks=(
            block(16, 2, "40/155 40/333 64/333 40/333"),
            block(48, 2, "112/333 144/333 112/333 112/155 144/333 144/333"),
            block(80, 2, "240/533 152/333 240/333 192/333 240/333"),
            block(88, 1, "264/533 264/333 264/333 264/333 160/155 264/333 264/333 264/333"),
            block(
                168, 2, "560/533 448/155 448/155 560/155 560/155 560/333 448/155 448/155 560/333 "
                "672/133",
            ),
        ),
        project=744,
    ),
    "a4": MoViNetConfig(
        stem=24,
        blocks=(
            block(24, 2, "64/155 64/333 96/333 64/333 96/333 64/333", 1),
            block(
                56, 2, "168/333 168/333 136/333 136/333 168/333 168/333 168/333 136/155 136/333"
            ),
            block(
                96, 2, "320/533 160/333 320/333 192/333 320/333 160/333 320/333 256/333 320/333"
            ),
            block(
                96, 1, "320/533 320/333 320/333 320/333 192/155 320/333 320/333 192/333 320/333 "
                "320/333",
            ),
            block(
                192, 2, "640/533 512/155 512/155 640/155 640/155 640/333 512/155 512/155 640/155 "
                "768/155 640/155 640/333 768/333",
            ),
        ),
        project=856,
    ),
    "a5": MoViNetConfig(
        stem=24,
        blocks=(
            block(24, 2, "64/155 64/155 96/333 64/333 96/333 64/333"),
            block(
                64, 2, "192/533 152/333 152/333 152/333 192/333 192/333 192/333 152/333 152/333 "
                "192/333 192/333",
            ),
            block(
                112, 2, "376/533 224/333 376/333 376/333 296/333 376/333 224/333 376/333 376/333 "
                "296/333 376/333 376/333 376/333",
            ),
            block(
                120, 1, "376/533 376/333 376/333 376/333 224/155 376/333 376/333 224/333 376/333 "
                "376/333 376/333",
            ),
            block(
                224, 2, "744/533 744/333 600/155 600/155 744/155 744/155 744/333 896/155 600/155 "
                "600/155 896/155 744/155 744/333 896/155 600/155 600/155 744/155 744/333",
            ),
        ),
        project=992,
    ),
    "t0": MoViNetConfig(
        stem=8,
        blocks=(
            block(8, 2, "16/155"),
            block(32, 2, "72/333 72/155"),
            block(56, 2, "112/533 112/155 112/333"),
            block(56, 1, "184/533 184/155 184/333 184/333"),
            block(104, 2, "344/533 344/155 344/155 344/333"),
        ),
        project=240,
        hidden=1024,
    ),
}  # fmt: skip

# Small, yet with every kind of layer: no temporal kernel, 3 and 5, each kind of skip.
TINY = MoViNetConfig(
    stem=4,
    blocks=(block(4, 2, "8/155"), block(8, 2, "12/533 12/333"), block(12, 1, "16/333 16/155")),
    project=24,
    hidden=32,
)


def base(table: MoViNetConfig) -> MoViNetConfig:
    """The network of whole clips over a block table, as released."""
    return replace(
        table, causal=False, conv="3d", activation="swish", squeeze="mean", gate="sigmoid"
    )


def stream(table: MoViNetConfig, name: str = "") -> MoViNetConfig:
    """The causal network over a block table, as released under a name of `TABLES`."""
    head = "hard-swish" if name in ("a1", "a4", "t0") else "swish"
    return replace(table, head_activation=head, positions=name in ("a3", "a4", "a5"))


def lite(table: MoViNetConfig) -> MoViNetConfig:
    """The causal network without squeeze-excitation, with ReLU6, normalisation folded."""
    return replace(table, norm=False, activation="relu6", squeeze="none", head_activation="relu6")


def released(name: str, kind: str, *, tiny: bool = False) -> MoViNetConfig:
    """The network that was released under a name of `TABLES`.

    Args:
        name: The block table.
        kind: ``"base"`` or ``"stream"``.
        tiny: Put a small table in its place.
    """
    table = TINY if tiny else TABLES[name]
    return base(table) if kind == "base" else stream(table, name)


def with_options(config: MoViNetConfig, options: Mapping[str, Any]) -> MoViNetConfig:
    """A configuration with other values of `OPTIONS`; None leaves a value as it is.

    Raises:
        ModelError: A value that is not known.
    """
    chosen = {key: value for key, value in options.items() if value is not None}
    for key, value in chosen.items():
        if value not in OPTIONS[key]:
            known = ", ".join(map(str, OPTIONS[key]))
            raise ModelError(f"{key}={value!r} is not known", f"one of: {known}")
    return replace(config, **chosen)


def options_of(config: MoViNetConfig, like: MoViNetConfig) -> dict[str, Any]:
    """The `OPTIONS` in which a configuration differs from another one, as plain values."""
    mine, theirs = vars(config), vars(like)
    return {key: mine[key] for key in OPTIONS if mine[key] != theirs[key]}


def layer_name(block_index: int, layer_index: int) -> str:
    """Name of a layer in states and weight files."""
    return f"block{block_index}_layer{layer_index}"


def slot_name(layer: str, slot: int) -> str:
    """Name of a past frame in a layer's stream buffer; slot 0 is the oldest."""
    return f"{layer}/slot{slot}"


def pool_name(layer: str) -> str:
    """Name of what a layer's squeeze-excitation remembers."""
    return f"{layer}/pool"


def map_sizes(config: MoViNetConfig, height: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield the size of the maps after the stem, then after every layer."""
    size = (height, width)

    def strided(kernel: int, shrink: int) -> tuple[int, int]:
        if config.padding == "same":
            return -(-size[0] // 2), -(-size[1] // 2)
        pad = kernel // 2 - shrink
        return ((size[0] + 2 * pad - kernel) // 2 + 1, (size[1] + 2 * pad - kernel) // 2 + 1)

    size = strided(3, 0)
    yield size
    for stage in config.blocks:
        for i, layer in enumerate(stage.layers):
            if i == 0 and stage.stride > 1:
                size = strided(layer.kernel, stage.shrink)
            yield size


def empty_state(
    config: MoViNetConfig,
    memory: Memory,
    batch: int,
    height: int,
    width: int,
    dtype: torch.dtype,
    device: torch.device | str,
) -> State:
    """Return zeros in the shape of a state; see ``MoViNet.initial_state``."""
    state: State = {}
    sizes = map_sizes(config, height, width)
    before = next(sizes)
    for b, stage in enumerate(config.blocks):
        for i, layer in enumerate(stage.layers):
            name, after = layer_name(b, i), next(sizes)
            # A kernel over space and time has its buffer before the stride.
            size = before if config.conv == "3d" else after
            for slot in range(layer.temporal - 1):
                shape = (batch, *size, layer.expanded)
                state[slot_name(name, slot)] = torch.zeros(shape, dtype=dtype, device=device)
            if config.squeeze != "none":
                state[pool_name(name)] = memory.start(batch, layer.expanded, device)
            before = after
    return state | empty_mean(batch, config.project, device, memory)
