"""Results in a terminal, and as plain lines where there is none.

Plain means: the stream is no terminal, or NO_COLOR is set, or it cannot take block characters.
Then there are no colours, no cursor movements and no drawn lines, so that it can be searched and
mailed. Labels and file names reach rich as `Text`, never as markup.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.padding import Padding
from rich.segment import Segment as Piece
from rich.segment import Segments
from rich.table import Table
from rich.text import Text

from foveate.core import Result, Segment
from foveate.core.result_text import tally
from foveate.core.text import plural, shorten, shorten_name, visible
from foveate.core.units import clock, count, macs, percent, seconds, share, si, size
from foveate.viz.columns import bars_of
from foveate.viz.moments import looks_of, segments_of, span_of
from foveate.viz.palette import colour_of, colours_of, is_none, key_of

_HEIGHTS = "▁▂▃▄▅▆▇█"
_BAR = 24
_MOST_SEGMENTS = 20
_ACCENT = "#4a86cf"


def print_result(result: Result, console: Console) -> None:
    """Print one Result: labels, timeline, cost, warnings.

    Args:
        result: What was recognised, or why not.
        console: Where to; its stream decides between the drawn and the plain form.
    """
    plain = is_plain(console)
    _say(console, Text(visible(result.source), style="" if plain else "bold"))
    if result.error is not None:
        _say(console, _failure(result, plain))
    if result.labels:
        _labels(result, console, plain)
    if result.segments:
        _segments(result, console, plain)
    if result.detections:
        _detections(result, console)
    if result.cost.stages:
        _cost(result, console, plain)
    _notes(result, console, plain)


def print_line(result: Result, console: Console) -> None:
    """Print one Result of many: name, best label, score, cost; a failed one says why."""
    plain = is_plain(console)
    if plain:
        # No padding and no cutting: a line in a file is there to be searched and split.
        fields = [visible(result.source), *_fields(result)]
        _say(console, "\t".join(fields))
        return
    room = max(console.width - 44, 24)
    name = shorten_name(visible(result.source), room * 3 // 5)
    line = Text(set_cell_size(name, room * 3 // 5))
    if not result.ok:
        line.append("  ")
        line.append_text(_failure(result, plain))
        line.truncate(console.width, overflow="ellipsis")
        _say(console, line)
        return
    label, score, *cost = _fields(result)
    line.append("  ").append(set_cell_size(shorten(label, room * 2 // 5), room * 2 // 5), "bold")
    line.append(f" {score:>8}").append(f" {cost[0]:>13} {cost[1]:>12}", "dim")
    _say(console, line)


def print_summary(results: Sequence[Result], console: Console) -> None:
    """Print what a run over many inputs came to, as its last line."""
    failed = sum(not result.ok for result in results)
    said = [plural(len(results), "input"), f"{count(failed)} failed"]
    said.append(macs(sum(result.cost.macs for result in results)))
    said.append(seconds(sum(result.cost.seconds for result in results)))
    said.append(f"{plural(sum(r.cost.frames_decoded for r in results), 'frame')} decoded")
    said.append(f"{size(sum(result.cost.bytes_read for result in results))} read")
    line = Text(", ".join(said))
    if not is_plain(console):
        line.stylize("bold")
        if failed:
            line.highlight_words([said[1]], "red")
    _say(console, line)


def is_plain(console: Console) -> bool:
    """Whether this console gets plain lines."""
    return not console.is_terminal or console.no_color or console.options.ascii_only


def _say(console: Console, line: Text | str = "") -> None:
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
    """Label, score, MACs, time; or what failed."""
    if not result.ok:
        return ["failed", _reason(result)]
    top = result.top
    label = visible(top.label) if top else "no label"
    if result.task == "detect":
        label = plural(len(result.detections), "detection")
    score = percent(top.score) if top else ""
    return [label, score, macs(result.cost.macs), seconds(result.cost.seconds)]


def _failure(result: Result, plain: bool) -> Text:
    return Text(f"failed: {_reason(result)}", style="" if plain else "red")


def _reason(result: Result) -> str:
    return visible(result.error.message) if result.error else "no reason given"


def _labels(result: Result, console: Console, plain: bool) -> None:
    rows = [(visible(score.label), score.score) for score in result.labels]
    room = max(8, console.width - _BAR - 16) if not plain else 60
    wide = max(cell_len(shorten(label, room)) for label, _ in rows)
    for label, score in rows:
        line = Text(f"  {set_cell_size(shorten(label, room), wide)} {percent(score):>8}")
        if not plain:
            full = round(share(score) * _BAR)
            line.append("  ").append("━" * full, _ACCENT).append("━" * (_BAR - full), "grey37")
        _say(console, line)


def _segments(result: Result, console: Console, plain: bool) -> None:
    segments = segments_of(result)
    if plain:
        _list(segments, console)
        return
    looks = looks_of(result)
    span = span_of(result, segments, looks)
    room = max(20, min(console.width - 4, 100))
    colours = colours_of(segments)
    _say(console)
    _say(console, _row(segments, colours, span, room))
    end = clock(span, 0 if span >= 60 else 1)
    _say(console, Text(f"  0:00{end:>{room - 4}}", "dim"))
    _key(segments, colours, console)


def _key(segments: Sequence[Segment], colours: dict[str, str], console: Console) -> None:
    """The key of colours, wrapped between its entries."""
    line = Text("  ")
    for colour, name, time in key_of(segments, colours):
        entry = Text.assemble(
            ("■ ", colour), shorten(visible(name), 30), (f" {seconds(time)}   ", "dim")
        )
        if line.cell_len + entry.cell_len > console.width and line.cell_len > 2:
            _say(console, line)
            line = Text("  ")
        line.append_text(entry)
    _say(console, line)


def _row(segments: Sequence[Segment], colours: dict[str, str], span: float, room: int) -> Text:
    """The timeline as one row: a block per column, as high as the score of its segment."""
    cells: list[tuple[str, str]] = [(" ", "")] * room
    for bar in bars_of(segments, room / span if span > 0 else room, room):
        block = _HEIGHTS[min(7, int(share(bar.segment.score) * 8))]
        first = min(int(bar.x1), room - 1)
        for column in range(first, max(first + 1, min(round(bar.x2), room))):
            cells[column] = (block, colour_of(bar.segment, colours))
    return Text("  ").append_text(Text.assemble(*cells))


def _list(segments: Sequence[Segment], console: Console) -> None:
    for segment in segments[:_MOST_SEGMENTS]:
        label = "none" if is_none(segment) else visible(segment.label)
        times = f"{clock(segment.start, 1)} to {clock(segment.end, 1)}"
        _say(console, Text(f"  {times:<20} {percent(segment.score):>8}  {label}"))
    if len(segments) > _MOST_SEGMENTS:
        _say(console, Text(f"  and {plural(len(segments) - _MOST_SEGMENTS, 'more segment')}"))


def _detections(result: Result, console: Console) -> None:
    """One line per label: in how many boxes it was found, how many objects, the best score."""
    found = tally(result.detections)
    for label, number, tracks, best in found[:_MOST_SEGMENTS]:
        said = plural(number, "detection")
        if tracks:
            said += f", {plural(tracks, 'track')}"
        _say(console, Text(f"  {visible(label)}: {said}, best {percent(best)}"))
    if len(found) > _MOST_SEGMENTS:
        _say(console, Text(f"  and {plural(len(found) - _MOST_SEGMENTS, 'more label')}"))


def _cost(result: Result, console: Console, plain: bool) -> None:
    rows = [("stage", "calls", "MACs", "time", "frames", "read")]
    for stage in result.cost.stages:
        rows.append(
            (
                visible(stage.name),
                count(stage.calls),
                si(stage.macs),
                seconds(stage.seconds),
                count(stage.frames),
                size(stage.bytes),
            )
        )
    cost = result.cost
    calls = count(sum(stage.calls for stage in cost.stages))
    rows.append(
        (
            "total",
            calls,
            si(cost.macs),
            seconds(cost.seconds),
            count(cost.frames_decoded),
            size(cost.bytes_read),
        )
    )
    _say(console)
    if plain:
        _plain_table(rows, console)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for column, head in enumerate(rows[0]):
        table.add_column(Text(head), justify="left" if column == 0 else "right")
    for number, row in enumerate(rows[1:], start=2):
        table.add_row(*(Text(cell) for cell in row), style="bold" if number == len(rows) else "")
    console.print(Padding(table, (0, 0, 0, 2)), highlight=False)


def _plain_table(rows: Sequence[Sequence[str]], console: Console) -> None:
    wide = [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        first = set_cell_size(row[0], wide[0])
        rest = "".join(f"  {cell:>{w}}" for cell, w in zip(row[1:], wide[1:], strict=True))
        _say(console, Text(f"  {first}{rest}"))


def _notes(result: Result, console: Console, plain: bool) -> None:
    if any("." in name for name in result.exits):
        said = ", ".join(f"{visible(name)} {count(n)}" for name, n in result.exits.items())
        _say(console, Text(f"  decided at: {said}"))
    for warning in result.warnings:
        _say(console, Text(f"  warning: {visible(warning)}", style="" if plain else "yellow"))
