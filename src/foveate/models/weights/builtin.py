"""Weights in run folders: those that come with the package, and those that a user imported.

The package's lie under ``built_in``, one per ``ARCH.TAG``; imported ones in the cache.

Plain paths: nothing heavy is imported, so the command can list and check names at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from foveate.core.files import cache_folder

if TYPE_CHECKING:
    from foveate.models.registry import ModelEntry

CARD = "run.json"
WEIGHTS = "model.safetensors"
# Endings of the files in which other projects keep weights.
_CHECKPOINTS = frozenset([".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".npz", ".tflite", ".h5"])
FOLDER = Path(__file__).parent / "built_in"


def is_run(path: str | Path) -> bool:
    """Whether a path is a run folder with a trained model in it."""
    folder = Path(path)
    return (folder / CARD).is_file() and (folder / WEIGHTS).is_file()


def built_in() -> dict[str, Path]:
    """Name → run folder of all weights in the package, by name."""
    if not FOLDER.is_dir():
        return {}
    return {folder.name: folder for folder in sorted(FOLDER.iterdir()) if is_run(folder)}


def imported() -> dict[str, Path]:
    """Name → run folder of all weights that were imported on this machine, by name."""
    home = cache_folder() / "imported"
    if not home.is_dir():
        return {}
    return {folder.name: folder for folder in sorted(home.iterdir()) if is_run(folder)}


def run_folder(model: str) -> Path | None:
    """The run folder that a model's name means: an existing one, built-in weights, or
    imported ones.

    Returns:
        None where the name is something else, as weights of the table.
    """
    if is_run(model):
        return Path(model)
    return None if Path(model).exists() else built_in().get(model) or imported().get(model)


def refuse_checkpoint(model: str) -> None:
    """Say what to do with a file of weights that was given as the name of a model.

    Raises:
        ModelError: The name has the ending of such a file.
    """
    from foveate.core.errors import ModelError

    path = Path(model)
    if path.suffix not in _CHECKPOINTS:
        return
    if path.name == WEIGHTS and is_run(path.parent):
        raise ModelError(f"{model}: a file of a run folder", f"name the folder: {path.parent}")
    raise ModelError(
        f"{model}: a checkpoint, not a model", f"foveate weights import {model} --as NAME"
    )


def declared(model: str) -> ModelEntry | None:
    """What the registry says of a model's architecture, without loading the model.

    Args:
        model: A run folder, weights, or an architecture.

    Returns:
        None where it is none of these, or several networks.
    """
    from foveate.core.errors import ModelError
    from foveate.models.registry import entry, split_name
    from foveate.models.weights.run import read_run

    folder = run_folder(model)
    try:
        return entry(split_name(model)[0] if folder is None else read_run(folder).network.arch)
    except ModelError:
        return None
