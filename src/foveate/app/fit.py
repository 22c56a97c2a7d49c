"""`foveate fit`: a run folder from labelled videos and a pipeline."""

from __future__ import annotations

import sys

from foveate.app.train import fit, interruptible
from foveate.app.training_requests import FitRequest as Request
from foveate.core import ConfigError
from foveate.data import DataRequest
from foveate.train.pipelines import find, recipe_of


def run(request: Request) -> int:
    """Train a pipeline; returns the exit code.

    Raises:
        FoveateError: The request is wrong, or the training cannot continue.
    """
    return interruptible(lambda: _run(request), request.resume or request.out, "fit")


def _run(request: Request) -> int:
    named = request.pipeline or request.resume
    if named is None:
        raise ConfigError("fit needs a pipeline", "--pipeline FILE; foveate pipeline list")
    pipeline = find(named, request.sets)
    recipe, settings = recipe_of(pipeline, str(named))
    if request.print_config:
        print(pipeline.to_yaml(), end="")
        return 0
    data, out = request.data, request.resume or request.out
    if request.resume is not None and data is None:
        from foveate.train.run_state import read_training

        data = DataRequest.of(read_training(request.resume).origin)
    if data is None or out is None:
        raise ConfigError("fit needs data and --out", "foveate fit DATA --pipeline P --out runs/1")
    print(pipeline.describe(), file=sys.stderr)
    return fit(
        request, recipe, settings, data, out, resume=request.resume is not None,
        again=f"foveate fit --resume {out}", pipeline=pipeline,
    )  # fmt: skip
