"""The executor of AdaMML: a policy over modalities, one part per modality, and their late fusion.

What the policy does not choose is not run: of all sources that are in one call, the segments for
which a modality was chosen are rows of one batch, and each source gets its own back. The state of
a source holds the recurrent state of the policy, the decisions for the segments at hand, and the
sum of the weighted logits so far, so that a stream goes on segment by segment. A network of frames
with an exit runs in two parts: of the segments of which the early answer is not sure, the state
holds the maps at the exit, and the part `MODALITY-rest` goes on from them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torch.utils.flop_counter import FlopCounterMode

from foveate.core import Evidence, InputSpec, ModelError, View, Views
from foveate.media import modalities as kinds
from foveate.models.adamml import CHANNELS, AdaMML
from foveate.models.coviar import square
from foveate.models.macs import on_meta
from foveate.models.yamnet import SAMPLES
from foveate.policy.looks.modalities import FUSE, POLICY, REST, UNSURE, VIEWS

_VECTOR_SCALE = 8.0  # pixels per frame that are one after scaling

AdaMMLState = dict[str, Tensor]
"""`hidden`, `cell`, `last` of the policy (absent before it ran), `use` (S, M) for the segments at
hand, `sum` (classes,) of the weighted logits, `count` of segments; between an exit and the rest of
its network `maps` and `weights` of the segments that go on."""


class AdaMMLExecutor:
    """AdaMML part by part; satisfies `core.Executor`.

    Args:
        network: The network, with its policy.
        spec: Size of the frames and their normalisation.
        fixed: Modalities that are used for all segments, if the policy is not run.
        device: Where it runs.
        exit: Probability from which on an early answer counts; None runs networks to their end.
    """

    head: str | None = FUSE
    persistent = False

    def __init__(
        self,
        network: AdaMML,
        spec: InputSpec,
        fixed: Sequence[str] | None = None,
        device: torch.device | None = None,
        exit: float | None = None,
    ) -> None:
        self.device, self.spec = device or torch.device("cpu"), spec
        self.network = network.eval().to(self.device)
        self.fixed = None if fixed is None else tuple(fixed)
        nets: Any = network.nets
        self._early = () if exit is None else tuple(n for n in nets if nets[n].exit is not None)
        self._sure = exit
        parts = (*network.modalities, *(f"{name}{REST}" for name in self._early))
        self.parts = parts if self.fixed else (POLICY, *parts)
        self._macs = cache(self._count)

    def input(self, part: str) -> InputSpec:
        """What the networks expect of frames."""
        return self.spec

    def stage(self, part: str) -> str:
        """`network-MODALITY`, `network-policy` or `head`."""
        return "head" if part == FUSE else f"network-{part}"

    def batch_key(self, part: str, views: Views, state: Any) -> Hashable:
        """Sources share a call of a part whatever their numbers of segments are."""
        if part == FUSE:
            return part
        if part.endswith(REST):
            return part, state["maps"].shape[1:]
        shapes = tuple((name, view.array.shape[1:]) for name, view in sorted(views.items()))
        return part, shapes, part == POLICY and state is None

    @torch.inference_mode()
    def run(
        self, part: str, views: Sequence[Views], states: Sequence[Any]
    ) -> tuple[list[Any], list[Evidence]]:
        """Decide, recognise the chosen segments, or fuse; see `core.Executor`."""
        if part == FUSE:
            return list(states), [self._fused(state) for state in states]
        if part == POLICY:
            after, evidence = self._decided(views, states)
        elif part.endswith(REST):
            after, evidence = self._finished(part, states), [Evidence() for _ in states]
        else:
            after, evidence = self._recognised(part, views, states)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return after, evidence

    def cost(self, part: str, views: Views, state: Any) -> int:
        """Multiply-adds of a part for one source, from the number of its segments."""
        if part == FUSE:
            return 0
        if part.endswith(REST):
            return int(len(state["maps"]) * self._macs(part))
        rows = max(len(view.array) for view in views.values())
        return int(rows * self._macs(part))

    def segment_macs(self) -> dict[str, int]:
        """Multiply-adds of one segment of the policy and of each modality."""
        return {part: int(self._macs(part)) for part in self.parts}

    # --- inside ---------------------------------------------------------------------------

    def _decided(
        self, views: Sequence[Views], states: Sequence[Any]
    ) -> tuple[list[Any], list[Evidence]]:
        """Decisions for the segments of each source, however many it has."""
        network, seen = self.network, self.network.seen
        names = [VIEWS.get(name, name) for name in seen]
        counts = [max(len(one[name].array) for name in names) for one in views]
        x = {
            name: torch.cat([self._prepared(name, one[shown]) for one in views]).unsqueeze(0)
            for name, shown in zip(seen, names, strict=True)
        }
        masks = [
            torch.cat([_valid(one[name], rows) for one, rows in zip(views, counts, strict=True)])
            for name in names
        ]
        valid = torch.stack(masks, 1).to(self.device)
        features = network.policy.features(network.views(x), valid.unsqueeze(0))[0]
        padded = pad_sequence(list(features.split(counts)), batch_first=True)
        before = None
        if states[0] is not None:
            before = tuple(torch.stack([s[key] for s in states]) for key in _RECURRENT)
        steps = []
        for at in range(max(counts)):
            logits, before = network.policy.step(padded[:, at], before)  # type: ignore[arg-type]
            steps.append(dict(zip(_RECURRENT, before, strict=True)))
        after, evidence = [], []
        for number, there in enumerate(valid.split(counts)):
            rows = len(there)
            logits = torch.stack([step["last"][number] for step in steps[:rows]])
            # A proxy stands for its modality: without it there is no reason to compute that.
            use = network.decide(logits, valid=there)
            own = {key: value[number] for key, value in steps[rows - 1].items()}
            after.append(self._begun(states[number], use) | own)
            evidence.append(Evidence(proposals={"use": use.cpu().numpy()}))
        return after, evidence

    def _recognised(
        self, part: str, views: Sequence[Views], states: Sequence[Any]
    ) -> tuple[list[Any], list[Evidence]]:
        network, name = self.network, VIEWS.get(part, part)
        net: Any = network.nets[part]
        at = network.modalities.index(part)
        inputs = [self._prepared(part, one[name]) for one in views]
        x, counts = torch.cat(inputs) if len(inputs) > 1 else inputs[0], [len(i) for i in inputs]
        maps: Sequence[Tensor] = ()
        if part in self._early:
            found, logits = net.begin(x)
            maps = found.split(counts)
        else:
            logits = net(x)
        after, evidence = [], []
        for number, own in enumerate(logits.split(counts)):
            known = states[number]
            if self.fixed is not None and part == self.fixed[0]:
                known = self._all_used(known, len(own))
            share = known["use"] * network.weights
            if network.renormalise:
                share = share / share.sum(-1, keepdim=True).clamp_min(1e-6)
            weight = share[:, at][known["use"][:, at] > 0]
            weight = weight * _valid(views[number][name], len(own)).to(self.device)
            if part in self._early:
                unsure = (own.softmax(1).amax(1) < self._sure) & (weight != 0)
                known = {**known, "maps": maps[number][unsure], "weights": weight[unsure]}
                weight = weight * ~unsure
                evidence.append(Evidence(proposals={UNSURE: unsure.cpu().numpy()}))
            else:
                evidence.append(Evidence())
            after.append({**known, "sum": known["sum"] + (own * weight.unsqueeze(1)).sum(0)})
        return after, evidence

    def _finished(self, part: str, states: Sequence[Any]) -> list[AdaMMLState]:
        """The rest of a network, for the segments of which its exit was not sure."""
        net: Any = self.network.nets[part.removesuffix(REST)]
        counts = [len(state["maps"]) for state in states]
        logits = net.finish(torch.cat([state["maps"] for state in states])).split(counts)
        after = []
        for own, state in zip(logits, states, strict=True):
            known = {key: value for key, value in state.items() if key not in ("maps", "weights")}
            more = (own * state["weights"].unsqueeze(1)).sum(0)
            after.append({**known, "sum": known["sum"] + more})
        return after

    def _prepared(self, name: str, view: View) -> Tensor:
        return prepared(name, view, self.spec, self.network.columns, self.device)

    def _begun(self, state: Any, use: Tensor) -> AdaMMLState:
        """A state for further segments, whose decisions are known."""
        total = use.new_zeros(self.network.num_classes) if state is None else state["sum"]
        count = torch.zeros((), dtype=torch.int64) if state is None else state["count"]
        return {"use": use, "sum": total, "count": count + len(use)}

    def _all_used(self, state: Any, segments: int) -> AdaMMLState:
        """A state of segments for which fixed modalities are used."""
        fixed = self.fixed or self.network.modalities
        row = [float(name in fixed) for name in self.network.modalities]
        return self._begun(state, torch.tensor([row] * segments, device=self.device))

    def _fused(self, state: AdaMMLState) -> Evidence:
        """The mean over segments; zeros where nothing was chosen."""
        logits = state["sum"] / state["count"].to(state["sum"].device)
        return Evidence(logits={"final": logits.float().cpu().numpy()})

    def _count(self, part: str) -> int:
        """Multiply-adds of one segment, counted on the meta device."""
        network: Any = on_meta(self.network)

        def empty(name: str) -> Tensor:
            if name == "yamnet":
                return torch.empty((1, 1, 1, 1, 1, SAMPLES), device="meta")
            frames, side = network.frames_of(name), side_of(name, self.spec, network.patch_side)
            wide = network.columns if name == "sound" else side
            return torch.empty((1, 1, frames, CHANNELS[name], side, wide), device="meta")

        modality = part.removesuffix(REST)
        with torch.no_grad():
            x = empty(network.seen[0] if part == POLICY else modality).flatten(0, 1)
            if part.endswith(REST):
                x = network.nets[modality].begin(x)[0]
            with FlopCounterMode(display=False) as counter:
                if part == POLICY:
                    network.policy(network.views({name: empty(name) for name in network.seen}))
                elif part.endswith(REST):
                    network.nets[modality].finish(x)
                elif part in self._early:
                    network.nets[part].begin(x)
                else:
                    network.nets[part](x)
        return int(counter.get_total_flops() // 2)


_RECURRENT = ("hidden", "cell", "last")


def side_of(name: str, spec: InputSpec, patch: int = 0) -> int:
    """Side in pixels of a modality's pictures; frequencies of spectrograms."""
    if name in ("sound", "patch"):
        return 256 if name == "sound" else patch
    return spec.size // 2 if name == "mv" else spec.size


def prepared(name: str, view: View, spec: InputSpec, columns: int, device: torch.device) -> Tensor:
    """The input of a modality's network.

    Args:
        name: Of the modality in the network.
        view: Rows of pictures, fields or spectrograms, as they are fetched.
        spec: Size and normalisation of rgb.
        columns: Times of spectrograms.
        device: Where the network runs.

    Returns:
        (rows, frames, channels, side, side) float32, of sound (rows, 1, 1, 256, columns).

    Raises:
        ModelError: The view has another size than the network takes.
    """
    x = torch.from_numpy(view.array).to(device)
    if name == "yamnet":
        return x[:, None, None, None]
    if name == "sound":
        if columns != x.shape[2]:
            x = functional.adaptive_avg_pool2d(x, (x.shape[1], columns))
        return x[:, None, None]
    x = x.movedim(-1, 2)
    if name == "mv":
        flat, side = x.flatten(0, 1), side_of(name, spec)
        if spec.resize == "squash":
            flat = functional.interpolate(flat, (side, side), mode="bilinear", align_corners=False)
        else:
            flat = square(flat, side)
        fields: Tensor = (flat / _VECTOR_SCALE).clamp(-2, 2).unflatten(0, x.shape[:2])
        return fields
    if name != "patch" and x.shape[-2:] != (spec.size, spec.size):
        raise ModelError(f"{name}: pictures of {tuple(x.shape[-2:])} pixels, not {spec.size}")
    kind = kinds.find(VIEWS.get(name, name))
    mean, std = kind.mean or spec.mean, kind.std or spec.std
    # One value is that of all channels.
    centre, spread = (torch.tensor(one, device=device).view(-1, 1, 1) for one in (mean, std))
    found: Tensor = (x.float() / 255 - centre) / spread
    return found


def _valid(view: View, rows: int) -> Tensor:
    """(rows,) 1 where there is such data."""
    return torch.from_numpy(view.valid.reshape(rows, -1).all(1)).float()
