"""From a finished session to the Result: top-k, segments, cost, trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from foveate.core import FoveateError, Result, Score, Segment, Trace
from foveate.pipeline.session import DEFAULT_RATE, Session, WindowScores

NONE = "none"
END_TOLERANCE = 1.0  # seconds by which a header's length may differ from what was decoded
Scores = np.ndarray[tuple[int], np.dtype[np.float32]]


def top(scores: Scores, labels: Sequence[str], count: int) -> list[Score]:
    """The best `count` labels.

    Args:
        scores: (classes,) in 0..1.
        labels: One per class.
        count: How many.
    """
    order = np.argsort(-scores, kind="stable")[:count]
    return [Score(label=labels[i], index=int(i), score=float(scores[i])) for i in order]


def segments(
    windows: Sequence[WindowScores], labels: Sequence[str], none_below: float, end: float | None
) -> list[Segment]:
    """Runs of windows with the same best label; `none` where the best score is too low.

    Args:
        windows: In order of time.
        labels: One per class.
        none_below: Scores below it give the label `none`.
        end: The video's end; no segment reaches beyond it.

    Returns:
        Segments in order of time; the score is the mean over the windows of the run, weighted by
        their length.
    """
    runs: list[list[tuple[float, float, int | None, float]]] = []
    for window in windows:
        best = int(window.scores.argmax())
        score = float(window.scores[best])
        until = window.end if end is None else max(window.start, min(window.end, end))
        item = (window.start, until, best if score >= none_below else None, score)
        touches = runs and runs[-1][-1][2] == item[2] and item[0] - runs[-1][-1][1] < 1e-3
        if touches:
            runs[-1].append(item)
        else:
            runs.append([item])
    return [_segment(run, labels) for run in runs]


def _segment(run: list[tuple[float, float, int | None, float]], labels: Sequence[str]) -> Segment:
    index = run[0][2]
    weights = [max(end - start, 1e-6) for start, end, _, _ in run]
    score = sum(w * item[3] for w, item in zip(weights, run, strict=True)) / sum(weights)
    return Segment(
        start=run[0][0],
        end=run[-1][1],
        label=NONE if index is None else labels[index],
        index=index,
        score=score,
    )


def clip_scores(windows: Sequence[WindowScores], end: float | None = None) -> Scores:
    """The clip's scores: the mean over its windows, weighted by their seconds, (classes,).

    A last window of one frame, behind a clip that is a little longer than the model's, must not
    count as much as the clip.

    Args:
        windows: In order of time.
        end: The video's end; no window counts beyond it.
    """
    until = [window.end if end is None else min(window.end, end) for window in windows]
    seconds = [max(e - window.start, 1e-6) for e, window in zip(until, windows, strict=True)]
    mean = np.average([window.scores for window in windows], axis=0, weights=seconds)
    return np.asarray(mean, np.float32)


def exits(windows: Sequence[WindowScores]) -> dict[str, int]:
    """How many windows each exit decided, in the order in which they first did."""
    return dict(Counter(window.exit for window in windows if window.exit is not None))


def to_result(
    session: Session,
    *,
    model: str,
    preset: str | None,
    labels: Sequence[str],
    top_k: int,
    none_below: float,
    keep_trace: bool,
) -> Result:
    """The Result of a session that ran to its end."""
    info = session.info
    warnings = list(session.sample.warnings)
    end = duration = info.duration
    if session.end is not None and (duration is None or session.end < duration - END_TOLERANCE):
        if duration is not None:
            warnings.append(
                f"ends after {session.end:.2f} of the {duration:.2f} seconds its header claims"
            )
        end = duration = session.end
    cost = session.ledger.cost()
    warnings += over_budget(session, end)
    return Result(
        source=info.name,
        model=model,
        preset=preset,
        duration=duration,
        labels=top(clip_scores(session.windows, end), labels, top_k),
        segments=segments(session.windows, labels, none_below, end),
        cost=cost,
        exits=exits(session.windows),
        trace=Trace(size=[info.width, info.height], steps=session.steps) if keep_trace else None,
        warnings=warnings,
    )


def over_budget(session: Session, seconds: float | None) -> list[str]:
    """A line for every unit in which the budget was not kept (with 5 % and one look of grace)."""
    plan, cost = session.plan, session.ledger.cost()
    lines: list[str] = []
    if not seconds:
        return lines
    most = plan.budget.frames_per_second
    if most is not None and session.looked > 1.05 * most * seconds + 1:
        lines.append(f"over budget: {session.looked / seconds:.3g} fps, {most:g} allowed")
    macs = plan.budget.macs_per_second
    grace = plan.macs_per_view + plan.macs_per_answer
    if macs is not None and cost.macs > 1.05 * macs * seconds + grace:
        lines.append(f"over budget: {cost.macs / seconds:.3g} MACs per second, {macs:.3g} allowed")
    limit = plan.budget.ms_per_frame
    frames = seconds * (session.info.rate or DEFAULT_RATE)
    spent = 1000 * (cost.seconds - cost.stage("open").seconds) / max(frames, 1)
    if limit is not None and spent > 1.05 * limit:
        lines.append(f"over budget: {spent:.2f} ms per frame, {limit:g} allowed")
    return lines


def failed(name: str, model: str, preset: str | None, error: FoveateError) -> Result:
    """The Result of a source that could not be read."""
    message = str(error) if name in str(error) else f"{name}: {error}"
    result = Result.failed(name, model, error.kind, message)
    return result.model_copy(update={"preset": preset})
