"""TSM: a 2D network whose blocks hand a share of their channels to the neighbouring frames.

Source: Lin et al., "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019
(arXiv 1811.08383), sections 3 and 4: one eighth of the channels from the next frame and one
eighth from the frame before, inside the residual branch, or in front of whole blocks
(``shift_place="block"``, the in-place shift that the paper compares with, ResNets only); online,
only from the frame before, and what has to be kept is that eighth of one frame. ``tsm:BACKBONE``
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
SHARE = 8  # one channel of so many goes each way
_DEEP = 23  # blocks in a stage from which on only every second one is shifted (section 5.1)
# Layers beside the branch, those of pooled maps, and what mixes tokens, which has no channels last
# (MLP-Mixer) or a shortcut of its own (RepViT, MetaFormer).
_ELSEWHERE = re.compile(r"shortcut|downsample|skip|identity|token|(^|\.)(se|cpb_mlp)(\.|$)")
_BLOCK = re.compile(r"Block|Bottleneck|Residual|Layer|Outlooker|^Transformer$")
_ATTENTION = re.compile(r"Attention|Attn|^XCA$")


@dataclass
class Passage:
    """One call of a backbone: what its shifts must know, and what they leave behind.

    Attributes:
        batch: Clips or streams in the call.
        frames: Frames of each.
        online: Take channels from the frame before only.
        past: State entries by name; missing ones are zeros.
        left: The entries after this call.
        done: Names of the shifts that were made.
    """

    batch: int
    frames: int
    online: bool = False
    past: State = field(default_factory=dict)
    left: State = field(default_factory=dict)
    done: set[str] = field(default_factory=set)


_PASSAGE: ContextVar[Passage | None] = ContextVar("passage", default=None)


@contextmanager
def passing(passage: Passage) -> Iterator[Passage]:
    """Give the shifts of every backbone called inside their passage."""
    token = _PASSAGE.set(passage)
    try:
        yield passage
    finally:
        _PASSAGE.reset(token)


class TemporalShift(nn.Module):
    """A layer that sees some channels of the neighbouring frames in place of its own.

    Outside of a passage it is the layer alone.

    Args:
        layer: A convolution or block of a ResNet (N, C, H, W), a dense layer or an attention
            (N, ..., C).
        name: Of its entry in the state.

    Attributes:
        share: One channel of so many goes each way.
    """

    share = SHARE

    def __init__(self, layer: nn.Module, name: str) -> None:
        super().__init__()
        self.layer = layer
        self.name = name

    def forward(self, x: torch.Tensor, *others: Any, **named: Any) -> Any:
        """Shift the input of all frames, then run the layer; an attention may take more."""
        passage = _PASSAGE.get()
        if passage is not None:
            # With channels last in view and in memory, a shift copies the maps once.
            full = self._frames_apart(x.movedim(1, -1) if self._maps else x, passage)
            x = self._online(full, passage) if passage.online else self._clip(full)
            x = x.movedim(-1, 1) if self._maps else x
            passage.done.add(self.name)
        return self.layer(x, *others, **named)

    def __getattr__(self, name: str) -> Any:
        """What the shift has not, the layer has: some networks read the shape of its weight."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    @property
    def _maps(self) -> bool:
        """Whether the layer takes maps (N, C, H, W), not (N, ..., C)."""
        return isinstance(self.layer, nn.Conv2d) or _is_resnet_block(self.layer)

    def _frames_apart(self, x: torch.Tensor, passage: Passage) -> torch.Tensor:
        """Lay (N, ..., C) out as (B, T, pieces, ..., C).

        Some networks cut a frame into windows, one after the other along the batch; the neighbour
        of a window is the same place of the next frame.
        """
        pieces, left = divmod(x.shape[0], passage.batch * passage.frames)
        if left or not pieces:
            raise ModelError(
                f"the input of {self.name} ({tuple(x.shape)}) is not made of whole frames",
                "use this backbone with tsn:",
            )
        apart: torch.Tensor = x.unflatten(0, (passage.batch, passage.frames, pieces))
        return apart

    def _clip(self, full: torch.Tensor) -> torch.Tensor:
        """A share from the next frame, one from the frame before; zeros beyond the ends."""
        share = full.shape[-1] // self.share
        ahead, behind, rest = full.split([share, share, full.shape[-1] - 2 * share], -1)
        nothing = torch.zeros_like(ahead[:, :1])
        ahead = torch.cat([ahead[:, 1:], nothing], 1)
        behind = torch.cat([nothing, behind[:, :-1]], 1)
        return torch.cat([ahead, behind, rest], -1).flatten(0, 2)

    def _online(self, full: torch.Tensor, passage: Passage) -> torch.Tensor:
        """A share from the frame before, which the state holds for the first frame."""
        share = full.shape[-1] // self.share
        own, rest = full.split([share, full.shape[-1] - share], -1)
        latest = own[:, -1].squeeze(1)  # a frame that is one piece is kept as its map
        if self._maps:
            latest = latest.movedim(-1, 1)
        before = passage.past.get(self.name)
        if before is None:
            before = torch.zeros_like(latest)
        if before.shape != latest.shape:
            raise ModelError(
                f"the state holds maps of {tuple(before.shape)}, the frames give "
                f"{tuple(latest.shape)}",
                "make the state with initial_state for this batch and resolution",
            )
        passage.left[self.name] = latest.clone(memory_format=torch.contiguous_format)
        before = before.movedim(1, -1) if self._maps else before
        own = torch.cat([before.to(own.dtype).reshape_as(own[:, :1]), own[:, :-1]], 1)
        return torch.cat([own, rest], -1).flatten(0, 2)


def insert_shifts(
    backbone: nn.Module,
    shift: type[TemporalShift] = TemporalShift,
    place: str = "blockres",
    share: int = SHARE,
) -> list[str]:
    """Put a shift in front of the first layer of every residual branch, or of every block.

    Where the branch is an attention, the attention as a whole: queries, keys and values see the
    same frames. Blocks are told by the names that timm gives their classes and by holding no other
    block;
    branches without a shortcut around them stay as they are (section 3.2). In ResNets with a
    stage of 23 blocks or more only every second block is shifted. A network without blocks, such
    as VGG, is shifted before its inner convolutions.

    Args:
        backbone: Changed in place.
        shift: What is put there.
        place: ``blockres`` for the branches; ``block`` for the blocks of a ResNet as a whole, all
            of them, so that the shortcut is shifted too.
        share: One channel of so many goes each way.

    Returns:
        Names of the layers that are shifted, in order.

    Raises:
        ModelError: Nothing in it can be shifted, or there is no such place or share.
    """
    if place not in PLACES:
        raise ModelError(f"shift_place={place!r} is unknown", f"known: {', '.join(PLACES)}")
    if share < 2:
        raise ModelError(f"shift_div={share!r}: two shares of the channels move, so at least 2")
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
        made.share = share
        setattr(holder, child, made)
    if not names:
        raise ModelError("this backbone has no layer that could be shifted", "use it with tsn:")
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
        # timm marks branches without a shortcut; other blocks always have one.
        if place % step == 0 and getattr(module, "has_skip", True):
            found.append(f"{name}.{_first_layer(module)}")
    return found


def _stage(name: str) -> str:
    return name.rpartition(".")[0]


def _is_resnet(blocks: dict[str, nn.Module]) -> bool:
    return all(_is_resnet_block(block) for block in blocks.values())


def _first_layer(block: nn.Module) -> str | None:
    """Name of the first layer of a block whose input has channels to shift."""
    for name, layer in block.named_modules():
        if _ELSEWHERE.search(name) or not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        wide = layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features
        if wide < SHARE:
            return None
        return (isinstance(layer, nn.Linear) and _attention_around(block, name)) or name
    return None


def _attention_around(block: nn.Module, name: str) -> str:
    """Name of the attention that a dense layer of a block is part of; empty for none."""
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
        pretrained: Fill the backbone with the weights that its name stands for.
        shift_place: ``blockres`` or ``block``; see ``insert_shifts``.
        shift_div: One channel of so many goes each way.
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
        shift_div: int = SHARE,
    ) -> None:
        super().__init__(backbone, num_classes, dropout, pretrained)
        self.shifted = insert_shifts(self.backbone, self.shift, shift_place, shift_div)
        self._shapes: dict[tuple[int, int], dict[str, tuple[int, ...]]] = {}

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, T, C) of every frame of clips (B, 3, T, H, W)."""
        check_clip(x)
        return self.run(x, Passage(len(x), x.shape[2], self.online))

    def run(self, x: torch.Tensor, passage: Passage) -> torch.Tensor:
        """Run the frames of clips through the backbone with a passage; (B, T, C).

        Raises:
            ModelError: The backbone goes past a shift, so that frames would not meet there.
        """
        check_clip(x)
        with passing(passage):
            flat = self.backbone(frames_of(x))
        if len(passage.done) < len(self.shifted):
            raise ModelError(
                f"the backbone uses {len(passage.done)} of its {len(self.shifted)} shifted layers",
                "use it with tsn:",
            )
        found: torch.Tensor = flat.unflatten(0, (x.shape[0], -1))
        return found


class TSMOnline(TSM):
    """One-way temporal shift: the clip form and the step form give the same numbers.

    The classifier sees the mean of the features of all frames so far.
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
        """Return the state of streams that have seen nothing.

        Args:
            batch: Number of streams.
            height: Height of the frames in pixels.
            width: Width of the frames in pixels.
            dtype: Of the kept channels; the weights' when None. Sums stay float32.
            device: The weights' when None.

        Returns:
            ``shift{i}`` (B, ...): the kept channels of the last frame before each shifted layer;
            ``head/sum`` (B, C): sum of the frames' features; ``head/frames`` (B,): how many
            frames each stream has seen.
        """
        like = self.classifier.weight
        dtype, device = dtype or like.dtype, device or like.device
        state = {
            name: torch.zeros((batch, *shape), dtype=dtype, device=device)
            for name, shape in self._kept_shapes(height, width).items()
        }
        return state | empty_mean(batch, self.num_features, device)

    def _kept_shapes(self, height: int, width: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the shifts' entries, found by running one frame that holds no values."""
        if (height, width) in self._shapes:
            return self._shapes[height, width]
        ghost = on_meta(self.backbone).eval()
        frame = torch.empty(
            (1, 3, height, width), device="meta", dtype=self.classifier.weight.dtype
        )
        with torch.no_grad(), passing(Passage(1, 1, True)) as passage:
            ghost(frame)
        shapes = {name: tuple(value.shape[1:]) for name, value in passage.left.items()}
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
        passage = Passage(len(x), x.shape[2], True, state)
        features = self.run(x, passage)
        return features, passage.left | add_to_mean(state, features)

    def step(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Run the next frames and classify all that was seen: logits (B, classes), new state."""
        _, state = self.step_features(x, state)
        return self.classify(self.pooled(state)), state

    pooled = staticmethod(mean_features)


register(
    "tsm-online",
    tiny={"num_classes": 7, "backbone": "test_resnet"},
    tiny_input=(2, 3, 5, 32, 40),
    streaming=True,
)(partial(TSMOnline, backbone="mobilenetv2_100"))
