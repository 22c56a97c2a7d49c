"""One HTML page about any number of Results, whole in itself.

The page asks nothing of a network and runs no script; its own policy forbids both. Everything
that came from outside (names, labels, messages) is text in it and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from foveate.core import FoveateError, Result
from foveate.core.text import escape, plural, visible
from foveate.core.units import count, macs, percent, seconds, size
from foveate.viz import report_parts as parts
from foveate.viz.report_style import STYLE

Thumbnails = Mapping[str, Sequence[tuple[float, bytes]]]

# So few inputs are read from top to bottom; more are a list to choose from.
_OPEN = 3
# On paper nothing can be unfolded; so many are printed in full, more as the list alone.
_PRINTED = 20
_MOST_FAILURES = 20
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def report(
    results: Sequence[Result], thumbnails: Thumbnails | None = None, title: str = "Video report"
) -> str:
    """Build the page.

    Args:
        results: In the order in which they are shown; failed ones too.
        thumbnails: `Result.source` → `(seconds, JPEG bytes)` of a few frames, as `to_jpeg` gives.
        title: Heading of the page.

    Returns:
        HTML with everything inside: style, drawings and pictures.
    """
    pictures = thumbnails or {}
    items = "".join(
        _item(number, result, pictures.get(result.source, ()), len(results))
        for number, result in enumerate(results, start=1)
    )
    kind = "few" if len(results) <= _OPEN else "many" if len(results) <= _PRINTED else "many crowd"
    items = f'<div class="{kind}">{items or _NOTHING}</div>'
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1>\n{_tally(results)}</header>\n"
        f"<main>\n{_failures(results)}{items}</main>\n"
        "<footer>Made by foveate. MACs are executed multiply-adds; times and bytes include "
        "decoding.</footer>\n</body>\n</html>\n"
    )


def write_report(
    path: str | os.PathLike[str],
    results: Sequence[Result],
    thumbnails: Thumbnails | None = None,
    title: str = "Video report",
) -> None:
    """Write the page of `report` as a file that appears whole or not at all.

    Args:
        path: The file; one that exists is replaced.
        results: As for `report`.
        thumbnails: As for `report`.
        title: As for `report`.

    Raises:
        FoveateError: The file cannot be written; an old one is left as it was.
    """
    write_page(path, report(results, thumbnails, title))


def write_page(path: str | os.PathLike[str], text: str) -> None:
    """Write a page as a file that appears whole or not at all.

    Raises:
        FoveateError: The file cannot be written; an old one is left as it was.
    """
    page = text.encode("utf-8", errors="replace")
    target = Path(path)
    try:
        if target.exists() and not target.is_file():
            # A pipe or a device takes the page as it comes; a folder refuses it.
            target.write_bytes(page)
        else:
            # A link stays a link; the file behind it is what is replaced.
            _replace(Path(os.path.realpath(target)), page)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        name = visible(target.name or str(target))
        raise FoveateError(f"{name}: cannot be written ({reason})") from None


def _replace(target: Path, data: bytes) -> None:
    """Write beside the file under a name of its own, then rename."""
    partial = target.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        with partial.open("xb") as file:
            file.write(data)
        os.replace(partial, target)
    except BaseException:
        # An interrupted write must not leave half a page behind either.
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


_NOTHING = '<p class="soft">There are no inputs to report on.</p>\n'


def _tally(results: Sequence[Result]) -> str:
    """The numbers of the whole run."""
    failed = sum(not result.ok for result in results)
    video = sum(result.duration or 0.0 for result in results)
    entries = [
        ("Inputs", count(len(results)), ""),
        ("Failed", count(failed), "bad" if failed else ""),
        ("Video", seconds(video), ""),
        ("Computed", macs(sum(result.cost.macs for result in results)), ""),
        ("Time", seconds(sum(result.cost.seconds for result in results)), ""),
        ("Frames decoded", count(sum(result.cost.frames_decoded for result in results)), ""),
        ("Read", size(sum(result.cost.bytes_read for result in results)), ""),
    ]
    items = "".join(
        f"<div><dt>{name}</dt><dd{f' class={mark}' if mark else ''}>{text}</dd></div>"
        for name, text, mark in entries
    )
    return f'<dl class="tally">{items}</dl>\n'


def _failures(results: Sequence[Result]) -> str:
    """Links to what failed, where it would otherwise drown in a long list."""
    failed = [(number, r) for number, r in enumerate(results, start=1) if not r.ok]
    if not failed or len(results) <= _OPEN:
        return ""
    lines = "".join(
        f'<li><a href="#input-{number}">{parts.named(result.source)}</a>{_reason(result)}</li>'
        for number, result in failed[:_MOST_FAILURES]
    )
    if len(failed) > _MOST_FAILURES:
        lines += f"<li>and {count(len(failed) - _MOST_FAILURES)} more</li>"
    heading = f"{plural(len(failed), 'input')} failed"
    return f'<section class="failures note bad"><h2>{heading}</h2><ul>{lines}</ul></section>\n'


def _reason(result: Result) -> str:
    if result.error is None:
        return ""
    # Messages begin with the name of the file, which stands right before.
    message = result.error.message.removeprefix(f"{result.source}: ")
    return f": {parts.named(message)}"


def _item(number: int, result: Result, frames: Sequence[tuple[float, bytes]], inputs: int) -> str:
    """One input: a line that says it all, and everything else behind it."""
    # The link target lies inside, for browsers unfold what holds the target of a link.
    head = f'<h2 id="input-{number}">{parts.named(result.source)}</h2>{_headline(result)}'
    body = f'<div class="body">{_body(result, frames, inputs <= _PRINTED)}</div>'
    if inputs == 1:
        return f'<section class="item"><div class="head">{head}</div>{body}</section>\n'
    state = " open" if inputs <= _OPEN else ""
    return f'<details class="item"{state}><summary class="head">{head}</summary>{body}</details>\n'


def _headline(result: Result) -> str:
    if not result.ok:
        kind = result.error.kind if result.error else "error"
        return f'<span class="said">failed ({parts.named(kind)})</span>'
    cost = f'<span class="number soft cost">{macs(result.cost.macs)}</span>'
    if result.task == "detect":
        found = plural(len(result.detections), "detection")
        return f'<span class="best">{found}</span><span class="number"></span>{cost}'
    if result.top is None:
        return f'<span class="best soft">no label</span><span class="number"></span>{cost}'
    return (
        f'<span class="best">{parts.named(result.top.label)}</span>'
        f'<span class="number">{percent(result.top.score)}</span>{cost}'
    )


def _body(result: Result, frames: Sequence[tuple[float, bytes]], detail: bool) -> str:
    built = (
        parts.labels(result.labels),
        parts.detections(result),
        parts.exits(result),
        parts.ledger(result.cost),
    )
    tables = [table for table in built if table]
    side_by_side = f'<div class="pair">{"".join(tables)}</div>' if len(tables) == 2 else None
    return (
        parts.notes(result)
        + parts.facts(result)
        + parts.timeline(result, detail)
        + (side_by_side or "".join(tables))
        + parts.looked(result)
        + parts.pictures(frames)
    )
