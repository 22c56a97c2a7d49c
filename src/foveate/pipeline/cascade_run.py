"""Run folders of cascades: three networks with their exits, how they are fused, what they cost.

The calibration in the run's card has, for each order of the modalities, the fusion weights and
temperatures, and a table of thresholds with the cost and accuracy that each had on the calibration
split.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foveate.core import Budget, ConfigError, MediaError, Result, Trace, WeightsError
from foveate.media import DEFAULT_LIMITS, Limits, open_source
from foveate.media.compressed import CompressedVideo
from foveate.models.coviar import ExitNetwork, Modality
from foveate.models.spec import InputSpec
from foveate.models.weights.builtin import CARD, run_folder
from foveate.models.weights.run import RunCard, fault_of, load_run, read_run
from foveate.pipeline import answer
from foveate.pipeline.cascade import CascadeNetwork
from foveate.pipeline.groups import GroupSession
from foveate.pipeline.ledger import Ledger
from foveate.pipeline.presets import CalibratedSpec, GroupsSpec, Preset
from foveate.pipeline.recogniser import Recogniser, choose_device
from foveate.pipeline.session import Plan, Session
from foveate.policy import Confident, Uniform
from foveate.policy.fuse import Wise
from foveate.policy.operating import Operating, within

Order = Literal["measured", "published"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PointCard(_Strict):
    """A threshold with what it cost and achieved; see `policy.operating.Operating`."""

    threshold: float = Field(ge=0, le=1.1)
    accuracy: float = Field(ge=0, le=1)
    macs: float = Field(ge=0)
    seconds: float = Field(ge=0)
    exits: list[int]


class OrderCard(_Strict):
    """One order of the modalities.

    Attributes:
        order: Which comes when.
        wise: Weights and temperatures, see `Wise.to_json`.
        table: By ascending threshold.
        default: Threshold without a budget.
    """

    order: list[Modality] = Field(min_length=1, max_length=3)
    wise: dict[str, Any]
    table: list[PointCard] = Field(min_length=1, max_length=1000)
    default: float = Field(ge=0, le=1.1)

    def points(self) -> list[Operating]:
        """The table as the policy takes it."""
        return [
            Operating(p.threshold, p.accuracy, p.macs, p.seconds, tuple(p.exits))
            for p in self.table
        ]

    def threshold(self, budget: Budget) -> float:
        """The highest threshold within a budget per answer, the default without one.

        Raises:
            ConfigError: Even the first exit costs more.
        """
        if not budget:
            return self.default
        return within(self.points(), budget).threshold


class CascadeCard(_Strict):
    """What the calibration of a run's card says for the method `cascade`.

    Attributes:
        orders: `measured` and `published`.
        calibrated_on: Clips behind the tables.
        stage_seconds: Mean seconds of opening, and of decoding, preparing and each exit.
        macs: Multiply-adds of each exit beyond the one before.
    """

    orders: dict[Order, OrderCard]
    calibrated_on: int = Field(ge=1)
    stage_seconds: dict[str, float]
    macs: dict[str, int]


def load_cascade(folder: Path) -> tuple[dict[Modality, ExitNetwork], CascadeCard, RunCard]:
    """Load the networks and the calibration of a cascade from its run folder.

    Raises:
        WeightsError: A file is missing or damaged, or they do not belong together.
        ModelError: A backbone is not known here.
    """
    loaded = load_run(folder)
    assert loaded.card is not None
    name = f"{folder.name}/{CARD}"
    networks: dict[Modality, ExitNetwork] = {}
    for part, network in loaded.networks.items():
        if not isinstance(network, ExitNetwork) or network.network.modality != part:
            raise WeightsError(f"{name}: networks.{part}: not a cascade's network of that modality")
        networks[network.network.modality] = network
    try:
        card = CascadeCard.model_validate(loaded.card.calibration)
    except ValidationError as error:
        raise WeightsError(f"{name}: calibration.{fault_of(error)}") from None
    return networks, card, loaded.card


class CascadeRecogniser(Recogniser):
    """Recognises what happens in compressed videos, exit by exit; made by `foveate.load`."""

    def __init__(
        self,
        network: CascadeNetwork,
        plan: Plan,
        preset: Preset,
        labels: tuple[str, ...],
        preset_name: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        super().__init__(network, plan, preset, labels, preset_name, limits)
        self.cascade = network

    def _open(self, source: Any, fps: float | None, plan: Plan) -> Session:
        if hasattr(source, "shape") or isinstance(source, list | tuple):
            raise MediaError("an array of frames has no motion vectors", "give a video file")
        ledger = Ledger()
        with ExitStack() as refused:
            with ledger.stage("open"):
                sample = open_source(source, fps=fps, limits=self._limits)
                refused.callback(sample.close)
                video = CompressedVideo(
                    source, limits=self._limits, meter=sample.meter, warn=sample.warnings.append
                )
            ledger.add("open", calls=0, frames=sample.meter.frames, bytes=sample.meter.bytes)
            session = GroupSession(sample, ledger, plan, video=video, cascade=self.cascade)
            refused.pop_all()
        return session

    def _stepwise(self) -> Plan:
        """The plan for streams: every group of pictures is a window."""
        return replace(self._plan, window_seconds=0.0, every_step=True)

    def _step_result(self, session: Session) -> Result:
        """The Result of the group just decided; forgets it."""
        window, steps = session.windows[-1], list(session.steps)
        session.windows.clear()
        session.steps.clear()
        info = session.info
        return Result(
            source=info.name,
            model=self.name,
            preset=self.preset_name,
            duration=info.duration,
            labels=answer.top(window.scores, self.labels, self.preset.top_k),
            segments=answer.segments([window], self.labels, self.preset.none_below, None),
            cost=session.ledger.take(),
            exits=answer.exits([window]),
            trace=Trace(size=[info.width, info.height], steps=steps),
            warnings=list(session.sample.warnings),
        )


def assemble_cascade(
    preset: Preset,
    named: str | None = None,
    *,
    device: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> CascadeRecogniser:
    """Load a cascade's run folder with the threshold that its preset asks for.

    Args:
        preset: Of which `model` is the run folder.
        named: Name of the preset for the Result, if it has one.
        device: As for `recogniser.load`.
        limits: Bounds on what a source may cost.

    Raises:
        WeightsError: The folder is damaged.
        ConfigError: The run holds no such order, or a budget that cannot be kept or is in units
            that say nothing of one answer.
    """
    folder = run_folder(preset.model)
    if folder is None or read_run(folder).method != "cascade":
        raise ConfigError(
            f"{preset.model}: is no cascade, it cannot look at groups",
            "train one: foveate train DATA --recipe compressed",
        )
    look, decide = preset.look, preset.decide
    if not isinstance(look, GroupsSpec) or not isinstance(decide, CalibratedSpec):
        raise ConfigError(
            f"{preset.model}: a cascade looks at groups and decides as calibrated, "
            f"not {look.name} and {decide.name}"
        )
    networks, card, run = load_cascade(folder)
    if look.order not in card.orders:
        raise ConfigError(f"{preset.model}: was not calibrated for the order {look.order!r}")
    place, spec, chosen = choose_device(device), run.input.spec(), card.orders[look.order]
    window = preset.window or spec.clip_seconds
    threshold = decide.threshold
    if threshold is None:
        threshold = chosen.threshold(per_answer(preset.budget.value(), window))
    network = CascadeNetwork(
        networks, chosen.order, Wise.from_json(chosen.wise), size=spec.size, device=place
    )
    settled = decide.model_copy(update={"threshold": threshold})
    preset = preset.model_copy(update={"decide": settled})
    return around(network, spec, run.classes, preset, named, limits)


def around(
    network: CascadeNetwork,
    spec: InputSpec,
    classes: Sequence[str],
    preset: Preset,
    named: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> CascadeRecogniser:
    """A recogniser around a cascade.

    Args:
        network: The networks with their exits and fusion.
        spec: Side of the input, groups of a window (`clip_frames`) and their rate.
        classes: Names of the outputs.
        preset: Its `decide` has a threshold; above 1 all exits run.
        named: Name of the preset for the Result, if it has one.
        limits: Bounds on what a source may cost.
    """
    decide = preset.decide
    assert isinstance(decide, CalibratedSpec)
    assert decide.threshold is not None
    plan = Plan(
        look=Uniform(spec.frames_per_second),  # groups are chosen by the session
        decide=Confident(decide.threshold),
        budget=Budget(),
        spec=spec,
        device=network.device,
        window_seconds=preset.window or spec.clip_seconds,
        cut_threshold=1.0,
        macs_per_view=0,
        macs_per_answer=0,
    )
    return CascadeRecogniser(network, plan, preset, tuple(classes), named, limits)


def per_answer(budget: Budget, window: float) -> Budget:
    """A budget in units of one answer.

    Raises:
        ConfigError: It is in frames, which a cascade does not count by.
    """
    if budget.frames_per_second is not None or budget.ms_per_frame is not None:
        given = [name for name, value in asdict(budget).items() if value is not None]
        raise ConfigError(
            f"a cascade cannot keep a budget of {', '.join(given)}", "say 5GMAC or 20ms"
        )
    limits = [budget.macs_per_answer]
    if budget.macs_per_second is not None:
        limits.append(budget.macs_per_second * window)
    known = [value for value in limits if value is not None]
    return Budget(macs_per_answer=min(known) if known else None, ms_per_answer=budget.ms_per_answer)
