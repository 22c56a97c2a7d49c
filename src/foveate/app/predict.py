"""`foveate predict`: recognise files and folders, and write the requested outputs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from foveate.app.guard import print_error, print_notice
from foveate.app.inputs import Item, check_rate, expand
from foveate.app.output import JsonLines, check_writable, make_folder
from foveate.app.progress import Bar, bar, download
from foveate.app.requests import DetectRequest, PredictRequest, PresetOptions, RunOptions
from foveate.core import ConfigError, MediaError, Result
from foveate.core.config import build, to_yaml
from foveate.media.limits import Limits
from foveate.pipeline.presets import Preset, edit, resolve

Request = PredictRequest | DetectRequest
MOST_THUMBNAILS = 200  # inputs of a report that get pictures; each costs decoding


def run(request: Request, write: Callable[[list[Result], Any], None] | None = None) -> int:
    """Run the request; returns the exit code.

    Args:
        request: What is recognised, and what is written.
        write: Writes further outputs of all results; it gets the recogniser, too.

    Raises:
        FoveateError: The request itself is wrong: a setting, the model, a path to write to.
    """
    changed, limit_values = request.changes()
    limits = build(Limits, limit_values, "limits")
    named, preset = resolve(request.model)
    preset = edit(preset, changed, "settings")
    if request.print_config:
        print(to_yaml(preset, limits=limits), end="")
        return 0
    if not request.inputs:
        verb = "detect" if isinstance(request, DetectRequest) else "predict"
        raise ConfigError("nothing to recognise", f"type: foveate {verb} FILE_OR_FOLDER...")
    lines_path = None if request.json_path in (None, "-") else Path(str(request.json_path))
    video = None if request.video is None else Path(request.video)
    into_folder = video is not None and str(request.video).endswith(("/", os.sep))
    check_writable(request.report, streams=True)
    check_writable(lines_path, streams=True)
    if video is not None and not into_folder and not video.is_dir():
        check_writable(video)
    items = list(expand(request.inputs, limits))
    check_rate(request.fps, items)
    _keep_inputs(items, [request.report, video, lines_path])
    if video is not None and into_folder:
        make_folder(video)
    recogniser = load_model(request, named, preset, limits)
    results: list[Result] = []
    with JsonLines(request.json_path) as lines:
        try:
            _recognise(request, recogniser, items, lines, results)
        except KeyboardInterrupt:
            if request.json_path not in (None, "-"):
                print(
                    f"foveate: {len(results)} of {len(items)} results are in {request.json_path}",
                    file=sys.stderr,
                )
            raise
    if write is not None:
        write(results, recogniser)
    if video is not None:
        _draw(video, results, items, limits, request.fps)
    if request.report is not None:
        _report(request.report, results, items, limits, request.fps)
    return 1 if any(not result.ok for result in results) else 0


def load_model(request: RunOptions, named: str | None, preset: Preset, limits: Limits) -> Any:
    """The recogniser of a preset, with a progress bar while weights are fetched."""
    from foveate.pipeline.loading import assemble

    engine, precision = None, None  # detectors run in torch
    if isinstance(request, PresetOptions):
        engine, precision = request.engine, request.precision
    with bar(1.0) as shown:
        return assemble(
            preset,
            named,
            device=request.device,
            engine=engine,
            precision=precision,
            threads=request.thread_count,
            offline=request.offline,
            progress=download(shown, "weights"),
            notice=print_notice,
            limits=limits,
        )


def _recognise(
    request: Request,
    recogniser: Any,
    items: list[Item],
    lines: JsonLines,
    results: list[Result],
) -> None:
    """Run the inputs one after another; every Result is printed and written as it comes."""
    from foveate.viz import print_summary

    console = _console(lines.to_stdout)
    many = len(items) > 1
    with bar(float(len(items)), enabled=not request.quiet) as shown:
        for result in _answers(request, recogniser, items, shown, results):
            results.append(result)
            lines.write(result)
            shown.close()
            _print(result, console, many, request.quiet)
    if many and not request.quiet:
        print_summary(results, console)


def _answers(
    request: Request, recogniser: Any, items: list[Item], shown: Bar, results: list[Result]
) -> Iterator[Result]:
    """Results in the order of the inputs, those without a file among them."""
    answers = recogniser.predict_many(
        [item.source for item in items if item.problem is None],
        batch=request.batch,
        fps=request.fps,
        trace=request.trace,
        on_step=_watcher(shown, results),
    )
    for item in items:
        yield _failed(recogniser, item) if item.problem else next(answers)


def _draw(
    target: Path, results: list[Result], items: list[Item], limits: Limits, fps: float | None
) -> None:
    """Draw the inputs that were recognised; one that cannot be read again costs one line."""
    from foveate.app.annotated import Annotated

    good = [(item.source, r) for item, r in zip(items, results, strict=True) if r.ok]
    inputs = [item.path for item in items]
    drawn = Annotated(target, [result for _, result in good], limits, inputs, fps)
    try:
        with bar(float(len(good))) as shown:
            for i, (source, result) in enumerate(good):
                try:
                    drawn.add(source, result)
                except MediaError as error:
                    print_error(error, "not in the annotated video: ")
                shown.update(float(i + 1), f"drawing: {result.source}")
        drawn.finish()
    finally:
        drawn.abandon()
    for written in drawn.written:
        print(f"annotated video: {written}", file=sys.stderr)


def _report(
    path: Path, results: list[Result], items: list[Item], limits: Limits, fps: float | None
) -> None:
    from foveate.app.annotated import thumbnails
    from foveate.viz import write_report

    pictures = {}
    with bar(float(len(results))) as shown:
        for i, (item, result) in enumerate(zip(items, results, strict=True)):
            if result.ok and i < MOST_THUMBNAILS:
                pictures[result.source] = thumbnails(item.source, result, limits, fps)
            shown.update(float(i + 1), f"report: {result.source}")
    write_report(path, results, thumbnails=pictures)
    print(f"report: {path}", file=sys.stderr)


def _console(json_on_stdout: bool) -> Any:
    from rich.console import Console

    return Console(stderr=json_on_stdout)


def _print(result: Result, console: Any, many: bool, quiet: bool) -> None:
    """One Result on the terminal; a failure is always printed once, on standard error."""
    from foveate.viz import print_line, print_result

    if not result.ok:
        print(f"foveate: {_reason(result)}", file=sys.stderr)
    elif not quiet and many:
        print_line(result, console)
    elif not quiet:
        print_result(result, console)


def _reason(result: Result) -> str:
    return result.error.message if result.error else result.source


def _failed(recogniser: Any, item: Item) -> Result:
    message = f"{item.name}: {item.problem}"
    result = Result.failed(item.name, recogniser.name, "media", message)
    return result.model_copy(update={"preset": recogniser.preset_name})


def _watcher(shown: Bar, results: list[Result]) -> Any:
    """Moves the bar within a long file."""

    def look(name: str, seconds: float, duration: float | None) -> None:
        within = min(seconds / duration, 1.0) if duration else 0.0
        shown.update(len(results) + within, f"{name} {seconds:.0f} s")

    return look


def _keep_inputs(items: list[Item], targets: list[Path | None]) -> None:
    """Refuse to write over what is to be read.

    Raises:
        ConfigError: A target is one of the inputs.
    """
    # Not `Path.resolve`: it raises where links go round in a circle.
    inputs = {os.path.realpath(item.path) for item in items}
    for target in targets:
        if target is not None and os.path.realpath(target) in inputs and not target.is_dir():
            raise ConfigError(f"{target}: is an input too", "write to another file")
