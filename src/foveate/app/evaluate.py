"""`foveate evaluate`: a model on labelled videos, with intervals and executed cost."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.app.guard import print_faults, print_notice
from foveate.app.output import check_writable
from foveate.app.progress import bar
from foveate.app.requests import EvaluateRequest as Request
from foveate.app.requests import MeasureOptions
from foveate.core import ConfigError, FoveateError
from foveate.core.files import replace_file
from foveate.data import DataError, DataRequest, Dataset, open_labelled
from foveate.data.labelled import choose_split, only_classes
from foveate.data.timelines import (
    TimedLabel,
    Timeline,
    read_timelines,
    timelines_of,
    write_timelines,
)
from foveate.evaluate.api import seen_in_training

if TYPE_CHECKING:
    from foveate.evaluate.run import Controls, Evaluation, Figure
    from foveate.pipeline.recogniser import Recogniser

MOST_MISTAKES = 24  # that get pictures in a report
_PICTURES = 3  # of each
_ROWS = 120  # pixels
_MAX_BYTES = 200_000_000


def run(request: Request) -> int:
    """Measure, print and write the outputs; the exit code is 1 if a video could not be read.

    Raises:
        FoveateError: The request is wrong, or no video could be read.
    """
    from foveate.evaluate.detection_run import evaluate_any

    for path in (request.report, request.json_path, request.csv_path, request.timelines):
        check_writable(path)
    if request.predictions is not None:
        return _imported(request, request.predictions)
    if request.model is None:
        raise ConfigError(
            "nothing to measure", "name a model (--model) or timelines (--predictions)"
        )
    before = None if request.against is None else read_evaluation(request.against)
    if request.print_config:
        print_presets([request.model], request)
        return 0
    dataset = opened(request.data)
    for name in ("against", "controls", "threshold", "timelines") if dataset.has_boxes else ():
        if getattr(request, name):
            raise ConfigError(f"--{name}: for classes of clips, and the data has boxes")
    split = choose_split(dataset, request.split)
    recogniser = recogniser_of(request.model, request)
    warning = seen_in_training(recogniser.name, dataset, split)
    if warning:
        print(f"foveate: warning: {warning}", file=sys.stderr)
    if request.classes is not None:
        dataset = only_classes(dataset, names_in(request.classes))
    batch, seed = request.batch, request.seed
    with bar(1.0, enabled=not request.quiet) as shown:

        def moved(done: int, total: int, name: str) -> None:
            shown.update(done / total, name)

        found = evaluate_any(
            recogniser, dataset, split,
            batch=batch, seed=seed, threshold=request.threshold, progress=moved,
        )  # fmt: skip
        if request.controls:
            from foveate.evaluate.controls import with_controls

            found = with_controls(
                found, recogniser, dataset, split, batch=batch, seed=seed, progress=moved
            )
    print_failed(found)
    if not request.quiet:
        _print(found)
    if before is not None and not request.quiet:
        _compare(found, before, request.seed)
    if request.json_path is not None:
        replace_file(request.json_path, f"{found.to_json(indent=1)}\n".encode())
    if request.csv_path is not None:
        replace_file(request.csv_path, found.to_csv().encode())
    if request.timelines is not None:
        write_timelines(request.timelines, _timelines(found))
    if request.report is not None:
        from foveate.evaluate.report import write_report

        write_report(request.report, found, _pictures(found, dataset))
        print(f"report: {request.report}", file=sys.stderr)
    return 1 if found.failed else 0


def _imported(request: Request, path: Path) -> int:
    """Measure timelines that another program predicted.

    Raises:
        FoveateError: Options that need a model, or files with faults.
    """
    import json

    from foveate.core.text import plural
    from foveate.evaluate.localisation import localisation_of
    from foveate.evaluate.metrics import Protocol
    from foveate.evaluate.run import figure_of

    needs = ("model", "report", "csv_path", "timelines", "against", "controls", "threshold")
    for name in needs:
        if getattr(request, name):
            option = name.removesuffix("_path")
            raise ConfigError(f"--predictions and --{option}: cannot be combined")
    dataset = opened(request.data)
    split = choose_split(dataset, request.split)
    if request.classes is not None:
        dataset = only_classes(dataset, names_in(request.classes))
    try:
        said = read_timelines(path)
    except DataError as error:
        print_faults(error)
        raise
    found = localisation_of(timelines_of(dataset, split), said, dataset.classes)
    named = Protocol().name("localisation-map")
    figures = [
        figure_of(f"{named},{key}", statistic, len(found.truth), None, seed=request.seed)
        for key, statistic in found.statistics().items()
    ]
    if not request.quiet:
        print(f"{split} ({path.name}, {plural(len(found.truth), 'video')})")
        _print_figures(figures)
    if request.json_path is not None:
        values = {
            "split": split,
            "figures": [figure.model_dump() for figure in figures],
            "localisation": found.by_class(),
        }
        replace_file(request.json_path, f"{json.dumps(values, indent=1)}\n".encode())
    return 0


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


def names_in(text: str) -> list[str]:
    """Names separated by commas, without duplicates."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def recogniser_of(
    model: str, request: MeasureOptions, look: dict[str, Any] | None = None
) -> Recogniser:
    """The recogniser of a model with the options of the command.

    Args:
        model: A run folder, a preset or weights.
        request: The options.
        look: Settings of another look than that of the options and the model.

    Raises:
        FoveateError: No such model, or a setting that is unknown.
    """
    from foveate.core.config import build
    from foveate.media.limits import Limits
    from foveate.pipeline.loading import assemble
    from foveate.pipeline.presets import edit, resolve

    changes, limits = request.changes()
    if look is not None:
        changes["look"] = look
    named, preset = resolve(model)
    return assemble(
        edit(preset, changes, "settings"), named, device=request.device, engine=request.engine,
        precision=request.precision, threads=request.thread_count, offline=request.offline,
        notice=print_notice, limits=build(Limits, limits, "limits"),
    )  # fmt: skip


def print_presets(models: Sequence[str], request: MeasureOptions) -> None:
    """Print the settings in effect of each model as YAML."""
    from foveate.core.config import to_yaml
    from foveate.pipeline.presets import edit, resolve

    for name in models:
        if len(models) > 1:
            print(f"# {name}")
        print(to_yaml(edit(resolve(name)[1], request.changes()[0], "settings")), end="")


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
    _print_figures(found.figures)
    if len(found.exits()) > 1:
        total = sum(found.exits().values())
        said = ", ".join(f"{name} {count / total:.1%}" for name, count in found.exits().items())
        print(f"  decided at: {said}")
    if found.controls is not None:
        _print_controls(found.controls)


def _print_figures(figures: Sequence[Figure]) -> None:
    for figure in figures:
        if figure.value is None:
            continue
        print(
            f"  {figure.name:<42} {_shown(figure.name, figure.value):>9}   "
            f"{_shown(figure.name, figure.low)} to {_shown(figure.name, figure.high)} "
            f"({figure.units} {figure.unit}s{_method(figure.method)})"
        )


def print_failed(found: Evaluation) -> None:
    """Name the videos that failed on standard error."""
    for prediction in found.predictions:
        if not prediction.ok:
            print(f"foveate: {prediction.name}: {prediction.error}", file=sys.stderr)


def _timelines(found: Evaluation) -> dict[str, Timeline]:
    """The predicted segments of the videos that did not fail."""
    return {
        one.name: Timeline(tuple(TimedLabel(*segment) for segment in one.segments))
        for one in found.answered()
    }


def _print_controls(controls: Controls) -> None:
    left_out = f", {controls.left_out} left out" if controls.left_out else ""
    print(f"controls ({controls.n} videos{left_out}; loss: whole clips minus control)")
    for row in controls.rows:
        line = f"  {row.name:<16} top-1 {_shown('top1', row.top1.value)}"
        if row.loss is not None:
            loss = row.loss
            line += f"   loss {loss.difference:+.3f} ({loss.low:+.3f} to {loss.high:+.3f})"
            line += f", p {loss.p:.3g} ({loss.test})"
        print(line)
    print(f"  {controls.conclusion}")


def _method(method: str) -> str:
    """The method of an interval, where it is not the protocol's bootstrap."""
    from foveate.evaluate.bootstrap import BOOTSTRAP

    return {BOOTSTRAP: "", "none": ", no interval: all resamples agree"}.get(method, f", {method}")


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
    print(f"  {compare_runs(found, before, seed=seed).sentence(*names, 'top-1')}")


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
