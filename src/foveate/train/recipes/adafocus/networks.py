"""The network at the start of a stage, and the learning rates of its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from foveate.core import ConfigError
from foveate.models import backbones
from foveate.models.backbones_weights import BACKBONES
from foveate.models.registry import create, split_backbone
from foveate.models.spec import InputSpec
from foveate.models.tsn import TSN
from foveate.models.weights.builtin import run_folder
from foveate.models.weights.run import load_run, read_run
from foveate.train.initial_model import InitialModel
from foveate.train.kit import randomness
from foveate.train.recipe import RecipeContext
from foveate.train.recipes.adafocus.config import AdaFocusConfig
from foveate.train.videos import median_seconds

METHOD = "adafocus"
ARCHITECTURES = {"v1": "adafocus-v1", "v2": "adafocus-v2", "uni": "uni-adafocus"}
CANDIDATES = 3  # of uni, for each frame that it focuses on
LONGEST = 10.0  # seconds of a window
BATCH = 16  # what `lr` is for
_OUTPUTS = ("classifier", "glance_head", "focus_head", "window_head")


def initial_network(context: RecipeContext) -> InitialModel:
    """The network of the settings' variant, with the weights that they name.

    Random weights are the same after every resume.

    Raises:
        ConfigError: `model` is another network than the settings describe.
        ModelError: No such backbone, or sizes that do not fit together.
        WeightsError: Weights are missing or damaged.
    """
    config: AdaFocusConfig = context.config
    classes = tuple(context.dataset.classes)
    arch, settings = ARCHITECTURES[config.variant], settings_of(config)
    randomness.seed_all(config.seed, "weights")
    network: Any = create(arch, num_classes=len(classes), **settings)
    spec = input_of(context)
    if config.model:
        card = load_own(network, config.model, arch, settings, classes)
        return InitialModel(
            network, arch, settings, spec, card.started_from or "an earlier run", card.licence,
            card.notice, METHOD,
        )  # fmt: skip
    names, licences, notices = [], [], []
    for tower, head, source in (
        (network.glance, network.glance_head, config.backbone("glance")),
        (network.focus, network.focus_head, config.backbone("focus")),
    ):
        folder = run_folder(source)
        if folder is not None:
            loaded = load_run(folder)
            trained: Any = loaded.network
            tower.net.load_state_dict(trained.backbone.state_dict())
            if loaded.labels == classes and head.weight.shape == trained.classifier.weight.shape:
                head.load_state_dict(trained.classifier.state_dict())
            assert loaded.card is not None
            names.append(loaded.card.started_from)
            licences.append(loaded.card.licence)
            notices.append(loaded.card.notice)
        elif "." in source:
            tower.net.load_state_dict(backbones.build(source, True).state_dict())
            known = BACKBONES.get(source)
            names.append(source)
            licences.append(known.licence if known else None)
            notices.append(f"Trained from the image weights {source}.")
    return InitialModel(
        network, arch, settings, spec,
        ", ".join(dict.fromkeys(name for name in names if name)) or None,
        next((licence for licence in licences if licence), None),
        " ".join(dict.fromkeys(notice for notice in notices if notice)),
        METHOD,
    )  # fmt: skip


def backbone_name(source: str) -> str:
    """The backbone that `source` names, or that the run folder of a TSN has.

    Raises:
        ConfigError: A run folder of another architecture.
    """
    folder = run_folder(source)
    if folder is None:
        return source
    arch = read_run(folder).network.arch
    name = split_backbone(arch)
    if name is None or not arch.startswith(f"{TSN.__name__.lower()}:"):
        raise ConfigError(f"{source}: {arch} is not tsn:BACKBONE", "name a backbone, or train one")
    return name


def settings_of(config: AdaFocusConfig) -> dict[str, Any]:
    """Arguments of the network's builder, besides the number of classes."""
    own: dict[str, Any] = {
        "glance": backbone_name(config.backbone("glance")),
        "focus": backbone_name(config.backbone("focus")),
        **{name: getattr(config, name) for name in ("patch", "size", "glance_size", "dropout")},
    }
    if config.variant == "v1":
        own |= {"actions": config.actions, "hidden": config.hidden}
    elif config.variant == "v2":
        own |= {"exits": config.frames, "hidden": config.hidden, "pooled": config.pooled}
    else:
        own |= {"glances": config.frames, "focuses": config.frames, "pooled": config.pooled}
    return own | config.settings


def input_of(context: RecipeContext) -> InputSpec:
    """How clips are read: evenly over a window as long as the median training clip.

    Normalised as the focus network's weights expect.
    """
    config: AdaFocusConfig = context.config
    count = config.frames * (CANDIDATES if config.variant == "uni" else 1)
    rate = config.rate
    if rate is None:
        median = None if context.source else median_seconds(context.dataset, config.train_split)
        rate = count / (LONGEST if median is None else min(LONGEST, max(0.1, median)))
    mean, std, _ = backbones.normalisation(backbone_name(config.backbone("focus")))
    return InputSpec(config.size, rate, count, mean=mean, std=std)


def load_own(
    network: nn.Module, model: str, arch: str, settings: dict[str, Any], classes: tuple[str, ...]
) -> Any:
    """Copy the weights of a run folder of the same network; its outputs if the classes are equal.

    Returns:
        The run's card.

    Raises:
        ConfigError: It is no run folder, or another network.
    """
    folder = run_folder(model)
    if folder is None:
        raise ConfigError(
            f"model: {model}: no run folder", "leave it empty to start from backbones"
        )
    loaded = load_run(folder)
    card = loaded.card
    assert card is not None
    theirs = card.networks[next(iter(card.networks))]
    if theirs.arch != arch or theirs.settings != settings:
        differ = [k for k in settings if theirs.settings.get(k) != settings[k]]
        what = theirs.arch if theirs.arch != arch else ", ".join(
            f"{name}={theirs.settings.get(name)}" for name in differ
        )  # fmt: skip
        raise ConfigError(f"model: {Path(model).name}: is another network ({what})")
    state, own = loaded.network.state_dict(), network.state_dict()
    if loaded.labels != classes:
        state |= {name: value for name, value in own.items() if name.startswith(_OUTPUTS)}
    network.load_state_dict(state)
    return card


def factors_of(network: nn.Module, config: AdaFocusConfig) -> dict[str, float]:
    """Factor on `lr` of every parameter, by the part that it belongs to and the size of a batch."""

    def factor(name: str) -> float:
        if name.startswith(_OUTPUTS):
            return config.classifier_lr
        if "policy" in name.partition(".")[0]:
            return config.policy_lr
        return config.glance_lr if name.startswith("glance.") else 1.0

    scale = config.batch / BATCH
    return {name: scale * factor(name) for name, _ in network.named_parameters()}


def freeze(network: nn.Module, parts: tuple[str, ...]) -> None:
    """Train all parts but these: `glance`, `focus`, `policy`, `classifier`."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.partition(".")[0] not in parts)
