"""The loop carries what it has not met yet: five kinds of model and source, none of them in `src`.

Each is defined here, in at most 60 lines, as a user would define it, and runs through `predict`,
through a batch of four sources and through a stream, with its calls counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from foveate import Recogniser
from foveate.core import (
    Detections,
    Evidence,
    InputSpec,
    NotYet,
    Selection,
    ViewRequest,
)
from foveate.core.config import build
from foveate.media import ArrayVideo
from foveate.pipeline.presets import Preset
from foveate.policy import TimedLook, Uniform

SPEC = InputSpec(size=16, frames_per_second=5.0, clip_frames=10)
FPS, SIDE, SPOT = 10.0, 64, 8  # of the generated videos; the spot is a white square


class Toy:
    """What the toy executors share: calls are counted, one source after another is computed."""

    parts: tuple[str, ...] = ()
    head: str | None = None
    persistent = False

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()  # calls by part
        self.rows: Counter[str] = Counter()  # sources, or rows of them, by part

    def input(self, part):
        return SPEC

    def stage(self, part):
        return part

    def cost(self, part, views, state):
        return sum(view.array.size for view in views.values())

    def batch_key(self, part, views, state):
        return part

    def run(self, part, views, states):
        self.calls[part] += 1
        found = []
        for view, state in zip(views, states, strict=True):
            self.rows[part] += max([len(v.array) for v in view.values()], default=1)
            found.append(getattr(self, part)(view, state))
        return [state for state, _ in found], [evidence for _, evidence in found]


def video(seconds: float = 4.0, first: int = 0) -> np.ndarray:
    """A white spot that crosses black frames, two pixels a frame."""
    frames = np.zeros((round(seconds * FPS), SIDE, SIDE, 3), np.uint8)
    for number, frame in enumerate(frames):
        x = (first + 2 * number) % (SIDE - SPOT)
        frame[20 : 20 + SPOT, x : x + SPOT] = 255
    return frames


def recogniser(executor: Any, look: Any, **more: Any) -> Recogniser:
    preset = build(Preset, {"model": "toy", "cut_threshold": 1.0, "none_below": 0.0})
    more = {"labels": ("dark", "bright"), "window": 2.0, **more}
    return Recogniser(executor, look=look, preset=preset, **more)


class WithSound(ArrayVideo):
    """Frames with a tone."""

    @property
    def info(self):
        return replace(super().info, has_audio=True)

    def audio(self, start=0.0, end=None, rate=16000):
        at = np.arange(round(((end or 2.0) - start) * rate)) / rate
        return np.sin(2 * np.pi * 440 * at).astype(np.float32)


# --- a: a glance whose features choose boxes, and frames in an order that goes back in time ---


class GlanceAndFocus(Toy):
    parts = ("glance", "focus")

    def glance(self, views, state):
        return state, Evidence(features=views["rgb"].array[0].mean(-1))  # (T, h, w)

    def focus(self, views, state):
        patches = views["rgb"].array[0].mean((1, 2, 3)) / 255  # (T,)
        best = max([patches.min(), *([] if state is None else [state])])
        return best, Evidence(logits={"final": np.array([0.5, best])})


class Backwards(TimedLook):
    """All frames small, then a window of each, the last one first, two at a time."""

    parts = ("glance", "focus")

    def next(self, sample, window, memory, evidence, budget):
        if memory is None:
            times = tuple(window.start + i / 5 for i in range(10))
            request = ViewRequest(times, size=(32, 32), again=True)
            return Selection({"rgb": request}, "glance", dense=False, closes=False), (times, None)
        times, boxes = memory
        if boxes is None:
            cell, boxes = SIDE / 32, []
            for seen in evidence.features:
                y, x = (float(np.mean(at)) for at in np.nonzero(seen > 128))
                x, y = (x + 0.5) * cell - SPOT / 2, (y + 0.5) * cell - SPOT / 2
                boxes.append((x, y, x + SPOT, y + SPOT))
        if not boxes:
            return None, memory
        shown = slice(len(boxes) - 1, None if len(boxes) < 3 else len(boxes) - 3, -1)
        request = ViewRequest(times[: len(boxes)][shown], boxes=tuple(boxes[shown]), size=8)
        return Selection({"rgb": request}, "focus", dense=False), (times, boxes[:-2])


def test_a_glance_chooses_boxes_and_frames_go_back_in_time() -> None:
    model = GlanceAndFocus()
    toy = recogniser(model, Backwards())
    result = toy.predict(video(), fps=FPS)
    assert result.labels[0].label == "bright"
    assert result.labels[0].score == pytest.approx(1 / (1 + np.exp(-0.5)), abs=0.01)  # all spot
    assert model.calls == {"glance": 2, "focus": 10}
    focus = [step for step in result.trace.steps if step.part == "focus"]
    assert focus[0].frames == pytest.approx([1.8, 1.6])
    assert focus[4].frames == pytest.approx([0.2, 0.0])
    assert len(focus[0].boxes) == 2
    assert result.cost.stage("glance").macs == 2 * 10 * 32 * 32 * 3
    model.calls.clear()
    together = list(toy.predict_many([video(first=n) for n in range(4)], batch=4, fps=FPS))
    assert [r.labels[0].score for r in together] == pytest.approx([result.labels[0].score] * 4)
    assert model.calls == {"glance": 2, "focus": 10}
    steps = list(toy.stream(video(), fps=FPS))
    assert len(steps) == 10  # the glance alone says nothing yet
    assert steps[-1].labels[0].score == pytest.approx(result.labels[0].score)


# --- b: two modalities, a recurrent state that decides per segment which part runs ---


class TwoModalities(Toy):
    parts = ("policy", "rgb", "sound")
    head = "fuse"

    def policy(self, views, state):
        state = dict(state or {"memory": 0.0, "sum": np.zeros(2)})
        use = []
        for seen in views["rgb"].array.mean((1, 2, 3, 4)):  # one row a segment
            state["memory"] = 0.5 * state["memory"] + seen
            use.append([seen > 20, state["memory"] < 20])
        return state, Evidence(proposals={"use": np.array(use, float)})

    def rgb(self, views, state):
        return {**state, "sum": state["sum"] + [0, len(views["rgb"].array)]}, Evidence()

    def sound(self, views, state):
        heard = views["sound"].array.max((1, 2)) > 0
        heard = (heard & views["sound"].valid).sum()
        return {**state, "sum": state["sum"] + [heard, 0]}, Evidence()

    def fuse(self, views, state):
        return state, Evidence(logits={"final": state["sum"]})


class PerSegment(TimedLook):
    parts = ("policy", "rgb", "sound")

    def next(self, sample, window, memory, evidence, budget):
        starts = [window.start + i / 2 for i in range(4)]
        if memory is None:
            request = ViewRequest(tuple(starts), rows=(0, 1, 2, 3), size=(8, 8))
            return Selection({"rgb": request}, "policy", dense=False, closes=False), ("rgb", None)
        part, use = memory[0], evidence.proposals["use"] if memory[1] is None else memory[1]
        if part is None:
            return None, memory
        chosen = [
            start for start, on in zip(starts, use[:, int(part == "sound")], strict=True) if on
        ]
        after = ("sound", use) if part == "rgb" else (None, use)
        if not chosen:
            return self.next(sample, window, after, evidence, budget)
        if part == "sound":
            request = ViewRequest(spans=tuple((start, start + 0.5) for start in chosen))
        else:
            times = tuple(start + i / 10 for start in chosen for i in range(3))
            request = ViewRequest(times, rows=tuple(np.repeat(range(len(chosen)), 3)))
        done = part == "sound" or not use[:, 1].any()
        proposals = {"use": use}
        return Selection(
            {part: request}, part, closes=done, dense=False, proposals=proposals
        ), after


def test_a_policy_with_memory_decides_which_modality_runs() -> None:
    frames = np.zeros((20, SIDE, SIDE, 3), np.uint8)
    frames[:10] = 200  # two bright segments, then two dark ones whose memory fades
    model = TwoModalities()
    toy = recogniser(model, PerSegment())
    heard, silent = (toy.predict(kind(frames, FPS)) for kind in (WithSound, ArrayVideo))
    # The memory is 200, 300, 150 and 75: no sound is wanted; two segments are shown.
    assert model.rows == {"policy": 8, "rgb": 4, "fuse": 2}
    assert heard.labels == silent.labels
    assert heard.trace.steps[-1].proposals == {"use": [1, 0, 1, 0, 0, 0, 0, 0]}
    model.rows.clear(), model.calls.clear()
    dark = [np.zeros_like(frames), frames]
    sources = [kind(one, FPS) for one in dark for kind in (WithSound, ArrayVideo)]
    results = list(toy.predict_many(sources, batch=4))
    assert [r.labels[0].label for r in results] == ["dark", "dark", "bright", "bright"]
    assert results[0].labels[0].score > 0.98 > results[1].labels[0].score  # heard, not heard
    assert model.calls == {"policy": 1, "rgb": 1, "sound": 1, "fuse": 1}
    assert model.rows == {"policy": 16, "rgb": 4, "sound": 8, "fuse": 4}
    assert results[0].cost.stage("audio").calls == 4
    assert results[2].cost.stage("audio").calls == 0
    (step,) = toy.stream(WithSound(np.zeros_like(frames), FPS))
    assert step.labels == results[0].labels


# --- c: a detector with key and other frames, whose state outlives windows ---


class KeyAndOther(Toy):
    parts = ("key", "other")
    persistent = True

    def key(self, views, state):
        view = views["rgb"]
        y, x = (at.astype(float) for at in np.nonzero(view.array[0, 0].mean(-1) > 128))
        left, top, right, _ = view.regions[0]
        scale = (right - left) / view.array.shape[3]
        low, high = np.array([x.min(), y.min()]), np.array([x.max() + 1, y.max() + 1])
        box = np.concatenate([low, high]) * scale + [left, top, left, top]
        state = {"frames": 1 + (0 if state is None else state["frames"]), "box": box}
        return state, self.found(view.times[0], state)

    def other(self, views, state):
        state = {**state, "frames": state["frames"] + 1}
        return state, self.found(views["rgb"].times[0], state)

    def found(self, time, state):
        boxes = state["box"][None]
        tracks = np.array([state["frames"]])  # says how much the state has lived through
        scores, labels = np.array([0.9]), np.array([1])
        return Evidence(detections=(Detections(time, boxes, scores, labels, tracks),))


class EveryFourth(TimedLook):
    """A key frame, two others, and one at which the boxes hold."""

    parts = ("key", "other")

    def next(self, sample, window, memory, evidence, budget):
        at = memory or 0
        if at == 8:
            return None, at
        part = ("key", "other", "other", None)[at % 4]
        request = ViewRequest((window.start + at / 4,), size=(SIDE, SIDE))
        return Selection({"rgb": request}, part), at + 1


def test_a_detector_keeps_its_state_and_its_boxes() -> None:
    model = KeyAndOther()
    toy = recogniser(model, EveryFourth(), task="detect")
    result = toy.predict(video(), fps=FPS)
    assert model.calls == {"key": 4, "other": 8}
    assert [d.time for d in result.detections] == pytest.approx(
        [i / 4 for i in range(16)], abs=0.06
    )
    assert result.detections[0].box == pytest.approx([0, 20, SPOT, 20 + SPOT])
    assert result.detections[4].box == pytest.approx([20, 20, 20 + SPOT, 20 + SPOT])  # a key frame
    assert result.detections[-1].track == 12  # frames that were run, over both windows
    assert [d.track for d in result.detections[2:4]] == [3, 3]  # the second one held
    assert (result.task, result.labels[0].label) == ("detect", "bright")
    assert result.cost.frames_decoded == 12
    model.calls.clear()
    together = list(toy.predict_many([video(first=n) for n in (0, 2, 4, 6)], batch=4, fps=FPS))
    assert together[0].detections == result.detections
    assert model.calls == {"key": 4, "other": 8}
    steps = list(toy.stream(video(), fps=FPS))
    assert [d for step in steps for d in step.detections] == result.detections
    assert len(steps) == 16


# --- d: a plain NumPy function with forty state arrays, where there is no torch ---

WITHOUT_TORCH = """
    import json, sys
    sys.modules["torch"] = None  # importing it fails from here on

    import numpy as np
    from foveate import Recogniser
    from foveate.core import Evidence, InputSpec
    from foveate.policy import Uniform

    def step(pixels, state):  # an exported network: plain arrays in, plain arrays out
        state = [0.9 * one + pixels.mean() / 255 for one in state]
        return np.array([1.0, sum(state).mean() / 50]), state

    class Exported:
        parts, head, persistent, calls = ("network",), None, False, 0
        def input(self, part): return InputSpec(16, 5.0, 10)
        def stage(self, part): return part
        def batch_key(self, part, views, state): return part, state is None
        def cost(self, part, views, state): return 40 * views["rgb"].array.size
        def run(self, part, views, states):
            Exported.calls += 1
            start = [np.zeros((1, 4), np.float32) for _ in range(40)]
            done = [step(v["rgb"].array, s or start) for v, s in zip(views, states)]
            return [s for _, s in done], [Evidence(logits={"final": x}) for x, _ in done]

    clip = np.full((40, 48, 64, 3), 200, np.uint8)
    toy = Recogniser(Exported(), ("dark", "bright"), look=Uniform(5.0), window=4.0)
    one = toy.predict(clip, fps=10.0)
    alone = Exported.calls
    four = list(toy.predict_many([clip] * 4, batch=4, fps=10.0))
    steps = list(toy.stream(clip, fps=10.0))
    print(json.dumps({
        "label": one.labels[0].label, "macs": one.cost.macs,
        "same": all(r.labels == one.labels for r in four),
        "calls": [alone, Exported.calls - alone - len(steps)],
        "steps": len(steps), "rising": steps[0].labels[0].label != steps[-1].labels[0].label,
        "torch": [name for name in sys.modules if name.partition(".")[0] == "torch"][1:],
    }))
"""


def test_a_numpy_function_with_forty_arrays_runs_without_torch() -> None:
    code = textwrap.dedent(WITHOUT_TORCH)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == {
        "label": "bright",
        "macs": 40 * 20 * 16 * 16 * 3,
        "same": True,
        "calls": [2, 2],
        "steps": 20,
        "rising": True,
        "torch": [],
    }


# --- e: a source that says "not yet" for a second ---


class Late(ArrayVideo):
    """What is filmed while it is watched: nothing of it is there for a second."""

    def __init__(self, frames, fps, name):
        super().__init__(frames, fps, name)
        self.begun, self.refused = time.monotonic(), 0

    def frames(self, times, size=None, *, keep=False):
        if time.monotonic() < self.begun + 1.0:
            self.refused += 1
            raise NotYet(max(times))
        return super().frames(times, size)


class Brightness(Toy):
    parts = ("network",)

    def network(self, views, state):
        return 0, Evidence(logits={"final": np.array([0.1, views["rgb"].array.mean() / 255])})


def test_a_source_that_is_late_holds_up_nobody() -> None:
    model = Brightness()
    toy = recogniser(model, Uniform(5.0))
    frames = np.full((20, SIDE, SIDE, 3), 255, np.uint8)
    alone = toy.predict(Late(frames, FPS, "late"))
    assert alone.labels[0].label == "bright"
    late = Late(frames, FPS, "late")
    ready = [ArrayVideo(frames, FPS, f"ready{n}") for n in range(3)]
    model.calls.clear()
    results = list(toy.predict_many([late, *ready], batch=4))
    assert [r.source for r in results] == ["late", "ready0", "ready1", "ready2"]
    assert all(r.labels == alone.labels for r in results)
    assert model.calls == {"network": 2}  # the three together, then the late one
    assert late.refused > 1
    late = Late(frames, FPS, "late")
    order = [r.source for r in toy.stream_many([late, *ready])]
    assert Counter(order) == {"late": 10, "ready0": 10, "ready1": 10, "ready2": 10}
    assert order.index("late") == 30  # all others were through by then
