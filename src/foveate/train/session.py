"""The run folder while it is being trained: begun, gone on with, and closed with a card."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from foveate.core import ConfigError, FoveateError
from foveate.core.files import replace_file
from foveate.evaluate.results import commit, hardware, now
from foveate.models.weights.builtin import CARD
from foveate.models.weights.run import RunCard, read_run
from foveate.train.checkpoint import Checkpoints, Saved
from foveate.train.state import Run

TRAINING = "training.json"
_MAX_BYTES = 10_000_000
# Settings that change how fast a run is, never what it computes.
_FREE = frozenset({"workers", "save_every", "tensorboard"})


@dataclass(frozen=True)
class Training:
    """How a run was begun: enough to go on with it.

    Attributes:
        recipe: Name of the recipe.
        configuration: Its configuration, as plain values.
        origin: How the caller opened the data, in the caller's own words.
    """

    recipe: str
    configuration: dict[str, Any]
    origin: dict[str, Any]


@dataclass(frozen=True)
class RunSummary:
    """What a call of `fit` did.

    Attributes:
        folder: The run folder.
        outcome: `finished`, `early` (no better for a while) or `interrupted` (and saved).
        epochs: Epochs done, those before a resume too.
        steps: Steps done, likewise.
        figures: Of the best epoch on the validation split; names carry their protocol.
        seconds: This call took.
        clips_per_second: While training, without validation.
        loader_share: Part of the training time spent waiting for data.
        peak_memory_mb: Of this process.
        features_seconds: Of that time, computing features once (`freeze=backbone`).
        warnings: What the user should know.
        failures: Samples that could not be read, with the reason.
    """

    folder: Path
    outcome: str
    epochs: int
    steps: int
    figures: dict[str, float]
    seconds: float
    clips_per_second: float
    loader_share: float
    peak_memory_mb: float | None
    features_seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __fspath__(self) -> str:
        """The run folder, so that `foveate.load` takes a summary too."""
        return str(self.folder)

    @property
    def card(self) -> RunCard:
        """What `run.json` in the folder says: classes, input, configuration, figures.

        Raises:
            WeightsError: There is none, as after an interruption.
        """
        return read_run(self.folder)


def read_training(folder: Path) -> Training:
    """How the run in a folder was begun.

    Raises:
        ConfigError: It is no run folder.
    """
    path = folder / TRAINING
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path.name}: larger than {_MAX_BYTES} bytes")
        return Training(**json.loads(path.read_text("utf-8")))
    except OSError:
        raise ConfigError(f"{folder}: no training was begun in this folder") from None
    except (ValueError, TypeError, RecursionError):
        raise ConfigError(f"{path.name}: damaged") from None


def begin(folder: Path, training: Training, again: bool) -> Checkpoints:
    """Open a run folder for writing.

    Args:
        folder: Made if it is not there.
        training: Written down if the run is new.
        again: Whether to go on with what is there.

    Raises:
        ConfigError: A new run in a folder that holds one, or nothing to go on with.
        FoveateError: The folder cannot be written.
    """
    held = (folder / TRAINING).is_file()
    if again and not held:
        raise ConfigError(f"{folder}: there is no run to resume")
    if not again and (held or (folder / CARD).is_file()):
        raise ConfigError(f"{folder}: there is a run in this folder", "resume it, or name another")
    checkpoints = Checkpoints(folder / "checkpoints")
    checkpoints.clean()
    if not held:
        replace_file(folder / TRAINING, f"{json.dumps(asdict(training), indent=1)}\n".encode())
    return checkpoints


def notes_of(
    configuration: Mapping[str, Any],
    classes: tuple[str, ...],
    digests: Mapping[str, str],
    preprocessing: Mapping[str, Any],
    processes: int = 1,
) -> dict[str, Any]:
    """What every checkpoint says of its run besides numbers."""
    return {
        "configuration": dict(configuration),
        "classes": list(classes),
        "digests": dict(digests),
        "input": json.loads(json.dumps(preprocessing)),
        "commit": commit(),
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "processes": processes,
    }


def check_same(saved: Saved, notes: Mapping[str, Any], folder: Path) -> list[str]:
    """Refuse to go on with other data or settings.

    Returns:
        Differences that do not forbid going on, but the promise of the same bits.

    Raises:
        ConfigError: A setting, a class or a clip of the data changed; one line says which.
    """
    then = saved.values["notes"]
    for name, value in notes["configuration"].items():
        before = then["configuration"].get(name)
        if name not in _FREE and before != value:
            raise ConfigError(f"{folder}: the run was begun with {name}={before}, not {value}")
    if then["classes"] != notes["classes"]:
        raise ConfigError(f"{folder}: the data has other classes than when the run was begun")
    for split, digest in notes["digests"].items():
        if then["digests"].get(split) != digest:
            raise ConfigError(f"{folder}: the clips of {split!r} changed since the run was begun")
    return [
        f"resumed with other {name} ({then[name]}, now {notes[name]}): the last bits may differ"
        for name in ("commit", "torch", "threads", "processes")
        if then[name] != notes[name]
    ]


def close(
    run: Run,
    folder: Path,
    outcome: str,
    began: float,
    features_seconds: float,
    warnings: list[str],
    failures: list[str],
) -> RunSummary:
    """Sum up, and note the times in `timing.jsonl` (a log of its own: times are never the same)."""
    clock = run.clock
    trained = clock.training
    summary = RunSummary(
        folder=folder,
        outcome=outcome,
        epochs=run.epoch,
        steps=run.step,
        figures=run.best_figures,
        seconds=time.perf_counter() - began,
        clips_per_second=clock.clips / trained if trained else 0.0,
        loader_share=clock.waiting / trained if trained else 0.0,
        peak_memory_mb=peak_memory_mb(),
        features_seconds=features_seconds,
        warnings=warnings,
        failures=failures,
    )
    if run.team.leads:
        row = {"date": now(), **asdict(summary), "hardware": hardware().model_dump()}
        row = {key: value for key, value in row.items() if key != "folder"}
        try:
            with (folder / "timing.jsonl").open("a", encoding="utf-8") as file:
                file.write(f"{json.dumps(row)}\n")
        except OSError as error:
            raise FoveateError(f"timing.jsonl: cannot be written ({error.strerror})") from None
    return summary


def peak_memory_mb() -> float | None:
    """Most memory that this process held, None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
