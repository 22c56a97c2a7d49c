"""Networks behind the loop's face; they satisfy `core.Model`.

A streaming network does its work when it looks and answers with a head; a clip network only keeps
what it looks at and does its work when it answers. `network_for` chooses.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from foveate.core import Evidence
from foveate.models import is_streaming, macs_of, split_state, stack_states
from foveate.models.movinet import pooled
from foveate.models.spec import InputSpec
from foveate.models.streaming import State

Stream = dict[str, Tensor]
THIN = 8  # a stream keeps at most so many times the frames that its network takes


def network_for(
    module: Any, device: torch.device, spec: InputSpec | None = None
) -> StreamingNetwork | ClipNetwork:
    """The form in which the loop runs a module: step by step where it can be, else clip by clip.

    Args:
        module: A network of the registry, in evaluation mode.
        device: Where it runs.
        spec: What its weights expect; without it a clip network takes all frames it has seen.
    """
    if is_streaming(module):
        return StreamingNetwork(module, device)
    return ClipNetwork(module, device, spec)


class StreamingNetwork:
    """Runs a MoViNet-like module step by step, heads only when asked.

    Args:
        module: Has `initial_state`, `step_features` and `classify`; in evaluation mode.
        device: Where it runs.
    """

    observe_stage, answer_stage = "network", "head"  # what the ledger calls its work

    def __init__(self, module: Any, device: torch.device) -> None:
        self.reference: Any = module
        # The folded form is made of CPU kernels; elsewhere the plain module runs.
        on_cpu = device.type == "cpu" and hasattr(module, "for_inference")
        self.module: Any = module.for_inference() if on_cpu else module.to(device)
        self.device = device
        self._macs = cache(self._count)

    @torch.inference_mode()
    def observe(self, views: Tensor, state: State | None) -> State:
        """Look at views (B, 3, n, H, W); a state of None starts anew."""
        if state is None:
            state = self.module.initial_state(views.shape[0], *views.shape[-2:])
        _, state = self.module.step_features(views, state)
        return state

    @torch.inference_mode()
    def answer(self, state: State) -> Evidence:
        """Logits (B, classes) for all that was seen; the features are their pooled mean."""
        mean = pooled(state)
        return Evidence(logits={"final": self.module.classify(mean)}, features=mean)

    def __call__(self, views: Tensor, state: State | None) -> tuple[Evidence, State]:
        """Look, then answer."""
        state = self.observe(views, state)
        return self.answer(state), state

    def wait(self) -> None:
        """Return when all work given so far is done, so that a clock can be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def observe_macs(self, shape: tuple[int, ...]) -> int:
        """Multiply-adds of looking at views (B, 3, n, H, W): the step form does every frame alike,
        so one frame is counted and multiplied."""
        batch, channels, frames, height, width = shape
        return batch * frames * self._macs((1, channels, 1, height, width), "features")

    def answer_macs(self, batch: int, state: State | None = None) -> int:
        """Multiply-adds of answering for that many streams, whatever they have seen."""
        shape = (1, 3, 1, 32, 32)
        return batch * (self._macs(shape, "forward") - self._macs(shape, "features"))

    def stack(self, states: list[State]) -> State:
        """Join streams into one batch."""
        return stack_states(states)

    def split(self, state: State) -> list[State]:
        """Take a batch apart into its streams."""
        return split_state(state)

    def _count(self, shape: tuple[int, ...], method: str) -> int:
        return macs_of(self.reference, shape, method)


class ClipNetwork:
    """Runs a module on whole clips: looking keeps the views, answering runs the network on them.

    The network gets as many frames as it was trained with, evenly out of those that were seen
    (some twice, where there are fewer). A stream's state is its frames (3, n, H, W), their places
    in the order of looking, how many were looked at, and every how manyth is kept: of long windows
    every second one is dropped when there are many more than the network takes.

    Args:
        module: `forward` gives logits (B, classes) of clips (B, 3, T, H, W), and perhaps there are
            `features` and `classify`, as in the registry's networks; in evaluation mode.
        device: Where it runs.
        spec: What its weights expect; without it the network takes all frames that were seen.
    """

    observe_stage, answer_stage = "transform", "network"

    def __init__(self, module: Any, device: torch.device, spec: InputSpec | None = None) -> None:
        self.module: Any = module.to(device)
        self.device = device
        self.frames = None if spec is None else spec.clip_frames
        self._size = None if spec is None else spec.size
        self._macs = cache(self._count)

    @torch.inference_mode()
    def observe(self, views: Tensor, state: list[Stream] | None) -> list[Stream]:
        """Keep views (B, 3, n, H, W); a state of None starts anew. The state is not changed."""
        if state is None:
            state = [_empty(one) for one in views]
        return [self._kept(old, new) for old, new in zip(state, views, strict=True)]

    def _kept(self, stream: Stream, views: Tensor) -> Stream:
        first, every = int(stream["seen"]), int(stream["every"])
        places = torch.arange(first, first + views.shape[1])
        fits = places % every == 0
        frames = torch.cat([stream["frames"], views[:, fits.to(views.device)]], 1)
        places = torch.cat([stream["places"], places[fits]])
        while self.frames is not None and len(places) > THIN * self.frames:
            every *= 2
            fits = places % every == 0
            frames, places = frames[:, fits.to(frames.device)], places[fits]
        seen = torch.tensor(first + views.shape[1])
        return {"frames": frames, "places": places, "seen": seen, "every": torch.tensor(every)}

    def _clip(self, stream: Stream) -> Tensor:
        """The frames (3, T, H, W) that the network gets: evenly spread over what was seen."""
        if self.frames is None:
            return stream["frames"]
        step = int(stream["seen"]) / self.frames
        wanted = torch.arange(self.frames) * step + (step - 1) / 2
        distance = (wanted.unsqueeze(1) - stream["places"].unsqueeze(0)).abs()
        return stream["frames"][:, distance.argmin(1).to(stream["frames"].device)]

    @torch.inference_mode()
    def answer(self, state: list[Stream]) -> Evidence:
        """Run the network on what was seen: logits (B, classes) and mean features (B, C)."""
        clips = [self._clip(stream) for stream in state]
        if len({clip.shape for clip in clips}) > 1:
            parts = [self._run(clip.unsqueeze(0)) for clip in clips]
            logits = torch.cat([part for part, _ in parts])
            seen = [part for _, part in parts if part is not None]
            features = torch.cat(seen) if seen else None
        else:
            logits, features = self._run(torch.stack(clips))
        return Evidence(logits={"final": logits}, features=features)

    def _run(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """One call of the network on clips of one shape; each position is classified."""
        if not hasattr(self.module, "features"):
            return self.module(x), None
        features = self.module.features(x)
        return self.module.classify(features).mean(1), features.mean(1)

    def __call__(self, views: Tensor, state: list[Stream] | None) -> tuple[Evidence, list[Stream]]:
        """Look, then answer."""
        state = self.observe(views, state)
        return self.answer(state), state

    def wait(self) -> None:
        """Return when all work given so far is done, so that a clock can be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def observe_macs(self, shape: tuple[int, ...]) -> int:
        """Multiply-adds of looking: none, the views are only kept."""
        return 0

    def answer_macs(self, batch: int, state: list[Stream] | None = None) -> int:
        """Multiply-adds of answering.

        Args:
            batch: Number of streams.
            state: Theirs; without it, of full clips of the size that the weights expect.
        """
        if state is not None:
            return sum(self._macs(tuple(self._clip(stream).shape)) for stream in state)
        if self.frames is None or self._size is None:
            return 0  # nothing is known before something was seen
        return batch * self._macs((3, self.frames, self._size, self._size))

    def stack(self, states: list[list[Stream]]) -> list[Stream]:
        """Join streams into one batch; they may have seen different numbers of frames."""
        return [stream for state in states for stream in state]

    def split(self, state: list[Stream]) -> list[list[Stream]]:
        """Take a batch apart into its streams."""
        return [[stream] for stream in state]

    def _count(self, shape: tuple[int, ...]) -> int:
        return macs_of(self.module, (1, *shape), "forward")


def _empty(views: Tensor) -> Stream:
    """The state of a stream that has seen nothing, for views (3, n, H, W)."""
    return {
        "frames": views[:, :0],
        "places": torch.zeros(0, dtype=torch.int64),
        "seen": torch.tensor(0),
        "every": torch.tensor(1),
    }


Network = StreamingNetwork | ClipNetwork
