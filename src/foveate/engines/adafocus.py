"""The parts of AdaFocus as functions: glance, policy, cut, focus and classifier.

Frames and patches are rows of a batch, wherever the networks do not mix frames. What goes from
frame to frame, in policy and classifier, is computed in two functions: one for all frames, and a
small one for each, with its state. What a policy chooses is computed by the functions, too, so it
is the choice of the network everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from foveate.core import InputSpec, ModelError
from foveate.engines.function import NEXT, Function, NetworkFunctions, Prepared
from foveate.models.adafocus import AdaFocus
from foveate.models.adafocus_policies import (
    GridPolicy,
    PoolingClassifier,
    RecurrentClassifier,
    TwoStageClassifier,
    gru_gates,
    gru_step,
    with_prior,
)
from foveate.models.weights.exported import StateCard

_HIDDEN = StateCard(inputs=["hidden"], output=f"{NEXT}hidden")


class _Glance(nn.Module):
    """Frames (N, S, S, 3), or clips (B, G, S, S, 3) of shifted networks → maps and their means."""

    def __init__(self, network: AdaFocus, spec: InputSpec) -> None:
        super().__init__()
        self.network, self.prepared = network, Prepared(spec)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        x = self.prepared(frames)
        if frames.ndim == 5:
            return self.network.look(x.transpose(1, 2))
        maps, features = self.network.look(x.unsqueeze(1))
        return maps[:, 0], features[:, 0]


class _GlanceStep(_Glance):
    """The next frame (B, S, S, 3) of a glance that remembers those before → maps and means."""

    def __init__(self, network: AdaFocus, spec: InputSpec) -> None:
        super().__init__(network, spec)
        side = network.glance_size
        before: Any = network.glance.net.state_before(torch.zeros(1, 3, 1, side, side))
        self.initial: dict[str, Tensor] = before
        if any(bool(value.any()) for value in before.values()):
            raise ModelError(f"{type(network).__name__}: its glance does not begin with zeros")
        frame = torch.zeros(1, 1, 3, network.size, network.size)
        with torch.no_grad():
            after = network.look_on(frame, before)[2]
        self.names = [name for name in before if name in after]

    def forward(self, frames: Tensor, *values: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        state = dict(zip(self.names, values, strict=True))
        maps, features, after = self.network.look_on(self.prepared(frames).unsqueeze(1), state)
        return maps[:, 0], features[:, 0], *(after[name] for name in self.names)


class _Policy(nn.Module):
    """Maps (B, G, C, h, w) of a window, and how much moves, → windows, frames and density."""

    def __init__(self, network: AdaFocus, candidates: int) -> None:
        super().__init__()
        self.network, self.candidates = network, candidates

    def forward(self, maps: Tensor, prior: Tensor | None = None) -> tuple[Tensor, ...]:
        found = self.network.places(maps, maps.mean((3, 4)), self.candidates, prior)
        chosen = (found.windows.float(), found.frames, found.density)
        return tuple(one for one in chosen if one is not None)


class _PolicyGates(nn.Module):
    """Maps (N, C, h, w) of frames → what they contribute to the gates of the policy."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, maps: Tensor, prior: Tensor | None = None) -> tuple[Tensor]:
        if prior is not None:
            rows = with_prior(maps.unsqueeze(1), prior.unsqueeze(1), self.policy.motion_weight)
            maps = rows[:, 0]
        return (gru_gates(self.policy.gru, self.policy.encoder(maps)),)


class _PolicyStep(nn.Module):
    """The place of the next frame: windows (B, 4), the scores of V1's places, and the state."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, gates: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
        policy = self.network.policy
        hidden = gru_step(policy.gru, gates, hidden)
        found = policy.actor(hidden)
        if isinstance(policy, GridPolicy):
            return self.network.windows_at(found.argmax(1)).float(), found, hidden
        return self.network.squares(found.sigmoid()), hidden


class _Cut(nn.Module):
    """Windows (N, 4) out of frames (N, S, S, 3) → patches (N, 3, P, P)."""

    def __init__(self, network: AdaFocus, spec: InputSpec) -> None:
        super().__init__()
        self.network, self.prepared = network, Prepared(spec)

    def forward(self, frames: Tensor, windows: Tensor) -> tuple[Tensor]:
        x = self.prepared(frames).unsqueeze(1)
        return (self.network.cut(x, windows.unsqueeze(1))[:, 0],)


class _Focus(nn.Module):
    """Patches (N, 3, P, P), or (B, T, 3, P, P) of shifted networks → features."""

    def __init__(self, network: AdaFocus) -> None:
        super().__init__()
        self.network = network

    def forward(self, patches: Tensor) -> tuple[Tensor]:
        if patches.ndim == 5:
            return (self.network.focus(patches),)
        return (self.network.focus(patches.unsqueeze(1))[:, 0],)


class _Alone(nn.Module):
    """The mean features (B, C) of the focus network → logits of its own head."""

    def __init__(self, network: AdaFocus) -> None:
        super().__init__()
        self.network = network

    def forward(self, focus: Tensor) -> tuple[Tensor]:
        return (self.network.alone(focus.unsqueeze(1)),)


class _Begin(nn.Module):
    """Features (B, G, C) of the glance → logits of it alone, and their maximum (B, hidden)."""

    def __init__(self, network: AdaFocus) -> None:
        super().__init__()
        self.network = network

    def forward(self, glance: Tensor) -> tuple[Tensor, ...]:
        classifier: Any = getattr(self.network, "classifier", None)
        if isinstance(classifier, TwoStageClassifier):
            best = classifier.glance.hidden(glance).amax(1)
            return classifier.glance.heads[-1](best), best
        logits, _ = self.network.begin(glance)
        assert logits is not None
        return (logits[:, -1],)


class _Hidden(nn.Module):
    """Features (N, C) of frames → what the classifier takes the maximum of, or its gates."""

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, features: Tensor) -> tuple[Tensor]:
        if isinstance(self.classifier, RecurrentClassifier):
            return (gru_gates(self.classifier.gru, features),)
        if isinstance(self.classifier, PoolingClassifier):
            return (self.classifier.mlp(features),)
        return (self.classifier.focus_mlp(features),)


class _Recurrent(nn.Module):
    """Gates of the next frame and the state before → logits, and the state."""

    def __init__(self, classifier: RecurrentClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, gates: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        hidden = gru_step(self.classifier.gru, gates, hidden)
        return self.classifier.fc(hidden), hidden


class _Heads(nn.Module):
    """Maxima over the frames so far, and how many frames → logits of that step's outputs."""

    def __init__(self, heads: nn.ModuleList) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, best: Tensor, frames: Tensor, glance: Tensor | None = None) -> tuple[Tensor]:
        x = best if glance is None else torch.cat([best, glance], 1)
        at = (frames - 1).clamp(0, len(self.heads) - 1)
        layers: list[Any] = [head[-1] for head in self.heads]  # type: ignore[index]
        if not torch.compiler.is_exporting():
            return (torch.stack([layers[int(i)](row) for i, row in zip(at, x, strict=True)]),)
        weight = torch.stack([layer.weight for layer in layers])[at]
        bias = torch.stack([layer.bias for layer in layers])[at]
        return ((weight @ x.unsqueeze(2)).squeeze(2) + bias,)


class _Fused(nn.Module):
    """Mean features (B, C) of glance and focus → logits of a shifted network."""

    def __init__(self, network: AdaFocus) -> None:
        super().__init__()
        self.network = network

    def forward(self, glance: Tensor, focus: Tensor) -> tuple[Tensor]:
        return (self.network.answer(glance.unsqueeze(1), focus.unsqueeze(1), {})[0][:, -1],)


def adafocus_functions(
    network: AdaFocus, spec: InputSpec, candidates: int, sides: Sequence[int] = ()
) -> NetworkFunctions:
    """The functions of a network of the family.

    Args:
        network: In evaluation mode.
        spec: How frames are prepared.
        candidates: Frames of a window.
        sides: Of patches in pixels, one function `focus-SIDE` each; the network's own if empty.

    Raises:
        ModelError: The size of the frames is not the network's.
    """
    if spec.size != network.size:
        raise ModelError(f"frames of {spec.size} pixels for a network of {network.size}")
    facts = network.facts
    if not facts.per_frame:
        facts = facts.model_copy(update={"candidates": candidates})
    glances = len(facts.glance_frames(candidates))
    frame = torch.zeros(1, spec.size, spec.size, 3, dtype=torch.uint8)
    clip = frame.unsqueeze(1).expand(-1, glances, -1, -1, -1).contiguous()
    channels, width = network.glance.map_channels, network.focus.num_features
    maps = torch.zeros(1, channels, facts.cells, facts.cells)
    made = dict[str, Function]()
    if facts.causal:
        step = _GlanceStep(network, spec)
        state = tuple(StateCard(inputs=[name], output=NEXT + name) for name in step.names)
        made["glance"] = Function(
            step, {"frames": frame, **{name: step.initial[name] for name in step.names}},
            ("maps", "features", *(NEXT + name for name in step.names)), state,
        )  # fmt: skip
    else:
        shown = clip if network.glance.shifted else frame
        made["glance"] = Function(_Glance(network, spec), {"frames": shown}, ("maps", "features"))
    prior = {"prior": torch.zeros(1, facts.cells, facts.cells)} if facts.motion else {}
    if facts.per_frame:
        policy: Any = network.policy
        hidden = policy.gru.hidden_size
        grid = ("scores",) if isinstance(policy, GridPolicy) else ()
        made["policy"] = Function(_PolicyGates(policy), {"maps": maps, **prior}, ("gates",))
        made["policy-step"] = Function(
            _PolicyStep(network), _recurrent(hidden),
            ("windows", *grid, f"{NEXT}hidden"), (_HIDDEN,),
        )  # fmt: skip
    else:
        every = {
            name: one.unsqueeze(1).repeat(1, glances, *(1,) * (one.ndim - 1))
            for name, one in {"maps": maps, **prior}.items()
        }
        chosen = ("windows",) if facts.focuses is None else ("windows", "frames", "density")
        made["policy"] = Function(_Policy(network, candidates), every, chosen)
    window = torch.tensor([[0.0, 0.0, facts.patch, facts.patch]])
    made["cut"] = Function(_Cut(network, spec), {"frames": frame, "windows": window}, ("patches",))
    count = facts.focuses or candidates
    for side in sides or (facts.patch,):
        shape = (1, count, 3, side, side) if facts.shifted else (1, 3, side, side)
        made[f"focus-{side}"] = Function(
            _Focus(network), {"patches": torch.zeros(shape)}, ("features",)
        )
    made["alone"] = Function(_Alone(network), {"focus": torch.zeros(1, width)}, ("logits",))
    made |= _classifier(network, facts.glance_steps, glances, channels, width)
    for function in made.values():
        function.module.eval()
    return NetworkFunctions("parts", made, mixes_frames=facts.shifted, facts=facts)


def _classifier(
    network: AdaFocus, glance_steps: int, glances: int, channels: int, width: int
) -> dict[str, Function]:
    """The functions that answer."""
    made = dict[str, Function]()
    classifier: Any = getattr(network, "classifier", None)
    if glance_steps:
        joint = ("logits", "best") if classifier is not None else ("logits",)
        given = {"glance": torch.zeros(1, glances, channels)}
        made["begin"] = Function(_Begin(network), given, joint)
    if classifier is None:
        both = {"glance": torch.zeros(1, channels), "focus": torch.zeros(1, width)}
        return made | {"answer": Function(_Fused(network), both, ("logits",))}
    two = isinstance(classifier, TwoStageClassifier)
    rows = {"features": torch.zeros(1, width if two else channels + width)}
    if isinstance(classifier, RecurrentClassifier):
        made["classifier"] = Function(_Hidden(classifier), rows, ("gates",))
        step = _recurrent(classifier.gru.hidden_size)
        names = ("logits", f"{NEXT}hidden")
        return made | {"answer": Function(_Recurrent(classifier), step, names, (_HIDDEN,))}
    made["classifier"] = Function(_Hidden(classifier), rows, ("hidden",))
    heads = classifier.focus_heads if two else classifier.heads
    wide = heads[0][-1].in_features
    hidden = wide // 2 if two else wide
    best: Mapping[str, Tensor] = {
        "best": torch.zeros(1, hidden), "frames": torch.ones(1, dtype=torch.int64),
        **({"glance": torch.zeros(1, hidden)} if two else {}),
    }  # fmt: skip
    macs = wide * network.num_classes
    return made | {"answer": Function(_Heads(heads), best, ("logits",), macs=macs)}


def _recurrent(hidden: int) -> dict[str, Tensor]:
    return {"gates": torch.zeros(1, 3 * hidden), "hidden": torch.zeros(1, hidden)}
