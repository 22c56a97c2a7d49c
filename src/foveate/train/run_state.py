"""The run folder during training: how it was begun, its checkpoints, and a summary at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from foveate.core import ConfigError, FoveateError
from foveate.core.files import replace_file
from foveate.data import Dataset
from foveate.evaluate.results import commit, hardware, now
from foveate.models.weights.builtin import CARD
from foveate.models.weights.run import RunCard, card_text, read_run
from foveate.train.kit.checkpoint import Saved

TRAINING = "training.json"
_MAX_BYTES = 10_000_000


def peak_memory_mb() -> float | None:
    """Largest resident memory of this process, None if the system does not report it."""
    try:
        import resource
    except ImportError:
        return None
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


@dataclass(frozen=True)
class Training:
    """How a run was begun: enough to resume it.

    Attributes:
        recipe: Name of the recipe.
        configuration: Its settings, as plain values.
        origin: How the caller opened the data.
        outcome: Of a run that is over (see `RunSummary`), None before.
        preset: Fields of the preset with which the model is used, besides those of the recipe.
    """

    recipe: str
    configuration: dict[str, Any]
    origin: dict[str, Any]
    outcome: str | None = None
    preset: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunSummary:
    """Result of a training.

    Attributes:
        folder: The run folder.
        outcome: `finished`, `early` (no better for a while, or ended by `--finish`) or
            `interrupted` (and saved).
        epochs: Epochs done, those before a resume included.
        steps: Steps done, likewise.
        figures: Metrics of the best epoch on the validation split; names carry their protocol.
        clips_per_second: While training and computing features, without validation.
        loader_share: Fraction of the training time spent waiting for data.
        features_seconds: Time spent computing features of the frozen network.
        features_saved: Time not spent because such features had been computed before.
        seconds: Time of this call.
        peak_memory_mb: Of this process.
        warnings: What the user should know.
        failures: Samples that could not be read, with the reason.
        stages: Metrics of each stage by its name, of a training with stages.
    """

    folder: Path
    outcome: str
    epochs: int
    steps: int
    figures: dict[str, float]
    clips_per_second: float
    loader_share: float
    features_seconds: float = 0.0
    features_saved: float = 0.0
    seconds: float = 0.0
    peak_memory_mb: float | None = field(default_factory=peak_memory_mb)
    warnings: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    stages: dict[str, dict[str, float]] = field(default_factory=dict)

    def __fspath__(self) -> str:
        """The run folder, so that `foveate.load` takes a summary too."""
        return str(self.folder)

    @property
    def card(self) -> RunCard:
        """`run.json` of the folder: classes, input, configuration, figures.

        Raises:
            WeightsError: There is none, because no epoch is over.
        """
        return read_run(self.folder)


def read_training(folder: Path) -> Training:
    """How the run in a folder was begun.

    Raises:
        ConfigError: It is not a run folder.
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


def check_run(folder: Path, training: Training, resume: bool, free: Collection[str]) -> None:
    """Check that a run can be begun in a folder, or resumed; nothing is written.

    Args:
        folder: Of the run; it need not exist.
        training: How the run is to be trained.
        resume: Whether to resume the run that is there.
        free: Settings that may differ from those the run was begun with.

    Raises:
        ConfigError: A new run in a folder that holds one, no run to resume, or a setting that
            changed.
        FoveateError: The folder cannot be written.
    """
    begun = (folder / TRAINING).is_file()
    if resume and not begun:
        raise ConfigError(f"{folder}: there is no run to resume")
    if not resume and (begun or (folder / CARD).is_file()):
        raise ConfigError(f"{folder}: there is a run in this folder", "resume it, or name another")
    before = read_training(folder).configuration if resume else training.configuration
    for name, value in training.configuration.items():
        if name not in free and before.get(name) != value:
            raise ConfigError(
                f"{folder}: the run was begun with {name}={before.get(name)}, not {value}"
            )
    present = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not present.is_dir() or not os.access(present, os.W_OK):
        reason = "permission denied" if present.is_dir() else f"{present.name} is a file"
        raise FoveateError(f"{folder}: cannot be written ({reason})")


def write_training(folder: Path, training: Training) -> None:
    """Write `training.json`, and create the run folder if it is missing.

    Raises:
        FoveateError: It cannot be written.
    """
    replace_file(folder / TRAINING, f"{json.dumps(asdict(training), indent=1)}\n".encode())


def add_preset(folder: Path, preset: Mapping[str, Any]) -> None:
    """Add fields to the preset of the model in a run folder, if there is one.

    Raises:
        FoveateError: The folder cannot be written.
    """
    if preset and (folder / CARD).is_file():
        card = read_run(folder)
        card = card.model_copy(update={"preset": {**(card.preset or {}), **preset}})
        replace_file(folder / CARD, card_text(card, folder.name))


def finish_run(folder: Path) -> RunCard:
    """End a run with its best model so far; a process that trains it stops after its step.

    Raises:
        ConfigError: No training was begun in the folder, or no model was exported yet.
    """
    training = read_training(folder)
    if not (folder / CARD).is_file():
        raise ConfigError(
            f"{folder}: there is no model yet, because no epoch is over",
            f"type: foveate train --resume {folder}",
        )
    if training.outcome is None:
        write_training(folder, replace(training, outcome="early"))
    return read_run(folder)


def notes_of(
    configuration: Mapping[str, Any],
    dataset: Dataset,
    splits: Sequence[str],
    preprocessing: Mapping[str, Any],
    processes: int = 1,
) -> dict[str, Any]:
    """What every checkpoint says about its run."""
    return {
        "configuration": dict(configuration),
        "classes": list(dataset.classes),
        "digests": {split: dataset.digest(split) for split in splits},
        "input": json.loads(json.dumps(preprocessing)),
        "commit": commit(),
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "processes": processes,
    }


def check_same(saved: Saved, notes: Mapping[str, Any], folder: Path) -> list[str]:
    """Refuse to resume with other data.

    Returns:
        Differences with which a run can be resumed, but not bit for bit.

    Raises:
        ConfigError: A class or a clip of the data changed.
    """
    then = saved.values["notes"]
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


def write_timing(summary: RunSummary) -> None:
    """Append the summary to `timing.jsonl`; times are never the same, so they have their own log.

    Raises:
        FoveateError: The file cannot be written.
    """
    row = {"date": now(), **asdict(summary), "hardware": hardware().model_dump()}
    del row["folder"]
    try:
        with (summary.folder / "timing.jsonl").open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(row)}\n")
    except OSError as error:
        raise FoveateError(f"timing.jsonl: cannot be written ({error.strerror})") from None
