"""The log of a run, as JSON Lines and as CSV; the same run writes the same bytes.

It holds no times: they differ from run to run and are in `timing.jsonl`. A checkpoint records the
length of the files, and a resumed run truncates them to it.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from foveate.core import FoveateError, MissingExtra

COLUMNS = ("event", "epoch", "step", "lr", "loss", "grad_norm", "figures")
_CURVES = ("lr", "loss", "grad_norm")


class Log:
    """Appends rows to `log.jsonl` and `log.csv`.

    Args:
        folder: The run folder; None writes nothing (processes other than the main one).
        lengths: Bytes to keep of each file (by name) when resuming; None starts new files.
        tensorboard: Write TensorBoard events too.
        step: Steps done when resuming; TensorBoard discards events of later ones.

    Raises:
        FoveateError: The folder cannot be written, or a file is shorter than recorded.
        MissingExtra: TensorBoard is requested and not installed.
    """

    def __init__(
        self,
        folder: Path | None,
        lengths: dict[str, int] | None = None,
        tensorboard: bool = False,
        step: int = 0,
    ) -> None:
        self._files: dict[str, BinaryIO] = {}
        self._board: Any = None
        if folder is None:
            return
        for name in ("log.jsonl", "log.csv"):
            with _disk_errors(name):
                path = folder / name
                path.touch()
                self._files[name] = file = path.open("r+b")
                keep = 0 if lengths is None else lengths[name]
                if file.seek(0, os.SEEK_END) < keep:
                    raise FoveateError(f"{name}: shorter than the checkpoint says")
                file.truncate(keep)
                file.seek(keep)
        if not self._files["log.csv"].tell():
            self._csv(list(COLUMNS))
        if tensorboard:
            self._board = _board(folder, step)

    def write(self, **values: Any) -> None:
        """Add one row; `event`, `epoch` and `step` are required.

        Raises:
            FoveateError: The disk is full or gone.
        """
        if not self._files:
            return
        figures = values.get("figures")
        cells = [values.get(name) for name in COLUMNS[:-1]]
        cells.append(json.dumps(figures) if figures else None)
        with _disk_errors("log.jsonl"):
            self._files["log.jsonl"].write(f"{json.dumps(values)}\n".encode())
            self._csv(cells)
            for file in self._files.values():
                file.flush()
        if self._board is not None:
            numbers = {k: values[k] for k in _CURVES if values.get(k) is not None}
            for name, value in {**numbers, **(figures or {})}.items():
                self._board.add_scalar(f"{values['event']}/{name}", value, values["step"])

    def lengths(self) -> dict[str, int]:
        """Bytes of each file so far, after syncing them to the disk.

        Raises:
            FoveateError: The disk is full or gone.
        """
        with _disk_errors("log.jsonl"):
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
        return {name: file.tell() for name, file in self._files.items()}

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            # Every row was flushed, so a full disk was reported then; a resumed run truncates
            # incomplete rows.
            with suppress(OSError):
                file.close()
        if self._board is not None:
            self._board.close()

    def _csv(self, cells: list[Any]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(
            ["" if cell is None else cell for cell in cells]
        )
        self._files["log.csv"].write(line.getvalue().encode())


@contextmanager
def _disk_errors(name: str) -> Iterator[None]:
    """Turn errors of the disk into one line."""
    try:
        yield
    except OSError as error:
        raise FoveateError(f"{name}: cannot be written ({error.strerror})") from None


def _board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtra("tensorboard", "tensorboard") from None
    purge = step + 1 if step else None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=purge)
