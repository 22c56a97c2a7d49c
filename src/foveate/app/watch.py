"""`foveate watch`: cameras until Ctrl-C or SIGTERM, with a table, JSON lines, logs and metrics."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO, get_args

from foveate.app.options import event_config
from foveate.app.output import check_writable
from foveate.app.predict import load_model
from foveate.app.requests import WatchRequest as Request
from foveate.core import ConfigError, FoveateError
from foveate.core.config import build, to_yaml
from foveate.core.units import count, seconds
from foveate.live.camera import Pace, cameras
from foveate.live.metrics import Metrics, MetricsServer
from foveate.live.outputs import EventOutputs
from foveate.live.reader import CameraStatus
from foveate.live.step import StepResult
from foveate.media.limits import Limits
from foveate.pipeline.presets import edit, resolve

_REFRESH = 0.5  # seconds between two changes of the table
_LINES_EVERY = 30.0  # seconds between two lines of a camera where there is no terminal
_RECENT = 5.0  # seconds over which rates and ages are shown


def run(request: Request) -> int:
    """Run the request; returns the exit code.

    Raises:
        FoveateError: The request itself is wrong: a setting, an address, a path to write to.
    """
    changed, limit_values = request.changes()
    limits = build(Limits, limit_values, "limits")
    events = event_config(changed)
    named, preset = resolve(request.model)
    preset = edit(preset, changed, "settings")
    if request.print_config:
        print(to_yaml(preset, limits=limits, **dict(events)), end="")
        return 0
    if not request.inputs:
        raise ConfigError("nothing to watch", "type: foveate watch rtsp://CAMERA/STREAM")
    if request.pace not in get_args(Pace):
        raise ConfigError(f"--pace {request.pace}: unknown", f"one of: {', '.join(get_args(Pace))}")
    pace: Pace = request.pace  # type: ignore[assignment]
    cameras(request.inputs, pace=pace)  # before the model is loaded
    if request.json_path == request.events == "-":
        raise ConfigError("--json - --events -: both to standard output", "name a file for one")
    if request.json_path not in (None, "-"):
        check_writable(Path(str(request.json_path)), streams=True)
    recogniser = load_model(request, named, preset, limits)
    with ExitStack() as stack:
        lines = stack.enter_context(_json_lines(request.json_path))
        stack.enter_context(_logging(request.log_json))
        outputs = stack.enter_context(
            EventOutputs(recogniser.labels, events, request.targets, none_below=preset.none_below)
        )
        watch = stack.enter_context(
            recogniser.watch(
                request.inputs,
                pace=pace,
                budget=request.shared_budget,
                max_wait=request.max_wait,
                outputs=outputs,
            )
        )
        stack.enter_context(_stopped_by_signals(watch, request.duration))
        metrics = Metrics(watch.status, lambda: watch.beat, outputs.stats)
        if request.metrics is not None:
            server = stack.enter_context(MetricsServer(metrics, request.metrics))
            where = request.metrics.rpartition(":")[0]
            print(f"metrics: http://{where}:{server.port}/metrics", file=sys.stderr)
        table = stack.enter_context(_Table(watch, request.quiet))
        for item in watch:
            if isinstance(item, StepResult):
                metrics.step(item)
                table.step(item)
            else:
                table.event(str(item))
                if item.revision == 0:
                    metrics.event(item.camera, item.label)
            if lines is not None:
                lines.write(item.to_json() + "\n")
        found = watch.status()
    return 1 if any(one.state == "finished" and one.reason for one in found) else 0


@contextmanager
def _json_lines(target: str | None) -> Iterator[TextIO | None]:
    """A stream for lines, each written at once."""
    if target in (None, "-"):
        yield sys.stdout if target else None
        return
    try:
        file = Path(str(target)).open("a", encoding="utf-8", buffering=1)  # noqa: SIM115
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FoveateError(f"{target}: cannot be written ({reason})") from None
    with file:
        yield file


class _Handler(logging.Handler):
    """One line per record on standard error, as text or as JSON."""

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        text = record.getMessage()
        if self._as_json:
            fields = getattr(record, "fields", {})
            level = record.levelname.lower()
            text = json.dumps({"time": at, "level": level, "message": text, **fields})
        else:
            text = f"{at} {text}"
        # Looked up now: the table replaces it to print above itself.
        print(text, file=sys.stderr, flush=True)


@contextmanager
def _logging(as_json: bool) -> Iterator[None]:
    log, handler = logging.getLogger("foveate.live"), _Handler(as_json)
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]


@contextmanager
def _stopped_by_signals(watch: Any, duration: float | None) -> Iterator[None]:
    """Stop on Ctrl-C, on SIGTERM, and after `duration`; a second signal stops at once."""
    asked = False

    def stop(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        watch.stop()

    timer = None if duration is None else threading.Timer(duration, watch.stop)
    if timer is not None:
        timer.daemon = True
        timer.start()
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if timer is not None:
            timer.cancel()


class _Table:
    """The cameras on the terminal, redrawn; elsewhere a line per camera from time to time."""

    def __init__(self, watch: Any, quiet: bool) -> None:
        self._watch, self._quiet = watch, quiet
        self._steps: dict[str, deque[tuple[float, float]]] = {}  # when, and how old
        self._last: dict[str, str] = {}
        self._live: Any = None
        self._begun = time.monotonic()
        self._next = self._begun + _LINES_EVERY

    def __enter__(self) -> _Table:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True)
            self._live = Live(
                get_renderable=self._render, console=console,
                refresh_per_second=1 / _REFRESH, redirect_stdout=False,
            )  # fmt: skip
            self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.__exit__(None, None, None)
        elif not self._quiet:
            self._print()

    def step(self, step: StepResult) -> None:
        """Note a step."""
        now = time.monotonic()
        recent = self._steps.setdefault(step.camera, deque(maxlen=1000))
        recent.append((now, step.age))
        best = step.best(1)
        if step.unknown:
            self._last[step.camera] = "unknown"
        elif best:
            self._last[step.camera] = f"{best[0].label} {best[0].score:.2f}"
        else:
            self._last[step.camera] = f"{len(step.detections)} objects"
        if not self._quiet and self._live is None and now >= self._next:
            self._next = now + _LINES_EVERY
            self._print()

    def event(self, text: str) -> None:
        """Print an event above the table."""
        if not self._quiet:
            print(text, file=sys.stderr)

    def _cells(self, one: CameraStatus) -> tuple[str, ...]:
        now = time.monotonic()
        recent = [item for item in self._steps.get(one.name, ()) if item[0] > now - _RECENT]
        passed = min(_RECENT, now - self._begun)
        rate = f"{len(recent) / max(passed, 0.1):.1f}/s"
        ages = sorted(age for _, age in recent)
        age = seconds(ages[len(ages) // 2]) if ages else "–"
        lost = sum(one.dropped.get(cause, 0) for cause in ("overload", "queue", "damaged"))
        state = "paused" if one.paused else one.state
        size = "" if one.size is None else f"{one.size[0]}x{one.size[1]}"
        note = one.reason or self._last.get(one.name, "")
        return one.name, state, size, rate, age, count(one.looked), count(lost), note

    def _render(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for name in ("camera", "state", "size", "rate", "age", "looked at", "lost", ""):
            table.add_column(name, no_wrap=True)
        for one in self._watch.status():
            table.add_row(*(Text(cell) for cell in self._cells(one)))
        return table

    def _print(self) -> None:
        for one in self._watch.status():
            name, state, size, rate, age, looked, lost, note = self._cells(one)
            state = f"{state} {size}".strip()
            line = f"{name}: {state}, {rate}, {age} old, {looked} looked at, {lost} lost"
            print(f"{line}; {note}" if note else line, file=sys.stderr)
