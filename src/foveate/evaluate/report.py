"""One HTML page about an evaluation, whole in itself: no script, nothing from a network."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

from foveate.core.text import escape, plural
from foveate.core.units import count, macs, percent, seconds
from foveate.evaluate.figures import confusion_svg, reliability_svg
from foveate.evaluate.run import Evaluation, Figure, Prediction
from foveate.models.weights.run import replace_file
from foveate.viz.report_style import STYLE

Thumbnails = Mapping[str, Sequence[tuple[float, bytes]]]

MISTAKES = 24
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 1rem 1.2rem 1.3rem; margin-bottom: 1rem; }
.wide svg { width: auto; min-width: 0; max-width: none; }
.mistakes {
  display: grid; gap: 1.2rem; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr));
}
.mistakes p { font-size: .88rem; overflow-wrap: anywhere; }
"""


def worst(evaluation: Evaluation, most: int = MISTAKES) -> list[Prediction]:
    """The mistakes that were made with the greatest confidence: those worth a thumbnail."""
    wrong = [p for p in evaluation.answered() if p.top and p.top[0][0] not in p.truth]
    return sorted(wrong, key=lambda p: (-p.top[0][1], p.name))[:most]


def report(evaluation: Evaluation, thumbnails: Thumbnails | None = None) -> str:
    """Build the page.

    Args:
        evaluation: From `evaluate`.
        thumbnails: `Prediction.name` → `(seconds, JPEG bytes)` of a few frames, for those of
            `worst`; `viz.to_jpeg` makes them.

    Returns:
        HTML with everything inside: style, drawings and pictures.
    """
    title = f"{evaluation.model} on {evaluation.split or 'all videos'}"
    parts = [
        _tally(evaluation),
        _figures(evaluation.figures),
        _plots(evaluation),
        _exits(evaluation),
        _classes(evaluation),
        _mistakes(evaluation, thumbnails or {}),
        _failures(evaluation),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{_STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{_named(title)}</h1></header>\n<main>\n{''.join(parts)}</main>\n"
        f"<footer>{_origin(evaluation)}</footer>\n</body>\n</html>\n"
    )


def write_report(
    path: str | os.PathLike[str], evaluation: Evaluation, thumbnails: Thumbnails | None = None
) -> None:
    """Write the page of `report` as a file that appears whole or not at all.

    Raises:
        FoveateError: The file cannot be written; an old one is left as it was.
    """
    page = report(evaluation, thumbnails)
    replace_file(Path(os.path.realpath(path)), page.encode("utf-8", errors="replace"))


def _exits(evaluation: Evaluation) -> str:
    """Where windows were decided, of networks with several exits."""
    found = evaluation.exits()
    if len(found) < 2:
        return ""
    total = sum(found.values())
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{count(number)}</td>'
        f"<td>{percent(number / total)}</td></tr>"
        for name, number in found.items()
    )
    return (
        '<section><h3>Exits</h3><table><thead><tr><th scope="col">exit</th>'
        '<th scope="col">windows</th><th scope="col">share</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></section>"
    )


def _tally(evaluation: Evaluation) -> str:
    first = evaluation.figures[0]
    cost, time = evaluation.figure("macs-per-video"), evaluation.figure("seconds-per-video")
    entries = [
        (first.name, _share(first.value), ""),
        ("Videos", count(evaluation.n), ""),
        ("Failed", count(evaluation.failed), "bad" if evaluation.failed else ""),
        ("Computed per video", macs(cost.value or 0), ""),
        ("Time per video", seconds(time.value or 0), ""),
    ]
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd{f' class={mark}' if mark else ''}>{text}</dd></div>"
        for name, text, mark in entries
    )
    return f'<dl class="tally">{items}</dl>\n'


def _figures(figures: Sequence[Figure]) -> str:
    rows = "".join(_figure(figure) for figure in figures)
    return (
        '<section><div class="wide"><table><caption>Figures with their intervals</caption><thead>'
        '<tr><th scope="col">figure</th><th scope="col">value</th><th scope="col">interval</th>'
        f'<th scope="col">resampled</th></tr></thead><tbody>{rows}</tbody></table></div>'
        "</section>\n"
    )


def _figure(figure: Figure) -> str:
    show = {"macs-per-video": macs, "seconds-per-video": seconds}.get(figure.name, percent)
    value, low, high = (
        "–" if number is None else show(number)
        for number in (figure.value, figure.low, figure.high)
    )
    rough = " (few: rough)" if figure.unit == "group" and figure.units < 10 else ""
    return (
        f'<tr><th scope="row">{escape(figure.name)}</th><td>{value}</td><td>{low} to {high}</td>'
        f"<td>{plural(figure.units, figure.unit)}{rough}</td></tr>"
    )


def _plots(evaluation: Evaluation) -> str:
    if not evaluation.confusion:
        return ""
    rows = [one.label for one in evaluation.classes]
    matrix = confusion_svg(rows, evaluation.columns, evaluation.confusion)
    plot = reliability_svg(evaluation.reliability)
    return (
        '<section><h3>Right class (rows) and predicted class</h3><div class="wide">'
        f'{matrix}</div></section>\n<section><h3>Calibration</h3><div class="wide">{plot}</div>'
        "</section>\n"
    )


def _classes(evaluation: Evaluation) -> str:
    what = "accuracy" if evaluation.confusion else "average precision"
    rows = "".join(
        f'<tr><th scope="row">{_named(one.label)}</th><td>{count(one.n)}</td>'
        f"<td>{_share(one.value)}</td></tr>"
        for one in evaluation.classes
    )
    return (
        '<section><div class="wide"><table><caption>Classes</caption><thead><tr>'
        f'<th scope="col">class</th><th scope="col">videos</th><th scope="col">{what}</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></div></section>\n"
    )


def _mistakes(evaluation: Evaluation, thumbnails: Thumbnails) -> str:
    shown = worst(evaluation)
    if not shown:
        return ""
    items = "".join(_mistake(p, thumbnails.get(p.name, ())) for p in shown)
    return f'<section><h3>Surest mistakes</h3><div class="mistakes">{items}</div></section>\n'


def _mistake(prediction: Prediction, frames: Sequence[tuple[float, bytes]]) -> str:
    pictures = "".join(
        f'<figure><img src="data:image/jpeg;base64,{b64encode(data).decode()}" '
        f'alt="frame at {time:.1f} s"></figure>'
        for time, data in frames
    )
    label, score = prediction.top[0]
    return (
        f'<div><div class="frames">{pictures}</div><p>{_named(prediction.name)}<br>'
        f"said {_named(label)} ({percent(score)}), is "
        f"{_named(', '.join(prediction.truth))} ({_share(prediction.truth_score)})</p></div>"
    )


def _failures(evaluation: Evaluation) -> str:
    failed = [p for p in evaluation.predictions if not p.ok]
    if not failed:
        return ""
    lines = "".join(f"<li>{_named(p.name)}: {_named(p.error or '')}</li>" for p in failed)
    heading = f"{plural(len(failed), 'video')} could not be read and are not in the figures"
    return f'<section class="failures note bad"><h2>{heading}</h2><ul>{lines}</ul></section>\n'


def _origin(evaluation: Evaluation) -> str:
    machine = evaluation.hardware
    return escape(
        f"{evaluation.protocol}. Commit {evaluation.commit}, {evaluation.date}. "
        f"{machine.processor}, {machine.cores} cores, {machine.threads} threads, "
        f"torch {machine.torch}. MACs are executed multiply-adds; times include decoding."
    )


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _named(text: str) -> str:
    return f"<bdi>{escape(text)}</bdi>"
