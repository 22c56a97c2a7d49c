"""The executor of AdaFocus: a glance that chooses, a focus network, and a classifier.

The parts are functions of NumPy arrays, in PyTorch or in an engine (`engines.adafocus`). The frames
of the glance stay in the state at the network's own size, so patches are cut by the function that
training differentiates through, and equal what `model(clip)` sees.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.core import ConfigError, Evidence, FoveateError, InputSpec, View, Views
from foveate.engines.network import PartFunctions
from foveate.engines.runtimes import Array
from foveate.models.adafocus_card import AdaFocusCard
from foveate.policy.stopping import ByExit

if TYPE_CHECKING:
    import torch

    from foveate.models.adafocus import AdaFocus
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

    A state is a dictionary of arrays, batch first, and whole numbers.

    Args:
        network: Of PyTorch, in evaluation mode; or its functions.
        spec: What it expects; `size` is that of the network.
        device: Where a network of PyTorch runs.
        candidates: Frames of a clip; those of `spec` if None.

    Raises:
        ModelError: The size of the frames is not the network's.
        ConfigError: It was exported for another number of frames.
    """

    parts: tuple[str, ...] = ("glance", "focus", "network")
    head: str | None = "classifier"
    persistent = False

    def __init__(
        self,
        network: AdaFocus | PartFunctions,
        spec: InputSpec,
        device: torch.device | None = None,
        candidates: int | None = None,
    ) -> None:
        self.network: Any = network
        self.spec, self.candidates = spec, candidates or spec.clip_frames
        if isinstance(network, PartFunctions):
            self.functions = network
        else:
            from foveate.engines.adafocus import adafocus_functions
            from foveate.engines.torch_network import TorchNetwork

            make = partial(adafocus_functions, network.eval(), spec, self.candidates)
            self.functions = TorchNetwork(make(), device, lambda side: make((side,)))
        self.device = self.functions.device
        self.facts: AdaFocusCard = self.functions.facts
        if self.facts.candidates not in (None, self.candidates):
            raise ConfigError(
                f"exported for {self.facts.candidates} frames of a window, not {self.candidates}",
                f"export it again with --set look.frames={self.candidates}",
            )

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

    def run(
        self, part: str, views: Sequence[Views], states: Sequence[Any]
    ) -> tuple[list[Any], list[Evidence]]:
        """Run a part; see `core.Executor`."""
        count = len(states)
        state: State = {} if states[0] is None else dict(_joined(states))
        frames = None
        if "rgb" in views[0]:
            frames = np.concatenate([one["rgb"].array for one in views])
        if part == "glance":
            assert frames is not None
            prior = None
            if self.facts.motion:
                prior = np.concatenate([self._prior(one) for one in views])
            proposed = self._glance(frames, prior, state)
            evidence = [
                self._proposed(_row(proposed, at, count), view["rgb"])
                for at, view in enumerate(views)
            ]
            return [_row(state, at, count) for at in range(count)], evidence
        if part != self.head:
            getattr(self, f"_{part}")(frames, state)
            found = None
        else:
            found = self._classifier(state)
        after = [_row(state, at, count) for at in range(count)]
        if found is None:
            return after, [Evidence() for _ in after]
        name, logits = found
        return after, [Evidence(logits={name: row}) for row in logits]

    def cost(self, part: str, views: Views, state: Any) -> int:
        """Multiply-adds of a part for one source; see `core.Executor`."""
        if part == self.head:
            return 0 if state is None else self._head_macs(state)
        if not views:
            return self._macs("focus", state["windows"].shape[1], self.facts.patch)
        frames, side = views["rgb"].array.shape[1:3]
        if part == "glance":
            return self._macs("glance", frames)
        return self._macs("focus", frames, self.facts.patch if part == "focus" else side)

    def exit_macs(self, chunk: int | None = None) -> dict[str, int]:
        """Multiply-adds of stopping at each exit, all before included.

        Args:
            chunk: See `AdaFocusCard.exits`.
        """
        facts = self.facts
        total = 0
        if not facts.per_frame:
            glances = len(facts.glance_frames(self.candidates))
            total = self._macs("glance", glances) + self._macs("begin", glances)
        found, before = {}, 0
        for name in facts.exits(self.candidates, chunk):
            kind, _, end = name.partition(".")
            if kind == "focus":
                frames, before = int(end) - before, int(end)
                if facts.per_frame:
                    total += self._macs("glance", frames)
                total += self._macs("focus", frames, facts.patch) + self._macs("answer", frames)
            found[name] = total
        return found

    def example(self) -> list[tuple[str, Views]]:
        """The parts of a window with random views of one row, for measuring."""
        random, facts, size = np.random.default_rng(0), self.facts, self.spec.size

        def frames(count: int) -> Views:
            pixels = random.integers(0, 256, (1, count, size, size, 3), np.uint8)
            whole = ((0.0, 0.0, float(size), float(size)),) * count
            return {"rgb": View(pixels, tuple(map(float, range(count))), np.ones(1, bool), whole)}

        glance = frames(len(facts.glance_frames(self.candidates)))
        focus = {} if facts.per_frame else frames(facts.focuses or self.candidates)
        return [("glance", glance), ("focus", focus)]

    # --- cost -------------------------------------------------------------------------------

    def _macs(self, what: str, frames: int, side: int = 0) -> int:
        """Multiply-adds of a step of so many frames."""
        net, facts = self.functions, self.facts

        def each(*names: str) -> int:
            return frames * sum(net.macs(name) for name in names)

        if what == "glance":
            look = net.macs("glance")
            whole = look * frames if len(net.inputs("glance")[0].shape) == 4 else look
            own = each("policy", "policy-step") if facts.per_frame else net.macs("policy")
            return int(whole + own)
        if what == "focus":
            name = net.sized("focus", side)
            if facts.shifted:  # counted for all frames of a window
                count: Any = net.inputs(name)[0].shape[1]
                return int(net.macs(name) * frames // count)
            return each(name)
        if what == "begin":
            return net.macs("begin") if net.has("begin") else 0
        rows = each("classifier") if net.has("classifier") else 0
        return rows + (each("answer") if net.state("answer") else net.macs("answer"))

    def _head_macs(self, state: State) -> int:
        """Multiply-adds of answering for what was seen since the last answer."""
        total, frames = 0, state["focus"].shape[1] if "focus" in state else 0
        if _without_glance(state):
            return self.functions.macs("alone")
        if "memory" not in state:
            total += self._macs("begin", 0)
        return total + (self._macs("answer", frames) if frames else 0)

    # --- parts ------------------------------------------------------------------------------

    def _glance(self, frames: Array, prior: Array | None, state: State) -> State:
        """Look, and choose where to look closer."""
        facts, net = self.facts, self.functions
        maps, features = self._look(frames, state)
        given = {"maps": maps} if prior is None else {"maps": maps, "prior": prior}
        if facts.per_frame:
            found = self._places(given, state)
            state["frames"] = frames
        else:
            found = net.call("policy", given)
        state |= {"windows": found["windows"], "done": 0}
        _append(state, "glance", features)
        proposed = {"boxes": found["windows"]}
        proposed |= {name: found[name] for name in ("frames", "density") if name in found}
        if "scores" not in found:
            proposed["maps"] = np.abs(maps).mean(2)
        else:  # the probabilities of a square grid of places
            side = math.isqrt(found["scores"].shape[-1])
            shares = np.exp(found["scores"] - found["scores"].max(-1, keepdims=True))
            shares /= shares.sum(-1, keepdims=True)
            proposed["maps"] = shares.reshape(*shares.shape[:2], side, side)
        return proposed

    def _look(self, frames: Array, state: State) -> tuple[Array, Array]:
        """Maps (B, T, C, h, w) of frames (B, T, S, S, 3), and their means."""
        net = self.functions
        if self.facts.causal:
            rows, seen = [], state.get("seen")
            for at in range(frames.shape[1]):
                found, seen = net.step("glance", {"frames": frames[:, at]}, seen)
                rows.append(found)
            state["seen"] = seen
            return _over_time(rows, "maps"), _over_time(rows, "features")
        if len(net.inputs("glance")[0].shape) == 5:
            found = net.call("glance", {"frames": frames})
            return found["maps"], found["features"]
        found = _by_row(net, "glance", {"frames": frames})
        return found["maps"], found["features"]

    def _places(self, given: State, state: State) -> State:
        """The windows of each frame, one after another."""
        net = self.functions
        gates = _by_row(net, "policy", given)["gates"]
        memory, rows = state.get("policy"), []
        for at in range(gates.shape[1]):
            found, memory = net.step("policy-step", {"gates": gates[:, at]}, memory)
            rows.append(found)
        state["policy"] = memory
        return {name: _over_time(rows, name) for name in rows[0]}

    def _focus(self, frames: Array | None, state: State) -> None:
        if frames is None:
            frames = state.pop("frames")
        done = state["done"]
        windows = state["windows"][:, done : done + frames.shape[1]]
        state["done"] = done + frames.shape[1]
        shown = {"frames": frames, "windows": windows}
        self._focused(_by_row(self.functions, "cut", shown)["patches"], state)

    def _network(self, frames: Array | None, state: State) -> None:
        assert frames is not None
        state.pop("frames", None)
        pixels = frames.astype(np.float32) / 255 - np.array(self.spec.mean, np.float32)
        pixels /= np.array(self.spec.std, np.float32)
        self._focused(np.moveaxis(pixels, -1, 2), state)

    def _focused(self, patches: Array, state: State) -> None:
        """Features of patches (B, T, 3, P, P)."""
        net = self.functions
        name = net.sized("focus", patches.shape[-1])
        if not self.facts.shifted:
            _append(state, "focus", _by_row(net, name, {"patches": patches})["features"])
            return
        _append(state, "focus", net.call(name, {"patches": patches})["features"])

    def _classifier(self, state: State) -> tuple[str, Array] | None:
        """Name and logits (B, classes) of the exit; None if there is nothing to answer."""
        net, focus = self.functions, state.get("focus")
        if _without_glance(state):
            if focus is None:
                return None
            logits = net.call("alone", {"focus": focus.mean(1)})["logits"]
            return f"focus-{focus.shape[1]}", logits
        if "memory" not in state:
            state["memory"] = {"step": 0}
            if net.has("begin"):
                found = net.call("begin", {"glance": state["glance"]})
                name = f"glance.{state['glance'].shape[1]}"
                state |= {"exit": name, "logits": found.pop("logits")}
                if "best" in found:
                    state["memory"] = {"step": 0, "glance": found["best"]}
        if focus is not None:
            glance = state["glance"]
            del state["focus"]
            if self.facts.per_frame:
                del state["glance"]
            logits, state["memory"] = self._answer(glance, focus, state["memory"])
            state |= {"exit": f"focus.{state['memory']['step']}", "logits": logits}
        elif self.facts.per_frame and "glance" in state:
            return None  # the frames of the last glance are not focused on yet
        return (state["exit"], state["logits"]) if "exit" in state else None

    def _answer(self, glance: Array, focus: Array, memory: State) -> tuple[Array, State]:
        """Logits (B, classes) after further frames, and the memory.

        Args:
            glance: (B, G, C), of the same frames where the network goes frame by frame, else all.
            focus: (B, T, C), of these frames.
            memory: What was remembered of those before.
        """
        net, count = self.functions, memory["step"] + focus.shape[1]
        if not net.has("classifier"):
            means = {"glance": glance.mean(1), "focus": focus.mean(1)}
            return net.call("answer", means)["logits"], memory | {"step": count}
        both = np.concatenate([glance, focus], 2) if self.facts.per_frame else focus
        rows = _by_row(net, "classifier", {"features": both})
        if "gates" in rows:
            hidden, found = memory.get("hidden"), State()
            for at in range(focus.shape[1]):
                found, hidden = net.step("answer", {"gates": rows["gates"][:, at]}, hidden)
            return found["logits"], {"step": count, "hidden": hidden}
        best = rows["hidden"].max(1)
        if "best" in memory:
            best = np.maximum(best, memory["best"])
        given = {"best": best, "frames": np.full(len(best), count)}
        if "glance" in memory:
            given["glance"] = memory["glance"]
        return net.call("answer", given)["logits"], memory | {"step": count, "best": best}

    # --- inside -----------------------------------------------------------------------------

    def _prior(self, views: Views) -> Array:
        """How much moves in each cell of the glance: (1, T, h, w) in 0..1; nothing if not measured.

        The view `motion` has maps (1, T, h, w, 1) of the whole frame.
        """
        cells = self.facts.cells
        if "motion" not in views:
            return np.zeros((1, views["rgb"].array.shape[1], cells, cells), np.float32)
        motion, region = views["motion"], views["rgb"].regions[0]
        maps = motion.array[0, ..., 0].astype(np.float32)
        x, y = maps.shape[2] / motion.regions[0][2], maps.shape[1] / motion.regions[0][3]
        left, top, right, bottom = region
        steps = (np.arange(4 * cells) + 0.5) / (4 * cells)
        rows = ((top + (bottom - top) * steps) * y).astype(int).clip(0, maps.shape[1] - 1)
        columns = ((left + (right - left) * steps) * x).astype(int).clip(0, maps.shape[2] - 1)
        fine = maps[:, rows][..., columns].reshape(-1, cells, 4, cells, 4)
        shares = fine.mean((2, 4))
        peak = shares.max((1, 2), keepdims=True)
        found: Array = np.where(peak > 0, shares / np.maximum(peak, 1e-12), shares)
        return found[None].astype(np.float32)

    def _proposed(self, proposed: State, view: View) -> Evidence:
        """The glance's evidence for one source, windows as boxes in pixels of the source."""
        arrays = {name: value[0] for name, value in proposed.items()}
        left, top, right, bottom = view.regions[0] if view.regions else (0.0, 0.0, 1.0, 1.0)
        scale = [(right - left) / self.spec.size, (bottom - top) / self.spec.size] * 2
        boxes = arrays["boxes"] * scale
        return Evidence(
            features=arrays.pop("maps"), proposals=arrays | {"boxes": boxes + [left, top] * 2}
        )


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


def _append(state: State, name: str, features: Array) -> None:
    """Add features (B, T, C) to those that are not answered for yet."""
    state[name] = np.concatenate([state[name], features], 1) if name in state else features


def _by_row(net: PartFunctions, name: str, given: State) -> State:
    """Call a function whose rows are frames with arrays (B, T, ...)."""
    batch, frames = next(iter(given.values())).shape[:2]
    found = net.call(name, {key: one.reshape(-1, *one.shape[2:]) for key, one in given.items()})
    return {key: one.reshape(batch, frames, *one.shape[1:]) for key, one in found.items()}


def _over_time(rows: Sequence[State], name: str) -> Array:
    """(B, T, ...) of what was found in each frame, (B, ...)."""
    return np.stack([one[name] for one in rows], 1)


def _joined(states: Sequence[Any]) -> Any:
    """States of several sources in one batch; what is no array is equal in all of them."""
    first = states[0]
    if isinstance(first, dict):
        return {name: _joined([one[name] for one in states]) for name in first}
    if isinstance(first, np.ndarray) and len(states) > 1:
        return np.concatenate(states)
    return first


def _row(state: Any, at: int, count: int) -> Any:
    """One source's part of a batch, copied so that one source does not hold all others."""
    if isinstance(state, dict):
        return {name: _row(value, at, count) for name, value in state.items()}
    if isinstance(state, np.ndarray) and count > 1:
        return state[at : at + 1].copy()
    return state


def _shape(state: Any) -> Hashable:
    if isinstance(state, dict):
        return tuple((name, _shape(value)) for name, value in state.items())
    return tuple(state.shape[1:]) if isinstance(state, np.ndarray) else state
