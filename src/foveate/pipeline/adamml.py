"""The executor of AdaMML: a policy over modalities, one part per modality, and their late fusion.

What the policy does not choose is not run: of all sources that are in one call, the segments for
which a modality was chosen are rows of one batch, and each source gets its own back. The state of
a source holds the recurrent state of the policy, the decisions for the segments at hand, and the
sum of the weighted logits so far, so that a stream goes on segment by segment. A network of frames
with an exit runs in two parts: of the segments of which the early answer is not sure, the state
holds the maps at the exit, and the part `MODALITY-rest` goes on from them. The networks are
functions of NumPy arrays, in PyTorch or in an engine (`engines.adamml`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.core import Evidence, InputSpec, ModelError, View, Views
from foveate.engines.network import PartFunctions
from foveate.engines.runtimes import Array
from foveate.media import modalities as kinds
from foveate.models.adamml_card import AdaMMLCard
from foveate.pipeline.cascade import resized, squared
from foveate.policy.looks.modalities import FUSE, POLICY, REST, UNSURE, VIEWS

if TYPE_CHECKING:
    import torch

    from foveate.models.adamml import AdaMML

_VECTOR_SCALE = 8.0  # pixels per frame that are one after scaling

AdaMMLState = dict[str, Any]
"""`hidden`, `cell`, `last` of the policy (absent before it ran), `use` (S, M) for the segments at
hand, `sum` (classes,) of the weighted logits, `count` of segments; between an exit and the rest of
its network `maps` and `weights` of the segments that go on."""


class AdaMMLExecutor:
    """AdaMML part by part; satisfies `core.Executor`.

    Args:
        network: Of PyTorch, with its policy; or its functions.
        spec: Size of the frames and their normalisation.
        fixed: Modalities that are used for all segments, if the policy is not run.
        device: Where a network of PyTorch runs.
        exit: Probability from which on an early answer counts; None runs networks to their end.
    """

    head: str | None = FUSE
    persistent = False

    def __init__(
        self,
        network: AdaMML | PartFunctions,
        spec: InputSpec,
        fixed: Sequence[str] | None = None,
        device: torch.device | None = None,
        exit: float | None = None,
    ) -> None:
        if isinstance(network, PartFunctions):
            self.functions = network
        else:
            from foveate.engines.adamml import adamml_functions
            from foveate.engines.torch_network import TorchNetwork

            self.functions = TorchNetwork(adamml_functions(network.eval(), spec), device)
        self.spec, self.device = spec, self.functions.device
        facts: AdaMMLCard = self.functions.facts
        self.facts, self.fixed = facts, None if fixed is None else tuple(fixed)
        self._early = () if exit is None else facts.early
        self._sure = exit
        self._weights = np.array(facts.weights, np.float32)
        parts = (*facts.modalities, *(f"{name}{REST}" for name in self._early))
        self.parts = parts if self.fixed else (POLICY, *parts)

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

    def run(
        self, part: str, views: Sequence[Views], states: Sequence[Any]
    ) -> tuple[list[Any], list[Evidence]]:
        """Decide, recognise the chosen segments, or fuse; see `core.Executor`."""
        if part == FUSE:
            return list(states), [_fused(state) for state in states]
        if part == POLICY:
            return self._decided(views, states)
        if part.endswith(REST):
            return self._finished(part, states), [Evidence() for _ in states]
        return self._recognised(part, views, states)

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

    def example(self) -> list[tuple[str, Views]]:
        """The policy and all modalities with random views of a segment, for measuring.

        What is behind an early answer is left out.
        """
        facts, random = self.facts, np.random.default_rng(0)
        known = {card.name: card for card in self.functions.inputs("policy")}
        for name in facts.modalities:
            graph = f"{name}-begin" if name in facts.early else name
            known[name] = self.functions.inputs(graph)[0]

        def view(name: str) -> Views:
            shape: Any = known[name].shape[1:]
            if name == "yamnet":
                array = random.uniform(-1, 1, (1, shape[-1])).astype(np.float32)
            elif name == "sound":
                array = random.random((1, *shape[-2:]), np.float32)
            else:
                frames, channels, *sides = shape
                array = random.integers(0, 256, (1, frames, *sides, channels), np.uint8)
            return {VIEWS.get(name, name): View(array, (), np.ones((1, 1), bool))}

        policy: Views = {}
        for name in facts.seen:
            policy = {**policy, **view(name)}
        parts = [(name, view(name)) for name in facts.modalities]
        return parts if self.fixed else [(POLICY, policy), *parts]

    # --- inside ---------------------------------------------------------------------------

    def _macs(self, part: str) -> int:
        """Multiply-adds of one segment."""
        names = [part]
        if part == POLICY:
            names = ["policy", "policy-step"]
        elif part in self.facts.early:
            last = "exit" if part in self._early else "rest"
            names = [f"{part}-begin", f"{part}-{last}"]
        return sum(self.functions.macs(name) for name in names)

    def _decided(
        self, views: Sequence[Views], states: Sequence[Any]
    ) -> tuple[list[Any], list[Evidence]]:
        """Decisions for the segments of each source, however many it has."""
        seen = self.facts.seen
        names = [VIEWS.get(name, name) for name in seen]
        counts = [max(len(one[name].array) for name in names) for one in views]
        given = {
            name: np.concatenate([self._prepared(name, one[shown]) for one in views])
            for name, shown in zip(seen, names, strict=True)
        }
        masks = [
            np.concatenate(
                [_valid(one[name], rows) for one, rows in zip(views, counts, strict=True)]
            )
            for name in names
        ]
        valid = np.stack(masks, 1)
        rows = self.functions.call("policy", {**given, "valid": valid})["features"]
        ends = np.cumsum(counts)[:-1]
        features = np.zeros((len(views), max(counts), rows.shape[1]), np.float32)
        for number, own in enumerate(np.split(rows, ends)):
            features[number, : len(own)] = own
        memory: AdaMMLState | None = None
        if states[0] is not None:
            memory = {key: np.stack([state[key] for state in states]) for key in _RECURRENT}
        steps: list[AdaMMLState] = []
        for at in range(max(counts)):
            _, memory = self.functions.step("policy-step", {"features": features[:, at]}, memory)
            steps.append(memory)
        after, evidence = [], []
        for number, there in enumerate(np.split(valid, ends)):
            count = len(there)
            logits = np.stack([one["last"][number] for one in steps[:count]])
            # A proxy stands for its modality: without it there is no reason to compute that.
            use = logits.argmax(-1).astype(np.float32) * there
            memory = {key: steps[count - 1][key][number] for key in _RECURRENT}
            after.append(self._begun(states[number], use) | memory)
            evidence.append(Evidence(proposals={"use": use}))
        return after, evidence

    def _recognised(
        self, part: str, views: Sequence[Views], states: Sequence[Any]
    ) -> tuple[list[Any], list[Evidence]]:
        name, at = VIEWS.get(part, part), self.facts.modalities.index(part)
        inputs = [self._prepared(part, one[name]) for one in views]
        ends = np.cumsum([len(one) for one in inputs])[:-1]
        maps, logits = self._logits(part, np.concatenate(inputs))
        after, evidence = [], []
        for number, own in enumerate(np.split(logits, ends)):
            known = states[number]
            if self.fixed is not None and part == self.fixed[0]:
                known = self._all_used(known, len(own))
            share = known["use"] * self._weights
            if self.facts.renormalise:
                share = share / np.maximum(share.sum(-1, keepdims=True), np.float32(1e-6))
            used = known["use"][:, at] > 0
            weight = share[used, at] if used.sum() == len(own) else np.zeros(len(own), np.float32)
            weight = weight * _valid(views[number][name], len(own))
            proposals = {}
            if maps is not None:
                assert self._sure is not None
                unsure = (_softmax(own).max(1) < self._sure) & (weight != 0)
                behind = np.split(maps, ends)[number][unsure]
                known = {**known, "maps": behind, "weights": weight[unsure]}
                weight = weight * ~unsure
                proposals = {UNSURE: unsure}
            evidence.append(Evidence(proposals=proposals))
            after.append({**known, "sum": known["sum"] + (own * weight[:, None]).sum(0)})
        return after, evidence

    def _logits(self, part: str, x: Array) -> tuple[Array | None, Array]:
        """Logits (N, classes) of segments, early ones with the maps that they are of."""
        call = self.functions.call
        if part not in self.facts.early:
            return None, call(part, {"x": x})["logits"]
        maps = call(f"{part}-begin", {"x": x})["maps"]
        if part in self._early:
            return maps, call(f"{part}-exit", {"x": maps})["logits"]
        return None, call(f"{part}{REST}", {"x": maps})["logits"]

    def _finished(self, part: str, states: Sequence[Any]) -> list[AdaMMLState]:
        """The rest of a network, for the segments of which its exit was not sure."""
        ends = np.cumsum([len(state["maps"]) for state in states])[:-1]
        maps = np.concatenate([state["maps"] for state in states])
        logits = np.split(self.functions.call(part, {"x": maps})["logits"], ends)
        after = []
        for own, state in zip(logits, states, strict=True):
            known = {key: value for key, value in state.items() if key not in ("maps", "weights")}
            more = (own * state["weights"][:, None]).sum(0)
            after.append({**known, "sum": known["sum"] + more})
        return after

    def _prepared(self, name: str, view: View) -> Array:
        return prepared(name, view, self.spec, self.facts.columns)

    def _begun(self, state: Any, use: Array) -> AdaMMLState:
        """A state for further segments, whose decisions are known."""
        total = np.zeros(self.facts.classes, np.float32) if state is None else state["sum"]
        count = np.array(0) if state is None else state["count"]
        return {"use": use, "sum": total, "count": count + len(use)}

    def _all_used(self, state: Any, segments: int) -> AdaMMLState:
        """A state of segments for which fixed modalities are used."""
        fixed = self.fixed or self.facts.modalities
        row = [float(name in fixed) for name in self.facts.modalities]
        return self._begun(state, np.array([row] * segments, np.float32))


_RECURRENT = ("hidden", "cell", "last")


def _fused(state: AdaMMLState) -> Evidence:
    """The mean over segments; zeros where nothing was chosen."""
    return Evidence(logits={"final": (state["sum"] / state["count"]).astype(np.float32)})


def _softmax(logits: Array) -> Array:
    shares = np.exp(logits - logits.max(1, keepdims=True))
    found: Array = shares / shares.sum(1, keepdims=True)
    return found


def prepared(name: str, view: View, spec: InputSpec, columns: int) -> Array:
    """The input of a modality's network.

    Args:
        name: Of the modality in the network.
        view: Rows of pictures, fields or spectrograms, as they are fetched.
        spec: Size and normalisation of rgb.
        columns: Times of spectrograms.

    Returns:
        (rows, frames, channels, side, side) float32, of sound (rows, 1, 1, 256, columns).

    Raises:
        ModelError: The view has another size than the network takes.
    """
    x = view.array
    if name == "yamnet":
        return np.asarray(x, np.float32)[:, None, None, None]
    if name == "sound":
        return _averaged(np.asarray(x, np.float32), columns)[:, None, None]
    if name == "mv":
        flat, side = x.reshape(-1, *x.shape[2:]), spec.size // 2
        if spec.resize == "squash":
            flat = resized(flat, side, antialias=False)
        else:
            flat = squared(flat, side)
        fields = (flat / np.float32(_VECTOR_SCALE)).clip(-2, 2)
        return np.moveaxis(fields.reshape(*x.shape[:2], side, side, 2), -1, 2)
    if name != "patch" and x.shape[2:4] != (spec.size, spec.size):
        raise ModelError(f"{name}: pictures of {x.shape[2:4]} pixels, not {spec.size}")
    kind = kinds.find(VIEWS.get(name, name))
    mean, std = (
        np.array(one, np.float32) for one in (kind.mean or spec.mean, kind.std or spec.std)
    )
    # One value is that of all channels.
    pixels = x.astype(np.float32) / 255
    pixels -= mean
    pixels /= std
    return np.moveaxis(pixels, -1, 2)


def _averaged(spectrograms: Array, columns: int) -> Array:
    """Spectrograms (N, F, T) averaged to so many times (N, F, columns), as adaptive pooling is."""
    count = spectrograms.shape[2]
    if count == columns:
        return spectrograms
    first = np.arange(columns) * count // columns
    last = -(-np.arange(1, columns + 1) * count // columns)
    total = np.concatenate(
        [np.zeros((*spectrograms.shape[:2], 1)), spectrograms.cumsum(2, dtype=np.float64)], 2
    )
    means: Array = (total[..., last] - total[..., first]) / (last - first)
    return means.astype(np.float32)


def _valid(view: View, rows: int) -> Array:
    """(rows,) 1 where there is such data."""
    return np.asarray(view.valid.reshape(rows, -1).all(1), np.float32)
