"""Methods: how the networks of a loaded model are joined, and by which policies it is run.

Nothing heavy is imported before a model is built, so that settings can be printed at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from foveate.core import ConfigError, Executor, Look, ModelError
from foveate.models.loaded import NETWORK
from foveate.policy import Context

if TYPE_CHECKING:
    import torch

    from foveate.engines.network import EngineNetwork
    from foveate.models import LoadedModel


@dataclass(frozen=True)
class Method:
    """One way to join networks.

    Attributes:
        build: Makes the executor of a loaded model for a look, on a device.
        defaults: Fields of the preset that are not given.
        task: What its answers are.
    """

    build: Callable[[LoadedModel, Look, Context, torch.device], Executor]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    task: Literal["classify", "detect"] = "classify"


def _network(loaded: LoadedModel, look: Look, context: Context, device: torch.device) -> Executor:
    """One network, step by step or clip by clip."""
    from foveate.pipeline.engines import is_exported

    if is_exported(loaded):
        from foveate.pipeline.exported import exported_executor

        return exported_executor(_graphs(loaded)[NETWORK], loaded.input)
    from foveate.pipeline.executors import executor_for

    glance = getattr(look, "glance", None) if "glance" in getattr(look, "parts", ()) else None
    return executor_for(loaded.network, device, loaded.input, glance=glance)


def _ensemble(loaded: LoadedModel, look: Look, context: Context, device: torch.device) -> Executor:
    """Networks that take turns at the frames."""
    from foveate.pipeline.engines import is_exported
    from foveate.pipeline.ensemble import EnsembleExecutor

    if is_exported(loaded):
        from foveate.pipeline.exported import exported_executor

        graphs = _graphs(loaded).items()
        exported = {part: exported_executor(one, loaded.input_of(part)) for part, one in graphs}
        return EnsembleExecutor(exported, loaded.input)
    from foveate.pipeline.executors import executor_for

    members = {
        part: executor_for(network, device, loaded.input_of(part))
        for part, network in loaded.networks.items()
    }
    return EnsembleExecutor(members, loaded.input)


def _cascade(loaded: LoadedModel, look: Look, context: Context, device: torch.device) -> Executor:
    """Networks of several modalities with exits, in a calibrated order."""
    from foveate.pipeline.cascade import CascadeExecutor
    from foveate.policy.calibration import OrderCard
    from foveate.policy.looks.groups import Groups

    if not isinstance(look, Groups):
        raise ConfigError(
            f"{loaded.name}: a cascade looks at groups, not as {type(look).__name__} does",
            "leave look at its default",
        )
    chosen = OrderCard.model_validate(context.calibration)
    networks: Any = loaded.networks
    return CascadeExecutor(networks, chosen.order, chosen.wise, spec=loaded.input, device=device)


def _detector(loaded: LoadedModel, look: Look, context: Context, device: torch.device) -> Executor:
    """A detector, run whole on key frames."""
    from foveate.pipeline.engines import is_exported

    if is_exported(loaded):
        from foveate.pipeline.exported import ExportedDetector

        (graphs,) = _graphs(loaded).values()
        return ExportedDetector(graphs, loaded.input, context.min_score)
    from foveate.pipeline.detection import DetectExecutor

    return DetectExecutor(loaded.network, device, loaded.input, context.min_score)


def _adafocus(loaded: LoadedModel, look: Look, context: Context, device: torch.device) -> Executor:
    """A glance that chooses patches, a focus network and a classifier: one network."""
    from foveate.pipeline.adafocus import AdaFocusExecutor

    network: Any = loaded.network
    if not hasattr(network, "facts"):
        raise ModelError(f"{loaded.name}: {type(network).__name__} is no network of AdaFocus")
    return AdaFocusExecutor(network, loaded.input, device, getattr(look, "frames", None))


def _adamml(loaded: LoadedModel, look: Look, context: Context, device: torch.device) -> Executor:
    """A policy over modalities, one part for each of them, and their fusion."""
    from foveate.pipeline.adamml import AdaMMLExecutor
    from foveate.policy.looks.modalities import Modalities

    if not isinstance(look, Modalities):
        raise ConfigError(
            f"{loaded.name}: a policy chooses its modalities, not {type(look).__name__}",
            "leave look at its default",
        )
    network: Any = loaded.networks[look.network]
    return AdaMMLExecutor(network, loaded.input, look.fixed, device, look.exit)


def _graphs(loaded: LoadedModel) -> dict[str, EngineNetwork]:
    """The networks of an exported model."""
    networks: Any = loaded.networks
    return dict(networks)


METHODS: dict[str, Method] = {
    "network": Method(_network),
    "ensemble": Method(_ensemble),
    "adafocus": Method(_adafocus, {"look": {"name": "adafocus"}, "decide": {"name": "calibrated"}}),
    "cascade": Method(_cascade, {"look": {"name": "groups"}, "decide": {"name": "calibrated"}}),
    "detector": Method(_detector, {"look": {"name": "key-frames"}}, "detect"),
    "adamml": Method(_adamml, {"look": {"name": "modalities"}}),
}


def method_of(name: str, model: str) -> Method:
    """The method that a run folder names.

    Raises:
        ModelError: It is not known here.
    """
    if name not in METHODS:
        raise ModelError(
            f"{model}: the method {name!r} is not known here",
            "it may need a newer version of foveate",
        )
    return METHODS[name]


def executor_of(
    loaded: LoadedModel, look: Look, context: Context, device: torch.device
) -> Executor:
    """The executor of a loaded model.

    Args:
        loaded: Its networks and what joins them.
        look: Whose parts it must have.
        context: With the calibration that belongs to the look.
        device: Where it runs.

    Raises:
        ModelError: The method is not known here.
        ConfigError: The look asks for parts that the model does not have.
    """
    executor = method_of(loaded.method, loaded.name).build(loaded, look, context, device)
    missing = [part for part in getattr(look, "parts", ()) if part not in executor.parts]
    if missing:
        raise ConfigError(
            f"{loaded.name}: has no part {missing[0]!r}, which {type(look).__name__} asks for",
            f"its parts are {', '.join(executor.parts)}",
        )
    return executor
