"""A cascade of networks behind the loop's face: looking runs one exit, and only when asked.

The state of a source is the logits of the exits that ran and the maps behind the last of them, so
leaving at an exit leaves the rest undone. Answering fuses the logits so far (`policy.fuse`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from foveate.core import ConfigError, Evidence
from foveate.models.coviar import CHANNELS, ExitNetwork, Modality
from foveate.models.macs import on_meta
from foveate.policy.fuse import Wise

PUBLISHED_ORDER: tuple[Modality, ...] = ("residual", "mv", "iframe")

CascadeState = dict[str, Tensor]


class CascadeNetwork:
    """Networks of several modalities with their exits in one order; satisfies `core.Model`.

    A state holds `logits` (B, exits so far, classes) and `maps` (B, T, C, h, w), what the next
    exit of the same network begins with. How many exits have run says which one is next.

    Args:
        networks: By modality, all with the same classes.
        order: Which modality comes when; some may be left out.
        wise: Fusion whose exits are those of the networks in `order`; see `exit_names`. None
            takes the mean of the logits so far.
        size: Side of the networks' input.
        device: Where they run.

    Raises:
        ConfigError: A network is missing, or the fusion is for other exits.
    """

    answer_stage = "head"

    def __init__(
        self,
        networks: Mapping[Modality, ExitNetwork],
        order: Sequence[Modality],
        wise: Wise | None = None,
        *,
        size: int = 224,
        device: torch.device | None = None,
    ) -> None:
        missing = [modality for modality in order if modality not in networks]
        if missing or not order or len(set(order)) != len(order):
            raise ConfigError(f"no network for {', '.join(missing) or 'the order ' + repr(order)}")
        self.device = device or torch.device("cpu")
        self.networks = {name: networks[name].eval().to(self.device) for name in order}
        self.order = tuple(order)
        self.exits = exit_names(self.networks)
        if wise is None:
            even = tuple(tuple(1 / n for _ in range(n)) for n in range(1, len(self.exits) + 1))
            wise = Wise(self.exits, even, (1.0,) * len(self.exits))
        if wise.exits != self.exits:
            raise ConfigError(f"the fusion is for {wise.exits}, the exits are {self.exits}")
        self.wise, self.size = wise, size
        self._places = [
            (modality, at) for modality, n in self.networks.items() for at in range(len(n.exits))
        ]
        self._macs = cache(self._count)

    def modality_of(self, number: int) -> Modality:
        """Which network an exit belongs to."""
        return self._places[number][0]

    def exits_of(self, modality: Modality) -> range:
        """Numbers of a modality's exits."""
        mine = [number for number, (name, _) in enumerate(self._places) if name == modality]
        return range(mine[0], mine[-1] + 1)

    @torch.inference_mode()
    def observe(self, views: Tensor, state: CascadeState | None) -> CascadeState:
        """Run the next exit.

        Args:
            views: Segments (B, channels, T, S, S) at a modality's first exit, else the maps that
                the exit before left in the state.
            state: What has run so far; None before the first exit.
        """
        done = 0 if state is None else state["logits"].shape[1]
        modality, at = self._places[done]
        logits, maps = self.networks[modality].advance(at, views)
        logits = logits.unsqueeze(1)
        if state is not None:
            logits = torch.cat([state["logits"], logits], 1)
        return {"logits": logits, "maps": maps}

    @torch.inference_mode()
    def answer(self, state: CascadeState) -> Evidence:
        """The fused answer of the exits so far: logits whose softmax is calibrated."""
        logits = state["logits"]
        done = logits.shape[1]
        fused = self.wise.fused(logits) / self.wise.temperatures[done - 1]
        return Evidence(logits={self.exits[done - 1]: fused})

    def __call__(self, views: Tensor, state: CascadeState | None) -> tuple[Evidence, CascadeState]:
        """Run the next exit, then answer."""
        state = self.observe(views, state)
        return self.answer(state), state

    def wait(self) -> None:
        """Return when all work given so far is done, so that a clock can be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def stage_of(self, number: int) -> str:
        """What the ledger calls the work of an exit."""
        return f"network-{self._places[number][0]}"

    def exit_macs(self, number: int, batch: int, segments: int) -> int:
        """Multiply-adds of an exit beyond the one before it."""
        modality, at = self._places[number]
        return batch * self._macs(modality, segments)[at]

    def answer_macs(self, batch: int, state: CascadeState | None = None) -> int:
        """Multiply-adds of fusing what has run: one per exit and class."""
        if state is None:
            return 0
        _, exits, classes = state["logits"].shape
        return batch * exits * classes

    def stack(self, states: list[CascadeState]) -> CascadeState:
        """Join sources that stand at the same exit into one batch."""
        return {name: torch.cat([state[name] for state in states]) for name in states[0]}

    def split(self, state: CascadeState) -> list[CascadeState]:
        """Take a batch apart into its sources."""
        count = len(state["logits"])
        return [{name: x[i : i + 1] for name, x in state.items()} for i in range(count)]

    def _count(self, modality: Modality, segments: int) -> list[int]:
        """Multiply-adds of each exit beyond the one before, counted on the meta device."""
        ghost = on_meta(self.networks[modality])
        assert isinstance(ghost, ExitNetwork)
        x = torch.empty((1, CHANNELS[modality], segments, self.size, self.size), device="meta")
        found = []
        with torch.no_grad():
            for at in range(len(ghost.exits)):
                with FlopCounterMode(display=False) as counter:
                    _, x = ghost.advance(at, x)
                found.append(counter.get_total_flops() // 2)
        return found


def exit_names(networks: Mapping[Modality, ExitNetwork]) -> tuple[str, ...]:
    """Names of all exits in the order of the networks, as `mv.layer2`, `mv.final`."""
    return tuple(f"{modality}.{name}" for modality, n in networks.items() for name in n.exits)
