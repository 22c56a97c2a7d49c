"""The executor of a cascade: every exit of every modality is a part, run only when asked.

The state of a source is the logits of the exits that ran and the maps behind the last of them, so
leaving at an exit leaves the rest undone. The head fuses the logits so far (`policy.fuse`). The
networks are functions of NumPy arrays, in PyTorch or in an engine.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from foveate.core import ConfigError, Evidence, InputSpec, View, Views
from foveate.engines.network import EngineNetwork, PartFunctions, State
from foveate.engines.runtimes import Array
from foveate.policy.calibration import FusionCard

if TYPE_CHECKING:
    import torch

    from foveate.models.coviar import ExitNetwork
    from foveate.policy.fuse import Wise

PUBLISHED_ORDER: tuple[Literal["residual", "mv", "iframe"], ...] = ("residual", "mv", "iframe")


class CascadeExecutor:
    """Networks of several modalities with their exits in one order; satisfies `core.Executor`.

    A state holds `logits` (1, exits so far, classes) and `maps` (T, C, h, w), what the next exit of
    the same network begins with.

    Args:
        networks: By modality, all with the same classes.
        order: Which modality comes when; some may be left out.
        wise: Fusion whose exits are those of the networks in `order`; see `exit_names`. None
            takes the mean of the logits so far.
        spec: Of the networks' input.
        device: Where networks of PyTorch run.

    Raises:
        ConfigError: A network is missing, or the fusion is for other exits.
    """

    head: str | None = "head"
    persistent = False

    def __init__(
        self,
        networks: Mapping[Any, ExitNetwork | EngineNetwork],
        order: Sequence[str],
        wise: Wise | FusionCard | None = None,
        *,
        spec: InputSpec,
        device: torch.device | None = None,
    ) -> None:
        missing = [modality for modality in order if modality not in networks]
        if missing or not order or len(set(order)) != len(order):
            raise ConfigError(f"no network for {', '.join(missing) or 'the order ' + repr(order)}")
        self.spec, self.order = spec, tuple(order)
        self.networks = {name: _functions(networks[name], spec, device) for name in order}
        self.device = next(iter(self.networks.values())).device
        self.parts = exit_names({name: networks[name] for name in order})
        if wise is not None and tuple(wise.exits) != self.parts:
            raise ConfigError(f"the fusion is for {wise.exits}, the exits are {self.parts}")
        self.wise = wise
        self._places = {
            f"{modality}.{name}": (modality, at)
            for modality in order
            for at, name in enumerate(networks[modality].exits)
        }

    def input(self, part: str) -> InputSpec:
        """What the networks expect."""
        return self.spec

    def stage(self, part: str) -> str:
        """`network-MODALITY`, or `head`."""
        return part if part == self.head else f"network-{self._places[part][0]}"

    def batch_key(self, part: str, views: Views, state: Any) -> Hashable:
        """Sources at the same exit with as many segments can run together."""
        if part == self.head:
            return part, state["logits"].shape[1]
        if views:
            return part, _segments(views), state is None
        return part, state["maps"].shape

    def run(
        self, part: str, views: Sequence[Views], states: Sequence[Any]
    ) -> tuple[list[Any], list[Evidence]]:
        """Run an exit, or fuse those that have run; see `core.Executor`.

        An exit takes segments (1, T, H, W, channels) where it is the first of its modality, else
        the maps that the exit before left in the state.
        """
        if part == self.head:
            return list(states), [self._fused(state["logits"][0]) for state in states]
        modality, at = self._places[part]
        if views[0]:
            name, join = self._function(modality, at, _segments(views[0]))
            given = {"pictures": join([self._pictures(v[modality]) for v in views])}
        else:
            name, given = f"exit-{at}", {"maps": np.concatenate([s["maps"] for s in states])}
        found = self.networks[modality].call(name, given)
        count = len(states)
        logits = found["logits"].reshape(count, -1, found["logits"].shape[1]).mean(1)
        maps = np.split(found["next:maps"], count)
        after: list[State] = []
        for row, behind, state in zip(logits, maps, states, strict=True):
            one = row[None, None]
            if state is not None:
                one = np.concatenate([state["logits"], one], 1)
            after.append({"logits": one, "maps": behind})
        return list(after), [Evidence() for _ in after]

    def cost(self, part: str, views: Views, state: Any) -> int:
        """Multiply-adds of an exit beyond the one before it; of fusing, one per exit and class."""
        if part == self.head:
            return 0 if state is None else int(state["logits"][0].size)
        segments = _segments(views) if views else len(state["maps"])
        return self._macs(part, segments)

    def exit_macs(self, segments: int) -> dict[str, int]:
        """Multiply-adds of every exit beyond the one before it, by its name."""
        return {name: self._macs(name, segments) for name in self.parts}

    def _macs(self, part: str, segments: int) -> int:
        modality, at = self._places[part]
        name, join = self._function(modality, at, segments)
        return self.networks[modality].macs(name) * (1 if join is np.stack else segments)

    def _function(
        self, modality: str, at: int, segments: int
    ) -> tuple[str, Callable[[list[Array]], Array]]:
        """The function of an exit, and how it takes pictures: each by itself, or as clips."""
        network, name = self.networks[modality], f"exit-{at}"
        if network.has(name):
            return name, np.concatenate
        return network.sized("clip", segments), np.stack

    def _pictures(self, view: View) -> Array:
        """(T, S, S, channels) float32 of pictures (1, T, H, W, channels)."""
        return squared(view.array[0], self.spec.size)

    def _fused(self, logits: Array) -> Evidence:
        """The answer of the exits so far (count, classes): logits whose softmax is calibrated."""
        done = len(logits)
        fused = logits.mean(0)
        if self.wise is not None:
            weights = np.array(self.wise.weights[done - 1], np.float32)
            fused = weights @ logits / np.float32(self.wise.temperatures[done - 1])
        return Evidence(logits={self.parts[done - 1]: fused})


def exit_names(networks: Mapping[Any, Any]) -> tuple[str, ...]:
    """Names of all exits in the order of the networks, as `mv.layer2`, `mv.final`."""
    return tuple(f"{modality}.{name}" for modality, n in networks.items() for name in n.exits)


def _functions(
    network: ExitNetwork | EngineNetwork, spec: InputSpec, device: torch.device | None
) -> PartFunctions:
    if isinstance(network, EngineNetwork):
        return network
    from foveate.engines.function import NetworkFunctions
    from foveate.engines.functions import clip_functions, exit_functions
    from foveate.engines.torch_network import TorchNetwork
    from foveate.models.coviar import KeyFrameClips

    if isinstance(network.eval().network, KeyFrameClips):
        clips = partial(clip_functions, network, spec)
        return TorchNetwork(NetworkFunctions("exits", {}), device, clips)
    return TorchNetwork(exit_functions(network, spec), device)


def _segments(views: Views) -> int:
    return int(next(iter(views.values())).array.shape[1])


def squared(pictures: Array, size: int) -> Array:
    """Centre crop of (N, H, W, channels) to a square of `size` pixels, float32.

    The same numbers as `models.coviar.square`: bilinear, over the pixels that a new one covers
    where pictures shrink.
    """
    height, width = pictures.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resized(pictures[:, top : top + side, left : left + side], size)


def resized(pictures: Array, size: int, antialias: bool = True) -> Array:
    """(N, size, size, channels) float32 of pictures (N, H, W, channels), bilinear.

    Args:
        pictures: Of any type.
        size: Side in pixels.
        antialias: Weigh all pixels that a new one covers where pictures shrink.
    """
    found = pictures.astype(np.float32)
    for axis, letters in ((1, "oy,nyxc->noxc"), (2, "px,noxc->nopc")):
        if found.shape[axis] != size:
            weights = _triangles(found.shape[axis], size, antialias)
            found = np.ascontiguousarray(np.einsum(letters, weights, found, optimize=True))
    return found


def _triangles(before: int, after: int, antialias: bool) -> Array:
    """(after, before) weights of bilinear interpolation, widened where the size shrinks."""
    scale = before / after
    reach = max(scale, 1.0) if antialias else 1.0
    centres = (np.arange(after) + 0.5) * scale - 0.5
    if reach == 1.0:
        centres = centres.clip(0, before - 1)
    distance = np.abs(np.arange(before) - centres[:, None]) / reach
    weights = np.maximum(1 - distance, 0)
    found: Array = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return found
