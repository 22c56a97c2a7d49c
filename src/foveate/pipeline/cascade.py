"""The executor of a cascade: every exit of every modality is a part, run only when asked.

The state of a source is the logits of the exits that ran and the maps behind the last of them, so
leaving at an exit leaves the rest undone. The head fuses the logits so far (`policy.fuse`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from foveate.core import ConfigError, Evidence, InputSpec, View, Views
from foveate.models.coviar import CHANNELS, ExitNetwork, Modality, normalise, square
from foveate.models.macs import on_meta
from foveate.policy.fuse import Wise

PUBLISHED_ORDER: tuple[Modality, ...] = ("residual", "mv", "iframe")

CascadeState = dict[str, Tensor]


class CascadeExecutor:
    """Networks of several modalities with their exits in one order; satisfies `core.Executor`.

    A state holds `logits` (1, exits so far, classes) and `maps` (1, T, C, h, w), what the next
    exit of the same network begins with.

    Args:
        networks: By modality, all with the same classes.
        order: Which modality comes when; some may be left out.
        wise: Fusion whose exits are those of the networks in `order`; see `exit_names`. None
            takes the mean of the logits so far.
        spec: Of the networks' input.
        device: Where they run.

    Raises:
        ConfigError: A network is missing, or the fusion is for other exits.
    """

    head: str | None = "head"
    persistent = False

    def __init__(
        self,
        networks: Mapping[Modality, ExitNetwork],
        order: Sequence[Modality],
        wise: Wise | None = None,
        *,
        spec: InputSpec,
        device: torch.device | None = None,
    ) -> None:
        missing = [modality for modality in order if modality not in networks]
        if missing or not order or len(set(order)) != len(order):
            raise ConfigError(f"no network for {', '.join(missing) or 'the order ' + repr(order)}")
        self.device, self.spec = device or torch.device("cpu"), spec
        self.networks = {name: networks[name].eval().to(self.device) for name in order}
        self.order = tuple(order)
        self.parts = exit_names(self.networks)
        if wise is None:
            count = len(self.parts)
            even = tuple(tuple(1 / n for _ in range(n)) for n in range(1, count + 1))
            wise = Wise(self.parts, even, (1.0,) * count)
        if wise.exits != self.parts:
            raise ConfigError(f"the fusion is for {wise.exits}, the exits are {self.parts}")
        self.wise = wise
        self._places = {
            f"{modality}.{name}": (modality, at)
            for modality, network in self.networks.items()
            for at, name in enumerate(network.exits)
        }
        self._macs = cache(self._count)

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
            return part, self._segments(views), state is None
        return part, state["maps"].shape[1:]

    @torch.inference_mode()
    def run(
        self, part: str, views: Sequence[Views], states: Sequence[Any]
    ) -> tuple[list[Any], list[Evidence]]:
        """Run an exit, or fuse those that have run; see `core.Executor`.

        An exit takes segments (1, T, H, W, channels) where it is the first of its modality, else
        the maps that the exit before left in the state.
        """
        if part == self.head:
            evidence = self._fused(_joined([state["logits"] for state in states]))
            return list(states), evidence
        modality, at = self._places[part]
        if views[0]:
            x = _joined([self._prepared(modality, view[modality]) for view in views])
        else:
            x = _joined([state["maps"] for state in states])
        logits, maps = self.networks[modality].advance(at, x)
        logits = logits.unsqueeze(1)
        if states[0] is not None:
            logits = torch.cat([_joined([state["logits"] for state in states]), logits], 1)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        rows = zip(logits.split(1), maps.split(1), strict=True)
        after = [{"logits": one, "maps": behind} for one, behind in rows]
        return after, [Evidence() for _ in after]

    def cost(self, part: str, views: Views, state: Any) -> int:
        """Multiply-adds of an exit beyond the one before it; of fusing, one per exit and class."""
        if part == self.head:
            return 0 if state is None else int(state["logits"][0].numel())
        modality, at = self._places[part]
        segments = self._segments(views) if views else int(state["maps"].shape[1])
        return int(self._macs(modality, segments)[at])

    def exit_macs(self, segments: int) -> dict[str, int]:
        """Multiply-adds of every exit beyond the one before it, by its name."""
        return {name: self._macs(m, segments)[at] for name, (m, at) in self._places.items()}

    def _segments(self, views: Views) -> int:
        return int(next(iter(views.values())).array.shape[1])

    def _prepared(self, modality: Modality, view: View) -> Tensor:
        """(1, channels, T, S, S) of pictures (1, T, H, W, channels)."""
        x_tchw = torch.from_numpy(view.array[0]).permute(0, 3, 1, 2)
        x = square(x_tchw.to(self.device), self.spec.size)
        x = normalise(modality, x, self.spec.mean, self.spec.std)
        return x.transpose(0, 1).unsqueeze(0)

    def _fused(self, logits: Tensor) -> list[Evidence]:
        """The answer of the exits so far: logits whose softmax is calibrated."""
        done = logits.shape[1]
        fused = self.wise.fused(logits) / self.wise.temperatures[done - 1]
        name = self.parts[done - 1]
        return [Evidence(logits={name: row}) for row in fused.float().cpu().numpy()]

    def _count(self, modality: Modality, segments: int) -> list[int]:
        """Multiply-adds of each exit beyond the one before, counted on the meta device."""
        ghost: Any = on_meta(self.networks[modality])
        x = torch.empty(
            (1, CHANNELS[modality], segments, self.spec.size, self.spec.size), device="meta"
        )
        found = []
        with torch.no_grad():
            for at in range(len(ghost.exits)):
                with FlopCounterMode(display=False) as counter:
                    _, x = ghost.advance(at, x)
                found.append(counter.get_total_flops() // 2)
        return found


def _joined(parts: list[Tensor]) -> Tensor:
    """Several sources in one batch; one is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def exit_names(networks: Mapping[Modality, ExitNetwork]) -> tuple[str, ...]:
    """Names of all exits in the order of the networks, as `mv.layer2`, `mv.final`."""
    return tuple(f"{modality}.{name}" for modality, n in networks.items() for name in n.exits)
