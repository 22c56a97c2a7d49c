"""`foveate bench`: several models on the same videos, as a table, a plot and JSON."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.app.evaluate import opened, recogniser_of
from foveate.app.labelled import DataRequest, choose_split, seen_in_training
from foveate.app.output import check_writable
from foveate.app.progress import bar
from foveate.core import ConfigError, FoveateError


@dataclass(frozen=True)
class Request:
    """The options of the command, as typed."""

    data: DataRequest
    models: str
    split: str | None = None
    json_path: Path | None = None
    plot: Path | None = None
    sets: tuple[str, ...] = ()
    batch: int = 1
    seed: int = 0
    device: str | None = None
    threads: int = 1
    offline: bool = False


def run(request: Request) -> int:
    """Measure the models; 1 if one of them, or a video, could not be measured.

    Raises:
        FoveateError: The request is wrong, or there is nothing to measure.
    """
    from foveate.evaluate.bench import bench

    for path in (request.json_path, request.plot):
        check_writable(path)
    dataset = opened(request.data)
    split = choose_split(dataset, request.split)
    names = list(dict.fromkeys(name.strip() for name in request.models.split(",") if name.strip()))
    recognisers, problems = _recognisers(request, names, dataset, split)
    if not recognisers:
        raise ConfigError(f"no model can be measured on {request.data.path}")
    with bar(float(len(recognisers))) as shown:
        order = list(recognisers)
        table = bench(
            recognisers,
            dataset,
            split,
            batch=request.batch,
            seed=request.seed,
            progress=lambda name, done, total, video: shown.update(
                order.index(name) + done / total, f"{name}: {video}"
            ),
        )
    print(table.markdown(), end="")
    if request.json_path is not None:
        table.write(request.json_path, f"bench on {request.data.path.name}, split {split}")
    if request.plot is not None:
        from foveate.models.weights.run import replace_file

        replace_file(request.plot, table.svg().encode())
        print(f"plot: {request.plot}", file=sys.stderr)
    return 1 if problems or any(row.failed for row in table.rows) else 0


def _recognisers(
    request: Request, names: list[str], dataset: Any, split: str
) -> tuple[dict[str, Any], int]:
    """Those that know the data's classes; each of the others costs one line."""
    from foveate.evaluate.truth import columns_of

    found: dict[str, Any] = {}
    problems = 0
    for name in names:
        try:
            recogniser = recogniser_of(
                name, request.sets, request.device, request.threads, request.offline
            )
            columns_of(dataset.classes, recogniser.labels, name)
            found[name] = recogniser
        except FoveateError as error:
            print(f"foveate: not measured: {error}", file=sys.stderr)
            problems += 1
            continue
        warning = seen_in_training(name, dataset, split)
        if warning:
            print(f"foveate: warning: {name}: {warning}", file=sys.stderr)
    return found, problems
