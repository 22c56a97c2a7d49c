"""Cost of the stages of a cascade: measured on files, counted, and summed up to each exit."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foveate.core import FoveateError, InputSpec
from foveate.models.coviar import ExitNetwork, Modality
from foveate.pipeline.cascade import CascadeExecutor
from foveate.pipeline.presets import Preset
from foveate.pipeline.recogniser import Recogniser
from foveate.pipeline.reducers import ClassReducer
from foveate.policy import Confident, Groups
from foveate.policy.calibration import CalibratedSpec
from foveate.policy.fuse import Wise
from foveate.policy.looks.groups import GroupsSpec
from foveate.policy.operating import NEVER

Networks = Mapping[Modality, ExitNetwork]


@dataclass(frozen=True)
class Cascade:
    """Three networks with trained exits, and their inputs."""

    networks: dict[Modality, ExitNetwork]
    specs: dict[Modality, InputSpec]
    backbones: dict[Modality, str]


def cheapest_first(modalities: Sequence[Modality], seconds: Mapping[str, float]) -> list[Modality]:
    """Modalities by the measured cost of decoding, preparing and all exits of each."""

    def whole(modality: Modality) -> float:
        own = sum(value for name, value in seconds.items() if name.startswith(f"{modality}."))
        return own + seconds.get(f"decode-{modality}", 0.0)

    return sorted(modalities, key=whole)


def costs_of(
    order: Sequence[Modality],
    networks: Networks,
    macs: Mapping[str, int],
    seconds: Mapping[str, float],
) -> tuple[list[float], list[float]]:
    """Multiply-adds and seconds of stopping at each exit, earlier stages included."""
    steps, times = [], []
    for number, modality in enumerate(order):
        reading = seconds[f"decode-{modality}"]
        reading += seconds["open"] + seconds["index"] if number == 0 else 0.0
        for at, exit in enumerate(networks[modality].exits):
            name = f"{modality}.{exit}"
            steps.append(float(macs[name]))
            times.append(seconds[name] + (reading if at == 0 else 0.0))
    return list(itertools.accumulate(steps)), list(itertools.accumulate(times))


def recogniser_of(
    cascade: Cascade,
    spec: InputSpec,
    classes: Sequence[str],
    order: Sequence[Modality],
    threshold: float = NEVER,
    wise: Wise | None = None,
) -> Recogniser:
    """A recogniser of the networks, before there is a run folder."""
    executor = CascadeExecutor(cascade.networks, order, wise, spec=spec)
    return Recogniser(
        executor,
        classes,
        look=Groups(executor.parts, spec.clip_frames),
        decide=Confident(threshold),
        window=spec.clip_seconds,
        preset=Preset(
            model="cascade", look=GroupsSpec(), decide=CalibratedSpec(threshold=threshold)
        ),
    )


def stage_seconds(recogniser: Recogniser, sources: Sequence[Any]) -> dict[str, float]:
    """Mean seconds a window of opening, finding the groups, decoding, and every exit.

    Args:
        recogniser: Its threshold is never reached, so all stages run.
        sources: Files; those that cannot be read are skipped.

    Raises:
        FoveateError: None of them can be read.
    """
    total: dict[str, float] = {}
    windows = 0
    for session in recogniser.sessions(sources):
        if isinstance(session, FoveateError):
            continue
        assert isinstance(session.reducer, ClassReducer)
        windows += len(session.reducer.windows)
        reading = {
            stage.name: stage.seconds
            for stage in session.ledger.cost().stages
            if stage.name in ("open", "index") or stage.name.startswith("decode-")
        }
        exits = {name: part.seconds for name, part in session.parts.items() if name != "head"}
        for name, value in {**reading, **exits}.items():
            total[name] = total.get(name, 0.0) + value
    if not windows:
        raise FoveateError("no calibration file could be recognised")
    return {name: value / windows for name, value in total.items()}
