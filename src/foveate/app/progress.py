"""Progress on the terminal for operations that take longer than a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from foveate.core.units import size

PATIENCE = 1.0  # seconds before a bar appears


class Bar:
    """A bar on standard error that appears after a second, and only on a terminal."""

    def __init__(self, total: float | None, enabled: bool = True) -> None:
        self._total = total
        self._enabled = enabled and sys.stderr.isatty()
        self._started = time.monotonic()
        self._progress: object = None
        self._task: object = None

    def update(self, done: float, text: str) -> None:
        """Set the progress and a short text (a file name, a time)."""
        if not self._enabled or time.monotonic() - self._started < PATIENCE:
            return
        from rich.markup import escape
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        if self._progress is None:
            from rich.console import Console

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task("", total=self._total)
        assert isinstance(self._progress, Progress)
        self._progress.update(self._task, completed=done, description=escape(text[:60]))  # type: ignore[arg-type]

    def close(self) -> None:
        """Remove the bar."""
        stop = getattr(self._progress, "stop", None)
        if stop is not None:
            stop()
        self._progress = None


@contextmanager
def bar(total: float | None, enabled: bool = True) -> Iterator[Bar]:
    """A bar for the duration of a block."""
    shown = Bar(total, enabled)
    try:
        yield shown
    finally:
        shown.close()


def download(shown: Bar, name: str) -> Callable[[int, int], None]:
    """A callback for downloads."""

    def update(done: int, total: int) -> None:
        shown.update(done / max(total, 1), f"{name}: {size(done)} of {size(total)}")

    return update
