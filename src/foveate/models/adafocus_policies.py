"""Policies and classifiers of the AdaFocus family: where to look, which frames, what it is.

Sources: Wang et al., "Adaptive Focus for Efficient Video Recognition" (V1), ICCV 2021 (arXiv
2105.03245); "AdaFocus V2", CVPR 2022 (arXiv 2112.14238); "Uni-AdaFocus", TPAMI 2024 (arXiv
2412.11228). The networks that use them are in ``adafocus.py``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.core.errors import ModelError

STRIDE = 32  # pixels of a frame in one cell of the glance's last maps


def action_grid(actions: int) -> Tensor:
    """The places of V1's policy: (actions, 2) row and column in 0..1, row by row.

    Raises:
        ModelError: The number of actions is not the square of a number of at least 2.
    """
    side = math.isqrt(actions)
    if side * side != actions or side < 2:
        raise ModelError(f"actions={actions}: must be a square, such as 49")
    places = [index / (side - 1) for index in range(side)]
    return torch.tensor([[row, column] for row in places for column in places])


def choose_frames(density: Tensor, frames: int, count: int, jitter: Tensor | None = None) -> Tensor:
    """Frames at equal steps of the cumulative density: many where it is high, each once.

    Args:
        density: (B, G), each row a distribution over G equal parts of a clip.
        frames: Number of candidate frames, at least ``count``.
        count: Number of frames to choose.
        jitter: (B, count) in 0..1, where in its step each frame is drawn (training); None takes
            the middles.

    Returns:
        (B, count) int64, ascending and distinct.

    Raises:
        ModelError: There are fewer frames than are asked for.
    """
    if not 0 < count <= frames:
        raise ModelError(f"{count} of {frames} frames cannot be chosen")
    bins = density.shape[1]
    total = F.pad(density.cumsum(1), (1, 0))
    total = torch.cat([total[:, :-1], torch.ones_like(total[:, :1])], 1)
    within = torch.full_like(density[:, :1], 0.5).expand(-1, count) if jitter is None else jitter
    steps = (torch.arange(count, device=density.device, dtype=density.dtype) + within) / count
    # Comparisons of all pairs, in place of a search and of a running maximum, can be exported.
    at = (total.unsqueeze(1) <= steps.unsqueeze(2)).sum(2) - 1
    at = at.clamp(0, bins - 1)
    low, high = total.gather(1, at), total.gather(1, at + 1)
    place = (at + (steps - low) / (high - low).clamp_min(1e-12)) / bins
    chosen = (place * frames).floor().long().clamp(0, frames - 1)
    # Repeats are pushed forward; pushing from the left is a running maximum of index - position.
    order = torch.arange(count, device=density.device)
    before = order <= order.unsqueeze(1)
    chosen = torch.where(before, (chosen - order).unsqueeze(1), 0 - frames).amax(2) + order
    return torch.minimum(chosen, frames - count + order)


def gru_gates(gru: nn.GRU, x: Tensor) -> Tensor:
    """What the inputs (N, width) of a GRU of one layer contribute to its gates, (N, 3 hidden)."""
    weight, _, bias, _ = gru.all_weights[0]
    return F.linear(x, weight, bias)


def gru_step(gru: nn.GRU, gates: Tensor, hidden: Tensor) -> Tensor:
    """The next state of a GRU of one layer: operators that every exporter knows.

    Args:
        gru: The layer.
        gates: (B, 3 hidden), see `gru_gates`.
        hidden: (B, hidden), the state before.

    Returns:
        (B, hidden).
    """
    _, weight, _, bias = gru.all_weights[0]
    own = F.linear(hidden, weight, bias)
    (reset, update, new), (own_reset, own_update, own_new) = gates.chunk(3, 1), own.chunk(3, 1)
    update = (update + own_update).sigmoid()
    new = (new + (reset + own_reset).sigmoid() * own_new).tanh()
    return new + update * (hidden - new)


class GridPolicy(nn.Module):
    """V1: one of a grid of places for every frame, with a value of the state for PPO.

    Args:
        channels: Of the glance's maps.
        cells: Height and width of the maps.
        actions: Number of places, a square.
        hidden: Width of the recurrent state.
    """

    def __init__(
        self, channels: int, cells: int = 7, actions: int = 49, hidden: int = 1024
    ) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, 32, 1, bias=False), nn.ReLU(), nn.Flatten(),
            nn.Linear(32 * cells * cells, hidden), nn.ReLU(),
        )  # fmt: skip
        self.gru = nn.GRU(hidden, hidden, batch_first=True)
        self.actor = nn.Linear(hidden, actions)
        self.critic = nn.Linear(hidden, 1)
        self.register_buffer("grid", action_grid(actions), persistent=False)

    def forward(self, maps: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Score the places for each frame.

        Args:
            maps: (B, T, C, h, w), the glance's maps in order.
            state: (1, B, hidden) of the frames before; zeros if None.

        Returns:
            Logits (B, T, actions), values (B, T) and the state after the last frame.
        """
        seen, state = self.gru(self.encoder(maps.flatten(0, 1)).unflatten(0, maps.shape[:2]), state)
        return self.actor(seen), self.critic(seen).squeeze(-1), state


def _encoder(channels: int, cells: int, hidden: int, activation: type[nn.Module]) -> nn.Sequential:
    """Maps (N, channels, cells, cells) to (N, hidden), normalised."""
    return nn.Sequential(
        nn.Conv2d(channels, 64, 1, bias=False), nn.BatchNorm2d(64), activation(), nn.Flatten(),
        nn.Linear(64 * cells * cells, hidden), nn.BatchNorm1d(hidden), activation(),
    )  # fmt: skip


class GaussianPolicy(nn.Module):
    """V1 for Something-Something: one place for all frames of a clip, the mean of a Gaussian.

    Args:
        channels: Of the maps of all glance frames together.
        cells: Height and width of the maps.
        hidden: Width of the recurrent state.
    """

    std = 0.25  # of the actions in training

    def __init__(self, channels: int, cells: int = 7, hidden: int = 1024) -> None:
        super().__init__()
        self.encoder = _encoder(channels, cells, hidden, nn.ReLU)
        self.gru = nn.GRU(hidden, hidden, batch_first=True)
        self.actor = nn.Linear(hidden, 2)
        self.critic = nn.Linear(hidden, 1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """From maps (B, G, C, h, w): the mean (B, 2) row and column in 0..1, and values (B,)."""
        gates = gru_gates(self.gru, self.encoder(maps.flatten(1, 2)))
        seen = gru_step(self.gru, gates, gates.new_zeros(gates.shape[0], self.gru.hidden_size))
        return self.actor(seen).sigmoid(), self.critic(seen).squeeze(-1)


def with_prior(maps: Tensor, prior: Tensor | None, weight: Tensor | None) -> Tensor:
    """Maps (B, T, C, h, w) without gradient to them, with weighted maps of motion (B, T, h, w).

    Raises:
        ModelError: The policy was built without the weight.
    """
    if prior is None:
        return maps.detach()
    if weight is None:
        raise ModelError("this policy has no weight for motion", "build it with motion_prior=True")
    return maps.detach() + weight * prior.unsqueeze(2)


class PointPolicy(nn.Module):
    """V2: a place for every frame, trained through the crop.

    Args:
        channels: Of the glance's maps.
        cells: Height and width of the maps.
        hidden: Width of the recurrent state.
        motion_prior: Add maps of motion to the glance's, with a learned weight that begins at 0.
    """

    def __init__(
        self, channels: int, cells: int = 7, hidden: int = 2048, motion_prior: bool = False
    ) -> None:
        super().__init__()
        self.encoder = _encoder(channels, cells, hidden, nn.Tanh)
        self.gru = nn.GRU(hidden, hidden, batch_first=True)
        self.actor = nn.Linear(hidden, 2)
        self.motion_weight = nn.Parameter(torch.zeros(())) if motion_prior else None

    def forward(
        self, maps: Tensor, state: Tensor | None = None, prior: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """From maps (B, T, C, h, w): places (B, T, 2) row and column in 0..1, and the state.

        The gradient does not reach the maps: the policy must not change what the glance sees.

        Args:
            maps: (B, T, C, h, w).
            state: (1, B, hidden) of the frames before; zeros if None.
            prior: (B, T, h, w) in 0..1, how much moves; none if None.
        """
        flat = self.encoder(with_prior(maps, prior, self.motion_weight).flatten(0, 1))
        seen, state = self.gru(flat.unflatten(0, maps.shape[:2]), state)
        return self.actor(seen).sigmoid(), state


class ClipPointPolicy(nn.Module):
    """V2 for Something-Something: one place for all frames of a clip, without recurrence.

    Args:
        channels: Of the maps of all glance frames together.
        cells: Height and width of the maps.
    """

    def __init__(self, channels: int, cells: int = 7) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *_encoder(channels, cells, 1024, nn.Tanh),
            nn.Linear(1024, 512), nn.BatchNorm1d(512), nn.Tanh(), nn.Linear(512, 2),
        )  # fmt: skip

    def forward(self, maps: Tensor) -> Tensor:
        """From maps (B, G, C, h, w), without gradient to them: (B, 2) row and column in 0..1."""
        place: Tensor = self.encoder(maps.detach().flatten(1, 2)).sigmoid()
        return place


class TemporalPolicy(nn.Module):
    """Uni-AdaFocus: a density over the glance frames by which frames are chosen.

    Args:
        channels: Of the glance's features.
        hidden: Channels of the temporal convolutions.
    """

    def __init__(self, channels: int, hidden: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for wide in (channels, hidden):
            layers += [
                nn.Conv2d(wide, hidden, (3, 1), padding=(1, 0), bias=False),
                nn.BatchNorm2d(hidden), nn.ReLU(),
            ]  # fmt: skip
        self.layers = nn.Sequential(*layers, nn.Conv2d(hidden, 1, 1, bias=False))

    def forward(self, features: Tensor) -> Tensor:
        """Scores (B, G) of features (B, G, C), without gradient to them; softmax is the density."""
        flat = features.detach().transpose(1, 2).unsqueeze(-1)
        scores: Tensor = self.layers(flat)
        return scores[:, 0, :, 0]


class WindowPolicy(nn.Module):
    """Uni-AdaFocus: a window of any place, height and width, smooth over time.

    Args:
        channels: Of the glance's maps.
        hidden: Channels of the convolutions.
        frames: Glance frames that the last layer joins: 1 gives a window for each, all of them one
            window for the clip.
        cells: Height and width of the maps.
        motion_prior: Add maps of motion to the glance's, with a learned weight that begins at 0.
    """

    def __init__(
        self, channels: int, hidden: int = 128, frames: int = 1, cells: int = 7,
        motion_prior: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.motion_weight = nn.Parameter(torch.zeros(())) if motion_prior else None

        def block(wide: int, kernel: int) -> list[nn.Module]:
            conv = nn.Conv3d(wide, hidden, kernel, padding=kernel // 2, bias=False)
            return [conv, nn.BatchNorm3d(hidden), nn.ReLU()]

        last = nn.Conv3d(hidden, 4, (frames, cells, cells), bias=False)
        self.layers = nn.Sequential(*block(channels, 1), *block(hidden, 3), *block(hidden, 3), last)

    def forward(self, maps: Tensor, prior: Tensor | None = None) -> Tensor:
        """From maps (B, G, C, h, w), without gradient to them: y, x, height, width in 0..1.

        Args:
            maps: (B, G, C, h, w).
            prior: (B, G, h, w) in 0..1, how much moves; none if None.

        Returns:
            (B, G, 4), or (B, 1, 4) if the last layer joins all frames.
        """
        seen = with_prior(maps, prior, self.motion_weight)
        found: Tensor = self.layers(seen.transpose(1, 2)).sigmoid()
        return found.flatten(2).transpose(1, 2)


class RecurrentClassifier(nn.Module):
    """V1: a GRU over the frames; the logits after each frame count all frames so far.

    Args:
        width: Of the joined features of glance and focus.
        num_classes: Outputs.
        hidden: Width of the recurrent state.
        dropout: Probability of dropping a value of the state before the outputs, in training.
    """

    def __init__(self, width: int, num_classes: int, hidden: int = 1024, dropout: float = 0.5):
        super().__init__()
        self.gru = nn.GRU(width, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(hidden, num_classes)

    def forward(self, features: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits (B, T, classes) of features (B, T, width) after each frame, and the state."""
        seen, state = self.gru(features, state)
        return self.fc(self.dropout(seen)), state


def _mlp(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU())


def _heads(steps: int, width: int, num_classes: int, dropout: float) -> nn.ModuleList:
    return nn.ModuleList(
        nn.Sequential(nn.Dropout(dropout), nn.Linear(width, num_classes)) for _ in range(steps)
    )


class PoolingClassifier(nn.Module):
    """V2: the running maximum over the frames' features, with outputs of its own at every step.

    Args:
        width: Of the joined features of glance and focus.
        num_classes: Outputs.
        steps: Largest number of frames.
        hidden: Width of the features that are pooled.
        dropout: Probability of dropping a value before the outputs, in training.
    """

    def __init__(
        self, width: int, num_classes: int, steps: int, hidden: int = 4096, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.mlp = _mlp(width, hidden)
        self.heads = _heads(steps, hidden, num_classes, dropout)

    def hidden(self, features: Tensor) -> Tensor:
        """(B, T, hidden) of features (B, T, width), before the maximum."""
        found: Tensor = self.mlp(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        return found

    def forward(
        self, features: Tensor, state: Tensor | None = None, step: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Logits after each frame.

        Args:
            features: (B, T, width) of the next frames.
            state: (B, hidden), the maximum over the frames before; None at the start.
            step: Number of frames before.

        Returns:
            (B, T, classes), and the maximum over all frames so far.

        Raises:
            ModelError: More frames than steps.
        """
        hidden = self.hidden(features)
        if step + hidden.shape[1] > len(self.heads):
            raise ModelError(f"{step + hidden.shape[1]} frames for {len(self.heads)} steps")
        best = hidden.cummax(1).values
        if state is not None:
            best = torch.maximum(best, state.unsqueeze(1))
        rows = [self.heads[step + at](best[:, at]) for at in range(best.shape[1])]
        return torch.stack(rows, 1), best[:, -1]


class TwoStageClassifier(nn.Module):
    """Uni-AdaFocus: running maxima over the glance's features, then over the focus's beside them.

    Args:
        glance: Width of the glance's features.
        focus: Width of the focus's features.
        num_classes: Outputs.
        glances: Number of glance frames.
        focuses: Number of focus frames.
        hidden: Width of the features that are pooled.
        dropout: Probability of dropping a value before the outputs, in training.
    """

    def __init__(
        self, glance: int, focus: int, num_classes: int, glances: int, focuses: int,
        hidden: int = 4096, dropout: float = 0.2,
    ) -> None:  # fmt: skip
        super().__init__()
        self.glance = PoolingClassifier(glance, num_classes, glances, hidden, dropout)
        self.focus_mlp = _mlp(focus, hidden)
        self.focus_heads = _heads(focuses, 2 * hidden, num_classes, dropout)

    def focus(
        self, features: Tensor, best: Tensor, state: Tensor | None = None, step: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Logits after each focus frame.

        Args:
            features: (B, T, focus) of the next focus frames.
            best: (B, hidden), the maximum over all glance frames.
            state: (B, hidden), the maximum over the focus frames before; None at the start.
            step: Number of focus frames before.

        Returns:
            (B, T, classes), and the maximum over all focus frames so far.
        """
        hidden = self.focus_mlp(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        seen = hidden.cummax(1).values
        if state is not None:
            seen = torch.maximum(seen, state.unsqueeze(1))
        rows = [
            self.focus_heads[step + at](torch.cat([seen[:, at], best], 1))
            for at in range(seen.shape[1])
        ]
        return torch.stack(rows, 1), seen[:, -1]

    def forward(self, glance: Tensor, focus: Tensor) -> Tensor:
        """Logits (B, G + T, classes) after each glance and each focus frame."""
        first, best = self.glance(glance)
        return torch.cat([first, self.focus(focus, best)[0]], 1)
