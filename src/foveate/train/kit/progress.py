"""Progress of a training on standard error: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from typing import Any

from foveate.core.units import percent, seconds
from foveate.train.kit.state import ProgressEvent

EVERY = 180.0  # seconds between lines within an epoch


class TerminalProgress:
    """Shows loss, speed and time left, and one line of figures after each epoch.

    On a terminal a bar shows the place in the epoch; elsewhere a line does, every few minutes.
    Call it with each `ProgressEvent`; use it in a `with` block, which removes the bar at the end.
    """

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._progress: Any = None
        self._task: Any = None
        self._said = time.monotonic()

    def __enter__(self) -> TerminalProgress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def __call__(self, event: ProgressEvent) -> None:
        """Show how far the training is."""
        if event.message is not None:
            self._print(event.message)
            return
        left = "" if event.seconds_left is None else f"{seconds(event.seconds_left)} left"
        where = event.stage if event.stage != "train" else f"epoch {event.epoch + 1}/{event.epochs}"
        loss = [] if event.loss is None else [f"loss {event.loss:.3f}"]
        speed = [f"{event.clips_per_second:.1f} clips/s"] if event.clips_per_second else []
        if self._terminal:
            if self._progress is None:
                self._start()
            self._progress.update(
                self._task, completed=event.step, total=event.steps,
                description="  ".join([where, *loss, *speed]), left=left,
            )  # fmt: skip
        if event.figures:
            shown = [f"{name} {_number(name, v)}" for name, v in event.figures.items()]
            self._print(f"{where}: {', '.join([*shown, *speed, left]).removesuffix(', ')}")
        elif not self._terminal and time.monotonic() - self._said > EVERY:
            place = f"{event.step} of {event.steps}"
            self._print(f"{where}, {', '.join([place, *loss, *speed, left]).removesuffix(', ')}")

    def _print(self, line: str) -> None:
        self._said = time.monotonic()
        if self._progress is None:
            print(line, file=sys.stderr, flush=True)
        else:
            self._progress.console.print(line, highlight=False, markup=False)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[left]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task("", total=None, left="")


def _number(name: str, value: float) -> str:
    return f"{value:.3f}" if name.startswith(("loss", "infonce")) else percent(value)
