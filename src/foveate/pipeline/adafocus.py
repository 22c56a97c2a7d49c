"""The executor of AdaFocus: a glance that chooses, a focus network, and a classifier.

The frames of the glance stay in the state at the network's own size, so patches are cut by the
function that training differentiates through, and equal what `model(clip)` sees.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from copy import copy
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from foveate.core import Evidence, FoveateError, InputSpec, ModelError, View, Views
from foveate.models.adafocus import AdaFocus
from foveate.models.macs import on_meta
from foveate.pipeline.executors import calling, to_tensor
from foveate.policy.stopping import ByExit

if TYPE_CHECKING:
    from foveate.pipeline.recogniser import Recogniser

State = dict[str, Any]


class AdaFocusExecutor:
    """Runs any network of the AdaFocus family in parts; satisfies `core.Executor`.

    * `glance` takes frames at the network's size and proposes `boxes` in pixels of the source and,
      where the method chooses frames, their numbers as `frames`. Its features are maps (T, h, w)
      for people to see: mean activations, or the probabilities of V1's places.
    * `focus` runs the focus network on patches that it cuts itself: of the frames of the glance
      where the network goes frame by frame, else of the frames that it is given.
    * `network` runs the focus network on patches that a look has cut, instead of `focus`. Without a
      glance before it the focus network's own head answers.
    * `classifier`, the head, answers for all frames so far.

    A state is a dictionary of tensors, batch first, and whole numbers.

    Args:
        network: In evaluation mode.
        spec: What it expects; `size` is that of the network.
        device: Where it runs.
        candidates: Frames of a clip; those of `spec` if None.

    Raises:
        ModelError: The size of the frames is not the network's.
    """

    parts: tuple[str, ...] = ("glance", "focus", "network")
    head: str | None = "classifier"
    persistent = False

    def __init__(
        self,
        network: AdaFocus,
        spec: InputSpec,
        device: torch.device | None = None,
        candidates: int | None = None,
    ) -> None:
        if spec.size != network.size:
            raise ModelError(f"frames of {spec.size} pixels for a network of {network.size}")
        self.device, self.spec = device or torch.device("cpu"), spec
        self.network = network.eval().to(self.device)
        self.candidates = candidates or spec.clip_frames
        self._macs = cache(self._counted)

    def input(self, part: str) -> InputSpec:
        """What the networks expect."""
        return self.spec

    def stage(self, part: str) -> str:
        """The name of the part; patches of a look are the focus network's work, too."""
        return "focus" if part == "network" else part

    def batch_key(self, part: str, views: Views, state: Any) -> Hashable:
        """Sources that are equally far can run together."""
        shapes = tuple((name, view.array.shape[1:]) for name, view in views.items())
        return part, shapes, _shape(state)

    @torch.inference_mode()
    def run(
        self, part: str, views: Sequence[Views], states: Sequence[Any]
    ) -> tuple[list[Any], list[Evidence]]:
        """Run a part; see `core.Executor`."""
        count = len(states)
        state: State = {} if states[0] is None else dict(_joined(states))
        with calling(self.network, views[0]["rgb"].array.shape if views[0] else ()):
            if part == "glance" and "motion" in views[0]:
                state["prior"] = torch.cat([self._prior(one) for one in views])
            found = getattr(self, f"_{part}")(self._frames(views), state)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        after = [_row(state, at, count) for at in range(count)]
        if part == "glance":
            proposals = [_row(found, at, count) for at in range(count)]
            return after, [
                self._proposed(p, v["rgb"]) for p, v in zip(proposals, views, strict=True)
            ]
        if part != self.head or found is None:
            return after, [Evidence() for _ in after]
        name, logits = found
        return after, [Evidence(logits={name: row}) for row in logits.float().cpu().numpy()]

    def cost(self, part: str, views: Views, state: Any) -> int:
        """Multiply-adds of a part, counted on the meta device; see `core.Executor`."""
        if part == self.head:
            return 0 if state is None else self._head_macs(state)
        if not views:
            return self._macs("focus", state["windows"].shape[1], self.network.patch)
        frames, side = views["rgb"].array.shape[1:3]
        if part == "focus":
            side = self.network.patch
        return self._macs("glance" if part == "glance" else "focus", frames, side)

    def exit_macs(self, chunk: int | None = None) -> dict[str, int]:
        """Multiply-adds of stopping at each exit, all before included.

        Args:
            chunk: See `AdaFocus.exits`.
        """
        net = self.network
        total = 0 if net.per_frame else self._glance_macs()
        found, before = {}, 0
        for name in net.exits(self.candidates, chunk):
            kind, _, end = name.partition(".")
            if kind == "focus":
                frames, before = int(end) - before, int(end)
                if net.per_frame:
                    total += self._macs("glance", frames, net.size)
                total += self._macs("focus", frames, net.patch) + self._macs("answer", frames)
            found[name] = total
        return found

    def _head_macs(self, state: State) -> int:
        """Multiply-adds of answering for what was seen since the last answer."""
        total, frames = 0, state["focus"].shape[1] if "focus" in state else 0
        if _without_glance(state):
            return self._macs("alone", frames)
        if "memory" not in state:
            total += self._macs("begin", state["glance"].shape[1])
        return total + (self._macs("answer", frames) if frames else 0)

    def _glance_macs(self) -> int:
        count = len(self.network.glance_frames(self.candidates))
        return self._macs("glance", count, self.network.size) + self._macs("begin", count)

    # --- parts ------------------------------------------------------------------------------

    def _glance(self, frames: Tensor | None, state: State) -> dict[str, Tensor]:
        assert frames is not None
        net = self.network
        maps, glance, seen = net.look_on(frames, state.get("seen", {}))
        if seen:
            state["seen"] = seen
        count = frames.shape[1] if net.per_frame else self.candidates
        extra = {"prior": state.pop("prior")} if "prior" in state else {}
        chosen = net.choose(maps, glance, count, state.get("policy"), **extra)
        if chosen.state is not None:
            state["policy"] = chosen.state
        state |= {"windows": chosen.windows, "done": 0}
        if net.per_frame:
            state["frames"] = frames
        _append(state, "glance", glance)
        proposed = {"boxes": chosen.windows}
        if chosen.frames is not None:
            proposed["frames"] = chosen.frames
        if chosen.density is not None:
            proposed["density"] = chosen.density
        if chosen.scores is None:
            proposed["maps"] = maps.abs().mean(2)
        else:  # the probabilities of a square grid of places
            side = math.isqrt(chosen.scores.shape[-1])
            proposed["maps"] = chosen.scores.softmax(-1).unflatten(-1, (side, side))
        return proposed

    def _focus(self, frames: Tensor | None, state: State) -> None:
        if frames is None:
            frames = state.pop("frames")
        done = state["done"]
        windows = state["windows"][:, done : done + frames.shape[1]]
        state["done"] = done + frames.shape[1]
        _append(state, "focus", self.network.focus(self.network.cut(frames, windows)))

    def _network(self, frames: Tensor | None, state: State) -> None:
        assert frames is not None
        state.pop("frames", None)
        _append(state, "focus", self.network.focus(frames))

    def _classifier(self, frames: Tensor | None, state: State) -> tuple[str, Tensor] | None:
        """Name and logits (B, classes) of the exit; None if there is nothing to answer."""
        net, focus = self.network, state.get("focus")
        if _without_glance(state):
            return None if focus is None else (f"focus-{focus.shape[1]}", net.alone(focus))
        if "memory" not in state:
            first, state["memory"] = net.begin(state["glance"])
            if first is not None:
                count = state["glance"].shape[1]
                state |= {"exit": f"glance.{count}", "logits": first[:, -1]}
        if focus is not None:
            glance = state["glance"]
            del state["focus"]
            if net.per_frame:
                del state["glance"]
            logits, state["memory"] = net.answer(glance, focus, state["memory"])
            state |= {"exit": f"focus.{state['memory']['step']}", "logits": logits[:, -1]}
        elif net.per_frame and "glance" in state:
            return None  # the frames of the last glance are not focused on yet
        return (state["exit"], state["logits"]) if "exit" in state else None

    # --- inside -----------------------------------------------------------------------------

    def _frames(self, views: Sequence[Views]) -> Tensor | None:
        """Frames (B, T, 3, H, W) of all sources; None where there are no views."""
        if "rgb" not in views[0]:
            return None
        parts = [to_tensor(one["rgb"].array, self.spec, self.device) for one in views]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).transpose(1, 2)

    def _prior(self, views: Views) -> Tensor:
        """How much moves in each cell of the glance: (1, T, h, w) in 0..1.

        The view `motion` has maps (1, T, h, w, 1) of the whole frame.
        """
        motion, region = views["motion"], views["rgb"].regions[0]
        maps = torch.from_numpy(np.ascontiguousarray(motion.array[0, ..., 0])).unsqueeze(1).float()
        x, y = maps.shape[3] / motion.regions[0][2], maps.shape[2] / motion.regions[0][3]
        left, top, right, bottom = region
        steps = (torch.arange(4 * self.network.cells) + 0.5) / (4 * self.network.cells)
        rows = ((top + (bottom - top) * steps) * y).long().clamp(0, maps.shape[2] - 1)
        columns = ((left + (right - left) * steps) * x).long().clamp(0, maps.shape[3] - 1)
        cells = F.avg_pool2d(maps[:, :, rows][..., columns], 4)
        peak = cells.amax((2, 3), keepdim=True)
        shares = torch.where(peak > 0, cells / peak.clamp_min(1e-12), cells)
        return shares.transpose(0, 1).to(self.device)

    def _proposed(self, proposed: dict[str, Tensor], view: View) -> Evidence:
        """The glance's evidence for one source, windows as boxes in pixels of the source."""
        arrays = {name: value[0].cpu().numpy() for name, value in proposed.items()}
        left, top, right, bottom = view.regions[0] if view.regions else (0.0, 0.0, 1.0, 1.0)
        scale = [(right - left) / self.spec.size, (bottom - top) / self.spec.size] * 2
        boxes = arrays["boxes"] * scale
        return Evidence(
            features=arrays.pop("maps"), proposals=arrays | {"boxes": boxes + [left, top] * 2}
        )

    def _counted(self, what: str, frames: int, side: int = 0) -> int:
        net: Any = on_meta(self.network)

        def features(tower: Any, count: int) -> Tensor:
            width = net.glance.map_channels if tower is net.glance else net.focus.num_features
            return torch.empty((1, count, width), device="meta")

        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            if what == "glance":
                maps, glance = net.look(torch.empty((1, frames, 3, side, side), device="meta"))
                net.choose(maps, glance, frames if net.per_frame else self.candidates)
            elif what == "focus":
                net.focus(torch.empty((1, frames, 3, side, side), device="meta"))
            elif what == "begin":
                net.begin(features(net.glance, frames))
            elif what == "alone":
                net.alone(features(net.focus, frames))
            else:
                seen = frames if net.per_frame else len(net.glance_frames(self.candidates))
                glance = features(net.glance, seen)
                begun = counter.get_total_flops()
                _, memory = net.begin(glance)
                begun = counter.get_total_flops() - begun
                net.answer(glance, features(net.focus, frames), memory)
                return int(counter.get_total_flops() - begun) // 2
        return int(counter.get_total_flops()) // 2


def exit_seconds(recogniser: Recogniser, sources: Sequence[Any]) -> list[float]:
    """Mean seconds a window of stopping at each exit, decoding included; for `fit_exits`.

    Every exit is executed on all sources, one after the other.

    Args:
        recogniser: Of an AdaFocus model, with the look whose exits are measured.
        sources: Files; those that cannot be read are skipped.

    Raises:
        FoveateError: None of them can be read.
    """
    found = []
    for name in recogniser.plan.look.exits:  # type: ignore[attr-defined]
        timed = copy(recogniser)
        timed.plan = replace(recogniser.plan, decide=ByExit({name: 0.0}))
        seconds, windows = 0.0, 0
        for session in timed.sessions(sources):
            if isinstance(session, FoveateError):
                continue
            seconds += session.ledger.cost().seconds
            windows += len(session.reducer.windows)  # type: ignore[attr-defined]
        if not windows:
            raise FoveateError("no calibration file could be recognised")
        found.append(seconds / windows)
    return found


def _without_glance(state: State) -> bool:
    """Whether there was no glance, so that the focus network's own head answers for all frames."""
    return "glance" not in state and "memory" not in state


def _append(state: State, name: str, features: Tensor) -> None:
    """Add features (B, T, C) to those that are not answered for yet."""
    state[name] = torch.cat([state[name], features], 1) if name in state else features


def _joined(states: Sequence[Any]) -> Any:
    """States of several sources in one batch; what is no tensor is equal in all of them."""
    first = states[0]
    if isinstance(first, dict):
        return {name: _joined([one[name] for one in states]) for name in first}
    if isinstance(first, Tensor) and len(states) > 1:
        return torch.cat(list(states))
    return first


def _row(state: Any, at: int, count: int) -> Any:
    """One source's part of a batch, copied so that one source does not hold all others."""
    if isinstance(state, dict):
        return {name: _row(value, at, count) for name, value in state.items()}
    if isinstance(state, Tensor) and count > 1:
        return state[at : at + 1].clone()
    return state


def _shape(state: Any) -> Hashable:
    if isinstance(state, dict):
        return tuple((name, _shape(value)) for name, value in state.items())
    return tuple(state.shape[1:]) if isinstance(state, Tensor) else state
