"""A small typed model to draw from, and objective functions that take no time.

They are run by name in child processes, so they are in a module that is no test.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from foveate.core import MissingExtra
from foveate.core.config import Config
from foveate.primitives.base import Primitive, Search
from foveate.search.study import Limits, Runner, read_settings
from foveate.search.study_space import Space
from foveate.search.study_trials import Job, Report


class Small(Primitive):
    kind: Literal["small"] = "small"
    segments: Annotated[int, Field(ge=1, le=64), Search.int(4, 16, step=4)] = 8
    dropout: float = Field(0.0, ge=0, lt=1)


class Large(Primitive):
    kind: Literal["large"] = "large"
    lr: Annotated[float, Field(gt=0), Search.float(1e-4, 1e-1, log=True)] = 1e-2


class Distilled(Primitive):
    kind: Literal["distilled"] = "distilled"
    teacher: str = Field(min_length=1)


class Patch(Config):
    name: Literal["patch"] = "patch"
    size: int = Field(96, ge=8)


class Whole(Config):
    name: Literal["whole"] = "whole"


class Model(Config):
    recogniser: Annotated[Small | Large | Distilled, Field(discriminator="kind")] = Small()
    look: Annotated[Patch | Whole, Field(discriminator="name")] | None = None
    frames: Annotated[int, Field(ge=1), Search.int(1, 8)] = 4
    steps: tuple[str, ...] = ()
    settings: dict[str, int] = Field(default_factory=dict)


def measure(job: Job, report: Report) -> dict[str, Any]:
    """Larger is more accurate and costs more; each run leaves a line beside the study."""
    with (job.study / "runs.txt").open("a") as file:
        file.write(f"{job.number}\n")
    time.sleep(job.context.get("seconds", 0.0))
    frames, kind = job.values["frames"], job.values["recogniser"]["kind"]
    report(frames / 10)
    return {"accuracy": frames / 10 + 0.1 * (kind == "small"), "macs": 1e6 * frames}


def aborts(job: Job, report: Report) -> dict[str, Any]:
    os.abort()


def waits(job: Job, report: Report) -> dict[str, Any]:
    print("this line is no report")
    time.sleep(60)
    return {}


def fills(job: Job, report: Report) -> dict[str, Any]:
    held = []
    for _ in range(100):
        held.append(bytearray(b"1") * 20_000_000)
        time.sleep(0.02)
    return {}


def lacks_a_package(job: Job, report: Report) -> dict[str, Any]:
    raise MissingExtra("timm", "zoo")


def gives_nan(job: Job, report: Report) -> dict[str, Any]:
    return {"accuracy": float("nan")}


def falls_behind(job: Job, report: Report) -> dict[str, Any]:
    for _ in range(4):
        report(job.values["frames"] / 10)
        time.sleep(0.05)
    return {"accuracy": job.values["frames"] / 10}


def runner(folder: Path, limits: Limits) -> Runner:
    """A runner of `measure` for a study that was begun."""
    settings = read_settings(folder)
    return Runner(folder, settings, Space(Model, settings.space), measure, limits)


def step(folder: Path, limits: Limits) -> bool:
    """One trial, as a task of a cluster runs it."""
    return runner(folder, limits).step()


if __name__ == "__main__":
    from search import study_parts  # under its name, by which the children import it

    study_parts.runner(Path(sys.argv[1]), Limits(trials=int(sys.argv[2]))).run()
