"""Executors over exported networks, with the parts, stages and costs of those over torch modules.

States are NumPy arrays and nothing here imports PyTorch. A glance needs the maps inside a network,
which a graph does not return, so an exported network has no part `glance`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from foveate.core import Evidence, InputSpec, ModelError, Views
from foveate.engines.network import EngineNetwork, State, stacked, taken_apart
from foveate.engines.runtimes import Array
from foveate.models.boxes import selected
from foveate.pipeline.boxes import following, in_source

THIN = 8  # a clip network keeps at most so many times the frames that it takes


def exported_executor(network: EngineNetwork, spec: InputSpec) -> ExportedStream | ExportedClip:
    """The executor of one exported network that classifies clips."""
    return (ExportedStream if network.streaming else ExportedClip)(network, spec)


class _Exported:
    """What executors of one network share.

    Args:
        network: The graphs.
        spec: How frames are prepared.
    """

    parts: tuple[str, ...] = ("network",)
    head: str | None = "head"
    persistent = False

    def __init__(self, network: EngineNetwork, spec: InputSpec) -> None:
        self.network, self.spec = network, spec
        self.device = network.engine

    def input(self, part: str) -> InputSpec:
        """What the weights expect."""
        return self.spec

    def stage(self, part: str) -> str:
        """What the ledger calls the work of a part."""
        return part


class ExportedStream(_Exported):
    """Runs frames in their order; several sources, and rows of one, share every call.

    The state of a source is that of its graph, and `logits` if the graph has its head within.
    """

    def run(
        self, part: str, views: Sequence[Views], states: Sequence[Any]
    ) -> tuple[list[Any], list[Evidence]]:
        """Run `network` or `head`; see `core.Executor`."""
        if part == "head":
            return list(states), self._answer(states)
        rows = [len(view["rgb"].array) for view in views]
        arrays = [view["rgb"].array for view in views]
        frames = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        state = None
        if states[0] is not None:
            state = stacked([{k: v for k, v in one.items() if k != "logits"} for one in states])
        found, state = self.network.advance(frames, state)
        return taken_apart({**state, **found}, rows), [Evidence() for _ in views]

    def cost(self, part: str, views: Views, state: Any) -> int:
        """Multiply-adds of a part for one source; see `core.Executor`."""
        if part == "head":
            rows = 1 if state is None else len(next(iter(state.values())))
            return rows * self.network.card("head").macs if self.network.has("head") else 0
        rows, frames = views["rgb"].array.shape[:2]
        graph = self.network.sized("step", views["rgb"].array.shape[2])
        return int(rows * frames * self.network.card(graph).macs)

    def batch_key(self, part: str, views: Views, state: Any) -> Hashable:
        """Calls of equal keys can be made together."""
        if part == "head":
            return part
        return part, views["rgb"].array.shape[1:], state is None

    def _answer(self, states: Sequence[State]) -> list[Evidence]:
        """Logits for all that was seen; the features are their pooled mean."""
        rows = [len(next(iter(state.values()))) for state in states]
        if self.network.has("head"):
            keys = [one.name for one in self.network.card("head").inputs]
            found = self.network.head(stacked([{k: s[k] for k in keys} for s in states]))
        else:
            found = stacked([{"logits": state["logits"]} for state in states])
        return _evidence(found, rows)


class ExportedClip(_Exported):
    """Keeps frames when it looks, and runs the network on them when it answers.

    The state of a source is as `pipeline.executors.ClipExecutor` has it, with uint8 frames.
    """

    def stage(self, part: str) -> str:
        """Looking only prepares; the network runs when it answers."""
        return {"network": "transform", "head": "network"}.get(part, part)

    def run(
        self, part: str, views: Sequence[Views], states: Sequence[Any]
    ) -> tuple[list[Any], list[Evidence]]:
        """Run `network` or `head`; see `core.Executor`."""
        if part == "head":
            clips = np.stack([self._clip(state) for state in states])
            found = self.network.call(self._graph(clips.shape[2]), {"frames": clips})
            return list(states), _evidence(found, [1] * len(states))
        after = []
        for view, state in zip(views, states, strict=True):
            array = view["rgb"].array
            frames = array.reshape(-1, *array.shape[2:])  # rows follow each other in time
            after.append(_kept(state, frames, THIN * self.spec.clip_frames))
        return after, [Evidence() for _ in views]

    def cost(self, part: str, views: Views, state: Any) -> int:
        """Multiply-adds of a part for one source; see `core.Executor`."""
        if part != "head":
            return 0
        side = self.spec.size if state is None else state["frames"].shape[1]
        return self.network.card(self._graph(side)).macs

    def batch_key(self, part: str, views: Views, state: Any) -> Hashable:
        """Calls of equal keys can be made together."""
        if part == "head":
            return part, state["frames"].shape[1:]
        return part, views["rgb"].array.shape[1:], state is None

    def _graph(self, side: int) -> str:
        return self.network.sized("clip", side)

    def _clip(self, state: State) -> Array:
        """The frames (T, H, W, 3) that the network gets: evenly spread over what was seen."""
        step = int(state["seen"]) / self.spec.clip_frames
        wanted = np.arange(self.spec.clip_frames, dtype=np.float32) * step + (step - 1) / 2
        nearest: Array = np.abs(wanted[:, None] - state["places"]).argmin(1)
        frames: Array = state["frames"][nearest]
        return frames


def _kept(state: State | None, frames: Array, most: int) -> State:
    """A state with further frames (n, H, W, 3); the one given is not changed."""
    first, every = (0, 1) if state is None else (int(state["seen"]), int(state["every"]))
    places = np.arange(first, first + len(frames))
    new = places % every == 0
    seen = np.array(first + len(frames))
    frames, places = frames[new], places[new]
    if state is not None:
        frames = np.concatenate([state["frames"], frames])
        places = np.concatenate([state["places"], places])
    while len(places) > most:
        every *= 2
        fits = places % every == 0
        frames, places = frames[fits], places[fits]
    return {"frames": frames, "places": places, "seen": seen, "every": np.array(every)}


def _evidence(found: State, rows: Sequence[int]) -> list[Evidence]:
    """Logits (B, classes) by source: the mean over its rows."""
    ends = np.cumsum(rows)
    spans = [slice(end - count, end) for end, count in zip(ends, rows, strict=True)]
    features = found.get("features")
    return [
        Evidence(
            logits={"final": found["logits"][span].mean(0)},
            features=None if features is None else features[span],
        )
        for span in spans
    ]


class ExportedDetector(_Exported):
    """Runs a detector on key frames; between them boxes follow the codec's motion vectors.

    The state of a source is the boxes of its last frame. There is no part `warp`: it needs the
    features of the key frame, which the graph does not return.

    Args:
        network: The graphs.
        spec: How frames are prepared.
        min_score: Detections that score lower are left out.
    """

    parts: tuple[str, ...] = ("key", "move")
    head: str | None = None
    persistent = True

    def __init__(self, network: EngineNetwork, spec: InputSpec, min_score: float = 0.0) -> None:
        super().__init__(network, spec)
        self.min_score = min_score

    def run(
        self, part: str, views: Sequence[Views], states: Sequence[Any]
    ) -> tuple[list[Any], list[Evidence]]:
        """Run `key` or `move`; see `core.Executor`.

        Raises:
            ModelError: Another part than `key` comes first.
        """
        if part == "move":
            if any(state is None for state in states):
                raise ModelError("the part 'move' needs a key frame before it")
            pairs = zip(views, states, strict=True)
            last = [following(view["motion"], state) for view, state in pairs]
            return list(last), [Evidence(detections=(one,)) for one in last]
        shown = [view["rgb"] for view in views]
        frames = np.concatenate([view.array[0] for view in shown])
        found = self.network.call(self._graph(frames.shape[1]), {"frames": frames})
        size, net = (frames.shape[1], frames.shape[2]), self.network
        boxes = iter(
            selected(*one, size, net.least_score, net.overlap)
            for one in zip(found["boxes"], found["scores"], found["labels"], strict=True)
        )
        rows = [
            tuple(
                in_source(next(boxes), time, size, region, self.min_score)
                for time, region in zip(view.times, view.regions, strict=True)
            )
            for view in shown
        ]
        return [row[-1] for row in rows], [Evidence(detections=row) for row in rows]

    def cost(self, part: str, views: Views, state: Any) -> int:
        """Multiply-adds of a part for one source; see `core.Executor`."""
        if part == "move":
            return 0
        frames, side = views["rgb"].array.shape[1:3]
        return int(frames * self.network.card(self._graph(side)).macs)

    def batch_key(self, part: str, views: Views, state: Any) -> Hashable:
        """Calls of equal keys can be made together."""
        return part, tuple(view.array.shape[1:] for view in views.values())

    def _graph(self, side: int) -> str:
        return self.network.sized("detect", side)
