"""Weights in run folders: built-in ones of the package, and ones that a user imported.

Built-in run folders are in ``built_in``, one per ``ARCH.TAG``; imported ones in the cache folder.

Only paths, without large imports, so that the command can list and check names quickly.
"""

from __future__ import annotations

from pathlib import Path

from foveate.core.errors import ModelError
from foveate.core.files import cache_folder

CARD = "run.json"
WEIGHTS = "model.safetensors"
# Endings of the files in which other projects keep weights.
_CHECKPOINTS = frozenset([".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".npz", ".tflite", ".h5"])
_GRAPHS = ("*.onnx", "*.xml", "*.tflite", "*.pt2")
FOLDER = Path(__file__).parent / "built_in"


def is_run(path: str | Path) -> bool:
    """Whether a path is a run folder with a trained model, or with one that was exported."""
    folder = Path(path)
    return (folder / CARD).is_file() and (
        (folder / WEIGHTS).is_file() or any(next(folder.glob(one), None) for one in _GRAPHS)
    )


def built_in() -> dict[str, Path]:
    """Name → run folder of all built-in weights, sorted by name."""
    if not FOLDER.is_dir():
        return {}
    return {folder.name: folder for folder in sorted(FOLDER.iterdir()) if is_run(folder)}


def imported() -> dict[str, Path]:
    """Name → run folder of all imported weights, sorted by name."""
    home = cache_folder() / "imported"
    if not home.is_dir():
        return {}
    return {folder.name: folder for folder in sorted(home.iterdir()) if is_run(folder)}


def run_folder(model: str) -> Path | None:
    """The run folder of a model name: an existing folder, built-in weights, or imported weights.

    Returns:
        None for other names, such as weights of the table.
    """
    if is_run(model):
        return Path(model)
    return None if Path(model).exists() else built_in().get(model) or imported().get(model)


def refuse_checkpoint(model: str) -> None:
    """Say what to do with a file of weights that was given as the name of a model.

    Raises:
        ModelError: The name has the ending of such a file.
    """
    path = Path(model)
    if path.suffix not in _CHECKPOINTS:
        return
    if path.name == WEIGHTS and is_run(path.parent):
        raise ModelError(f"{model}: a file of a run folder", f"name the folder: {path.parent}")
    raise ModelError(
        f"{model}: a checkpoint, not a model", f"foveate weights import {model} --as NAME"
    )
