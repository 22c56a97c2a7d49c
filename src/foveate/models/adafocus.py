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

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.core.errors import ModelError
from foveate.models import backbones
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
from foveate.models.registry import register
from foveate.models.tsm import SHIFT_DIV, ShiftContext, insert_shifts, shift_context

LEAST_WINDOW = 3 / 7  # of the frame's side: 96 of 224 pixels (Uni-AdaFocus)


@dataclass
class Focused:
    """What a network saw and said; a field is None where the method has no such thing.

    Attributes:
        maps: (B, G, C, h, w), the glance's last maps.
        glance: (B, G, C), their means.
        actions: The policy's output: (B, T, 2) or (B, 2) row and column, or (B, T, 4) y, x,
            height and width, in 0..1.
        scores: (B, T, actions), the logits of V1's policy over its grid.
        values: The policy's estimates of its returns, (B, T) or (B,).
        density: (B, G), over the glance frames.
        frames: (B, T) int64, the candidate frames that were chosen.
        windows: (B, T, 4) `xyxy` in pixels.
        patches: (B, T, 3, P, P).
        focus: (B, T, C), the focus network's features.
        logits: (B, steps, classes), the answer after each step; the last one is the prediction.
        window_logits: (B, classes), of the auxiliary head behind the window policy.
    """

    maps: Tensor
    glance: Tensor
    actions: Tensor
    windows: Tensor
    patches: Tensor
    focus: Tensor
    logits: Tensor
    scores: Tensor | None = None
    values: Tensor | None = None
    density: Tensor | None = None
    frames: Tensor | None = None
    window_logits: Tensor | None = None


class Tower(nn.Module):
    """A 2D network over the frames of clips, with temporal shifts or without.

    Args:
        backbone: Its name; see ``backbones.build``.
        pretrained: Load the pretrained weights of the backbone.
        shift_div: 1 / shift_div of the channels is shifted in each direction; None for no shifts.
    """

    def __init__(
        self, backbone: str, pretrained: bool = False, shift_div: int | None = None
    ) -> None:
        super().__init__()
        self.net = backbones.build(backbone, pretrained)
        if not hasattr(self.net, "forward_features"):
            raise ModelError(f"{backbone} has no feature maps", "use a network of timm")
        self.shifted = [] if shift_div is None else insert_shifts(self.net, div=shift_div)
        self.map_channels = int(getattr(self.net, "num_features", 0))
        self.num_features = backbones.width_of(self.net)

    def maps(self, frames: Tensor) -> Tensor:
        """The last feature maps (B, T, C, h, w) of frames (B, T, 3, H, W)."""
        return self._run(self.net.forward_features, frames)

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


class _Network(nn.Module):
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

    def look(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The glance's maps (B, G, C, h, w) of frames (B, G, 3, size, size), and their means."""
        if frames.shape[-1] != self.glance_size:
            side = (self.glance_size, self.glance_size)
            flat = F.interpolate(frames.flatten(0, 1), side, mode="bilinear", align_corners=True)
            frames = flat.unflatten(0, frames.shape[:2])
        maps = self.glance.maps(frames)
        return maps, maps.mean((3, 4))

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

    def steps(self, frames: Tensor) -> Focused:
        """Look, choose and classify; see the classes."""
        raise NotImplementedError

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


@register("adafocus-v1", tiny=TINY, tiny_input=(2, 3, 3, 64, 64), classifier=False)
class AdaFocusV1(_Network):
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

    def steps(self, frames: Tensor) -> Focused:
        """Answer after each of T frames (B, T, 3, size, size), with the likeliest places."""
        maps, glance = self.look(frames)
        scores, values, _ = self.policy(maps)
        chosen = scores.argmax(-1)
        corners = self.corners(chosen)
        patches = crop_at(frames.flatten(0, 1), corners.flatten(0, 1), self.patch)
        patches = patches.unflatten(0, frames.shape[:2])
        focus = self.focus(patches)
        logits, _ = self.classifier(torch.cat([glance, focus], -1))
        sides = corners.flip(-1)
        return Focused(
            maps, glance, self.policy.get_buffer("grid")[chosen],
            torch.cat([sides, sides + self.patch], -1), patches, focus, logits,
            scores=scores, values=values,
        )  # fmt: skip


class _Shifted(_Network):
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
        self.glances = glances

    def look_over(self, frames: Tensor, glance_frames: Tensor | None) -> tuple[Tensor, Tensor]:
        """See ``look``; without frames for the glance, some of the candidates are taken."""
        return self.look(spread(frames, self.glances) if glance_frames is None else glance_frames)


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

    def steps(self, frames: Tensor, glance_frames: Tensor | None = None) -> Focused:
        """Answer once for frames (B, T, 3, size, size).

        Args:
            frames: For the focus network.
            glance_frames: (B, G, 3, size, size); None spreads them over ``frames``.
        """
        maps, glance = self.look_over(frames, glance_frames)
        mean, values = self.policy(maps)
        corners = (mean * (self.size - self.patch)).floor().long()
        count = frames.shape[1]
        patches = crop_at(frames.flatten(0, 1), corners.repeat_interleave(count, 0), self.patch)
        patches = patches.unflatten(0, frames.shape[:2])
        focus = self.focus(patches)
        logits = self.glance_head(glance).mean(1) + self.focus_head(focus).mean(1)
        sides = corners.flip(-1).unsqueeze(1).expand(-1, count, -1)
        return Focused(
            maps, glance, mean, torch.cat([sides, sides + self.patch], -1), patches, focus,
            logits.unsqueeze(1), values=values,
        )  # fmt: skip


@register("adafocus-v2", tiny=TINY | {"exits": 3, "hidden": 32}, tiny_input=(2, 3, 3, 64, 64),
          classifier=False)  # fmt: skip
class AdaFocusV2(_Network):
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
    """

    def __init__(
        self, glance: str = "mobilenetv2_100", focus: str = "resnet50", num_classes: int = 200,
        patch: int = 128, size: int = 224, glance_size: int | None = None, exits: int = 16,
        hidden: int = 2048, pooled: int = 4096, dropout: float = 0.2, pretrained: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(glance, focus, num_classes, patch, size, glance_size, pretrained)
        channels = self.glance.map_channels
        self.policy = PointPolicy(channels, self.cells, hidden)
        width = channels + self.focus.num_features
        self.classifier = PoolingClassifier(width, num_classes, exits, pooled, dropout)

    def steps(self, frames: Tensor, places: Tensor | None = None) -> Focused:
        """Answer after each of T frames (B, T, 3, size, size).

        Args:
            frames: In the order in which they are counted; see ``coarse_to_fine``.
            places: (B, T, 2) instead of the policy's, such as random ones in training.
        """
        maps, glance = self.look(frames)
        actions = self.policy(maps)[0] if places is None else places
        windows = self.squares(actions)
        patches = self.cut(frames, windows)
        focus = self.focus(patches)
        logits, _ = self.classifier(torch.cat([glance, focus], -1))
        return Focused(maps, glance, actions, windows, patches, focus, logits)


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

    def steps(self, frames: Tensor, glance_frames: Tensor | None = None) -> Focused:
        """Answer once for frames (B, T, 3, size, size); see ``AdaFocusV1TSM.steps``."""
        maps, glance = self.look_over(frames, glance_frames)
        place = self.policy(maps)
        windows = self.squares(place).unsqueeze(1).expand(-1, frames.shape[1], -1)
        patches = self.cut(frames, windows)
        focus = self.focus(patches)
        logits = self.fuse(glance, focus).unsqueeze(1)
        return Focused(maps, glance, place, windows, patches, focus, logits)


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
          classifier=False)  # fmt: skip
class UniAdaFocus(_Network):
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
    """

    def __init__(
        self, glance: str = "mobilenetv2_100", focus: str = "resnet50", num_classes: int = 200,
        patch: int = 128, size: int = 224, glance_size: int | None = None, glances: int = 16,
        focuses: int = 16, pooled: int = 4096, temperature: float = 1.0, dropout: float = 0.2,
        pretrained: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(glance, focus, num_classes, patch, size, glance_size, pretrained)
        channels = self.glance.map_channels
        self.glances, self.focuses, self.temperature = glances, focuses, temperature
        self.spatial_policy = WindowPolicy(channels, cells=self.cells)
        self.temporal_policy = TemporalPolicy(channels)
        self.window_head = nn.Linear(channels, num_classes)
        self.classifier = TwoStageClassifier(
            channels, self.focus.num_features, num_classes, glances, focuses, pooled, dropout
        )

    def glance_frames(self, candidates: int) -> Tensor:
        """Numbers (G,) of the glance frames: the second of each group of candidates.

        Raises:
            ModelError: The candidates are not a multiple of the glance frames, two at least.
        """
        step, left = divmod(candidates, self.glances)
        if left or step < 2:
            raise ModelError(
                f"{candidates} candidate frames for {self.glances} glance frames",
                "give a multiple, two at least",
            )
        return torch.arange(self.glances) * step + 1

    def steps(self, frames: Tensor, jitter: Tensor | None = None) -> Focused:
        """Answer after each glance and each focus frame.

        Args:
            frames: (B, T, 3, size, size), all candidates.
            jitter: See ``choose_frames``.
        """
        count = frames.shape[1]
        maps, glance = self.look(frames[:, self.glance_frames(count).to(frames.device)])
        scores = self.temporal_policy(glance)
        chosen = choose_frames((scores / self.temperature).softmax(1), count, self.focuses, jitter)
        actions = self.spatial_policy(maps)
        track = F.interpolate(actions.transpose(1, 2), count, mode="linear", align_corners=False)
        picked = track.transpose(1, 2).gather(1, chosen.unsqueeze(-1).expand(-1, -1, 4))
        rows = torch.arange(len(frames), device=frames.device)[:, None]
        windows = windows_of(picked, self.size)
        patches = self.cut(frames[rows, chosen], windows)
        focus = self.focus(patches)
        cells = window_features(maps, windows_of(actions, self.size), self.size, self.patch)
        return Focused(
            maps, glance, picked, windows, patches, focus, self.classifier(glance, focus),
            density=scores.softmax(1), frames=chosen,
            window_logits=self.window_head(cells),
        )  # fmt: skip


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

    def __init__(
        self, glance: str = "mobilenetv2_100", focus: str = "resnet50", num_classes: int = 174,
        patch: int = 128, size: int = 224, glances: int = 8, focuses: int = 12,
        shift_div: int = SHIFT_DIV, pretrained: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(glance, focus, num_classes, patch, size, glances, shift_div, pretrained)
        channels = self.glance.map_channels
        self.focuses = focuses
        self.spatial_policy = WindowPolicy(channels, frames=glances, cells=self.cells)
        self.temporal_policy = TemporalPolicy(channels)
        self.window_head = nn.Linear(channels, num_classes)

    def steps(
        self, frames: Tensor, glance_frames: Tensor | None = None, jitter: Tensor | None = None
    ) -> Focused:
        """Answer after the glance and after the focus: (B, 2, classes).

        Args:
            frames: (B, T, 3, size, size), all candidates.
            glance_frames: (B, G, 3, size, size); None spreads them over the candidates.
            jitter: See ``choose_frames``.
        """
        maps, glance = self.look_over(frames, glance_frames)
        density = self.temporal_policy(glance).softmax(1)
        chosen = choose_frames(density, frames.shape[1], self.focuses, jitter)
        action = self.spatial_policy(maps)
        window = windows_of(action, self.size)
        windows = window.expand(-1, self.focuses, -1)
        rows = torch.arange(len(frames), device=frames.device)[:, None]
        patches = self.cut(frames[rows, chosen], windows)
        focus = self.focus(patches)
        first = self.glance_trainer(glance).mean(1)
        logits = torch.stack([first, self.fuse(glance, focus)], 1)
        of_maps = window.expand(-1, self.glances, -1)
        cells = window_features(maps, of_maps, self.size, self.patch)
        return Focused(
            maps, glance, action[:, 0], windows, patches, focus, logits, density=density,
            frames=chosen, window_logits=self.window_head(cells),
        )  # fmt: skip


def spread(frames: Tensor, count: int) -> Tensor:
    """The frames (B, count, ...) at the centres of equal parts of frames (B, T, ...)."""
    at = (torch.arange(count) + 0.5) * frames.shape[1] / count
    return frames[:, at.long().to(frames.device)]
