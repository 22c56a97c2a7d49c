"""AdaFocus: a glance at whole frames chooses patches for a larger network.

Sources: Wang et al., "Adaptive Focus for Efficient Video Recognition" (V1), ICCV 2021 (arXiv
2105.03245); "AdaFocus V2: End-to-End Training of Spatial Dynamic Networks for Video Recognition",
CVPR 2022 (arXiv 2112.14238); "Uni-AdaFocus: Spatial-temporal Dynamic Computation for Video
Recognition", TPAMI 2024 (arXiv 2412.11228); each in the form for untrimmed clips and in the one
with temporal shifts (TSM) for Something-Something.

All patches of a clip pass the focus network in one batch: only the small policies run frame by
frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.core.errors import ModelError
from foveate.models import backbones
from foveate.models.adafocus_card import AdaFocusCard
from foveate.models.adafocus_policies import (
    STRIDE,
    ClipPointPolicy,
    GaussianPolicy,
    GridPolicy,
    PointPolicy,
    PoolingClassifier,
    RecurrentClassifier,
    TemporalPolicy,
    TwoStageClassifier,
    WindowPolicy,
    choose_frames,
)
from foveate.models.clip import check_clip
from foveate.models.layers.crop import crop_at, crop_resized
from foveate.models.registry import create, register
from foveate.models.streaming import State
from foveate.models.tsm import SHIFT_DIV, ShiftContext, insert_shifts, shift_context

LEAST_WINDOW = 3 / 7  # of the frame's side: 96 of 224 pixels (Uni-AdaFocus)


@dataclass
class Choice:
    """Where and at which frames the focus network looks; a field is None where a method has none.

    Attributes:
        actions: The policy's output: (B, T, 2) or (B, 2) row and column, or (B, T, 4) y, x,
            height and width, in 0..1.
        windows: (B, T, 4) `xyxy` in pixels.
        scores: (B, T, actions), the logits of V1's policy over its grid.
        values: The policy's estimates of its returns, (B, T) or (B,).
        density: (B, G), over the glance frames.
        frames: (B, T) int64, the candidate frames that were chosen.
        window_logits: (B, classes), of the auxiliary head behind the window policy.
        state: Of a recurrent policy after the last frame, (B, 1, hidden).
    """

    actions: Tensor
    windows: Tensor
    scores: Tensor | None = None
    values: Tensor | None = None
    density: Tensor | None = None
    frames: Tensor | None = None
    window_logits: Tensor | None = None
    state: Tensor | None = None


@dataclass
class Focused(Choice):
    """What a network saw and said.

    Attributes:
        maps: (B, G, C, h, w), the glance's last maps.
        glance: (B, G, C), their means.
        patches: (B, T, 3, P, P).
        focus: (B, T, C), the focus network's features.
        logits: (B, steps, classes), the answer after each step; the last one is the prediction.
    """

    maps: Tensor = field(kw_only=True)
    glance: Tensor = field(kw_only=True)
    patches: Tensor = field(kw_only=True)
    focus: Tensor = field(kw_only=True)
    logits: Tensor = field(kw_only=True)


Memory = dict[str, Any]
"""What a classifier remembers of the frames before: tensors, batch first, and the whole number
`step` of frames; empty at the start."""


def is_causal(backbone: str) -> bool:
    """Whether a glance network remembers the frames before, and so needs them in their order."""
    return backbone.startswith("movinet-") and backbone.endswith(("-stream", "-lite"))


class Tower(nn.Module):
    """A 2D network over the frames of clips, with temporal shifts or without; or a MoViNet stream.

    Args:
        backbone: Its name; see ``backbones.build``. A causal MoViNet of the registry, such as
            ``movinet-a0-stream``, sees each frame with what its state remembers of those before.
        pretrained: Load the pretrained weights of the backbone.
        shift_div: 1 / shift_div of the channels is shifted in each direction; None for no shifts.
    """

    def __init__(
        self, backbone: str, pretrained: bool = False, shift_div: int | None = None
    ) -> None:
        super().__init__()
        self.causal = is_causal(backbone)
        if self.causal:
            if pretrained or shift_div is not None:
                raise ModelError(f"{backbone}: only without shifts, and from scratch")
            stream: Any = create(backbone, num_classes=1)
            stream.classifier_head = nn.Identity()
            self.net: Any = stream
            self.map_channels = int(stream.head_project.out_channels)
            self.num_features = self.map_channels
            self.shifted: list[Any] = []
            return
        self.net = backbones.build(backbone, pretrained)
        if not hasattr(self.net, "forward_features"):
            raise ModelError(f"{backbone} has no feature maps", "use a network of timm")
        self.shifted = [] if shift_div is None else insert_shifts(self.net, div=shift_div)
        self.map_channels = int(getattr(self.net, "num_features", 0))
        self.num_features = backbones.width_of(self.net)

    def maps(self, frames: Tensor) -> Tensor:
        """The last feature maps (B, T, C, h, w) of frames (B, T, 3, H, W)."""
        return self.maps_on(frames, {})[0]

    def maps_on(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """The last maps, and the state of a causal network after these frames.

        Args:
            frames: (B, T, 3, H, W).
            state: After the frames before; empty at the start, and for other networks.
        """
        if not self.causal:
            return self._run(self.net.forward_features, frames), {}
        x = frames.transpose(1, 2)
        before, after = state or self.net.state_before(x), dict[str, Tensor]()
        for _, last in self.net.maps(x, before, after):
            found = last
        after["head/frames"] = before["head/frames"] + frames.shape[1]
        return found.unflatten(0, frames.shape[:2]), after

    def forward(self, frames: Tensor) -> Tensor:
        """The pooled features (B, T, C) of frames (B, T, 3, H, W)."""
        return self._run(self.net, frames)

    def _run(self, call: Any, frames: Tensor) -> Tensor:
        flat = frames.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        if not self.shifted:
            found: Tensor = call(flat)
        else:
            with shift_context(ShiftContext(frames.shape[0], frames.shape[1])):
                found = call(flat)
        per_frame: Tensor = found.unflatten(0, frames.shape[:2])
        return per_frame


class AdaFocus(nn.Module):
    """What all members of the family share.

    Args:
        glance: Backbone of the glance network.
        focus: Backbone of the focus network.
        num_classes: Outputs.
        patch: Side of the patches in pixels.
        size: Side of the frames in pixels.
        glance_size: Side of the frames that the glance sees; None means ``size``.
        pretrained: Load the pretrained weights of both backbones.
        shift_div: See ``Tower``.
    """

    per_frame = False  # whether glance, policy and classifier go frame by frame
    focuses: int | None = None  # frames that are chosen among the candidates; None: all of them
    glances: int | None = None  # frames of the glance; None: all candidates
    second = False  # whether the glance sees the second frame of each group of candidates
    glance_steps = 0  # answers of the glance alone

    def __init__(
        self, glance: str, focus: str, num_classes: int, patch: int, size: int,
        glance_size: int | None = None, pretrained: bool = False, shift_div: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if num_classes < 1:
            raise ModelError(f"a classifier needs at least one class, not {num_classes}")
        if not 0 < patch <= size:
            raise ModelError(f"patches of {patch} pixels out of frames of {size}")
        self.num_classes, self.patch, self.size = num_classes, patch, size
        self.glance_size = glance_size or size
        self.cells = -(-self.glance_size // STRIDE)
        self.glance = Tower(glance, pretrained, shift_div)
        self.focus = Tower(focus, pretrained, shift_div)
        self.glance_head = nn.Linear(self.glance.map_channels, num_classes)
        self.focus_head = nn.Linear(self.focus.num_features, num_classes)

    @property
    def facts(self) -> AdaFocusCard:
        """What the look and the executor must know."""
        policies = (getattr(self, "policy", None), getattr(self, "spatial_policy", None))
        heads = getattr(getattr(self, "classifier", None), "heads", None)
        return AdaFocusCard(
            size=self.size,
            patch=self.patch,
            cells=self.cells,
            per_frame=self.per_frame,
            causal=self.glance.causal,
            shifted=bool(self.focus.shifted),
            coarse=self.per_frame and heads is not None and not self.glance.causal,
            motion=any(getattr(one, "motion_weight", None) is not None for one in policies),
            glances=self.glances,
            second=self.second,
            glance_steps=self.glance_steps,
            focuses=self.focuses,
            steps=None if heads is None else len(heads),
        )

    def look(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The glance's maps (B, G, C, h, w) of frames (B, G, 3, size, size), and their means."""
        return self.look_on(frames, {})[:2]

    def look_on(self, frames: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """See ``look``; the glance goes on from a state and gives the one after these frames."""
        if frames.shape[-1] != self.glance_size:
            side = (self.glance_size, self.glance_size)
            flat = F.interpolate(frames.flatten(0, 1), side, mode="bilinear", align_corners=True)
            frames = flat.unflatten(0, frames.shape[:2])
        maps, state = self.glance.maps_on(frames, state)
        return maps, maps.mean((3, 4)), state

    def cut(self, frames: Tensor, windows: Tensor) -> Tensor:
        """Patches (B, T, 3, P, P) out of frames (B, T, 3, H, W); differentiable in the windows."""
        flat = crop_resized(
            frames.flatten(0, 1), windows.flatten(0, 1), self.patch, antialias=False,
            padding="zeros",
        )  # fmt: skip
        patches: Tensor = flat.unflatten(0, frames.shape[:2])
        return patches

    def squares(self, places: Tensor) -> Tensor:
        """Windows (..., 4) `xyxy` of the patch's size at places (..., 2), row and column."""
        row, column = (places * (self.size - self.patch)).unbind(-1)
        return torch.stack([column, row, column + self.patch, row + self.patch], -1)

    def glance_frames(self, candidates: int) -> list[int]:
        """Numbers of the candidate frames that the glance sees; see `AdaFocusCard`."""
        return self.facts.glance_frames(candidates)

    def choose(
        self, maps: Tensor, glance: Tensor, candidates: int, state: Tensor | None = None
    ) -> Choice:
        """Where to look, by the glance.

        Args:
            maps: (B, G, C, h, w), its last maps.
            glance: (B, G, C), their means.
            candidates: Number of frames to look at or to choose from.
            state: Of a recurrent policy after the frames before; None at the start.
        """
        raise NotImplementedError

    def places(
        self, maps: Tensor, glance: Tensor, candidates: int, prior: Tensor | None = None
    ) -> Choice:
        """`choose` for a whole window, without what only training needs."""
        return self.choose(maps, glance, candidates)

    def begin(self, glance: Tensor) -> tuple[Tensor | None, Memory]:
        """Logits (B, steps, classes) of the glance alone, None if it says nothing, and a memory."""
        return None, {}

    def answer(self, glance: Tensor, focus: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """The answer after each of the next frames.

        Args:
            glance: (B, G, C), of the same frames where the network is `per_frame`, else all.
            focus: (B, T, C), of the next frames.
            memory: From `begin` or from the frames before.

        Returns:
            Logits (B, steps, classes) and the memory for the frames that follow.
        """
        raise NotImplementedError

    def alone(self, focus: Tensor) -> Tensor:
        """Logits (B, classes) of the focus network's features (B, T, C), without a glance."""
        mean: Tensor = self.focus_head(focus).mean(1)
        return mean

    def exits(self, candidates: int, chunk: int | None = None) -> dict[str, int]:
        """Names of the exits, and which of the `steps` each one is; see `AdaFocusCard`."""
        return self.facts.exits(candidates, chunk)

    def _focused(
        self, frames: Tensor, glance_frames: Tensor | None = None, **choice: Any
    ) -> Focused:
        """Look, choose, cut and classify a whole clip.

        Args:
            frames: (B, T, 3, size, size), all candidates.
            glance_frames: (B, G, 3, size, size); None takes `glance_frames` of the candidates.
            **choice: Further arguments of `choose`.
        """
        if glance_frames is None:
            glance_frames = frames[:, self.glance_frames(frames.shape[1])]
        maps, glance = self.look(glance_frames)
        chosen = self.choose(maps, glance, frames.shape[1], **choice)
        if chosen.frames is not None:
            rows = torch.arange(len(frames), device=frames.device)[:, None]
            frames = frames[rows, chosen.frames]
        patches = self.cut(frames, chosen.windows)
        focus = self.focus(patches)
        first, memory = self.begin(glance)
        logits, _ = self.answer(glance, focus, memory)
        if first is not None:
            logits = torch.cat([first, logits], 1)
        return Focused(
            **vars(chosen), maps=maps, glance=glance, patches=patches, focus=focus, logits=logits
        )

    def steps(self, frames: Tensor) -> Focused:
        """Look, choose and classify; see the classes."""
        return self._focused(frames)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of clips (B, 3, T, size, size)."""
        check_clip(x)
        if x.shape[-2:] != (self.size, self.size):
            raise ModelError(
                f"frames are {x.shape[-2]} by {x.shape[-1]}, this network takes {self.size} by "
                f"{self.size}"
            )
        return self.steps(x.transpose(1, 2)).logits[:, -1]


TINY: dict[str, Any] = {
    "glance": "test_efficientnet", "focus": "test_resnet", "num_classes": 7, "patch": 32,
    "size": 64,
}  # fmt: skip


@register(
    "adafocus-v1", tiny=TINY, tiny_input=(2, 3, 3, 64, 64), mixes_frames=False, classifier=False
)
class AdaFocusV1(AdaFocus):
    """V1: one place of a grid for each frame, chosen by a recurrent policy trained with PPO.

    Args:
        glance: Backbone of the glance network.
        focus: Backbone of the focus network.
        num_classes: Outputs.
        patch: Side of the patches in pixels.
        size: Side of the frames in pixels.
        glance_size: Side of the frames that the glance sees; None means ``size``.
        actions: Places of the grid, a square.
        hidden: Width of the recurrent states.
        dropout: Before the outputs of the classifier, in training.
        pretrained: Load the pretrained weights of both backbones.
    """

    per_frame = True

    def __init__(
        self, glance: str = "mobilenetv2_100", focus: str = "resnet50", num_classes: int = 200,
        patch: int = 128, size: int = 224, glance_size: int | None = None, actions: int = 49,
        hidden: int = 1024, dropout: float = 0.5, pretrained: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(glance, focus, num_classes, patch, size, glance_size, pretrained)
        channels = self.glance.map_channels
        self.policy = GridPolicy(channels, self.cells, actions, hidden)
        width = channels + self.focus.num_features
        self.classifier = RecurrentClassifier(width, num_classes, hidden, dropout)

    def corners(self, chosen: Tensor) -> Tensor:
        """Row and column (..., 2) int64 of the upper left pixels of actions (...)."""
        places = self.policy.get_buffer("grid")[chosen]
        return (places * (self.size - self.patch)).floor().long()

    def choose(
        self, maps: Tensor, glance: Tensor, candidates: int, state: Tensor | None = None
    ) -> Choice:
        """The likeliest place for each frame; see the base class."""
        scores, values, state = self.policy(maps, _turned(state))
        chosen = scores.argmax(-1)
        return Choice(
            self.policy.get_buffer("grid")[chosen], self.windows_at(chosen),
            scores=scores, values=values, state=_turned(state),
        )  # fmt: skip

    def windows_at(self, chosen: Tensor) -> Tensor:
        """Windows (..., 4) `xyxy` in pixels of actions (...)."""
        sides = self.corners(chosen).flip(-1)
        return torch.cat([sides, sides + self.patch], -1)

    def cut(self, frames: Tensor, windows: Tensor) -> Tensor:
        """Patches (B, T, 3, P, P) of whole pixels."""
        return _sliced(frames, windows, self.patch)

    def answer(self, glance: Tensor, focus: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Logits after each frame; see the base class."""
        both = torch.cat([glance, focus], -1)
        logits, state = self.classifier(both, _turned(memory.get("state")))
        return logits, {"state": _turned(state), "step": memory.get("step", 0) + focus.shape[1]}


def _turned(state: Tensor | None) -> Tensor | None:
    """The state of a GRU with the batch first, or back."""
    return None if state is None else state.transpose(0, 1).contiguous()


def _sliced(frames: Tensor, windows: Tensor, side: int) -> Tensor:
    """Squares (B, T, 3, side, side) at the whole pixels of windows (B, T, 4) `xyxy`."""
    corners = windows[..., :2].flip(-1).long()
    flat = crop_at(frames.flatten(0, 1), corners.flatten(0, 1), side)
    patches: Tensor = flat.unflatten(0, frames.shape[:2])
    return patches


class _Shifted(AdaFocus):
    """The forms for Something-Something: temporal shifts, and a glance at a fixed number of frames.

    Args:
        glance: Backbone of the glance network.
        focus: Backbone of the focus network.
        num_classes: Outputs.
        patch: Side of the patches in pixels.
        size: Side of the frames in pixels.
        glances: Number of glance frames.
        shift_div: 1 / shift_div of the channels is shifted in each direction.
        pretrained: Load the pretrained weights of both backbones.
    """

    def __init__(
        self, glance: str = "mobilenetv2_100", focus: str = "resnet50", num_classes: int = 174,
        patch: int = 128, size: int = 224, glances: int = 8, shift_div: int = SHIFT_DIV,
        pretrained: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(
            glance, focus, num_classes, patch, size, None, pretrained, shift_div=shift_div
        )
        self.glances: int = glances

    def steps(self, frames: Tensor, glance_frames: Tensor | None = None) -> Focused:
        """Answer for frames (B, T, 3, size, size).

        Args:
            frames: For the focus network, or all candidates.
            glance_frames: (B, G, 3, size, size); None spreads them over ``frames``.
        """
        return self._focused(frames, glance_frames)


@register("adafocus-v1-tsm", tiny=TINY | {"glances": 2}, tiny_input=(2, 3, 4, 64, 64),
          classifier=False)  # fmt: skip
class AdaFocusV1TSM(_Shifted):
    """V1 for Something-Something: shifted networks, one place for all frames of a clip.

    Args:
        glance: Backbone of the glance network.
        focus: Backbone of the focus network.
        num_classes: Outputs.
        patch: Side of the patches in pixels.
        size: Side of the frames in pixels.
        glances: Number of glance frames.
        hidden: Width of the policy's recurrent state.
        shift_div: 1 / shift_div of the channels is shifted in each direction.
        pretrained: Load the pretrained weights of both backbones.
    """

    def __init__(
        self, glance: str = "mobilenetv2_100", focus: str = "resnet50", num_classes: int = 174,
        patch: int = 144, size: int = 224, glances: int = 8, hidden: int = 1024,
        shift_div: int = SHIFT_DIV, pretrained: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(glance, focus, num_classes, patch, size, glances, shift_div, pretrained)
        self.policy = GaussianPolicy(glances * self.glance.map_channels, self.cells, hidden)

    def choose(
        self, maps: Tensor, glance: Tensor, candidates: int, state: Tensor | None = None
    ) -> Choice:
        """One place for all frames; see the base class."""
        mean, values = self.policy(maps)
        sides = (mean * (self.size - self.patch)).floor().long().flip(-1)
        window = torch.cat([sides, sides + self.patch], -1)
        return Choice(mean, window.unsqueeze(1).expand(-1, candidates, -1), values=values)

    def cut(self, frames: Tensor, windows: Tensor) -> Tensor:
        """Patches (B, T, 3, P, P) of whole pixels."""
        return _sliced(frames, windows, self.patch)

    def answer(self, glance: Tensor, focus: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """One answer for the clip; see the base class."""
        logits = self.glance_head(glance).mean(1) + self.focus_head(focus).mean(1)
        return logits.unsqueeze(1), memory | {"step": focus.shape[1]}


@register("adafocus-v2", tiny=TINY | {"exits": 3, "hidden": 32}, tiny_input=(2, 3, 3, 64, 64),
          mixes_frames=False, classifier=False)  # fmt: skip
class AdaFocusV2(AdaFocus):
    """V2: any place for each frame, trained end to end through a bilinear crop.

    Args:
        glance: Backbone of the glance network.
        focus: Backbone of the focus network.
        num_classes: Outputs.
        patch: Side of the patches in pixels.
        size: Side of the frames in pixels.
        glance_size: Side of the frames that the glance sees; None means ``size``.
        exits: Largest number of frames; each has outputs of its own.
        hidden: Width of the policy's recurrent state.
        pooled: Width of the features that are pooled over frames.
        dropout: Before the outputs, in training.
        pretrained: Load the pretrained weights of both backbones.
        motion_prior: Whether the policy adds maps of motion to the glance's; see ``PointPolicy``.
    """

    per_frame = True

    def __init__(
        self, glance: str = "mobilenetv2_100", focus: str = "resnet50", num_classes: int = 200,
        patch: int = 128, size: int = 224, glance_size: int | None = None, exits: int = 16,
        hidden: int = 2048, pooled: int = 4096, dropout: float = 0.2, pretrained: bool = False,
        motion_prior: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(glance, focus, num_classes, patch, size, glance_size, pretrained)
        channels = self.glance.map_channels
        self.policy = PointPolicy(channels, self.cells, hidden, motion_prior)
        width = channels + self.focus.num_features
        self.classifier = PoolingClassifier(width, num_classes, exits, pooled, dropout)

    def choose(
        self, maps: Tensor, glance: Tensor, candidates: int, state: Tensor | None = None,
        prior: Tensor | None = None, places: Tensor | None = None,
    ) -> Choice:  # fmt: skip
        """A place for each frame, or those that are given; see the base class."""
        if places is None:
            places, state = self.policy(maps, _turned(state), prior)
            state = _turned(state)
        return Choice(places, self.squares(places), state=state)

    def answer(self, glance: Tensor, focus: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Logits after each frame; see the base class."""
        step = memory.get("step", 0)
        both = torch.cat([glance, focus], -1)
        logits, best = self.classifier(both, memory.get("best"), step)
        return logits, {"best": best, "step": step + focus.shape[1]}

    def steps(
        self, frames: Tensor, places: Tensor | None = None, prior: Tensor | None = None
    ) -> Focused:
        """Answer after each of T frames (B, T, 3, size, size).

        Args:
            frames: In the order in which they are counted; see ``coarse_to_fine``.
            places: (B, T, 2) instead of the policy's, such as random ones in training.
            prior: (B, T, h, w) in 0..1, how much moves in each cell (``motion_prior``).
        """
        return self._focused(frames, places=places, prior=prior)


class _TwoHeads(_Shifted):
    """Shifted networks with two outputs each: one answers, the other trains the backbone."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.glance_trainer = nn.Linear(self.glance.map_channels, self.num_classes)
        self.focus_trainer = nn.Linear(self.focus.num_features, self.num_classes)

    def fuse(self, glance: Tensor, focus: Tensor) -> Tensor:
        """Logits (B, classes); the answering heads pass no gradient on."""
        first = self.glance_head(glance.detach()).mean(1)
        both: Tensor = first + self.focus_head(focus.detach()).mean(1)
        return both

    def answer(self, glance: Tensor, focus: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """One answer for the clip; see the base class."""
        return self.fuse(glance, focus).unsqueeze(1), memory | {"step": focus.shape[1]}


@register("adafocus-v2-tsm", tiny=TINY | {"glances": 2}, tiny_input=(2, 3, 4, 64, 64),
          classifier=False)  # fmt: skip
class AdaFocusV2TSM(_TwoHeads):
    """V2 for Something-Something: shifted networks, one place for all frames of a clip.

    Args:
        glance: Backbone of the glance network.
        focus: Backbone of the focus network.
        num_classes: Outputs.
        patch: Side of the patches in pixels.
        size: Side of the frames in pixels.
        glances: Number of glance frames.
        shift_div: 1 / shift_div of the channels is shifted in each direction.
        pretrained: Load the pretrained weights of both backbones.
    """

    def __init__(
        self, glance: str = "mobilenetv2_100", focus: str = "resnet50", num_classes: int = 174,
        patch: int = 128, size: int = 224, glances: int = 8, shift_div: int = SHIFT_DIV,
        pretrained: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(glance, focus, num_classes, patch, size, glances, shift_div, pretrained)
        self.policy = ClipPointPolicy(glances * self.glance.map_channels, self.cells)

    def choose(
        self, maps: Tensor, glance: Tensor, candidates: int, state: Tensor | None = None
    ) -> Choice:
        """One place for all frames; see the base class."""
        place = self.policy(maps)
        return Choice(place, self.squares(place).unsqueeze(1).expand(-1, candidates, -1))


def windows_of(actions: Tensor, size: int) -> Tensor:
    """Uni-AdaFocus's windows (..., 4) `xyxy` in pixels.

    Args:
        actions: (..., 4) y, x, height and width in 0..1.
        size: Side of the frames in pixels.
    """
    y, x, high, wide = actions.unbind(-1)
    least = size * LEAST_WINDOW
    high, wide = (side * (size - least) + least for side in (high, wide))
    top, left = y * (size - high), x * (size - wide)
    return torch.stack([left, top, left + wide, top + high], -1)


def window_features(maps: Tensor, windows: Tensor, size: int, patch: int) -> Tensor:
    """The mean (B, C) of the windows' part of the glance's maps: what trains the window policy.

    Args:
        maps: (B, G, C, h, w); the gradient does not reach them.
        windows: (B, G, 4) `xyxy` in pixels.
        size: Side of the frames in pixels.
        patch: Side of the patches in pixels.
    """
    cells = crop_resized(
        maps.detach().flatten(0, 1), windows.flatten(0, 1) * (maps.shape[-1] / size),
        max(1, patch // STRIDE), antialias=False, padding="zeros",
    )  # fmt: skip
    mean: Tensor = cells.mean((2, 3)).unflatten(0, maps.shape[:2]).mean(1)
    return mean


@register("uni-adafocus", tiny=TINY | {"glances": 3, "focuses": 3}, tiny_input=(2, 3, 6, 64, 64),
          mixes_frames=False, classifier=False)  # fmt: skip
class UniAdaFocus(AdaFocus):
    """Uni-AdaFocus: chosen frames, and windows of any place, height and width.

    Args:
        glance: Backbone of the glance network.
        focus: Backbone of the focus network.
        num_classes: Outputs.
        patch: Side of the patches in pixels, to which windows are resized.
        size: Side of the frames in pixels.
        glance_size: Side of the frames that the glance sees; None means ``size``.
        glances: Number of glance frames.
        focuses: Number of focus frames.
        pooled: Width of the features that are pooled over frames.
        temperature: Of the density by which frames are chosen.
        dropout: Before the outputs, in training.
        pretrained: Load the pretrained weights of both backbones.
        motion_prior: Whether the spatial policy adds maps of motion to the glance's.
    """

    second = True

    def __init__(
        self, glance: str = "mobilenetv2_100", focus: str = "resnet50", num_classes: int = 200,
        patch: int = 128, size: int = 224, glance_size: int | None = None, glances: int = 16,
        focuses: int = 16, pooled: int = 4096, temperature: float = 1.0, dropout: float = 0.2,
        pretrained: bool = False, motion_prior: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(glance, focus, num_classes, patch, size, glance_size, pretrained)
        channels = self.glance.map_channels
        self.glances: int = glances
        self.glance_steps, self.temperature = glances, temperature
        self.focuses: int = focuses
        self.spatial_policy = WindowPolicy(channels, cells=self.cells, motion_prior=motion_prior)
        self.temporal_policy = TemporalPolicy(channels)
        self.window_head = nn.Linear(channels, num_classes)
        self.classifier = TwoStageClassifier(
            channels, self.focus.num_features, num_classes, glances, focuses, pooled, dropout
        )

    def choose(
        self, maps: Tensor, glance: Tensor, candidates: int, state: Tensor | None = None,
        prior: Tensor | None = None, jitter: Tensor | None = None,
    ) -> Choice:  # fmt: skip
        """Frames, and a window for each; see the base class.

        Args:
            maps: (B, G, C, h, w).
            glance: (B, G, C).
            candidates: Number of frames to choose from.
            state: Not used.
            prior: (B, G, h, w) in 0..1, how much moves in each cell (``motion_prior``).
            jitter: See ``choose_frames``.
        """
        found, actions = self._picked(maps, glance, candidates, prior, jitter)
        cells = window_features(maps, windows_of(actions, self.size), self.size, self.patch)
        return replace(found, window_logits=self.window_head(cells))

    def places(
        self, maps: Tensor, glance: Tensor, candidates: int, prior: Tensor | None = None
    ) -> Choice:
        """See the base class."""
        return self._picked(maps, glance, candidates, prior)[0]

    def _picked(
        self, maps: Tensor, glance: Tensor, candidates: int, prior: Tensor | None,
        jitter: Tensor | None = None,
    ) -> tuple[Choice, Tensor]:  # fmt: skip
        """Frames with their windows, and the window policy's output (B, G, 4)."""
        scores = self.temporal_policy(glance)
        density = (scores / self.temperature).softmax(1)
        chosen = choose_frames(density, candidates, self.focuses, jitter)
        actions = self.spatial_policy(maps, prior)
        track = F.interpolate(
            actions.transpose(1, 2), candidates, mode="linear", align_corners=False
        )
        picked = track.transpose(1, 2).gather(1, chosen.unsqueeze(-1).expand(-1, -1, 4))
        windows = windows_of(picked, self.size)
        return Choice(picked, windows, density=scores.softmax(1), frames=chosen), actions

    def begin(self, glance: Tensor) -> tuple[Tensor | None, Memory]:
        """Logits after each glance frame; see the base class."""
        logits, best = self.classifier.glance(glance)
        return logits, {"glance": best, "step": 0}

    def answer(self, glance: Tensor, focus: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Logits after each focus frame; see the base class."""
        step = memory["step"]
        logits, best = self.classifier.focus(focus, memory["glance"], memory.get("best"), step)
        return logits, memory | {"best": best, "step": step + focus.shape[1]}

    def steps(
        self, frames: Tensor, jitter: Tensor | None = None, prior: Tensor | None = None
    ) -> Focused:
        """Answer after each glance and each focus frame.

        Args:
            frames: (B, T, 3, size, size), all candidates.
            jitter: See ``choose_frames``.
            prior: (B, G, h, w) in 0..1, how much moves in each cell (``motion_prior``).
        """
        return self._focused(frames, jitter=jitter, prior=prior)


@register("uni-adafocus-tsm", tiny=TINY | {"glances": 2, "focuses": 3},
          tiny_input=(2, 3, 6, 64, 64), classifier=False)  # fmt: skip
class UniAdaFocusTSM(_TwoHeads):
    """Uni-AdaFocus for Something-Something: shifted networks, one window for all chosen frames.

    Args:
        glance: Backbone of the glance network.
        focus: Backbone of the focus network.
        num_classes: Outputs.
        patch: Side of the patches in pixels, to which the window is resized.
        size: Side of the frames in pixels.
        glances: Number of glance frames.
        focuses: Number of focus frames.
        shift_div: 1 / shift_div of the channels is shifted in each direction.
        pretrained: Load the pretrained weights of both backbones.
    """

    glance_steps = 1

    def __init__(
        self, glance: str = "mobilenetv2_100", focus: str = "resnet50", num_classes: int = 174,
        patch: int = 128, size: int = 224, glances: int = 8, focuses: int = 12,
        shift_div: int = SHIFT_DIV, pretrained: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(glance, focus, num_classes, patch, size, glances, shift_div, pretrained)
        channels = self.glance.map_channels
        self.focuses: int = focuses
        self.spatial_policy = WindowPolicy(channels, frames=glances, cells=self.cells)
        self.temporal_policy = TemporalPolicy(channels)
        self.window_head = nn.Linear(channels, num_classes)

    def choose(
        self, maps: Tensor, glance: Tensor, candidates: int, state: Tensor | None = None,
        jitter: Tensor | None = None,
    ) -> Choice:  # fmt: skip
        """Frames, and one window for all; see ``UniAdaFocus.choose``."""
        found = self.places(maps, glance, candidates, jitter=jitter)
        of_maps = found.windows[:, :1].expand(-1, self.glances, -1)
        cells = window_features(maps, of_maps, self.size, self.patch)
        return replace(found, window_logits=self.window_head(cells))

    def places(
        self, maps: Tensor, glance: Tensor, candidates: int, prior: Tensor | None = None,
        jitter: Tensor | None = None,
    ) -> Choice:  # fmt: skip
        """See the base class; there are no maps of motion."""
        density = self.temporal_policy(glance).softmax(1)
        chosen = choose_frames(density, candidates, self.focuses, jitter)
        action = self.spatial_policy(maps)
        windows = windows_of(action, self.size).expand(-1, self.focuses, -1)
        return Choice(action[:, 0], windows, density=density, frames=chosen)

    def begin(self, glance: Tensor) -> tuple[Tensor | None, Memory]:
        """The mean logits of the glance frames; see the base class."""
        return self.glance_trainer(glance).mean(1, keepdim=True), {}

    def steps(
        self, frames: Tensor, glance_frames: Tensor | None = None, jitter: Tensor | None = None
    ) -> Focused:
        """Answer after the glance and after the focus: (B, 2, classes).

        Args:
            frames: (B, T, 3, size, size), all candidates.
            glance_frames: (B, G, 3, size, size); None spreads them over the candidates.
            jitter: See ``choose_frames``.
        """
        return self._focused(frames, glance_frames, jitter=jitter)
