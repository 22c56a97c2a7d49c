"""Weights that come with the package: run folders under ``built_in``, one per ``ARCH.TAG``.

Plain paths: nothing heavy is imported, so the command can list and check names at once.
"""

from __future__ import annotations

from pathlib import Path

CARD = "run.json"
WEIGHTS = "model.safetensors"
_FOLDER = Path(__file__).parent / "built_in"


def is_run(path: str | Path) -> bool:
    """Whether a path is a run folder with a trained model in it."""
    folder = Path(path)
    return (folder / CARD).is_file() and (folder / WEIGHTS).is_file()


def built_in() -> dict[str, Path]:
    """Name → run folder of all weights in the package, by name."""
    if not _FOLDER.is_dir():
        return {}
    return {folder.name: folder for folder in sorted(_FOLDER.iterdir()) if is_run(folder)}


def run_folder(model: str) -> Path | None:
    """The run folder that a model's name means: an existing one, or built-in weights.

    Returns:
        None where the name is something else, as weights of the table.
    """
    if is_run(model):
        return Path(model)
    return None if Path(model).exists() else built_in().get(model)
