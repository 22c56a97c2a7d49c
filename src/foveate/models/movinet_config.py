"""The layer tables of the MoViNets, and the names and shapes of their stream state.

Source: Kondratyuk et al., "MoViNets: Mobile Video Networks for Efficient Video Recognition",
CVPR 2021 (arXiv 2103.11511), table 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from foveate.models.streaming import State, empty_mean


@dataclass(frozen=True)
class LayerConfig:
    """A bottleneck: expanded channels, temporal kernel (1: none), spatial kernel."""

    expanded: int
    temporal: int
    kernel: int


@dataclass(frozen=True)
class BlockConfig:
    """Layers of one width; the first has the spatial stride, the others stride 1."""

    width: int
    stride: int
    layers: tuple[LayerConfig, ...]


@dataclass(frozen=True)
class MoViNetConfig:
    """The block table of one network (paper, table 1).

    Attributes:
        stem: Channels of the 3x3 stride-2 stem.
        blocks: The stages.
        project: Channels of the per-frame features.
        hidden: Width of the dense layer before the classifier.
    """

    stem: int
    blocks: tuple[BlockConfig, ...]
    project: int
    hidden: int


def block(width: int, stride: int, layers: str) -> BlockConfig:
    """Read a stage from the table's notation: ``"184/533"`` is 184 channels, kernel (5,3,3)."""
    parsed = []
    for word in layers.split():
        expanded, kernel = word.split("/")
        parsed.append(LayerConfig(int(expanded), int(kernel[0]), int(kernel[1])))
    return BlockConfig(width, stride, tuple(parsed))


A0 = MoViNetConfig(
    stem=8,
    blocks=(
        block(8, 2, "24/155"),
        block(32, 2, "80/333 80/333 80/333"),
        block(56, 2, "184/533 112/333 184/333"),
        block(56, 1, "184/533 184/333 184/333 184/333"),
        block(104, 2, "384/533 280/155 280/155 344/155"),
    ),
    project=480,
    hidden=2048,
)

# Small, yet with every kind of layer: no temporal kernel, 3 and 5, each kind of skip.
TINY = MoViNetConfig(
    stem=4,
    blocks=(block(4, 2, "8/155"), block(8, 2, "12/533 12/333"), block(12, 1, "16/333 16/155")),
    project=24,
    hidden=32,
)


def layer_name(block_index: int, layer_index: int) -> str:
    """Name of a layer in states and weight files."""
    return f"block{block_index}_layer{layer_index}"


def slot_name(layer: str, slot: int) -> str:
    """Name of a past frame in a layer's stream buffer; slot 0 is the oldest."""
    return f"{layer}/slot{slot}"


def empty_state(
    config: MoViNetConfig,
    batch: int,
    height: int,
    width: int,
    dtype: torch.dtype,
    device: torch.device | str,
) -> State:
    """Return zeros in the shape of a state; see ``MoViNetLite.initial_state``."""
    state: State = {}
    height, width = -(-height // 2), -(-width // 2)
    for b, stage in enumerate(config.blocks):
        height, width = -(-height // stage.stride), -(-width // stage.stride)
        for i, layer in enumerate(stage.layers):
            for slot in range(layer.temporal - 1):
                shape = (batch, height, width, layer.expanded)
                key = slot_name(layer_name(b, i), slot)
                state[key] = torch.zeros(shape, dtype=dtype, device=device)
    return state | empty_mean(batch, config.project, device)
