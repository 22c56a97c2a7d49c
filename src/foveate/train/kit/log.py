"""The log of a run: `log.jsonl` with every step, `log.csv` with a row per epoch, and trackers.

It holds no times: they differ from run to run and are in `timing.jsonl`. The same run writes the
same bytes. A checkpoint records the length of the files, and a resumed run truncates them to it.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from foveate.core import FoveateError, MissingExtra
from foveate.core.files import replace_file

COLUMNS = ("event", "epoch", "step", "loss")  # of log.csv; metrics follow
_CURVES = ("lr", "loss", "grad_norm")


class Tracker(Protocol):
    """A service that draws curves of numbers over steps."""

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers by name."""

    def close(self) -> None:
        """Send what is left."""


class TensorBoard:
    """Writes events for TensorBoard to `tensorboard/` in the run folder.

    Args:
        folder: The run folder.
        step: Steps done when resuming; events of later ones are discarded.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = step + 1 if step else None
        self._writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=purge)

    def add(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See `Tracker`."""
        self._writer.close()


class WeightsAndBiases:
    """Sends numbers to Weights & Biases; a resumed run continues the same run there.

    Args:
        folder: The run folder, whose name is that of the run; `wandb-id.txt` in it identifies it.
        step: Steps done when resuming; the service ignores repeated ones.
    """

    def __init__(self, folder: Path, step: int) -> None:
        import wandb

        known = folder / "wandb-id.txt"
        if not step or not known.is_file():
            replace_file(known, wandb.util.generate_id().encode())
        self._run: Any = wandb.init(
            project="foveate", name=folder.name, dir=str(folder), id=known.read_text("ascii"),
            resume="allow",
        )  # fmt: skip

    def add(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """See `Tracker`."""
        self._run.finish()


TRACKERS: dict[str, type[TensorBoard] | type[WeightsAndBiases]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


def require_tracker(name: str) -> None:
    """Check that the package of a tracker is installed.

    Raises:
        MissingExtra: It is not.
    """
    if name in TRACKERS and find_spec(name) is None:
        raise MissingExtra(name, name)


class Log:
    """Appends rows to `log.jsonl`, and those of epochs to `log.csv`.

    Args:
        folder: The run folder; None writes nothing (processes other than the main one).
        lengths: Bytes to keep of each file (by name) when resuming; None starts new files.
        tracker: One of `TRACKERS` that gets the same numbers, or `none`.
        step: Steps done when resuming.

    Raises:
        FoveateError: The folder cannot be written, or a file is shorter than recorded.
    """

    def __init__(
        self,
        folder: Path | None,
        lengths: dict[str, int] | None = None,
        tracker: str = "none",
        step: int = 0,
    ) -> None:
        self._files: dict[str, BinaryIO] = {}
        self._tracker: Tracker | None = None
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
        if tracker in TRACKERS:
            self._tracker = TRACKERS[tracker](folder, step)

    def write(self, **values: Any) -> None:
        """Append a row.

        Args:
            **values: `event` (`step`, `epoch` or `start`), `epoch`, `step`, and what was measured;
                `figures` holds the metrics of a validation.

        Raises:
            FoveateError: The disk is full or gone.
        """
        if not self._files:
            return
        figures = values.get("figures")
        with _disk_errors("log.jsonl"):
            self._files["log.jsonl"].write(f"{json.dumps(values)}\n".encode())
            if figures is not None:
                self._row(values, figures)
            for file in self._files.values():
                file.flush()
        if self._tracker is not None:
            numbers = {k: values[k] for k in _CURVES if values.get(k) is not None}
            named = {f"{values['event']}/{k}": v for k, v in {**numbers, **(figures or {})}.items()}
            self._tracker.add(named, values["step"])

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
        if self._tracker is not None:
            self._tracker.close()

    def _row(self, values: Mapping[str, Any], figures: Mapping[str, float]) -> None:
        """Append the row of an epoch to `log.csv`; the first one brings the header."""
        file, text = self._files["log.csv"], io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not file.tell():
            writer.writerow([*COLUMNS, *figures])
        writer.writerow([*(values.get(name) for name in COLUMNS), *figures.values()])
        file.write(text.getvalue().encode())


@contextmanager
def _disk_errors(name: str) -> Iterator[None]:
    """Turn errors of the disk into one line."""
    try:
        yield
    except OSError as error:
        raise FoveateError(f"{name}: cannot be written ({error.strerror})") from None
