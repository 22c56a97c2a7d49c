"""`foveate explain`: where a look looks in a video and why.

Looks that measure motion are explained without running a network; a model that chooses its windows
itself is run.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from foveate.app import options, predict
from foveate.app.annotated import drawn_size
from foveate.app.glances import Explanation, watched
from foveate.app.guard import print_error
from foveate.app.inputs import Item, check_rate, expand
from foveate.app.output import check_writable
from foveate.app.requests import ExplainRequest as Request
from foveate.app.requests import PredictRequest
from foveate.core import Budget, ConfigError, FoveateError, MediaError, Sample, Window
from foveate.core.config import build
from foveate.media import Limits, VideoWriter, open_source
from foveate.media.video import every_frame
from foveate.pipeline.presets import Preset, edit, resolve
from foveate.policy import Context
from foveate.policy.looks.adafocus import AdaFocusSpec
from foveate.policy.looks.patches import PatchSpec
from foveate.policy.looks.tokens import MotionTokens, MotionTokensSpec, TokenPlan

MOST_PICTURES = 12  # of one input on the page
_TRAIL = 25  # previous windows that are drawn as a track


def run(request: Request) -> int:
    """Explain every input; returns the exit code.

    Raises:
        FoveateError: An option is invalid.
    """
    whole = resolve(request.model)[1]
    if whole.look.name == "modalities":
        return _modalities(request)
    changed, limit_values = options.changes(None, request.sets, request.look, None, None)
    limits = build(Limits, limit_values, "limits")
    preset = whole
    shows_part = PatchSpec | AdaFocusSpec | MotionTokensSpec
    if request.look is None and not isinstance(preset.look, shows_part):
        preset = edit(preset, {"look": {"name": "motion-patch"}})
    preset = edit(preset, changed, "settings")
    explained_as: Callable[[Item], Explanation]
    if isinstance(preset.look, AdaFocusSpec):
        from foveate.pipeline.loading import assemble

        explained_as = partial(watched, assemble(preset, limits=limits), fps=request.fps)
    else:
        if isinstance(preset.look, MotionTokensSpec):  # the network has the size of its patches
            from foveate.pipeline.loading import assemble

            plan = assemble(preset, limits=limits).plan
            look, seconds = plan.look, plan.window_seconds
        else:
            look, seconds = patch_of(preset)
        explained_as = partial(_measured, look, seconds, request.fps, limits)
    items = list(expand(request.inputs, limits))
    check_rate(request.fps, items)
    if request.video is not None and len(items) > 1:
        raise ConfigError("--video takes one input", "explain the files one by one")
    # Not `Path.resolve`: it raises where links go round in a circle.
    inputs = {os.path.realpath(item.path) for item in items}
    for target in (request.video, request.report):
        check_writable(target)
        if target is not None and os.path.realpath(target) in inputs:
            raise ConfigError(f"{target}: is also an input", "write to another file")
    failed, explained = False, []
    for item in items:
        try:
            if item.problem is not None:
                raise MediaError(f"{item.name}: {item.problem}")
            explained.append(_explain(item, explained_as(item), request, limits))
        except MediaError as error:
            print_error(error)
            failed = True
    if request.report is not None and explained:
        from foveate.viz import write_reasons

        write_reasons(request.report, explained)
        print(f"report: {request.report}", file=sys.stderr)
    return 1 if failed else 0


def _modalities(request: Request) -> int:
    """Explain a model that chooses modalities; its policy is a network, so the model is run.

    Raises:
        FoveateError: What `predict` raises, and for a video.
    """
    if request.video is not None:
        raise ConfigError(
            f"--video: {request.model} chooses modalities, which are drawn over time",
            "write a page: --report why.html",
        )
    return predict.run(
        PredictRequest(
            inputs=request.inputs, model=request.model, report=request.report, fps=request.fps,
            sets=request.sets,
        )
    )  # fmt: skip


def patch_of(preset: Preset) -> tuple[Any, float]:
    """The look of a preset, fitted to its model, and the model's clip length in seconds.

    Raises:
        ConfigError: The look has no windows.
    """
    from foveate.models.weights.run import declared, declared_input

    if preset.look.name == "activation-patch":
        raise ConfigError(
            f"--look {preset.look.name}: needs the network, which explain does not run",
            "foveate predict --video draws its windows",
        )
    if not isinstance(preset.look, PatchSpec):
        raise ConfigError(f"the look {preset.look.name} has no windows", "try motion-patch")
    spec = declared_input(preset.model)
    assert spec is not None  # these weights state it
    entry = declared(preset.model)
    context = (
        Context(spec)
        if entry is None
        else Context(spec, entry.mixes_frames, entry.streaming, model=preset.model)
    )
    return preset.look.build(context), preset.window or spec.clip_seconds


def reasons(look: Any, sample: Sample, seconds: float) -> Iterator[Any]:
    """Every frame that the look would look at, window of time by window of time."""
    from foveate.viz.why import Reason

    start: float | None = 0.0
    while start is not None:
        window = Window(start, start + seconds)
        plan = look.plan(sample, window, Budget())
        shown = sample.frames(plan.times, (2, 2)).times
        for k, time in enumerate(plan.times[: len(shown)]):
            yield Reason(
                time=time,
                box=None if plan.boxes is None else plan.boxes[k],
                gate=plan.gates[k] if plan.gates else None,
                fallback=plan.fallback[k] if plan.fallback else False,
                heat=None if plan.maps is None else plan.maps[k],
                source=plan.source,
                follows=bool(plan.follows) and plan.follows[k],
                tokens=plan.numbers(k) if isinstance(plan, TokenPlan) else None,
            )
        start = None if sample.next_time(window.end - 1e-6) is None else window.end


def _measured(
    look: Any, seconds: float, fps: float | None, limits: Limits, item: Item
) -> Explanation:
    """What a look measures in an input."""
    with closing(open_source(item.source, fps=fps, limits=limits)) as sample:
        found = list(reasons(look, sample, seconds))
        notes = list(sample.warnings)
        size = sample.info.width, sample.info.height
        tokens = isinstance(look, MotionTokens)
        still = hasattr(look, "rule") and not tokens and look.rule(sample).track == "tube"
    if not found:
        raise MediaError(f"{item.name}: no frame could be decoded")
    gates = [reason.gate for reason in found if reason.gate is not None]
    mean = f", gate {sum(gates) / len(gates):.2f}" if gates else ""
    fell = sum(reason.fallback for reason in found)
    source = found[0].source or "not measured"
    said = (
        f"{len(found)} frames looked at, motion from {source}{mean}, "
        f"fallback on {fell} ({fell / len(found):.0%}), "
    )
    shown = [len(reason.tokens[2]) for reason in found if reason.tokens is not None]
    if shown:
        said += f"{sum(shown) / len(shown):.0f} of {math.prod(found[0].tokens[1])} tokens a frame"
    else:
        said += f"window follows on {sum(reason.follows for reason in found)}"
    threshold = None if tokens else getattr(look, "gate", None)
    extra = {"hold": seconds if still else None, "threshold": threshold}
    return Explanation(found, size, said, notes, extra)


def _explain(item: Item, one: Explanation, request: Request, limits: Limits) -> Any:
    """Print, and draw what is asked for."""
    from foveate.viz.why_page import Explained

    print(f"{item.name}: {one.said}")
    for note in one.notes:
        print(f"  {note}")
    opened = partial(open_source, item.source, fps=request.fps, limits=limits)
    if request.video is not None:
        _draw(opened, request.video, one.reasons, one.size)
        print(f"video: {request.video}", file=sys.stderr)
    pictures = []
    if request.report is not None:
        pictures = _pictures(opened, one.reasons, one.size)
    return Explained(item.name, one.reasons, pictures, one.notes, one.size, **one.extra)


def _draw(
    opened: Callable[[], Sample], target: Path, found: list[Any], size: tuple[int, int]
) -> None:
    """Every frame of the input beside the motion map in effect."""
    from foveate.viz.why import draw_reason, with_footer

    width, height = drawn_size(*size)
    writer: VideoWriter | None = None
    try:
        with closing(opened()) as sample:
            rate, at = sample.info.rate or 25.0, 0
            for time, frame in every_frame(sample, (width, height)):
                while at + 1 < len(found) and found[at + 1].time <= time + 1e-6:
                    at += 1
                trail = found[max(0, at - _TRAIL) : at]
                picture = with_footer(draw_reason(frame, found[at], size, trail), found[at])
                if writer is None:
                    writer = VideoWriter(target, (picture.shape[1], picture.shape[0]), rate)
                writer.write(picture, time)
        if writer is not None:
            writer.close()
            writer = None
    finally:
        if writer is not None:
            writer.abandon()


def _pictures(opened: Callable[[], Sample], found: list[Any], size: tuple[int, int]) -> list[Any]:
    from foveate.viz import to_jpeg
    from foveate.viz.why import draw_reason

    count = min(MOST_PICTURES, len(found))
    numbers = [i * len(found) // count for i in range(count)]
    height = min(240, size[1])
    small = max(1, round(size[0] * height / size[1])), height
    pictures = []
    try:
        with closing(opened()) as sample:
            clip = sample.frames([found[n].time for n in numbers], small)
    except FoveateError:
        return []
    for n, frame in zip(numbers, clip.pixels, strict=False):
        trail = found[max(0, n - _TRAIL) : n]
        drawn = draw_reason(frame, found[n], size, trail)
        pictures.append((found[n], to_jpeg(drawn, height=drawn.shape[0])))
    return pictures
