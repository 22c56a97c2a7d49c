"""Run folders of cascades: three networks with their exits, how they are fused, what they cost.

Beside `model.safetensors` and `run.json` of every run lies `cascade.json`: for each order of the
modalities the fusion weights and temperatures, and a table of thresholds with the cost and accuracy
that each had on the calibration split. None of the files holds code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as parse

from foveate.core import Budget, ConfigError, MediaError, Result, Trace, WeightsError
from foveate.media import DEFAULT_LIMITS, Limits, open_source
from foveate.media.compressed import CompressedVideo
from foveate.models.coviar import CompressedNet, ExitNetwork, Modality, Style
from foveate.models.spec import InputSpec
from foveate.models.weights.builtin import CASCADE, WEIGHTS, run_folder
from foveate.models.weights.convert import fill
from foveate.models.weights.run import RunCard, read_run, replace_file, write_run
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

ARCH = "coviar-cascade"  # of the run's card; no network of the registry
_MAX_CARD = 4_000_000  # bytes
_MAX_WEIGHTS = 4_000_000_000
Order = Literal["measured", "published"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NetworkCard(_Strict):
    """How one network is built: its backbone, and where and of which form its heads are."""

    backbone: str = Field(min_length=1, max_length=200)
    stages: list[str] = Field(max_length=64)
    heads: Style = "light"


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
    """What `cascade.json` says.

    Attributes:
        sha256: Of the weights that it belongs to.
        networks: How each is built.
        orders: `measured` and `published`.
        calibrated_on: Clips behind the tables.
        stage_seconds: Mean seconds of opening, and of decoding, preparing and each exit.
        macs: Multiply-adds of each exit beyond the one before.
    """

    format: Literal[1] = 1
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    networks: dict[Modality, NetworkCard]
    orders: dict[Order, OrderCard]
    calibrated_on: int = Field(ge=1)
    stage_seconds: dict[str, float]
    macs: dict[str, int]


def write_cascade(
    folder: Path,
    networks: Mapping[Modality, ExitNetwork],
    run: RunCard,
    card: Mapping[str, Any],
) -> None:
    """Write the three networks and both cards; the run's own card goes last.

    Args:
        folder: The run folder.
        networks: By modality.
        run: Its `sha256` and `size` are filled in here.
        card: Fields of `CascadeCard` but `sha256`.

    Raises:
        FoveateError: The folder cannot be written.
    """
    from safetensors.torch import save

    tensors = {
        f"{modality}.{name}": value
        for modality, network in networks.items()
        for name, value in network.state_dict().items()
    }
    flat = {name: x.detach().cpu().contiguous() for name, x in tensors.items()}
    digest = hashlib.sha256(save(flat, metadata={"format": "foveate-run"})).hexdigest()
    text = CascadeCard(sha256=digest, **card).model_dump_json(indent=1)
    replace_file(folder / CASCADE, f"{text}\n".encode())
    write_run(folder, flat, run)


def load_cascade(folder: Path) -> tuple[dict[Modality, ExitNetwork], CascadeCard, RunCard]:
    """Load what `write_cascade` wrote.

    Raises:
        WeightsError: A file is missing or damaged, or they do not belong together.
        ModelError: A backbone is not known here.
    """
    run, card = read_run(folder), _read_card(folder)
    name = f"{folder.name}/{WEIGHTS}"
    try:
        if (folder / WEIGHTS).stat().st_size > _MAX_WEIGHTS:
            raise WeightsError(f"{name}: larger than {_MAX_WEIGHTS} bytes")
        data = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise WeightsError(f"{name}: cannot be read ({error.strerror})") from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != run.sha256 or digest != card.sha256:
        cure = "copy the folder again; its files belong together"
        raise WeightsError(f"{name}: not the file that the cards describe", cure)
    try:
        tensors = parse(data)
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{name}: damaged ({str(error).splitlines()[0]})") from None
    networks = build_networks(card.networks, len(run.classes))
    for modality, network in networks.items():
        own = {
            key.removeprefix(f"{modality}."): value
            for key, value in tensors.items()
            if key.startswith(f"{modality}.")
        }
        fill(network, own, name)
    return networks, card, run


def build_networks(
    cards: Mapping[Modality, NetworkCard], classes: int
) -> dict[Modality, ExitNetwork]:
    """The networks of a card, freshly initialised."""
    return {
        modality: ExitNetwork(
            CompressedNet(modality, one.backbone, classes), one.stages, one.heads, one.backbone
        ).eval()
        for modality, one in cards.items()
    }


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
    if folder is None or not (folder / CASCADE).is_file():
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


def _read_card(folder: Path) -> CascadeCard:
    file, name = folder / CASCADE, f"{folder.name}/{CASCADE}"
    try:
        if file.stat().st_size > _MAX_CARD:
            raise WeightsError(f"{name}: larger than {_MAX_CARD} bytes")
        return CascadeCard.model_validate_json(file.read_bytes())
    except OSError as error:
        raise WeightsError(f"{name}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise WeightsError(f"{name}: {where}: {fault['msg']}") from None
