"""`foveate bench`: several models, or looks, on the same videos, as a table, a plot and JSON."""

from __future__ import annotations

import sys
from typing import Any

from foveate.app.evaluate import names_in, opened, print_presets, recogniser_of
from foveate.app.guard import print_error
from foveate.app.options import LOOKS, look_named
from foveate.app.output import check_writable
from foveate.app.progress import bar
from foveate.app.requests import BenchRequest as Request
from foveate.core import ConfigError, FoveateError
from foveate.core.files import replace_file
from foveate.data import Dataset
from foveate.data.labelled import choose_split, only_classes
from foveate.evaluate.api import seen_in_training, unlabelled

ORACLE, OWN = "oracle", "own"
PLAIN = ("full", "uniform")  # references for the other looks


def run(request: Request) -> int:
    """Measure the models; 1 if one of them, or a video, could not be measured.

    Raises:
        FoveateError: The request is wrong, or there is nothing to measure.
    """
    from foveate.evaluate.bench import COSTS, bench

    for path in (request.json_path, request.plot, request.csv_path):
        check_writable(path)
    names = names_in(request.models)
    request.changes()  # a wrong option is one error, not one per model
    if request.plot is not None and request.plot.suffix.lower() != ".svg":
        raise ConfigError(f"--plot {request.plot}: is not an SVG file", "name it *.svg")
    if request.plot_cost not in COSTS:
        raise ConfigError(
            f"--plot-cost {request.plot_cost}: not a cost", f"known: {', '.join(COSTS)}"
        )
    if request.looks is not None and request.look is not None:
        raise ConfigError("--look and --looks: both name the look", "give one of them")
    if request.print_config:
        print_presets(names, request)
        return 0
    dataset = opened(request.data)
    looks = looks_of(request.looks)
    split: str | None = None
    without = unlabelled(dataset)
    if without and ORACLE in looks:
        raise ConfigError("--looks oracle: needs labelled videos, because it uses the true class")
    if request.split is not None or not without:
        split = choose_split(dataset, request.split)
    measured = dataset
    if request.classes is not None:
        measured = only_classes(dataset, names_in(request.classes))
    recognisers, problems = _recognisers(request, names, looks, dataset, measured, split)
    if not recognisers:
        raise ConfigError(f"no model can be measured on {request.data.path}")
    with bar(float(len(recognisers)), enabled=not request.quiet) as shown:
        order = list(recognisers)
        table = bench(
            recognisers,
            measured,
            split,
            batch=request.batch,
            seed=request.seed,
            threshold=request.threshold,
            reference=next((n for n in recognisers if n.split(" ")[-1] in PLAIN), None),
            progress=lambda name, done, total, video: shown.update(
                order.index(name) + done / total, f"{name}: {video}"
            ),
        )
    if not request.quiet:
        print(table.markdown(), end="")
    if request.json_path is not None:
        table.write(request.json_path, f"bench on {request.data.path.name}, split {split or 'all'}")
    if request.csv_path is not None:
        replace_file(request.csv_path, table.to_csv().encode())
    if request.plot is not None:
        replace_file(request.plot, table.svg(request.plot_cost).encode())
        print(f"plot: {request.plot}", file=sys.stderr)
    return 1 if problems or any(row.failed for row in table.rows) else 0


def looks_of(text: str | None) -> list[str]:
    """The looks to compare; empty for each model's own look.

    Raises:
        ConfigError: A look is unknown, or the list is empty.
    """
    if text is None:
        return []
    names = names_in(text)
    if not names:
        raise ConfigError("--looks: is empty", "such as --looks full,random,motion-patch")
    for name in names:
        look_named(name, (*LOOKS, ORACLE, OWN), "--looks")
    return names


def recogniser_with(
    name: str, look: str, request: Request, dataset: Dataset, split: str | None
) -> Any:
    """A model with one of the looks to compare; `own` is its own look.

    Windows have the size and extent of the model's own look, if that has windows, so that only
    their positions differ. AdaFocus models keep their glance and classifier, too: the patches have
    the places that the other look chooses. A setting applies to every look that has it.

    Raises:
        FoveateError: What `recogniser_of` raises; for the oracle, videos of several labels.
    """
    from foveate.evaluate.oracle import OracleRecogniser
    from foveate.pipeline.presets import resolve
    from foveate.policy.build import LOOKS as SPECS
    from foveate.policy.looks.adafocus import PLACES, AdaFocusSpec
    from foveate.policy.looks.patches import MotionSizedSpec, PatchSpec

    if look == OWN:
        return recogniser_of(name, request)
    own = resolve(name)[1].look
    wanted = "resize" if look == ORACLE else look_named(look)
    settings = request.changes()[0].get("look", {})
    if not isinstance(settings, dict) or "name" in settings:
        raise ConfigError("--set look=…: --looks names the looks", "set look.size and the like")
    places = "resize" if look == ORACLE else look
    if isinstance(own, AdaFocusSpec) and places in PLACES:
        settings = {**own.model_dump(), **settings, "patches": places}
        wanted = str(settings.pop("name"))
    kind = SPECS[wanted]
    if issubclass(kind, PatchSpec) and isinstance(own, PatchSpec):
        settings = {"size": own.size, "extent": own.extent, **settings}
    # Settings of other looks are dropped; a setting that no look has is an error.
    elsewhere = {key for one in SPECS.values() for key in one.model_fields}
    elsewhere -= set(kind.model_fields)
    settings = {key: value for key, value in settings.items() if key not in elsewhere}
    if settings.get("extent") == "auto" and not issubclass(kind, MotionSizedSpec):
        del settings["extent"]
    made = recogniser_of(name, request, {"name": wanted, **settings})
    if look != ORACLE:
        return made
    return OracleRecogniser(made, dataset, split)


def _recognisers(
    request: Request,
    names: list[str],
    looks: list[str],
    dataset: Dataset,
    measured: Dataset,
    split: str | None,
) -> tuple[dict[str, Any], int]:
    """The recognisers that know the data's classes; a line is printed for each of the others."""
    from foveate.evaluate.truth import columns_of
    from foveate.pipeline.presets import resolve

    classes = () if unlabelled(measured) else measured.classes
    found: dict[str, Any] = {}
    problems = 0
    for name in names:
        try:
            if looks:
                made = {
                    look if len(names) == 1 else f"{name} {look}": recogniser_with(
                        name, look, request, measured, split
                    )
                    for look in looks
                }
            else:
                made = {name: recogniser_of(name, request)}
            columns_of(classes, next(iter(made.values())).labels, name)
            found |= made
        except FoveateError as error:
            print_error(error, "not measured: ")
            problems += 1
            continue
        warning = seen_in_training(resolve(name)[1].model, dataset, split)
        if warning:
            print(f"foveate: warning: {name}: {warning}", file=sys.stderr)
    return found, problems
