"""The parts of AdaMML as functions: the policy, and the network of each modality.

Rows are segments; what a network takes is prepared by `pipeline.adamml.prepared`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from foveate.core import InputSpec
from foveate.engines.function import NEXT, Function, NetworkFunctions
from foveate.models.adamml import CHANNELS, AdaMML
from foveate.models.adamml_card import AdaMMLCard
from foveate.models.macs import on_meta
from foveate.models.weights.exported import StateCard
from foveate.models.yamnet import SAMPLES

RECURRENT = ("hidden", "cell", "last")  # state of the policy; the last one has its logits


class _Policy(nn.Module):
    """What the policy sees of segments, in its order, and what there is → features (N, hidden)."""

    def __init__(self, network: AdaMML) -> None:
        super().__init__()
        self.network = network

    def forward(self, *given: Tensor) -> tuple[Tensor]:
        *views, valid = given
        network = self.network
        shown = dict(zip(network.seen, (one.unsqueeze(0) for one in views), strict=True))
        return (network.policy.features(network.views(shown), valid.unsqueeze(0))[0],)


class _PolicyStep(nn.Module):
    """Features of the next segment and the state → the state, with the logits in it."""

    def __init__(self, network: AdaMML) -> None:
        super().__init__()
        self.policy = network.policy

    def forward(
        self, features: Tensor, hidden: Tensor, cell: Tensor, last: Tensor
    ) -> tuple[Tensor, ...]:
        return self.policy.step(features, (hidden, cell, last))[1]


class _Call(nn.Module):
    """A network of segments, or a method of one."""

    def __init__(self, net: Any, method: str = "") -> None:
        super().__init__()
        self.net, self.method = net, method

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (getattr(self.net, self.method)(x) if self.method else self.net(x),)


def adamml_functions(network: AdaMML, spec: InputSpec) -> NetworkFunctions:
    """The functions of a network of several modalities.

    Args:
        network: In evaluation mode.
        spec: Size and normalisation of frames.
    """
    nets: Any = network.nets
    early = tuple(name for name in network.modalities if nets[name].exit is not None)
    facts = AdaMMLCard(
        modalities=network.modalities,
        seen=network.seen,
        weights=tuple(network.weights.tolist()),
        renormalise=network.renormalise,
        classes=network.num_classes,
        columns=network.columns,
        patch_side=network.patch_side,
        early=early,
    )

    def example(name: str) -> Tensor:
        if name == "yamnet":
            return torch.zeros(1, 1, 1, 1, SAMPLES)
        frames = network.frames_of(name)
        if name not in network.modalities:  # the policy alone sees it: every second frame
            frames = -(-frames // 2)
        sides = {"sound": 256, "patch": network.patch_side, "mv": spec.size // 2}
        side = sides.get(name, spec.size)
        wide = network.columns if name == "sound" else side
        return torch.zeros(1, frames, CHANNELS[name], side, wide)

    count, state = len(network.seen), network.policy.lstm.hidden_size
    features = torch.zeros(1, network.policy.lstm.input_size - 2 * count)
    before = {
        "hidden": torch.zeros(1, state), "cell": torch.zeros(1, state),
        "last": torch.zeros(1, count, 2),
    }  # fmt: skip
    made = {
        "policy": Function(
            _Policy(network),
            {**{name: example(name) for name in network.seen}, "valid": torch.ones(1, count)},
            ("features",),
        ),
        "policy-step": Function(
            _PolicyStep(network), {"features": features, **before},
            tuple(NEXT + name for name in RECURRENT),
            tuple(StateCard(inputs=[name], output=NEXT + name) for name in RECURRENT),
        ),
    }  # fmt: skip
    for name in network.modalities:
        x = example(name)
        if name not in early:
            made[name] = Function(_Call(nets[name]), {"x": x}, ("logits",))
            continue
        ghost: Any = on_meta(nets[name]).eval()
        with torch.no_grad():
            maps = torch.zeros(ghost.maps(x.to("meta")).shape)
        for part, method, given, found in (
            ("begin", "maps", x, "maps"), ("exit", "early", maps, "logits"),
            ("rest", "finish", maps, "logits"),
        ):  # fmt: skip
            call = _Call(nets[name], method)
            made[f"{name}-{part}"] = Function(call, {"x": given}, (found,))
    for function in made.values():
        function.module.eval()
    return NetworkFunctions("parts", made, mixes_frames=False, facts=facts)
