"""An evaluation as an HTML page."""

from __future__ import annotations

import os

from foveate.evaluate.figures import confusion_svg, reliability_svg
from foveate.evaluate.metrics import short_name
from foveate.evaluate.run import Evaluation, Prediction
from foveate.viz.pages import Thumbnails, render, write_page

MISTAKES = 24


def worst(evaluation: Evaluation, most: int = MISTAKES) -> list[Prediction]:
    """The wrong predictions with the highest confidence: these get thumbnails."""
    wrong = [p for p in evaluation.answered() if p.top and p.top[0][0] not in p.truth]
    return sorted(wrong, key=lambda p: (-p.top[0][1], p.name))[:most]


def report(evaluation: Evaluation, thumbnails: Thumbnails | None = None) -> str:
    """Build the page.

    Args:
        evaluation: From `evaluate`.
        thumbnails: `Prediction.name` → `(seconds, JPEG bytes)` of a few frames, for those of
            `worst`; `viz.to_jpeg` makes them.

    Returns:
        Self-contained HTML: style, drawings and images are inlined.
    """
    drawn = bool(evaluation.confusion)
    classes = [one.label for one in evaluation.classes]
    detects = any(figure.name.startswith("macs-per-frame") for figure in evaluation.figures)
    return render(
        "evaluation.html.j2",
        title=f"{evaluation.model} on {evaluation.split or 'all videos'}",
        evaluation=evaluation,
        per="frame" if detects else "video",
        headline=short_name(evaluation.figures[0].name),
        confusion=confusion_svg(classes, evaluation.columns, evaluation.confusion) if drawn else "",
        reliability=reliability_svg(evaluation.reliability) if drawn else "",
        mistakes=worst(evaluation),
        pictures=thumbnails or {},
    )


def write_report(
    path: str | os.PathLike[str], evaluation: Evaluation, thumbnails: Thumbnails | None = None
) -> None:
    """Write the page of `report` atomically.

    Raises:
        FoveateError: The file cannot be written; an old one is left as it was.
    """
    write_page(path, report(evaluation, thumbnails))
