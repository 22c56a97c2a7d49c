"""Live progress of a training on standard error, if that is a terminal."""

from __future__ import annotations

import sys
from typing import Any

from foveate.core.units import percent, seconds
from foveate.train.kit.state import ProgressEvent


class TerminalProgress:
    """A bar with loss, speed and time left; one line of figures after each epoch.

    Call it with each `ProgressEvent`; use it in a `with` block, which removes the bar at the end.
    """

    def __init__(self) -> None:
        self._enabled = sys.stderr.isatty()
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> TerminalProgress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def __call__(self, event: ProgressEvent) -> None:
        """Show how far the training is."""
        if not self._enabled:
            return
        if self._progress is None:
            self._start()
        text = event.stage if event.stage != "train" else f"epoch {event.epoch + 1}/{event.epochs}"
        if event.loss is not None:
            text += f"  loss {event.loss:.3f}"
        if event.clips_per_second:
            text += f"  {event.clips_per_second:.1f} clips/s"
        left = "" if event.seconds_left is None else f"{seconds(event.seconds_left)} left"
        self._progress.update(
            self._task, completed=event.step, total=event.steps, description=text, left=left
        )
        if event.figures:
            shown = "  ".join(f"{name} {_number(name, v)}" for name, v in event.figures.items())
            self._progress.console.print(f"epoch {event.epoch + 1}: {shown}", highlight=False)

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
    return f"{value:.3f}" if "loss" in name else percent(value)
