"""`foveate weights`: what there is, fetch it, verify it, import it from other projects."""

from __future__ import annotations

import sys
from pathlib import Path

from foveate.core.config import apply_sets
from foveate.core.files import cache_folder
from foveate.models.weights.builtin import WEIGHTS, built_in, imported
from foveate.models.weights.resolve import find_local, locate
from foveate.models.weights.resolve import verify as verify_all
from foveate.models.weights.table import entries, find


def list_all() -> int:
    """Print every set of weights, whose it is, and where it lies on this machine."""
    from foveate.core.units import size
    from foveate.models.weights.run import read_run

    for name, folder in built_in().items():
        card = read_run(folder)
        print(name)
        for field, text in (
            ("file", f"{WEIGHTS}, {size(card.size)}, {card.licence or 'no licence stated'}"),
            ("classes", ", ".join(card.classes)),
            ("accuracy", f"{_figures(card.figures)}{card.protocol}"),
            ("note", card.notice),
            ("here", f"{folder} (comes with the package)"),
        ):
            print(f"  {field:<9} {text}")
    for entry in entries():
        copies = [found for found in find_local(entry.file) if found.ok]
        where = str(copies[0].path) if copies else f"not here (foveate weights fetch {entry.name})"
        print(entry.name)
        for name, text in (
            ("file", f"{entry.file.name}, {size(entry.file.size)}, {entry.licence}"),
            ("input", entry.protocol),
            ("accuracy", entry.accuracy),
            ("note", entry.note),
            ("here", where),
        ):
            print(f"  {name:<9} {text}")
    for name, folder in imported().items():
        print(f"{name}\n  {'imported':<9} {folder}")
    return 0


def _figures(figures: dict[str, float]) -> str:
    """The headline of a model card, with its interval."""
    if "top1" not in figures:
        return ""
    low, high = figures.get("top1-low"), figures.get("top1-high")
    interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return f"top-1 {figures['top1']:.3f}{interval}; "


def fetch(names: list[str], offline: bool) -> int:
    """Fetch weights and their labels into the cache, unless they are here already.

    Raises:
        WeightsError: An unknown name, or a file that cannot be had.
    """
    from foveate.app.progress import bar, download

    here = built_in()
    for name in names:
        if name in here:
            print(f"{name}: {here[name]} (comes with the package)")
    wanted = [name for name in names if name not in here]
    for entry in entries() if wanted == ["all"] else [find(name) for name in wanted]:
        for file in entry.files:
            with bar(1.0) as shown:
                path = locate(file, offline=offline, progress=download(shown, file.name))
            print(f"{file.name}: {path}")
    return 0


def verify() -> int:
    """Hash what is here; exit code 1 if a file is not the published one."""
    damaged = _built_in_damage()
    found = verify_all()
    for one in found:
        print(f"{'ok ' if one.ok else 'BAD'} {one.path}")
        if not one.ok:
            print(
                f"foveate: {one.path}: sha256 is {one.sha256}, expected {one.file.sha256}",
                file=sys.stderr,
            )
    if not found:
        print(f"no weights on this machine (looked in FOVEATE_WEIGHTS and {cache_folder()})")
    return 0 if all(one.ok for one in found) and not damaged else 1


def _built_in_damage() -> int:
    """Hash the weights of the package against their cards; how many do not fit."""
    from foveate.models.weights.resolve import sha256_of
    from foveate.models.weights.run import read_run

    damaged = 0
    for name, folder in built_in().items():
        right = sha256_of(folder / WEIGHTS) == read_run(folder).sha256
        damaged += not right
        print(f"{'ok ' if right else 'BAD'} {folder / WEIGHTS}")
        if not right:
            print(f"foveate: {name}: not the file its card describes", file=sys.stderr)
    return damaged


def import_one(
    file: Path,
    name: str,
    system: str | None,
    sets: tuple[str, ...],
    labels: Path | None,
    licence: str | None,
) -> int:
    """Import a foreign checkpoint as weights of this machine.

    Raises:
        WeightsError: The file or a name in it does not fit.
        DataError: The labels cannot be read, or one of them is empty or repeated.
    """
    from foveate.models.weights.imported import import_file

    named = None if labels is None else _class_names(labels)
    folder, card = import_file(
        file, name, system=system, config=apply_sets({}, list(sets)), labels=named, licence=licence
    )
    said = card.configuration["system"]
    print(f"{name}: {card.network.arch} with {len(card.classes)} classes, from {said}: {folder}")
    print(f"  {card.notice}")
    return 0


def _class_names(file: Path) -> tuple[str, ...]:
    """The labels in a file; all that is wrong with it is printed."""
    from foveate.app.guard import tell_faults
    from foveate.data import DataError
    from foveate.data.readers.classes import read_class_names

    try:
        return read_class_names(file)
    except DataError as error:
        tell_faults(error)
        raise
