"""Executors over torch modules: networks that step through time, and networks of whole clips.

A streaming network does its work when it looks and answers with a head; a clip network only keeps
what it looks at and does its work when it answers. Both can be glanced through: the part `glance`
runs the same network on small frames and gives its last maps.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveate.core import Evidence, FoveateError, InputSpec, ModelError, Views
from foveate.models import is_streaming, macs_of, stack_states
from foveate.models.maps import glance_method, last_maps
from foveate.models.patch_tokens import count_kept_macs, split_kept, with_kept
from foveate.models.streaming import inference_form
from foveate.pipeline.fetch import matched
from foveate.policy.looks.tokens import TOKENS

State = dict[str, Tensor]
THIN = 8  # a clip network keeps at most so many times the frames that it takes


def executor_for(
    module: Any, device: torch.device, spec: InputSpec, *, glance: int | None = None
) -> NetworkExecutor:
    """The form in which the loop runs a module: step by step where it can be, else clip by clip.

    Args:
        module: A network of the registry or of a user, in evaluation mode.
        device: Where it runs.
        spec: What its weights expect.
        glance: Side in pixels of the frames that a policy glances at; None if none does.

    Raises:
        ConfigError: A policy wants to glance, and the network has no maps.
    """
    kind = StreamExecutor if is_streaming(module) else ClipExecutor
    executor = kind(module, device, spec)
    if glance is not None:
        shape = (3, max(1, spec.clip_frames), glance, glance)
        last_maps(module, torch.zeros((1, *shape), device=device))
    return executor


class NetworkExecutor:
    """What both kinds share.

    Args:
        module: In evaluation mode.
        device: Where it runs.
        spec: What its weights expect.
    """

    parts: tuple[str, ...] = ("network", "glance")
    head: str | None = "head"
    persistent = False

    def __init__(self, module: Any, device: torch.device, spec: InputSpec) -> None:
        self.reference: Any = module
        self.module: Any = module.to(device)
        self.device, self.spec = device, spec
        self._macs = cache(self._counted)

    def _counted(self, shape: tuple[int, ...], method: str) -> int:
        with calling(self.reference, shape):
            return macs_of(self.reference, shape, method)

    def input(self, part: str) -> InputSpec:
        """What the weights expect; a glance says its size itself."""
        return self.spec

    def stage(self, part: str) -> str:
        """What the ledger calls the work of a part."""
        return part

    @torch.inference_mode()
    def run(
        self, part: str, views: Sequence[Views], states: Sequence[Any]
    ) -> tuple[list[Any], list[Evidence]]:
        """Run `network`, `head` or `glance`; see `core.Executor`."""
        if part == "glance":
            clips = [self._tensor([view]) for view in views]
            maps = [last_maps(self.reference, clip).cpu().numpy() for clip in clips]
            return list(states), [Evidence(features=one) for one in maps]
        if part == "head":
            found = self._answer(states)
            self._wait()
            return list(states), found
        after = self._look(views, states)
        self._wait()
        return after, [Evidence() for _ in views]

    def cost(self, part: str, views: Views, state: Any) -> int:
        """Multiply-adds of a part for one source; see `core.Executor`."""
        if part == "glance":
            rows, frames, height, width = views["rgb"].array.shape[:4]
            method = glance_method(self.reference)
            return int(self._macs((rows, 3, frames, height, width), method))
        return self._head_macs(state) if part == "head" else self._look_macs(views)

    def batch_key(self, part: str, views: Views, state: Any) -> Hashable:
        """Calls of equal keys can be made together; glances run one by one."""
        if part == "glance":
            return part, id(views)
        if part == "head":
            return part, self._head_shape(state)
        return part, views["rgb"].array.shape[1:], state is None

    def _tensor(self, views: Sequence[Views]) -> Tensor:
        """Frames of several sources (rows, T, S, S, 3) as (B, 3, T, S, S) float32."""
        arrays = [view["rgb"].array for view in views]
        return to_tensor(arrays[0] if len(arrays) == 1 else np.concatenate(arrays), self.spec,
                         self.device)  # fmt: skip

    def _wait(self) -> None:
        """Return when all work given so far is done, so that a clock can be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _look(self, views: Sequence[Views], states: Sequence[Any]) -> list[Any]:
        raise NotImplementedError

    def _answer(self, states: Sequence[Any]) -> list[Evidence]:
        raise NotImplementedError

    def _look_macs(self, views: Views) -> int:
        raise NotImplementedError

    def _head_macs(self, state: Any) -> int:
        raise NotImplementedError

    def _head_shape(self, state: Any) -> Hashable:
        return None


class StreamExecutor(NetworkExecutor):
    """Runs a network step by step, its head only when asked.

    The module has `initial_state`, `step_features`, `pooled` and `classify`. The state of a source
    is a plain dictionary of tensors, batch first.
    """

    def __init__(self, module: Any, device: torch.device, spec: InputSpec) -> None:
        super().__init__(module, device, spec)
        self.module = inference_form(module, device)

    def _look(self, views: Sequence[Views], states: Sequence[Any]) -> list[Any]:
        x_bcthw = self._tensor(views)
        if states[0] is None:
            state = self.module.initial_state(x_bcthw.shape[0], *x_bcthw.shape[-2:])
        else:
            state = _stacked(states)
        with calling(self.module, x_bcthw.shape):
            _, state = self.module.step_features(x_bcthw, state)
        return _taken_apart(state, [len(view["rgb"].array) for view in views])

    def _answer(self, states: Sequence[Any]) -> list[Evidence]:
        """Logits for all that was seen; the features are their pooled mean."""
        mean = self.module.pooled(_stacked(states))
        with calling(self.module, mean.shape):
            logits = self.module.classify(mean)
        return _evidence(logits, mean, [_rows(state) for state in states])

    def _look_macs(self, views: Views) -> int:
        """The step form does every frame alike, so one frame is counted and multiplied."""
        rows, frames, height, width = views["rgb"].array.shape[:4]
        return int(rows * frames * self._macs((1, 3, 1, height, width), "features"))

    def _head_macs(self, state: Any) -> int:
        """The same for all that was seen."""
        shape = (1, 3, 1, 32, 32)
        one = self._macs(shape, "forward") - self._macs(shape, "features")
        return int(one * (1 if state is None else _rows(state)))


class ClipExecutor(NetworkExecutor):
    """Runs a network on whole clips: looking keeps the views, answering runs the network on them.

    The network gets as many frames as it was trained with, evenly out of those that were seen
    (some twice, where there are fewer). A source's state is its frames (3, n, H, W), their places
    in the order of looking, how many were looked at, and every how manyth is kept: of long windows
    every second one is dropped when there are many more than the network takes.

    The module's `forward` gives logits (B, classes) of clips (B, 3, T, H, W); if it has `features`
    and `classify`, as the registry's networks have, each position is classified and averaged. Where
    a look chooses patch tokens, frames have a fourth channel; see `models.patch_tokens`.
    """

    def __init__(self, module: Any, device: torch.device, spec: InputSpec) -> None:
        super().__init__(module, device, spec)
        self._by_features = glance_method(module) == "features"
        self._token_macs = cache(partial(count_kept_macs, module))

    def stage(self, part: str) -> str:
        """Looking only prepares; the network runs when it answers."""
        return {"network": "transform", "head": "network"}.get(part, part)

    def _look(self, views: Sequence[Views], states: Sequence[Any]) -> list[Any]:
        found = []
        for view, state in zip(views, states, strict=True):
            rows = self._tensor([view])
            if TOKENS in view:
                kept = view[TOKENS]
                shown = torch.from_numpy(kept.array[:, matched(view["rgb"].times, kept.times)])
                rows = with_kept(rows, shown.to(rows.device), self.module.patch)
            clip = rows.transpose(0, 1).flatten(1, 2)  # rows follow each other in time
            found.append(_kept(state or _empty(clip), clip, THIN * self.spec.clip_frames))
        return found

    def _answer(self, states: Sequence[Any]) -> list[Evidence]:
        x_bcthw = torch.stack([self._clip(state) for state in states])
        with calling(self.module, x_bcthw.shape):
            if not self._by_features:
                return _evidence(self.module(x_bcthw), None, [1] * len(states))
            features = self.module.features(x_bcthw)
            logits = self.module.classify(features).mean(1)
            return _evidence(logits, features.mean(1), [1] * len(states))

    def _clip(self, state: State) -> Tensor:
        """The frames (3, T, H, W) that the network gets: evenly spread over what was seen."""
        return state["frames"][:, self._places(state)]

    def _places(self, state: State) -> Tensor:
        """Places of these frames among those that were kept."""
        step = int(state["seen"]) / self.spec.clip_frames
        wanted = torch.arange(self.spec.clip_frames) * step + (step - 1) / 2
        distance = (wanted.unsqueeze(1) - state["places"].unsqueeze(0)).abs()
        return distance.argmin(1).to(state["frames"].device)

    def _look_macs(self, views: Views) -> int:
        """None: the views are only kept."""
        return 0

    def _head_macs(self, state: Any) -> int:
        shape = (1, 3, *self._head_shape(state)[1:])
        if state is None or len(state["frames"]) == 3:
            return int(self._macs(shape, "forward"))
        clips = state["frames"][None, :, self._places(state)]
        _, kept = split_kept(clips, self.reference.patch)
        assert kept is not None
        return self._token_macs(shape, tuple(kept.flatten(2).sum(2)[0].tolist()))

    def _head_shape(self, state: Any) -> tuple[int, ...]:
        """Of the clip that the network gets; before anything was seen, of one it was made for."""
        if state is None:
            return 3, self.spec.clip_frames, self.spec.size, self.spec.size
        channels, _, height, width = state["frames"].shape
        return channels, self.spec.clip_frames, height, width


@contextmanager
def calling(module: Any, shape: Sequence[int]) -> Iterator[None]:
    """What goes wrong in a network is one line that says what it was called with.

    Raises:
        ModelError: The network fails.
    """
    try:
        yield
    except FoveateError:
        raise
    except Exception as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{type(module).__name__} fails on an input of shape {tuple(shape)}: {said[:200]}"
        ) from error


def to_tensor(pixels: np.ndarray[Any, Any], spec: InputSpec, device: torch.device) -> Tensor:
    """Frames as clips for a network.

    Args:
        pixels: (B, T, H, W, 3) uint8 RGB.
        spec: Value range, mean and standard deviation.
        device: Where the network runs.

    Returns:
        (B, 3, T, H, W) float32, laid out channels last in memory.
    """
    x = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).float().div_(255)
    if any(spec.mean):
        x -= x.new_tensor(spec.mean)
    if any(value != 1.0 for value in spec.std):
        x /= x.new_tensor(spec.std)
    return x.permute(0, 4, 1, 2, 3)


def _kept(state: State, clip: Tensor, most: int) -> State:
    """A state with further frames (3, n, H, W); the one given is not changed."""
    first, every = int(state["seen"]), int(state["every"])
    places = torch.arange(first, first + clip.shape[1])
    fits = places % every == 0
    frames = torch.cat([state["frames"], clip[:, fits.to(clip.device)]], 1)
    places = torch.cat([state["places"], places[fits]])
    while len(places) > most:
        every *= 2
        fits = places % every == 0
        frames, places = frames[:, fits.to(frames.device)], places[fits]
    seen = torch.tensor(first + clip.shape[1])
    return {"frames": frames, "places": places, "seen": seen, "every": torch.tensor(every)}


def _empty(clip: Tensor) -> State:
    """The state of a source of which nothing was seen, for frames (3, n, H, W)."""
    return {
        "frames": clip[:, :0],
        "places": torch.zeros(0, dtype=torch.int64),
        "seen": torch.tensor(0),
        "every": torch.tensor(1),
    }


def _stacked(states: Sequence[State]) -> State:
    return states[0] if len(states) == 1 else stack_states(states)


def _rows(state: State) -> int:
    return len(next(iter(state.values())))


def _taken_apart(state: State, rows: Sequence[int]) -> list[State]:
    """A batch's state by source (copies, so that one source does not hold all others)."""
    if len(rows) == 1:
        return [state]
    parts = {name: value.split(list(rows)) for name, value in state.items()}
    return [{name: part[i].clone() for name, part in parts.items()} for i in range(len(rows))]


def _evidence(logits: Tensor, features: Tensor | None, rows: Sequence[int]) -> list[Evidence]:
    """Logits (B, classes) by source: the mean over its rows.

    Raises:
        ModelError: The network gives something else.
    """
    real = isinstance(logits, Tensor) and not logits.is_complex() and not logits.is_sparse
    if not real or logits.ndim != 2 or len(logits) != sum(rows):
        what = f"a {type(logits).__name__}"
        if isinstance(logits, Tensor):
            kind = "" if real else " of complex numbers" if logits.is_complex() else ", sparse"
            what = f"shape {tuple(logits.shape)}{kind}"
        raise ModelError(
            f"the network gives {what}, not logits of shape ({sum(rows)}, classes)",
            "let its forward return one tensor (B, classes)",
        )
    split = logits.float().split(list(rows))
    pooled = [None] * len(rows) if features is None else features.float().split(list(rows))
    return [
        Evidence(
            logits={"final": one.mean(0).cpu().numpy()},
            features=None if seen is None else seen.cpu().numpy(),
        )
        for one, seen in zip(split, pooled, strict=True)
    ]
