"""What the stages of a cascade cost: measured on files, counted, and summed up to each exit."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foveate.core import FoveateError
from foveate.models.coviar import ExitNetwork, Modality
from foveate.models.spec import InputSpec
from foveate.pipeline.cascade import CascadeNetwork
from foveate.pipeline.cascade_run import CascadeRecogniser, around
from foveate.pipeline.drive import drive
from foveate.pipeline.groups import GroupSession
from foveate.pipeline.presets import CalibratedSpec, GroupsSpec, Preset
from foveate.policy.fuse import Wise
from foveate.policy.operating import NEVER

Networks = Mapping[Modality, ExitNetwork]


@dataclass(frozen=True)
class Cascade:
    """Three networks with trained exits, and how their input is prepared."""

    networks: dict[Modality, ExitNetwork]
    specs: dict[Modality, InputSpec]
    backbones: dict[Modality, str]


def cheapest_first(modalities: Sequence[Modality], seconds: Mapping[str, float]) -> list[Modality]:
    """Modalities by what decoding, preparing and all exits of each were measured to cost."""

    def whole(modality: Modality) -> float:
        parts = (f"decode-{modality}", f"transform-{modality}")
        own = sum(value for name, value in seconds.items() if name.startswith(f"{modality}."))
        return own + sum(seconds.get(name, 0.0) for name in parts)

    return sorted(modalities, key=whole)


def costs_of(
    order: Sequence[Modality],
    networks: Networks,
    macs: Mapping[str, int],
    seconds: Mapping[str, float],
) -> tuple[list[float], list[float]]:
    """Multiply-adds and seconds of stopping at each exit, all that ran before included."""
    steps, times = [], []
    for number, modality in enumerate(order):
        reading = seconds[f"decode-{modality}"] + seconds[f"transform-{modality}"]
        reading += seconds["open"] if number == 0 else 0.0
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
) -> CascadeRecogniser:
    """The networks at work on files, before there is a run folder."""
    network = CascadeNetwork(cascade.networks, order, wise, size=spec.size)
    preset = Preset(model="cascade", look=GroupsSpec(), decide=CalibratedSpec(threshold=threshold))
    return around(network, spec, classes, preset)


def stage_seconds(recogniser: CascadeRecogniser, sources: Sequence[Any]) -> dict[str, float]:
    """Mean seconds a window of opening, decoding, preparing, and every exit.

    Args:
        recogniser: Whose threshold is never reached, so that all stages run.
        sources: Files; those that cannot be read are passed over.

    Raises:
        FoveateError: None of them can be read.
    """
    openers = (recogniser.opener(source) for source in sources)
    total: dict[str, float] = {}
    windows = 0
    for session, error in drive(recogniser.cascade, openers, 1):
        if error is not None or not isinstance(session, GroupSession):
            continue
        windows += len(session.windows)
        spent = {
            stage.name: stage.seconds
            for stage in session.ledger.cost().stages
            if not stage.name.startswith(("network-", "policy", "head"))
        }
        for name, value in {**spent, **session.exit_seconds}.items():
            total[name] = total.get(name, 0.0) + value
    if not windows:
        raise FoveateError("not one calibration file could be recognised")
    return {name: value / windows for name, value in total.items()}
