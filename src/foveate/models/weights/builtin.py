"""Weights in run folders: those that come with the package, and those that a user imported.

The package's lie under ``built_in``, one per ``ARCH.TAG``; imported ones in the cache.

Plain paths: nothing heavy is imported, so the command can list and check names at once.
"""

from __future__ import annotations

from pathlib import Path

from foveate.core.files import cache_folder

CARD = "run.json"
WEIGHTS = "model.safetensors"
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
