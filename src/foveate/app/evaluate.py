"""`foveate evaluate`: a model on labelled videos, with intervals and executed cost."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.app.guard import print_faults
from foveate.app.output import check_writable
from foveate.app.progress import bar
from foveate.app.requests import EvaluateRequest as Request
from foveate.core import ConfigError, FoveateError
from foveate.core.config import apply_sets
from foveate.data import DataError, DataRequest, Dataset, open_labelled
from foveate.data.labelled import choose_split
from foveate.evaluate.api import seen_in_training

if TYPE_CHECKING:
    from foveate.evaluate.run import Evaluation

MOST_MISTAKES = 24  # that get pictures in a report
_PICTURES = 3  # of each
_ROWS = 120  # pixels
_MAX_BYTES = 200_000_000


def run(request: Request) -> int:
    """Measure, print and write the outputs; the exit code is 1 if a video could not be read.

    Raises:
        FoveateError: The request is wrong, or no video could be read.
    """
    from foveate.evaluate.run import evaluate

    for path in (request.report, request.json_path):
        check_writable(path)
    before = None if request.against is None else read_evaluation(request.against)
    dataset = opened(request.data)
    split = choose_split(dataset, request.split)
    changes = apply_sets({}, request.sets)
    recogniser = recogniser_of(
        request.model, changes, request.device, request.threads, request.offline
    )
    warning = seen_in_training(request.model, dataset, split)
    if warning:
        print(f"foveate: warning: {warning}", file=sys.stderr)
    with bar(1.0) as shown:
        found = evaluate(
            recogniser,
            dataset,
            split,
            batch=request.batch,
            seed=request.seed,
            progress=lambda done, total, name: shown.update(done / total, name),
        )
    _print(found)
    if before is not None:
        _compare(found, before, request.seed)
    if request.json_path is not None:
        from foveate.core.files import replace_file

        replace_file(request.json_path, f"{found.to_json(indent=1)}\n".encode())
    if request.report is not None:
        from foveate.evaluate.report import write_report

        write_report(request.report, found, _pictures(found, dataset))
        print(f"report: {request.report}", file=sys.stderr)
    return 1 if found.failed else 0


def opened(request: DataRequest) -> Dataset:
    """Open a data set; every fault is printed.

    Raises:
        DataError: It has faults.
    """
    try:
        return open_labelled(request)
    except DataError as error:
        print_faults(error)
        raise


def recogniser_of(
    model: str, changes: dict[str, Any], device: str | None, threads: int, offline: bool
) -> Any:
    """A recogniser with some fields of its preset changed, on that many threads.

    Raises:
        FoveateError: No such model, or a setting that is unknown.
    """
    import torch

    from foveate.pipeline.presets import edit, resolve
    from foveate.pipeline.recogniser import assemble

    torch.set_num_threads(threads)
    named, preset = resolve(model)
    preset = edit(preset, changes, "settings")
    return assemble(preset, named, device=device, offline=offline)


def read_evaluation(path: Path) -> Evaluation:
    """An evaluation that `--json` wrote.

    Raises:
        ConfigError: The file is missing or is not an evaluation.
    """
    from pydantic import ValidationError

    from foveate.evaluate.run import Evaluation

    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path}: larger than {_MAX_BYTES} bytes")
        return Evaluation.from_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({(error.strerror or '').lower()})") from None
    except ValidationError:
        raise ConfigError(
            f"{path}: not an evaluation (foveate evaluate --json writes one)"
        ) from None


def _print(found: Evaluation) -> None:
    """The metrics on standard output, failed videos on standard error."""
    from foveate.evaluate.metrics import short_name

    first = found.figures[0]
    accuracy = ""
    if found.classes and first.value is not None:
        accuracy = f" {short_name(first.name)} {first.value:.2f}"
    print(f"{found.split}{accuracy} ({found.model}, {found.n} videos)")
    print(f"  {found.protocol}")
    for figure in found.figures:
        if figure.value is None:
            continue
        print(
            f"  {figure.name:<42} {_shown(figure.name, figure.value):>9}   "
            f"{_shown(figure.name, figure.low)} to {_shown(figure.name, figure.high)} "
            f"({figure.units} {figure.unit}s)"
        )
    if len(found.exits()) > 1:
        total = sum(found.exits().values())
        said = ", ".join(f"{name} {count / total:.1%}" for name, count in found.exits().items())
        print(f"  decided at: {said}")
    for prediction in found.predictions:
        if not prediction.ok:
            print(f"foveate: {prediction.name}: {prediction.error}", file=sys.stderr)


def _shown(name: str, value: float | None) -> str:
    from foveate.core.units import si

    if value is None:
        return "–"
    if name.startswith("macs"):
        return si(value)
    return f"{value:.3f}"


def _compare(found: Evaluation, before: Evaluation, seed: int) -> None:
    from foveate.evaluate.run import compare_runs

    names = (found.model, before.model)
    if names[0] == names[1]:
        names = (names[0], f"{names[1]} before")
    print(f"  {compare_runs(found, before, seed=seed).sentence(*names, 'top1')}")


def _pictures(found: Evaluation, dataset: Dataset) -> dict[str, list[tuple[float, bytes]]]:
    """A few frames of the worst mistakes."""
    from foveate.data.sources import duration_of
    from foveate.evaluate.report import worst
    from foveate.media import open_source
    from foveate.viz import to_jpeg

    paths = {dataset.name(record): record.path for record in dataset.records}
    out: dict[str, list[tuple[float, bytes]]] = {}
    for prediction in worst(found, MOST_MISTAKES):
        try:
            sample = open_source(paths[prediction.name])
            try:
                seconds = duration_of(sample)
                times = [seconds * (i + 0.5) / _PICTURES for i in range(_PICTURES)]
                width = round(sample.info.width * _ROWS / max(sample.info.height, 1))
                clip = sample.frames(times, (max(1, width), _ROWS))
            finally:
                sample.close()
        except (FoveateError, KeyError):
            continue  # the report works without the picture
        out[prediction.name] = [
            (time, to_jpeg(pixels)) for time, pixels in zip(clip.times, clip.pixels, strict=True)
        ]
    return out
