"""Live progress of a training on standard error, only where that is a terminal."""

from __future__ import annotations

import sys
from typing import Any

from foveate.core.units import percent, seconds
from foveate.train.kit.state import Moment


class TerminalProgress:
    """A bar with loss, speed and time left; one line of figures after each epoch.

    Call it with each `Moment`; use it in a `with` block, so that the bar is taken away.
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

    def __call__(self, now: Moment) -> None:
        """Show where the training is."""
        if not self._enabled:
            return
        if self._progress is None:
            self._start()
        text = now.stage if now.stage != "train" else f"epoch {now.epoch + 1}/{now.epochs}"
        if now.loss is not None:
            text += f"  loss {now.loss:.3f}"
        if now.clips_per_second:
            text += f"  {now.clips_per_second:.1f} clips/s"
        left = "" if now.seconds_left is None else f"{seconds(now.seconds_left)} left"
        self._progress.update(
            self._task, completed=now.step, total=now.steps, description=text, left=left
        )
        if now.figures:
            said = "  ".join(f"{name} {_number(name, v)}" for name, v in now.figures.items())
            self._progress.console.print(f"epoch {now.epoch + 1}: {said}", highlight=False)

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
