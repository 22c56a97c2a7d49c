"""Results in a terminal, and as plain lines elsewhere.

Output is plain if the stream is not a terminal, if NO_COLOR is set, or if its encoding lacks block
characters. Plain output has no colours, cursor movements or drawn lines, so that it can be
searched. Labels and file names reach rich as `Text`, never as markup.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.segment import Segment as Piece
from rich.segment import Segments
from rich.text import Text

from foveate.core import Result, Segment
from foveate.core.result_text import tally
from foveate.core.text import plural, shorten, shorten_name, visible
from foveate.core.units import clock, count, macs, percent, seconds, share, si, size
from foveate.viz.columns import bars_of
from foveate.viz.modalities import lanes_of, summary
from foveate.viz.palette import colour_of, colours_of, is_none, key_of
from foveate.viz.time_index import looks_of, segments_of, span_of

_HEIGHTS = "▁▂▃▄▅▆▇█"
_BAR = 24
_MOST_LINES = 20
_ACCENT = "#4a86cf"


def print_result(result: Result, console: Console) -> None:
    """Print one Result: labels, timeline, cost, warnings.

    Args:
        result: What was recognised, or why it failed.
        console: Where to print; its stream decides between drawn and plain output.
    """
    _print(console, Text(visible(result.source), "bold"))
    if result.error is not None:
        _print(console, _failure(result))
    if result.labels:
        _labels(result, console)
    if result.segments:
        _segments(result, console)
    if result.detections:
        _detections(result, console)
    if result.cost.stages:
        _cost(result, console)
    if any("." in name for name in result.exits):
        exits = ", ".join(f"{visible(name)} {count(n)}" for name, n in result.exits.items())
        _print(console, f"  decided at: {exits}")
    lanes = lanes_of(result)
    if lanes:
        _print(console, f"  used: {summary(lanes)}")
    for warning in result.warnings:
        _print(console, Text(f"  warning: {visible(warning)}", "yellow"))


def print_line(result: Result, console: Console) -> None:
    """Print one Result of many: name, best label, score, cost; or why it failed."""
    if is_plain(console):
        # Neither padded nor cut, so that lines in a file can be searched and split.
        _print(console, "\t".join([visible(result.source), *_fields(result)]))
        return
    space = max(console.width - 44, 24)
    name = shorten_name(visible(result.source), space * 3 // 5)
    line = Text(set_cell_size(name, space * 3 // 5)).append("  ")
    if result.ok:
        label, score, *cost = _fields(result)
        line.append(set_cell_size(shorten(label, space * 2 // 5), space * 2 // 5), "bold")
        line.append(f" {score:>8}").append(f" {cost[0]:>13} {cost[1]:>12}", "dim")
    else:
        line.append_text(_failure(result)).truncate(console.width, overflow="ellipsis")
    _print(console, line)


def print_summary(results: Sequence[Result], console: Console) -> None:
    """Print the totals of a run over many inputs, as its last line."""
    failed = f"{count(sum(not result.ok for result in results))} failed"
    parts = [
        plural(len(results), "input"),
        failed,
        macs(sum(result.cost.macs for result in results)),
        seconds(sum(result.cost.seconds for result in results)),
        f"{plural(sum(result.cost.frames_decoded for result in results), 'frame')} decoded",
        f"{size(sum(result.cost.bytes_read for result in results))} read",
    ]
    line = Text(", ".join(parts), "bold")
    if not all(result.ok for result in results):
        line.highlight_words([failed], "red")
    _print(console, line)


def is_plain(console: Console) -> bool:
    """Whether output to this console is plain."""
    return not console.is_terminal or console.no_color or console.options.ascii_only


def _print(console: Console, line: Text | str = "") -> None:
    """Print one line as it is; what the stream cannot encode is written as its code."""
    text = line if isinstance(line, str) else line.plain
    try:
        text.encode(console.encoding)
    except UnicodeEncodeError:
        line = text = text.encode("ascii", "backslashreplace").decode("ascii")
    if is_plain(console):
        # A bare piece keeps its tabs and is neither wrapped nor styled.
        console.print(Segments([Piece(text), Piece.line()]), crop=False, end="")
    else:
        console.print(Text(line) if isinstance(line, str) else line, soft_wrap=True)


def _fields(result: Result) -> list[str]:
    """Label, score, MACs, time; or the error."""
    if not result.ok:
        return ["failed", _reason(result)]
    top = result.top
    label = visible(top.label) if top else "no label"
    if result.task == "detect":
        label = plural(len(result.detections), "detection")
    score = percent(top.score) if top else ""
    return [label, score, macs(result.cost.macs), seconds(result.cost.seconds)]


def _failure(result: Result) -> Text:
    return Text(f"failed: {_reason(result)}", "red")


def _reason(result: Result) -> str:
    return visible(result.error.message) if result.error else "no reason given"


def _labels(result: Result, console: Console) -> None:
    plain = is_plain(console)
    space = 60 if plain else max(8, console.width - _BAR - 16)
    names = [shorten(visible(score.label), space) for score in result.labels]
    wide = max(cell_len(name) for name in names)
    for name, score in zip(names, result.labels, strict=True):
        line = Text(f"  {set_cell_size(name, wide)} {percent(score.score):>8}")
        if not plain:
            full = round(share(score.score) * _BAR)
            line.append("  ").append("━" * full, _ACCENT).append("━" * (_BAR - full), "grey37")
        _print(console, line)


def _segments(result: Result, console: Console) -> None:
    """The timeline with its key; in plain output, the segments one by one."""
    segments = segments_of(result)
    if is_plain(console):
        for segment in segments[:_MOST_LINES]:
            label = "none" if is_none(segment) else visible(segment.label)
            times = f"{clock(segment.start, 1)} to {clock(segment.end, 1)}"
            _print(console, f"  {times:<20} {percent(segment.score):>8}  {label}")
        _more(console, len(segments), "more segment")
        return
    span = span_of(result, segments, looks_of(result))
    width = max(20, min(console.width - 4, 100))
    colours = colours_of(segments)
    _print(console)
    _print(console, _row(segments, colours, span, width))
    end = clock(span, 0 if span >= 60 else 1)
    _print(console, Text(f"  0:00{end:>{width - 4}}", "dim"))
    _key(segments, colours, console)


def _key(segments: Sequence[Segment], colours: dict[str, str], console: Console) -> None:
    """The key of colours, wrapped between its entries."""
    line = Text("  ")
    for colour, name, time in key_of(segments, colours):
        entry = Text.assemble(
            ("■ ", colour), shorten(visible(name), 30), (f" {seconds(time)}   ", "dim")
        )
        if line.cell_len + entry.cell_len > console.width and line.cell_len > 2:
            _print(console, line)
            line = Text("  ")
        line.append_text(entry)
    _print(console, line)


def _row(segments: Sequence[Segment], colours: dict[str, str], span: float, width: int) -> Text:
    """The timeline as one row: a block per column, as high as the score of its segment."""
    cells: list[tuple[str, str]] = [(" ", "")] * width
    for bar in bars_of(segments, width / span if span > 0 else width, width):
        block = _HEIGHTS[min(7, int(share(bar.segment.score) * 8))]
        first = min(int(bar.x1), width - 1)
        for column in range(first, max(first + 1, min(round(bar.x2), width))):
            cells[column] = (block, colour_of(bar.segment, colours))
    return Text("  ").append_text(Text.assemble(*cells))


def _detections(result: Result, console: Console) -> None:
    """One line per label: its detections, its tracks, the best score."""
    found = tally(result.detections)
    for label, number, tracks, best in found[:_MOST_LINES]:
        parts = [plural(number, "detection")] + ([plural(tracks, "track")] if tracks else [])
        _print(console, f"  {visible(label)}: {', '.join(parts)}, best {percent(best)}")
    _more(console, len(found), "more label")


def _more(console: Console, number: int, noun: str) -> None:
    """Say how many of a list were not printed, if any."""
    if number > _MOST_LINES:
        _print(console, f"  and {plural(number - _MOST_LINES, noun)}")


def _cost(result: Result, console: Console) -> None:
    """The ledger as a table, with a row of totals."""
    cost = result.cost
    numbers = [(s.name, s.calls, s.macs, s.seconds, s.frames, s.bytes) for s in cost.stages]
    calls = sum(stage.calls for stage in cost.stages)
    numbers.append(("total", calls, cost.macs, cost.seconds, cost.frames_decoded, cost.bytes_read))
    rows = [("stage", "calls", "MACs", "time", "frames", "read")]
    for name, ran, macs_, time, frames, read in numbers:
        rows.append(
            (visible(name), count(ran), si(macs_), seconds(time), count(frames), size(read))
        )
    wide = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    styles = ["dim", *[""] * len(cost.stages), "bold"]
    _print(console)
    for row, style in zip(rows, styles, strict=True):
        cells = [f"   {cell:>{w}}" for cell, w in zip(row[1:], wide[1:], strict=True)]
        _print(console, Text(f"  {set_cell_size(row[0], wide[0])}{''.join(cells)}", style))
