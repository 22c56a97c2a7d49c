"""Published settings of the recipes, as YAML files that `foveate train --config NAME` finds."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Names of all presets, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def find(name: str) -> Path | None:
    """The file of a preset, None where there is none of that name."""
    return _FOLDER / f"{name}.yaml" if name in names() else None
