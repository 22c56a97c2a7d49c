"""`foveate pipeline`: list, show and check pipelines."""

from __future__ import annotations

import json
import sys

from foveate.app.guard import DONE, USAGE, print_error
from foveate.app.training_requests import ShowPipelineRequest, ValidateRequest
from foveate.core import ConfigError
from foveate.policy.build import DECISIONS, LOOKS
from foveate.primitives.base import GROUPS, registered
from foveate.primitives.pipeline import Pipeline, described
from foveate.train.pipelines import find, names, recipe_of


def list_all() -> int:
    """Print all pipelines of the package and all kinds; returns the exit code."""
    found = names()
    wide = max(map(len, found))
    for name, pipeline in found.items():
        print(f"{name:{wide}}  {described(pipeline.recogniser)}")
    print()
    kinds = {group: registered(group) for group in GROUPS}
    kinds = {**kinds, "looks": LOOKS, "stopping": DECISIONS}  # type: ignore[dict-item]
    for group, known in kinds.items():
        print(f"{group}: {', '.join(known)}")
    return DONE


def show(request: ShowPipelineRequest) -> int:
    """Print a pipeline; returns the exit code.

    Raises:
        ConfigError: There is no such pipeline, or a fault in it.
    """
    pipeline = find(request.name, request.sets)
    if request.json:
        print(pipeline.to_json(), end="")
        return DONE
    print(pipeline.describe(), file=sys.stderr)
    print(pipeline.to_yaml(), end="")
    return DONE


def schema() -> int:
    """Print the JSON Schema of pipelines; returns the exit code."""
    print(json.dumps(Pipeline.json_schema(), indent=1))
    return DONE


def validate(request: ValidateRequest) -> int:
    """Check pipelines one by one; returns the exit code."""
    code = DONE
    for file in request.files:
        try:
            pipeline = find(file)
            recipe_of(pipeline, file)
        except ConfigError as error:
            print_error(error)
            code = USAGE
        else:
            print(f"{file}: valid, digest {pipeline.digest}")
    return code
