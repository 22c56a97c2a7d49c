"""`foveate export`: write a model as graphs; `foveate bench engines`: measure engines with it."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from foveate.app.evaluate import names_in, opened
from foveate.app.guard import print_error, print_notice
from foveate.app.inputs import expand
from foveate.app.progress import bar, download
from foveate.app.requests import BenchEnginesRequest, ExportRequest
from foveate.core import ConfigError, FoveateError
from foveate.core.config import apply_sets
from foveate.core.files import replace_file
from foveate.core.text import plural
from foveate.data.labelled import choose_split
from foveate.engines.runtimes import installed
from foveate.models.weights.builtin import CARD
from foveate.pipeline.engines import ENGINES, fastest, measure, processor
from foveate.pipeline.presets import Preset, edit, resolve


def run(request: ExportRequest) -> int:
    """Export, and print what was written and how closely it follows the model.

    Raises:
        FoveateError: The model cannot be exported, or a setting does not fit.
    """
    from foveate.pipeline.export import export

    preset = edit(resolve(request.model)[1], apply_sets({}, request.sets), "settings")
    clips = [item.path for item in expand(request.calibrate) if item.problem is None]
    if request.calibrate and not clips:
        raise ConfigError(f"{', '.join(request.calibrate)}: no videos", "name files or folders")
    dataset = None if request.data is None else opened(request.data)  # before minutes of work
    with bar(1.0) as shown:
        card = export(
            preset,
            request.out,
            format=request.format,
            precision=request.precision,
            sizes=_sides(request.size),
            calibrate=clips,
            offline=request.offline,
            progress=download(shown, "weights"),
        )
    found = card.exported
    assert found is not None
    graphs = sum(len(network.graphs) for network in found.networks.values())
    files = [file for n in found.networks.values() for g in n.graphs.values() for file in g.files]
    size = sum((request.out / file).stat().st_size for file in files)
    print(f"{request.out}: {plural(graphs, 'graph')}, {found.format}, {found.precision}, "
          f"{size / 1e6:.1f} MB")  # fmt: skip
    if found.format != "torchexport":
        print(f"parity: logits differ by {found.parity:.1e} of the largest from {found.source}")
    if found.figures:
        print(
            f"on the calibration clips: correlation {found.figures['correlation']:.4f}, "
            f"same best label on {found.figures['same-top1']:.0%}"
        )
    if dataset is not None:
        _accuracy(request, dataset, preset)
    return 0


def _sides(text: str | None) -> list[int]:
    """Sides of frames, such as `172` or `112,172`.

    Raises:
        ConfigError: Something else.
    """
    try:
        sides = [int(one) for one in names_in(text or "")]
    except ValueError:
        sides = [0]
    if any(not 16 <= side <= 4096 for side in sides):
        raise ConfigError(f"--size {text}: not sides in pixels", "such as --size 112,172")
    return sides


def _accuracy(request: ExportRequest, dataset: Any, preset: Preset) -> None:
    """Measure model and export on labelled videos; print both and keep them in `run.json`."""
    from foveate.evaluate.run import compare_runs, evaluate
    from foveate.models.weights.run import card_text, read_run
    from foveate.pipeline.loading import assemble

    split = choose_split(dataset, None)
    before = evaluate(assemble(preset, device="cpu", offline=request.offline), dataset, split)
    other = edit(preset, {"model": str(request.out)})
    after = evaluate(assemble(other, offline=request.offline), dataset, split)
    tops = {"model": before.figure("top1").value, "exported": after.figure("top1").value}
    same = [
        a.top[0][0] == b.top[0][0]
        for a, b in zip(before.predictions, after.predictions, strict=True)
        if a.ok and b.ok and a.top and b.top
    ]
    agreement = sum(same) / max(len(same), 1)
    print(
        f"top-1 on {request.labelled} ({split}, {plural(after.n, 'video')}): "
        f"{tops['model']:.3f} before, {tops['exported']:.3f} exported, "
        f"same label on {agreement:.1%}"
    )
    print(f"  {compare_runs(after, before).sentence('exported', 'the model', 'top-1')}")
    card = read_run(request.out)
    assert card.exported is not None
    figures = {f"top1-{name}": float(value) for name, value in tops.items() if value is not None}
    exported = card.exported.model_copy(
        update={"figures": {**card.exported.figures, **figures, "agreement": agreement}}
    )
    card = card.model_copy(update={"exported": exported})
    replace_file(request.out / CARD, card_text(card, request.out.name))


def bench(request: BenchEnginesRequest) -> int:
    """Measure a model in every engine that is installed, and remember the fastest for `auto`.

    Raises:
        FoveateError: No such model, or no engine runs it.
    """
    from foveate.pipeline.loading import assemble

    preset = edit(resolve(request.model)[1], apply_sets({}, request.sets), "settings")
    build = partial(
        assemble, preset, threads=request.threads, offline=request.offline, notice=print_notice
    )
    executors: dict[str, Any] = {}
    for engine in ENGINES:
        for precision in ("fp32", "bf16", "int8"):
            if engine != "torch" and engine not in installed():
                continue
            try:
                made = build(engine=engine, precision=precision).executor
            except ConfigError:
                continue  # an engine has some of the precisions
            except FoveateError as error:
                print_error(error, f"not measured: {engine} {precision}: ")
                continue
            executors[f"{engine} {precision}"] = made
    if not executors:
        raise ConfigError(f"{request.model}: no engine runs it here", "type: foveate doctor")
    rows = {
        name: measure(executors, getattr(preset.look, "size", None), request.rounds, count)
        for name, count in (("one", 1), ("eight", 8))
    }
    print(f"{request.model} on {processor()}, {plural(request.threads, 'thread')}: CPU ms of a "
          "step with its answer, median (min to max)")  # fmt: skip
    print(f"{'':20}{'one stream':>26}{'eight in one call, each':>30}")
    for name in sorted(executors, key=lambda name: rows["one"][name]["median"]):
        cells = [
            f"{one['median']:.2f} ({one['min']:.2f} to {one['max']:.2f})"
            for one in (rows["one"][name], rows["eight"][name])
        ]
        print(f"{name:20}{cells[0]:>26}{cells[1]:>30}")
    for engine in {"torch", "onnxruntime", "openvino"} - {name.split()[0] for name in executors}:
        extra = "" if engine == "torch" else f"; type: pip install 'foveate[{engine}]'"
        print(f"not measured: {engine} (not installed, or does not run it{extra})", file=sys.stderr)
    precision = "fp32" if any(name.endswith("fp32") for name in executors) else "int8"

    def measured(name: str) -> Any:
        if f"{name} {precision}" not in executors:
            raise ConfigError(f"not measured in {precision}")
        return executors[f"{name} {precision}"]

    fastest(
        preset,
        measured,
        threads=request.threads,
        notice=print_notice,
        known=False,
    )
    if request.json_path is not None:
        import json

        text = json.dumps({"model": request.model, "processor": processor(), **rows}, indent=1)
        replace_file(Path(request.json_path), f"{text}\n".encode())
    return 0
