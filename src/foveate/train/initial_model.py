"""The network at the start of a training: published weights, an earlier run, or random ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from foveate.core import ConfigError
from foveate.models.backbones import asks_for_weights, input_of
from foveate.models.backbones_weights import BACKBONES
from foveate.models.loaded import NETWORK
from foveate.models.movinet import MoViNet, stream_from_base
from foveate.models.registry import create, entry, split_backbone, split_name
from foveate.models.spec import InputSpec
from foveate.models.weights import table
from foveate.models.weights.builtin import run_folder
from foveate.models.weights.load import load
from foveate.models.weights.run import load_run
from foveate.train.features import is_head


@dataclass(frozen=True)
class InitialModel:
    """A network at the start of a training.

    Attributes:
        model: With one output per class.
        arch: Its architecture.
        settings: Arguments of its builder, besides the number of classes.
        input: How its frames are prepared.
        name: Where its weights came from, None for random ones.
        licence: Of those weights.
        notice: Attribution that must accompany them.
        method: How a run folder with this network is used; see `models.weights.run.RunCard`.
        preset: The preset of that run folder, None for the method's own.
    """

    model: nn.Module
    arch: str
    settings: dict[str, Any]
    input: InputSpec
    name: str | None = None
    licence: str | None = None
    notice: str = ""
    method: str = NETWORK
    preset: dict[str, Any] | None = None


def build_initial_model(
    model: str,
    classes: tuple[str, ...],
    settings: dict[str, Any],
    *,
    size: int | None = None,
    frames: int | None = None,
    rate: float | None = None,
    offline: bool = False,
    initial: str | None = None,
) -> InitialModel:
    """Build the network with its weights.

    Args:
        model: A run folder, a model with weights (`ARCH.TAG`), or an architecture (random weights).
        classes: Names of the outputs.
        settings: Arguments of the builder; with weights, they must not change its shape.
        size: Side of the square input in pixels; None for that of the weights.
        frames: Frames in a clip, likewise.
        rate: Frames per second, likewise.
        offline: Do not use the network for weights.
        initial: A run folder (or imported weights) of the network of whole clips from whose weights
            a MoViNet stream starts; see `models.movinet.stream_from_base`.

    Raises:
        ConfigError: Random weights without size, frames and rate, a network that is only a part
            of models, or one that cannot start from `initial`.
        ModelError: No such model.
        WeightsError: The weights are missing or damaged.
    """
    folder = run_folder(model)
    if initial is not None:
        start = _from_base(model, classes, settings, initial)
    elif folder is not None:
        start = _from_run(folder, classes, settings)
    elif split_name(model)[1] is not None and not Path(model).exists():
        start = _from_weights(model, classes, settings, offline)
    elif asks_for_weights(model):
        start = _from_backbone(model, classes, settings)
    else:
        start = _from_scratch(model, classes, settings, size, frames, rate)
    spec = start.input
    if size is not None and spec.resize_to is not None:  # the crop keeps its share of the frame
        spec = replace(spec, size=size, resize_to=round(spec.resize_to * size / spec.size))
    return replace(
        start,
        input=replace(
            spec,
            size=size or spec.size,
            clip_frames=frames or spec.clip_frames,
            frames_per_second=rate or spec.frames_per_second,
        ),
    )


def _from_run(folder: Path, classes: tuple[str, ...], settings: dict[str, Any]) -> InitialModel:
    loaded = load_run(folder)
    trained, card = loaded.network, loaded.card
    assert card is not None
    arch, settings = card.network.arch, {**card.network.settings, **settings}
    model = _fresh(arch, classes, settings)
    _transfer(trained, model, head=loaded.labels == classes)
    return InitialModel(
        model, arch, settings, loaded.input, card.started_from or "an earlier run",
        card.licence, card.notice,
    )  # fmt: skip


def _from_base(
    arch: str, classes: tuple[str, ...], settings: dict[str, Any], initial: str
) -> InitialModel:
    """A MoViNet stream with the weights of a network of whole clips over the same table."""
    folder = run_folder(initial)
    if folder is None:
        raise ConfigError(f"initial: {initial}: no run folder", "train the base network first")
    loaded = load_run(folder)
    card = loaded.card
    assert card is not None
    source = loaded.networks.get(NETWORK)
    if not isinstance(source, MoViNet) or arch != f"{card.networks[NETWORK].arch}-stream":
        raise ConfigError(
            f"initial: {arch} cannot start from {initial}",
            "a movinet-*-stream starts from a run folder of the movinet-* of the same name",
        )
    model: Any = _fresh(arch, classes, settings)
    fresh = {k: v.clone() for k, v in model.state_dict().items() if k.startswith("classifier.")}
    stream_from_base(source, model)
    if loaded.labels != classes:
        model.load_state_dict(fresh, strict=False)
    name = card.started_from or "an earlier run"
    return InitialModel(
        model, arch, settings, loaded.input, name, card.licence, card.notice
    )  # fmt: skip


def _from_weights(
    name: str, classes: tuple[str, ...], settings: dict[str, Any], offline: bool
) -> InitialModel:
    loaded = load(name, num_classes=len(classes), offline=offline)
    pretrained, entry, labels = loaded.network, table.find(name), loaded.labels
    if settings or (labels and labels != classes):
        model = create(entry.arch, num_classes=len(classes), **settings)
        _transfer(pretrained, model, head=labels == classes)
        pretrained = model
    notice = f"Trained from {entry.name}. {entry.note}"
    return InitialModel(
        pretrained, entry.arch, settings, entry.input, entry.name, entry.licence, notice
    )


def _from_backbone(name: str, classes: tuple[str, ...], settings: dict[str, Any]) -> InitialModel:
    """A network over a pretrained image backbone, with a new head."""
    backbone = split_backbone(name) or ""
    model = _fresh(name, classes, {"pretrained": True, **settings})
    known = BACKBONES.get(backbone)
    notice = f"Trained from the image weights {backbone}. {known.note if known else ''}".strip()
    licence = known.licence if known else None
    return InitialModel(model, name, settings, input_of(backbone), backbone, licence, notice)


def _from_scratch(
    arch: str,
    classes: tuple[str, ...],
    settings: dict[str, Any],
    size: int | None,
    frames: int | None,
    rate: float | None,
) -> InitialModel:
    model = _fresh(arch, classes, settings)
    known = table.input_of(arch)
    if known is None:
        if size is None or frames is None or rate is None:
            raise ConfigError(
                f"{arch}: random weights have no input settings", "set size, frames and rate"
            )
        known = InputSpec(size, rate, frames)
    return InitialModel(model, arch, settings, known)


def _fresh(arch: str, classes: tuple[str, ...], settings: dict[str, Any]) -> nn.Module:
    """Build a network that classifies clips."""
    if not entry(arch).classifier:
        raise ConfigError(f"{arch} is a part of models with several networks, not trained alone")
    return create(arch, num_classes=len(classes), **settings)


def _transfer(source: nn.Module, target: nn.Module, head: bool) -> None:
    """Copy weights; those of the classifier only if it has the same classes."""
    own = {} if head else target.state_dict()
    fresh = {name: value for name, value in own.items() if name.startswith("classifier.")}
    target.load_state_dict(source.state_dict() | fresh)


def is_pretrained(model: str) -> bool:
    """Whether training starts from weights: a run folder, `ARCH.TAG`, or an image backbone's."""
    return (
        run_folder(model) is not None or split_name(model)[1] is not None or asks_for_weights(model)
    )


def frozen_part(model: nn.Module) -> str | None:
    """The name of a module that is for inference only, None if all can be trained."""
    frozen = (type(part).__name__ for part in model.modules() if getattr(part, "frozen", False))
    return next(frozen, None)


def set_trainable(model: nn.Module, freeze: str) -> tuple[str, ...]:
    """Freeze what is not trained; returns the names of the parameters before the head.

    Raises:
        ConfigError: Every layer is to be trained, and a part of the network is for inference only.
    """
    frozen = frozen_part(model)
    if frozen and freeze != "backbone":
        raise ConfigError(
            f"{frozen} has its norms folded away and cannot be trained well",
            "set freeze=backbone",
        )
    backbone = tuple(name for name, _ in model.named_parameters() if not is_head(name))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(freeze != "backbone" or is_head(name))
    return backbone
