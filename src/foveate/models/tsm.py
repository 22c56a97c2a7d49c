"""TSM: a 2D network whose blocks shift a fraction of the channels to neighbouring frames.

Source: Lin et al., "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019
(arXiv 1811.08383), sections 3 and 4: one eighth of the channels from the next frame and one
eighth from the frame before, inside the residual branch, or before whole blocks
(``shift_place="block"``, the in-place shift that the paper compares with, ResNets only); online,
only from the frame before, so the state is an eighth of one frame's channels. ``tsm:BACKBONE``
and ``tsm-online:BACKBONE`` over any timm backbone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from foveate.core.errors import ModelError
from foveate.models.clip import check_clip, frames_of
from foveate.models.macs import on_meta
from foveate.models.registry import register
from foveate.models.streaming import State, add_to_mean, empty_mean, mean_features
from foveate.models.tsn import TSN

PLACES = ("blockres", "block")
SHIFT_DIV = 8  # 1 / SHIFT_DIV of the channels is shifted in each direction
_DEEP = 23  # blocks in a stage from which on only every second one is shifted (section 5.1)
# Layers outside the branch, layers on pooled maps, and token mixers, whose last axis is not the
# channels (MLP-Mixer) or which have their own shortcut (RepViT, MetaFormer).
_ELSEWHERE = re.compile(r"shortcut|downsample|skip|identity|token|(^|\.)(se|cpb_mlp)(\.|$)")
_BLOCK = re.compile(r"Block|Bottleneck|Residual|Layer|Outlooker|^Transformer$")
_ATTENTION = re.compile(r"Attention|Attn|^XCA$")


@dataclass
class ShiftContext:
    """Input and output of the shifts during one call of a backbone.

    Attributes:
        batch: Clips or streams in the call.
        frames: Frames of each clip or stream.
        online: Take channels only from the frame before.
        past: State entries by name; missing ones are zeros.
        new: The state entries after this call.
        done: Names of the shifts that were executed.
    """

    batch: int
    frames: int
    online: bool = False
    past: State = field(default_factory=dict)
    new: State = field(default_factory=dict)
    done: set[str] = field(default_factory=set)


_CONTEXT: ContextVar[ShiftContext | None] = ContextVar("shift_context", default=None)


@contextmanager
def shift_context(context: ShiftContext) -> Iterator[ShiftContext]:
    """Set the context of the shifts of every backbone that is called in the block."""
    token = _CONTEXT.set(context)
    try:
        yield context
    finally:
        _CONTEXT.reset(token)


class TemporalShift(nn.Module):
    """A layer whose input has some channels replaced by those of neighbouring frames.

    Without a context it is the layer alone.

    Args:
        layer: A convolution or block of a ResNet (N, C, H, W), a linear layer or an attention (N,
            ..., C).
        name: Name of its entry in the state.

    Attributes:
        div: 1 / div of the channels is shifted in each direction.
    """

    div = SHIFT_DIV

    def __init__(self, layer: nn.Module, name: str) -> None:
        super().__init__()
        self.layer = layer
        self.name = name

    def forward(self, x: torch.Tensor, *others: Any, **named: Any) -> Any:
        """Shift the input of all frames, then run the layer, which may have further arguments."""
        context = _CONTEXT.get()
        if context is not None:
            # With channels last in shape and memory format, a shift copies the maps once.
            full = self._split_frames(x.movedim(1, -1) if self._maps else x, context)
            x = self._online(full, context) if context.online else self._clip(full)
            x = x.movedim(-1, 1) if self._maps else x
            context.done.add(self.name)
        return self.layer(x, *others, **named)

    def __getattr__(self, name: str) -> Any:
        """Attributes of the layer: some networks read the shape of its weight."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    @property
    def _maps(self) -> bool:
        """Whether the layer takes maps (N, C, H, W), not (N, ..., C)."""
        return isinstance(self.layer, nn.Conv2d) or _is_resnet_block(self.layer)

    def _split_frames(self, x: torch.Tensor, context: ShiftContext) -> torch.Tensor:
        """Reshape (N, ..., C) to (B, T, pieces, ..., C).

        Some networks split frames into windows along the batch dimension; a window is shifted to
        the same window of the next frame.
        """
        pieces, left = divmod(x.shape[0], context.batch * context.frames)
        if left or not pieces:
            raise ModelError(
                f"the input of {self.name} ({tuple(x.shape)}) does not consist of whole frames",
                "use this backbone with tsn:",
            )
        apart: torch.Tensor = x.unflatten(0, (context.batch, context.frames, pieces))
        return apart

    def _clip(self, full: torch.Tensor) -> torch.Tensor:
        """A fraction from the next frame, one from the frame before; zeros beyond the ends."""
        fold = full.shape[-1] // self.div
        ahead, behind, rest = full.split([fold, fold, full.shape[-1] - 2 * fold], -1)
        nothing = torch.zeros_like(ahead[:, :1])
        ahead = torch.cat([ahead[:, 1:], nothing], 1)
        behind = torch.cat([nothing, behind[:, :-1]], 1)
        return torch.cat([ahead, behind, rest], -1).flatten(0, 2)

    def _online(self, full: torch.Tensor, context: ShiftContext) -> torch.Tensor:
        """A fraction from the frame before, which is in the state for the first frame."""
        fold = full.shape[-1] // self.div
        own, rest = full.split([fold, full.shape[-1] - fold], -1)
        latest = own[:, -1].squeeze(1)  # drop the axis of pieces if there is one
        if self._maps:
            latest = latest.movedim(-1, 1)
        before = context.past.get(self.name)
        if before is None:
            before = torch.zeros_like(latest)
        if before.shape != latest.shape:
            raise ModelError(
                f"the state holds maps of {tuple(before.shape)}, the frames give "
                f"{tuple(latest.shape)}",
                "make the state with initial_state for this batch and resolution",
            )
        context.new[self.name] = latest.clone(memory_format=torch.contiguous_format)
        before = before.movedim(1, -1) if self._maps else before
        own = torch.cat([before.to(own.dtype).reshape_as(own[:, :1]), own[:, :-1]], 1)
        return torch.cat([own, rest], -1).flatten(0, 2)


def insert_shifts(
    backbone: nn.Module,
    shift: type[TemporalShift] = TemporalShift,
    place: str = "blockres",
    div: int = SHIFT_DIV,
) -> list[str]:
    """Insert a shift before the first layer of every residual branch, or before every block.

    If the branch is an attention, before the whole attention, so that queries, keys and values are
    of the same frames. Blocks are recognised by timm's class names and contain no other block;
    branches without a shortcut are not changed (section 3.2). In ResNets with a stage of 23 blocks
    or more only every second block is shifted. In a network without blocks, such as VGG, inner
    convolutions are shifted.

    Args:
        backbone: Changed in place.
        shift: Class of the inserted modules.
        place: ``blockres`` for the branches; ``block`` for all blocks of a ResNet as a whole, so
            that the shortcut is shifted too.
        div: 1 / div of the channels is shifted in each direction.

    Returns:
        Names of the shifted layers, in order.

    Raises:
        ModelError: No layer can be shifted, or an invalid place or divisor.
    """
    if place not in PLACES:
        raise ModelError(f"shift_place={place!r} is unknown", f"known: {', '.join(PLACES)}")
    if div < 2:
        raise ModelError(f"shift_div={div!r}: must be at least 2, for shifts in two directions")
    names = (
        _blocks_of(backbone)
        if place == "block"
        else _first_layers(backbone)
        or [
            name
            for name, layer in backbone.named_modules()
            if isinstance(layer, nn.Conv2d)
            and layer.in_channels >= 16
            and max(layer.kernel_size) > 1
        ]
    )
    for index, name in enumerate(names):
        parent, _, child = name.rpartition(".")
        holder = backbone.get_submodule(parent)
        made = shift(holder.get_submodule(child), f"shift{index}")
        made.div = div
        setattr(holder, child, made)
    if not names:
        raise ModelError("this backbone has no layer that can be shifted", "use it with tsn:")
    return names


def _blocks_of(backbone: nn.Module) -> list[str]:
    """Names of the residual blocks of a ResNet."""
    names = [name for name, module in backbone.named_modules() if _is_resnet_block(module)]
    if not names:
        raise ModelError("shift_place='block' is for ResNets", "use shift_place='blockres'")
    return names


def _is_resnet_block(module: nn.Module) -> bool:
    return type(module).__name__ in ("Bottleneck", "BasicBlock")


def _first_layers(backbone: nn.Module) -> list[str]:
    """Names of the first layers of the residual branches."""
    blocks = {
        name: module
        for name, module in backbone.named_modules()
        if name and _BLOCK.search(type(module).__name__) and _first_layer(module) is not None
    }
    inner = {n for n in blocks if not any(other.startswith(f"{n}.") for other in blocks)}
    stage_sizes = Counter(_stage(name) for name in inner)
    step = 2 if max(stage_sizes.values(), default=0) >= _DEEP and _is_resnet(blocks) else 1
    found, seen = [], Counter[str]()
    for name, module in blocks.items():
        if name not in inner:
            continue
        place = seen[_stage(name)]
        seen[_stage(name)] += 1
        # timm sets `has_skip` on blocks that may have no shortcut.
        if place % step == 0 and getattr(module, "has_skip", True):
            found.append(f"{name}.{_first_layer(module)}")
    return found


def _stage(name: str) -> str:
    return name.rpartition(".")[0]


def _is_resnet(blocks: dict[str, nn.Module]) -> bool:
    return all(_is_resnet_block(block) for block in blocks.values())


def _first_layer(block: nn.Module) -> str | None:
    """Name of the first layer of a block whose input channels can be shifted."""
    for name, layer in block.named_modules():
        if _ELSEWHERE.search(name) or not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        wide = layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features
        if wide < SHIFT_DIV:
            return None
        return (isinstance(layer, nn.Linear) and _attention_around(block, name)) or name
    return None


def _attention_around(block: nn.Module, name: str) -> str:
    """Name of the attention that contains a linear layer of a block; empty for none."""
    path = name.split(".")
    for depth in range(1, len(path)):
        around = ".".join(path[:depth])
        if _ATTENTION.search(type(block.get_submodule(around)).__name__):
            return around
    return ""


@register(
    "tsm", tiny={"num_classes": 7, "backbone": "test_efficientnet"}, tiny_input=(2, 3, 3, 32, 40)
)
class TSM(TSN):
    """Two-way temporal shift over a clip.

    Args:
        backbone: Name of a 2D network; see ``backbones.build``.
        num_classes: Outputs of the classifier.
        dropout: Probability of dropping a feature before the classifier, in training.
        pretrained: Load the pretrained weights of the backbone.
        shift_place: ``blockres`` or ``block``; see ``insert_shifts``.
        shift_div: 1 / shift_div of the channels is shifted in each direction.
    """

    online = False
    shift = TemporalShift

    def __init__(
        self,
        backbone: str = "resnet50",
        num_classes: int = 400,
        dropout: float = 0.5,
        pretrained: bool = False,
        shift_place: str = "blockres",
        shift_div: int = SHIFT_DIV,
    ) -> None:
        super().__init__(backbone, num_classes, dropout, pretrained)
        self.patch = None  # shifts need the token of the same place in every frame
        self.shifted = insert_shifts(self.backbone, self.shift, shift_place, shift_div)
        self._shapes: dict[tuple[int, int], dict[str, tuple[int, ...]]] = {}

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, T, C) of every frame of clips (B, 3, T, H, W)."""
        check_clip(x)
        return self.run(x, ShiftContext(len(x), x.shape[2], self.online))

    def run(self, x: torch.Tensor, context: ShiftContext) -> torch.Tensor:
        """Run the backbone on the frames of clips with a shift context; returns (B, T, C).

        Raises:
            ModelError: The backbone does not execute all shifts.
        """
        check_clip(x)
        with shift_context(context):
            flat = self.backbone(frames_of(x))
        if len(context.done) < len(self.shifted):
            raise ModelError(
                f"the backbone uses {len(context.done)} of its {len(self.shifted)} shifted layers",
                "use it with tsn:",
            )
        found: torch.Tensor = flat.unflatten(0, (x.shape[0], -1))
        return found


class TSMOnline(TSM):
    """One-way temporal shift: the clip and the step interface give the same numbers.

    The classifier gets the mean over the features of all frames so far.
    """

    online = True
    pooling = "cumulative"

    def initial_state(
        self,
        batch: int,
        height: int,
        width: int,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> State:
        """Return the state of streams before their first frame.

        Args:
            batch: Number of streams.
            height: Height of the frames in pixels.
            width: Width of the frames in pixels.
            dtype: Of the stored channels; None means that of the weights. Sums are float32.
            device: None means that of the weights.

        Returns:
            ``shift{i}`` (B, ...): the stored channels of the last frame at each shifted layer;
            ``head/sum`` (B, C): sum of the frames' features; ``head/frames`` (B,): the number of
            frames of each stream.
        """
        like = self.classifier.weight
        dtype, device = dtype or like.dtype, device or like.device
        state = {
            name: torch.zeros((batch, *shape), dtype=dtype, device=device)
            for name, shape in self._kept_shapes(height, width).items()
        }
        return state | empty_mean(batch, self.num_features, device)

    def _kept_shapes(self, height: int, width: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the shifts' entries, found by running one frame on the meta device."""
        if (height, width) in self._shapes:
            return self._shapes[height, width]
        ghost = on_meta(self.backbone).eval()
        frame = torch.empty(
            (1, 3, height, width), device="meta", dtype=self.classifier.weight.dtype
        )
        with torch.no_grad(), shift_context(ShiftContext(1, 1, True)) as context:
            ghost(frame)
        shapes = {name: tuple(value.shape[1:]) for name, value in context.new.items()}
        self._shapes[height, width] = shapes
        return shapes

    def step_features(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Run the next n >= 1 frames of every stream, without the classifier.

        Args:
            x: Frames (B, 3, n, H, W).
            state: From ``initial_state`` or the previous step; it is not changed.

        Returns:
            Features of these frames (B, n, C) and the new state.

        Raises:
            ModelError: The frames or the state have the wrong shape.
        """
        context = ShiftContext(len(x), x.shape[2], True, state)
        features = self.run(x, context)
        return features, context.new | add_to_mean(state, features)

    def step(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Run the next frames and classify all frames so far: logits (B, classes), new state."""
        _, state = self.step_features(x, state)
        return self.classify(self.pooled(state)), state

    pooled = staticmethod(mean_features)


register(
    "tsm-online",
    tiny={"num_classes": 7, "backbone": "test_resnet"},
    tiny_input=(2, 3, 5, 32, 40),
    streaming=True,
)(partial(TSMOnline, backbone="mobilenetv2_100"))
