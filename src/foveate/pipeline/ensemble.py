"""The executor of a temporal ensemble: networks that take turns at the frames of a source.

Kondratyuk et al., "MoViNets", CVPR 2021 (arXiv 2103.11511), section 3.3: two networks, trained
apart at half the frame rate, see alternating frames, and the mean of their logits is the answer.
Every frame is seen by one network, so the ensemble costs what one network at the full rate costs.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.core import ConfigError, Evidence, InputSpec, View, Views

if TYPE_CHECKING:
    from foveate.pipeline.executors import NetworkExecutor
    from foveate.pipeline.exported import ExportedClip, ExportedStream


class EnsembleExecutor:
    """Networks that take turns at the frames, and answer together; satisfies `core.Executor`.

    A state holds `turn`, the place of the network that takes the next frame; `members`, name →
    state of its network; and `logits`, name → its last answer, dropped when it sees more. So a
    stream, in which one network advances at each step, runs one head a step.

    Args:
        members: Name → executor, in the order of their turns.
        spec: Of the input as a whole, at the full frame rate.

    Raises:
        ConfigError: Fewer than two members.
    """

    parts: tuple[str, ...] = ("network",)
    head: str | None = "head"
    persistent = False

    def __init__(
        self,
        members: Mapping[str, NetworkExecutor | ExportedStream | ExportedClip],
        spec: InputSpec,
    ) -> None:
        if len(members) < 2:
            raise ConfigError(f"an ensemble needs at least two networks, not {len(members)}")
        self.members, self.spec = dict(members), spec
        self.device = next(iter(self.members.values())).device

    def input(self, part: str) -> InputSpec:
        """What the networks expect, at the full frame rate."""
        return self.spec

    def stage(self, part: str) -> str:
        """As the ledger calls it for one of the networks."""
        return next(iter(self.members.values())).stage(part)

    def batch_key(self, part: str, views: Views, state: Any) -> Hashable:
        """Sources can run together where the same networks would work on equal shapes."""
        if part == self.head:
            ready = () if state is None else tuple(state["logits"])
            return part, ready, tuple(
                (name, self.members[name].batch_key(part, {}, own))
                for name, own in self._pending(state)
            )  # fmt: skip
        return part, views["rgb"].array.shape[1:], tuple(
            (name, self.members[name].batch_key(part, share, own))
            for name, share, own in self._shares(views, state)
        )  # fmt: skip

    def cost(self, part: str, views: Views, state: Any) -> int:
        """Multiply-adds of the networks that would work; before any frame, of all heads."""
        if part == self.head:
            return sum(self.members[name].cost(part, {}, own) for name, own in self._pending(state))
        return sum(
            self.members[name].cost(part, share, own)
            for name, share, own in self._shares(views, state)
        )

    def run(
        self, part: str, views: Sequence[Views], states: Sequence[Any]
    ) -> tuple[list[Any], list[Evidence]]:
        """Let the networks see the frames that are theirs, or answer; see `core.Executor`."""
        after: list[dict[str, Any]] = [
            {"turn": 0, "members": {}, "logits": {}}
            if state is None
            else {**state, "members": {**state["members"]}, "logits": {**state["logits"]}}
            for state in states
        ]
        if part == self.head:
            return after, self._answer(after)
        shares = [self._shares(view, state) for view, state in zip(views, states, strict=True)]
        for calls in zip(*shares, strict=True):
            name = calls[0][0]
            found, _ = self.members[name].run(
                part, [share for _, share, _ in calls], [own for *_, own in calls]
            )
            for state, own in zip(after, found, strict=True):
                state["members"][name] = own
                state["logits"].pop(name, None)
        for view, state in zip(views, after, strict=True):
            state["turn"] = (state["turn"] + view["rgb"].array.shape[1]) % len(self.members)
        return after, [Evidence() for _ in views]

    def _shares(self, views: Views, state: Any) -> list[tuple[str, Views, Any]]:
        """Name, frames and state of every network whose turn comes among these frames."""
        turn, own = (0, {}) if state is None else (state["turn"], state["members"])
        frames, count = views["rgb"].array.shape[1], len(self.members)
        return [
            (name, {"rgb": _every(views["rgb"], (at - turn) % count, count)}, own.get(name))
            for at, name in enumerate(self.members)
            if (at - turn) % count < frames
        ]

    def _pending(self, state: Any) -> list[tuple[str, Any]]:
        """Name and state of the networks that saw frames since their last answer."""
        if state is None:
            return [(name, None) for name in self.members]
        return [(n, own) for n, own in state["members"].items() if n not in state["logits"]]

    def _answer(self, states: Sequence[Any]) -> list[Evidence]:
        """The mean of the networks' logits; what was computed is noted in the states."""
        for name, _ in self._pending(states[0]):
            member = self.members[name]
            _, found = member.run("head", [{}] * len(states), [s["members"][name] for s in states])
            for state, evidence in zip(states, found, strict=True):
                state["logits"][name] = evidence.logits["final"]
        return [
            Evidence(logits={"final": np.mean(list(state["logits"].values()), 0)})
            for state in states
        ]


def _every(view: View, first: int, count: int) -> View:
    """Every so manyth frame of a view, in each of its rows."""
    frames = view.array.shape[1]
    wanted = [i for i in range(len(view.times)) if i % frames % count == first]
    return replace(
        view,
        array=view.array[:, first::count],
        times=tuple(view.times[i] for i in wanted),
        regions=tuple(view.regions[i] for i in wanted if i < len(view.regions)),
    )
