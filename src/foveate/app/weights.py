"""`foveate weights`: list, fetch, verify and import pretrained weights."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from foveate.app.requests import ImportRequest
from foveate.core import WeightsError
from foveate.core.config import apply_sets, nearest
from foveate.core.files import cache_folder
from foveate.core.units import size
from foveate.models.weights.builtin import WEIGHTS, built_in, imported
from foveate.models.weights.resolve import find_local, locate
from foveate.models.weights.resolve import verify as verify_all
from foveate.models.weights.run import read_run
from foveate.models.weights.table import entries, find


def list_all(names: Sequence[str] = ()) -> int:
    """Print a table of all weights, or everything that is known of some of them.

    Raises:
        WeightsError: An unknown name.
    """
    known = {one.name: one for one in _listed()}
    for name in names:
        if name not in known:
            guess = nearest(name, known)
            hint = f"did you mean {guess!r}?" if guess else "foveate weights list shows all"
            raise WeightsError(f"no weights {name!r}", hint)
        print(name)
        for field, text in known[name].details.items():
            print(f"  {field:<9} {text}")
    if not names:
        head = ("NAME", "CLASSES", "SIZE", "LICENCE", "WHERE", "ACCURACY")
        rows = [head, *(one.row for one in known.values())]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        for row in rows:
            print("  ".join(map(str.ljust, row, widths)).rstrip())
        print("\nDetails: foveate weights list NAME")
    return 0


@dataclass(frozen=True)
class _Weights:
    """One set of weights: its cells in the table, and its details."""

    row: tuple[str, ...]
    details: dict[str, str]

    @property
    def name(self) -> str:
        return self.row[0]


def _listed() -> Iterable[_Weights]:
    """The weights of the package, the published ones and the imported ones."""
    for name, folder in built_in().items():
        card = read_run(folder)
        licence = card.licence or "none stated"
        top1 = card.figures.get("top1")
        data = re.split(r"[ :;,]", card.protocol)[0]
        yield _Weights(
            (name, str(len(card.classes)), size(card.size), licence, "in the package",
             "" if top1 is None else f"{100 * top1:.1f} % top-1 on {data}"),
            {
                "file": f"{WEIGHTS}, {size(card.size)}, {licence}",
                "classes": ", ".join(card.classes),
                "accuracy": f"{_figures(card.figures)}{card.protocol}",
                "note": card.notice,
                "path": str(folder),
            },
        )  # fmt: skip
    for entry in entries():
        copies = [found for found in find_local(entry.file) if found.ok]
        file = entry.file
        yield _Weights(
            (entry.name, str(entry.num_classes), size(file.size), entry.licence,
             "on disk" if copies else "not fetched", entry.accuracy.partition(",")[0]),
            {
                "file": f"{file.name}, {size(file.size)}, {entry.licence}",
                "input": entry.protocol,
                "accuracy": entry.accuracy,
                "note": entry.note,
                "path": str(copies[0].path) if copies
                else f"not on this machine (foveate weights fetch {entry.name})",
            },
        )  # fmt: skip
    for name, folder in imported().items():
        yield _Weights((name, "", "", "", "imported", ""), {"path": str(folder)})


def _figures(figures: dict[str, float]) -> str:
    """Top-1 of a model card, with its interval."""
    if "top1" not in figures:
        return ""
    low, high = figures.get("top1-low"), figures.get("top1-high")
    interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return f"top-1 {figures['top1']:.3f}{interval}; "


def fetch(names: list[str], offline: bool) -> int:
    """Fetch weights and their labels into the cache, unless they are on this machine.

    Raises:
        WeightsError: An unknown name, or a file that cannot be fetched.
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
    """Check the sha256 of every file; the exit code is 1 if one differs from the published file."""
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
    """Check the sha256 of the weights in the package; returns how many differ."""
    from foveate.models.weights.resolve import sha256_of

    damaged = 0
    for name, folder in built_in().items():
        right = sha256_of(folder / WEIGHTS) == read_run(folder).sha256
        damaged += not right
        print(f"{'ok ' if right else 'BAD'} {folder / WEIGHTS}")
        if not right:
            print(f"foveate: {name}: sha256 differs from its model card", file=sys.stderr)
    return damaged


def import_one(request: ImportRequest) -> int:
    """Import the checkpoint of another project.

    Raises:
        WeightsError: The file or a name in it does not fit.
        DataError: The labels cannot be read, or one of them is empty or repeated.
    """
    from foveate.models.weights.importers.checkpoints import import_file

    folder, card = import_file(
        request.file,
        request.name,
        system=request.system,
        config=apply_sets({}, request.sets),
        labels=None if request.labels is None else _class_names(request.labels),
        licence=request.licence,
    )
    system = card.configuration["system"]
    classes = len(card.classes)
    print(f"{request.name}: {card.network.arch} with {classes} classes, from {system}: {folder}")
    print(f"  {card.notice}")
    return 0


def _class_names(file: Path) -> tuple[str, ...]:
    """The labels in a file; every fault is printed."""
    from foveate.app.guard import print_faults
    from foveate.data import DataError
    from foveate.data.readers.classes import read_class_names

    try:
        return read_class_names(file)
    except DataError as error:
        print_faults(error)
        raise
