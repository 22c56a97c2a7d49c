"""`foveate events`: lists, filters and exports the events in a store."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from foveate.app.guard import DONE
from foveate.app.output import check_writable
from foveate.app.requests import EventsRequest
from foveate.core import ConfigError
from foveate.core.files import replace_file
from foveate.live.events import Event
from foveate.live.store import EventQuery, read_events

_STATES = ("provisional", "closed")
_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_COLUMNS = (
    "started_at", "ended_at", "camera", "label", "zone", "seconds", "peak", "state", "reason",
    "clip", "id",
)  # fmt: skip


def run(request: EventsRequest) -> int:
    """Run the request; returns the exit code.

    Raises:
        FoveateError: The store cannot be read, an option is wrong, or a file cannot be written.
    """
    if request.state is not None and request.state not in _STATES:
        raise ConfigError(f"--state {request.state}: unknown", f"one of: {', '.join(_STATES)}")
    for path in (request.json_path, request.csv_path):
        if path not in (None, "-"):
            check_writable(Path(str(path)))
    if request.json_path == request.csv_path == "-":
        raise ConfigError("--json - --csv -: both to standard output", "name a file for one")
    now = datetime.now(UTC)
    query = EventQuery(
        cameras=request.cameras,
        labels=request.labels,
        zones=request.zones,
        state=request.state,
        since=None if request.since is None else when(request.since, "--since", now),
        until=None if request.until is None else when(request.until, "--until", now),
        min_peak=request.min_score,
        limit=request.limit,
    )
    found = read_events(request.store, query)
    if request.json_path is not None:
        _write(request.json_path, "".join(one.to_json() + "\n" for one in found))
    if request.csv_path is not None:
        _write(request.csv_path, _csv(found))
    if request.json_path is None and request.csv_path is None:
        _print(found)
    return DONE


def when(text: str, option: str, now: datetime) -> datetime:
    """A date, a time (local, unless it says its zone), or how long ago.

    Raises:
        ConfigError: It is none of these.
    """
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            return now - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        raise ConfigError(
            f"{option} {text}: not a time", "such as 2026-05-01, 2026-05-01T12:30 or 2h"
        ) from None


def _write(target: str, text: str) -> None:
    if target == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        replace_file(Path(target), text.encode("utf-8"))


def _row(event: Event) -> list[str]:
    ended, seconds = event.ended_at, event.seconds
    return [
        event.started_at.isoformat(timespec="milliseconds"),
        ended.isoformat(timespec="milliseconds") if ended else "",
        event.camera,
        event.label,
        event.zone or "",
        "" if seconds is None else f"{seconds:.2f}",
        f"{event.peak:.3f}",
        event.state,
        event.reason or "",
        event.clip.path if event.clip else "",
        event.id,
    ]


def _csv(events: Sequence[Event]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(_row(one) for one in events)
    return out.getvalue()


def _print(events: Sequence[Event]) -> None:
    """A table on standard output, in local time."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("began", "camera", "label", "lasted", "score", "clip"):
        table.add_column(name, overflow="fold")
    for one in events:
        lasted = "lasts" if one.seconds is None else f"{one.seconds:.1f} s"
        label = f"{one.label} ({one.zone})" if one.zone else one.label
        began = f"{one.started_at.astimezone():%Y-%m-%d %H:%M:%S}"
        clip = one.clip.path if one.clip else ""
        cells = (began, one.camera, label, lasted, f"{one.peak:.2f}", clip)
        table.add_row(*(Text(cell) for cell in cells))
    if events:
        # As wide as its cells where it is not a terminal, so that lines can be searched.
        width = None if sys.stdout.isatty() else 1000
        Console(width=width).print(table)
    print(f"{len(events)} event{'' if len(events) == 1 else 's'}", file=sys.stderr)
