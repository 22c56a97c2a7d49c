"""AdaMML: a policy decides for every segment which modalities are looked at.

Source: Panda et al., "AdaMML: Adaptive Multi-Modal Learning for Efficient Video Recognition", ICCV
2021 (arXiv 2105.05165). A policy network sees small views of all modalities; a modality that it
does not choose is not computed. Flow is expensive, so the policy sees differences of frames in its
place; in place of patches that are cut out where things move it sees whole frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.core.errors import ModelError
from foveate.models import backbones
from foveate.models.coviar import InternalClassifier, split_stages
from foveate.models.registry import create, is_video_network, register, split_name
from foveate.models.yamnet import YAMNetHead

# Channels of a frame: flow and differences are stacks of five; motion vectors are one field.
CHANNELS = {"rgb": 3, "patch": 3, "flow": 10, "rgbdiff": 15, "sound": 1, "yamnet": 1, "mv": 2}
FRAMES = ("rgb", "patch")  # modalities of frames
SOUND = ("sound", "yamnet")  # spectrograms, and waveforms for YAMNet
PROXIES = {"flow": "rgbdiff", "patch": "rgb", "yamnet": "sound"}  # what the policy sees instead
POLICY_SIDE = 160  # pixels of the policy's views; sound and motion vectors are seen whole
USE = 1  # index of the decision that a modality is used


class TimePool(nn.Module):
    """Maximum over three neighbouring frames, every second one kept.

    Args:
        frames: In each segment, before pooling.
    """

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N * frames, C, h, w) to (N * ceil(frames / 2), C, h, w)."""
        apart = x.unflatten(0, (-1, self.frames)).transpose(1, 2)
        pooled: Tensor = F.max_pool3d(apart, (3, 1, 1), (2, 1, 1), (1, 0, 0))
        return pooled.transpose(1, 2).flatten(0, 1)


class SegmentNet(nn.Module):
    """A 2D network on the frames of a segment, whose maps are pooled over time between its stages.

    Args:
        backbone: Its name; see ``backbones.build``.
        channels: Of a frame.
        frames: In a segment.
        num_classes: Outputs; None gives features.
        dropout: Probability of dropping a feature before the outputs, in training.
        pretrained: Load the pretrained weights of the backbone.
        exit: Name of the stage after which there is an early answer (`blocks.2`, `layer2`); None
            for none.

    Raises:
        ModelError: There is no such stage.
    """

    def __init__(
        self, backbone: str, channels: int, frames: int, num_classes: int | None = None,
        dropout: float = 0.5, pretrained: bool = False, exit: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.net = backbones.build(backbone, pretrained, in_chans=channels)
        self.channels, self.frames = channels, frames
        pieces = [] if exit is None else split_stages(self.net)
        pooled = _pooled_stages(self.net) if frames > 1 else []
        for name in pooled:
            parent, _, child = name.rpartition(".")
            holder, stage = self.net.get_submodule(parent), self.net.get_submodule(name)
            setattr(holder, child, nn.Sequential(TimePool(frames), stage))
            for _, modules in pieces:
                modules[:] = [getattr(holder, child) if m is stage else m for m in modules]
            frames = -(-frames // 2)
        self.left = frames  # after the last stage
        self.num_features = backbones.width_of(self.net)
        self.dropout = nn.Dropout(dropout)
        self.fc = None if num_classes is None else nn.Linear(self.num_features, num_classes)
        self.exit: InternalClassifier | None = None
        if exit is not None:
            in_sequence = hasattr(self.net, "layer4") or hasattr(self.net, "conv_stem")
            names = [name for name, _ in pieces[:-1]] if in_sequence else []
            if exit not in names:
                hint = f"its stages: {', '.join(names)}" if names else "use a ResNet or MobileNet"
                raise ModelError(f"exit={exit}: {backbone} has no such stage", hint)
            at = names.index(exit) + 1
            self._first = [m for _, modules in pieces[:at] for m in modules]
            self._rest = [m for _, modules in pieces[at:] for m in modules]
            halvings = sum(name in names[:at] for name in pooled)
            self._at_exit = self.frames  # frames of a segment that are left there
            for _ in range(halvings):
                self._at_exit = -(-self._at_exit // 2)
            self.exit = InternalClassifier(self._width_at_exit(), num_classes or 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes), or features (N, C), of segments (N, frames, channels, H, W)."""
        return self._answer(self.net(self._flat(x)))

    def begin(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The stages before the exit: `maps`, and the early logits."""
        maps = self.maps(x)
        return maps, self.early(maps)

    def maps(self, x: Tensor) -> Tensor:
        """Maps (N, T, C, h, w) at the exit of segments (N, frames, channels, H, W)."""
        found = self._flat(x)
        for module in self._first:
            found = module(found)
        maps: Tensor = found.unflatten(0, (-1, self._at_exit))
        return maps

    def early(self, maps: Tensor) -> Tensor:
        """The early logits (N, classes) of maps (N, T, C, h, w) at the exit."""
        assert self.exit is not None
        logits: Tensor = self.exit(maps.flatten(0, 1)).unflatten(0, (-1, self._at_exit)).mean(1)
        return logits

    def finish(self, maps: Tensor) -> Tensor:
        """The stages behind the exit: logits (N, classes) of `maps`."""
        x = maps.flatten(0, 1)
        for module in self._rest:
            x = module(x)
        return self._answer(x)

    def _flat(self, x: Tensor) -> Tensor:
        _check_segments(x, self.frames, self.channels)
        return x.flatten(0, 1).contiguous(memory_format=torch.channels_last)

    def _answer(self, features: Tensor) -> Tensor:
        if self.fc is not None:
            features = self.fc(self.dropout(features))
        mean: Tensor = features.unflatten(0, (-1, self.left)).mean(1)
        return mean

    def _width_at_exit(self) -> int:
        """Channels of the maps at the exit."""
        training = self.training
        with torch.no_grad():
            maps = torch.zeros(self.frames, self.channels, 64, 64)
            for module in self.eval()._first:
                maps = module(maps)
        self.train(training)
        return int(maps.shape[1])


class VideoNet(nn.Module):
    """A video network of the registry, such as a MoViNet stream, on the frames of a segment.

    Its state begins anew with every segment, so that an answer does not depend on which other
    segments were skipped, and the chosen segments of any sources are rows of one batch.

    Args:
        name: `ARCH` or `ARCH.TAG`; a tag is that of pretrained weights.
        frames: In a segment.
        num_classes: Outputs.
    """

    exit = None

    def __init__(self, name: str, frames: int, num_classes: int) -> None:
        super().__init__()
        arch, tag = split_name(name)
        self.net = create(arch if tag else name, num_classes=num_classes)
        self.channels, self.frames = 3, frames

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of segments (N, frames, 3, H, W)."""
        _check_segments(x, self.frames, self.channels)
        logits: Tensor = self.net(x.transpose(1, 2))
        return logits


def _check_segments(x: Tensor, frames: int, channels: int) -> None:
    if x.ndim != 5 or x.shape[1:3] != (frames, channels):
        raise ModelError(f"segments are (N, {frames}, {channels}, H, W), not {tuple(x.shape)}")


def _pooled_stages(net: nn.Module) -> list[str]:
    """Stages with a pooling over time before them: of ResNets three, of MobileNets two."""
    if all(hasattr(net, f"layer{i}") for i in (1, 2, 3, 4)):
        return ["layer2", "layer3", "layer4"]
    blocks = getattr(net, "blocks", None)
    if isinstance(blocks, nn.Sequential) and len(blocks) >= 6:
        return ["blocks.3", "blocks.5"]
    return []


class ModalityPolicy(nn.Module):
    """Decides for each segment of a video, in order, which modalities are used.

    Args:
        channels: Of a frame of each modality that it sees.
        frames: In a segment of each modality that it sees.
        backbone: Of its networks; one for all, or one each.
        hidden: Width of the joined features.
        state: Width of the recurrent state.
        pretrained: Load the pretrained weights of the backbones.
    """

    def __init__(
        self, channels: Sequence[int], frames: Sequence[int],
        backbone: str | Sequence[str] = "mobilenetv2_100",
        hidden: int = 2048, state: int = 256, pretrained: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        each = [backbone] * len(channels) if isinstance(backbone, str) else backbone
        nets = [
            SegmentNet(name, wide, count, pretrained=pretrained)
            for name, wide, count in zip(each, channels, frames, strict=True)
        ]
        self.nets = nn.ModuleList(nets)
        width = sum(net.num_features for net in nets)
        self.joint = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.lstm = nn.LSTMCell(hidden + 2 * len(self.nets), state)
        self.heads = nn.ModuleList(nn.Linear(state, 2) for _ in self.nets)

    def step(
        self, features: Tensor, before: tuple[Tensor, Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Score the next segment.

        Args:
            features: (B, hidden) of the segment.
            before: State and logits after the segment before; None at the start.

        Returns:
            Logits (B, M, 2), and what the next step needs.
        """
        size = features.shape[0]
        if before is None:
            nothing = features.new_zeros(size, self.lstm.hidden_size)
            before = nothing, nothing, features.new_zeros(size, len(self.nets), 2)
        hidden, cell, last = before
        hidden, cell = self.lstm(torch.cat([features, last.flatten(1)], 1), (hidden, cell))
        logits = torch.stack([head(hidden) for head in self.heads], 1)
        return logits, (hidden, cell, logits)

    def pooled(self, views: Sequence[Tensor], valid: Tensor | None = None) -> Tensor:
        """(B, S, channels) of the views of each modality, (B, S, F, C, H, W), side by side.

        Args:
            views: By modality.
            valid: (B, S, M) in {0, 1}: which there are; the features of others are zeros.
        """
        rows = [net(view.flatten(0, 1)) for net, view in zip(self.nets, views, strict=True)]
        if valid is not None:
            there = valid.flatten(0, 1)
            rows = [row * there[:, at, None] for at, row in enumerate(rows)]
        joined: Tensor = torch.cat(rows, 1).unflatten(0, views[0].shape[:2])
        return joined

    def features(self, views: Sequence[Tensor], valid: Tensor | None = None) -> Tensor:
        """(B, S, hidden) of the views of each modality; see `pooled`."""
        joined: Tensor = self.joint(self.pooled(views, valid))
        return joined

    def unroll(self, features: Tensor) -> Tensor:
        """Logits (B, S, M, 2) of features (B, S, hidden), segment after segment."""
        before, rows = None, []
        for at in range(features.shape[1]):
            logits, before = self.step(features[:, at], before)
            rows.append(logits)
        return torch.stack(rows, 1)

    def forward(self, views: Sequence[Tensor], valid: Tensor | None = None) -> Tensor:
        """Logits (B, S, M, 2) of the views of each modality, (B, S, F, C, H, W)."""
        return self.unroll(self.features(views, valid))


@dataclass
class Chosen:
    """What was decided and answered.

    Attributes:
        policy_logits: (B, S, M, 2).
        use: (B, S, M) in {0, 1}; with a gradient to the policy in training.
        modality_logits: (B, S, M, classes), zeros where a modality was not computed.
        segment_logits: (B, S, classes).
        logits: (B, classes).
    """

    policy_logits: Tensor
    use: Tensor
    modality_logits: Tensor
    segment_logits: Tensor
    logits: Tensor


@register(
    "adamml",
    tiny={"num_classes": 7, "modalities": ("rgb", "sound"), "visual": "test_resnet",
          "audio": "test_efficientnet", "policy_backbone": "test_efficientnet", "frames": 2,
          "hidden": 16, "state": 8},
    classifier=False,
)  # fmt: skip
class AdaMML(nn.Module):
    """Networks for each modality, and the policy that chooses among them.

    Args:
        num_classes: Outputs.
        modalities: Of ``CHANNELS``, in order.
        visual: Backbone for frames, or a video network of the registry (see `VideoNet`).
        motion: Backbone for differences, flow and motion vectors; None for `visual`.
        audio: Backbone for spectrograms.
        policy_backbone: Backbone of the policy's networks.
        policy_audio: The same for spectrograms; None for that of the others.
        frames: Of a segment.
        proxy: What the policy sees in place of flow: `rgbdiff`, `mv`, or `flow` itself.
        policy_side: Pixels of the frames that the policy sees.
        columns: Times of a spectrogram, which is averaged to so many; the paper's has 256.
        dropout: Before the outputs, in training.
        hidden: Width of the policy's joined features.
        state: Width of the policy's recurrent state.
        renormalise: Divide by the sum of the weights of what was used; the paper does not.
        pretrained: Load the pretrained weights of the backbones.
        exit: Stage of `visual` after which frames may be answered early; see `SegmentNet`.
        patch_side: Pixels of the modality `patch`.

    Raises:
        ModelError: Unknown, repeated or no modalities, an unknown proxy, or an exit that the
            network of frames cannot have.
    """

    def __init__(
        self, num_classes: int = 31, modalities: Sequence[str] = ("rgb", "sound"),
        visual: str = "resnet50", audio: str = "mobilenetv2_100",
        policy_backbone: str = "mobilenetv2_100", frames: int = 8, dropout: float = 0.5,
        hidden: int = 2048, state: int = 256, renormalise: bool = False, pretrained: bool = False,
        proxy: str = PROXIES["flow"], policy_side: int = POLICY_SIDE, columns: int = 256,
        policy_audio: str | None = None, motion: str | None = None, exit: str | None = None,
        patch_side: int = 64,
    ) -> None:  # fmt: skip
        super().__init__()
        if proxy not in ("rgbdiff", "mv", "flow"):
            raise ModelError(f"proxy={proxy!r}: unknown", "one of: rgbdiff, mv, flow")
        unknown = [name for name in modalities if name not in CHANNELS]
        if unknown or not modalities or len(set(modalities)) < len(modalities):
            raise ModelError(
                f"modalities={list(modalities)}: names of {', '.join(CHANNELS)}, each once"
            )
        self.modalities, self.frames, self.renormalise = tuple(modalities), frames, renormalise
        self.num_classes, self.policy_side, self.columns = num_classes, policy_side, columns
        self.patch_side = patch_side
        self.seen = seen_of(modalities, proxy)
        self.nets = nn.ModuleDict()
        for name in modalities:
            if name == "yamnet":
                self.nets[name] = YAMNetHead(num_classes, dropout)
                continue
            backbone = audio if name == "sound" else visual if name in FRAMES else motion or visual
            if not is_video_network(backbone):
                self.nets[name] = SegmentNet(
                    backbone, CHANNELS[name], self.frames_of(name), num_classes, dropout,
                    pretrained, exit if name in FRAMES else None,
                )  # fmt: skip
                continue
            if name not in FRAMES or exit is not None:
                raise ModelError(
                    f"{backbone}: a video network takes frames, and has no early exit",
                    "give motion= a 2D backbone, and no exit",
                )
            self.nets[name] = VideoNet(backbone, self.frames, num_classes)
        self.policy = ModalityPolicy(
            [CHANNELS[name] for name in self.seen],
            [-(-self.frames_of(name) // 2) for name in self.seen],
            [policy_audio or policy_backbone if name == "sound" else policy_backbone
             for name in self.seen], hidden, state, pretrained,
        )  # fmt: skip
        self.free_weights = nn.Parameter(torch.full((len(modalities) - 1,), 1.0 / len(modalities)))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Modalities of an input: those that are recognised, and those that the policy sees."""
        return tuple(dict.fromkeys((*self.modalities, *self.seen)))

    @property
    def weights(self) -> Tensor:
        """(M,) weights of the modalities; their sum is one."""
        return torch.cat([self.free_weights, 1 - self.free_weights.sum(0, keepdim=True)])

    def frames_of(self, name: str) -> int:
        """Frames of a segment in which a modality is shown."""
        return 1 if name in SOUND else self.frames

    def views(self, x: Mapping[str, Tensor]) -> list[Tensor]:
        """What the policy sees of (B, S, F, C, H, W) inputs: every second frame, small.

        Of a modality that only the policy sees, the input may have every second frame alone.
        """
        return self.views_of(self.seen, x)

    def views_of(self, names: Sequence[str], x: Mapping[str, Tensor]) -> list[Tensor]:
        """The same of some modalities."""
        found = []
        for name in names:
            view = x[name]
            if view.shape[2] == self.frames:
                view = view[:, :, ::2]
            if name not in ("sound", "mv"):
                size = (self.policy_side, self.policy_side)
                small = F.interpolate(
                    view.flatten(0, 2), size, mode="bilinear", align_corners=False
                )
                view = small.unflatten(0, view.shape[:3])
            found.append(view)
        return found

    def decide(
        self, policy_logits: Tensor, temperature: float | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Decisions (B, S, M) in {0, 1} by logits (B, S, M, 2).

        Args:
            policy_logits: Of the policy.
            temperature: Sample with Gumbel noise, with a straight-through gradient (training);
                None takes the more likely one. The public code samples in evaluation too, so two
                passes of it differ.
            valid: (B, S, M) in {0, 1}: which there are; others are never used.
        """
        use: Tensor
        if temperature is None:
            use = policy_logits.argmax(-1).to(policy_logits.dtype)
        else:
            use = F.gumbel_softmax(policy_logits, temperature, hard=True)[..., USE]
        return use if valid is None else use * valid

    def recognise(self, x: Mapping[str, Tensor], use: Tensor | None = None) -> Tensor:
        """Logits (B, S, M, classes) of the modalities, computed only where they are used.

        Args:
            x: (B, S, F, C, H, W) by modality.
            use: (B, S, M); None computes all.
        """
        shape = x[self.modalities[0]].shape[:2]
        rows = []
        for at, name in enumerate(self.modalities):
            flat = x[name].flatten(0, 1)
            if use is None:
                rows.append(self.nets[name](flat))
                continue
            chosen = use[:, :, at].flatten().nonzero().squeeze(1)
            row = flat.new_zeros(len(flat), self.num_classes)
            if len(chosen):
                row = row.index_add(0, chosen, self.nets[name](flat[chosen]).to(row.dtype))
            rows.append(row)
        found: Tensor = torch.stack(rows, 1).unflatten(0, shape)
        return found

    def fuse(self, modality_logits: Tensor, use: Tensor) -> Tensor:
        """Segment logits (B, S, classes) by logits (B, S, M, classes) and decisions (B, S, M)."""
        share = use * self.weights
        if self.renormalise:
            share = share / share.sum(-1, keepdim=True).clamp_min(1e-6)
        fused: Tensor = (modality_logits * share.unsqueeze(-1)).sum(2)
        return fused

    def choose(
        self, x: Mapping[str, Tensor], temperature: float | None = None, valid: Tensor | None = None
    ) -> Chosen:
        """Decide and answer.

        Args:
            x: (B, S, F, C, H, W) by the names of ``inputs``; F is 1 for sound.
            temperature: See ``decide``; with one, all networks are computed, since the gradient
                needs their answers.
            valid: (B, S, M) in {0, 1}: which modalities there are; None for all.

        Raises:
            ModelError: An input is missing.
        """
        missing = [name for name in self.inputs if name not in x]
        if missing:
            raise ModelError(f"the input lacks {', '.join(missing)}")
        policy_logits = self.policy(self.views(x), valid)
        use = self.decide(policy_logits, temperature, valid)
        found = self.recognise(x, use if temperature is None else None)
        segments = self.fuse(found, use)
        return Chosen(policy_logits, use, found, segments, segments.mean(1))

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, classes) of (B, S, F, C, H, W) inputs by name, deterministic."""
        return self.choose(x).logits


def seen_of(modalities: Sequence[str], proxy: str) -> tuple[str, ...]:
    """What the policy sees of each modality.

    Raises:
        ModelError: It would see something twice.
    """
    known = {**PROXIES, "flow": proxy}
    seen = tuple(known.get(name, name) for name in modalities)
    for name, shown in zip(modalities, seen, strict=True):
        if seen.count(shown) > 1 and name != shown:
            raise ModelError(f"{name} and {shown} together: the policy sees {shown} for {name}")
    return seen


def selection_loss(use: Tensor, correct: Tensor, weights: Tensor) -> Tensor:
    """The policy's cost: the squared share of segments that use a modality, where it is right.

    The term for wrong answers of the paper (a constant for each) has no gradient, so it is left
    out.

    Args:
        use: (B, S, M) decisions.
        correct: (B,) whether the answer is right.
        weights: (M,) cost weights of the modalities.
    """
    share = use.mean(1).square()
    return (correct.to(use.dtype).unsqueeze(1) * share * weights).mean(0).sum()
