"""The registry of architectures: names, and the functions or classes that build them.

A family is one module of this package that calls ``register``. All modules are imported when the
registry is first used, so a new model is one file and is listed nowhere.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from foveate.core.errors import ModelError
from foveate.core.lazy import entry_point_values
from foveate.core.spec import InputSpec
from foveate.core.text import did_you_mean

if TYPE_CHECKING:
    from torch import nn

Builder = TypeVar("Builder", bound=Callable[..., Any])


@dataclass(frozen=True)
class ModelEntry:
    """One registered architecture.

    Attributes:
        name: The architecture, without tag or backbone.
        build: Returns a randomly initialised module.
        tiny: Arguments of ``build`` that give a small network for tests.
        tiny_input: Shape of a clip (B, C, T, H, W) that fits the small network.
        streaming: Whether the module has the functional step interface.
        mixes_frames: Whether the network combines features of the same position in several frames.
            If it does, a crop that moves from frame to frame shows it false motion.
        classifier: Whether it maps clips (B, 3, T, H, W) to logits (B, classes), so that it can be
            trained and used alone; other networks are parts of models of several networks.
        input: Of the published training, for weights that do not state another; None if unknown.
    """

    name: str
    build: Callable[..., nn.Module]
    tiny: Mapping[str, Any] = field(default_factory=dict)
    tiny_input: tuple[int, ...] = (2, 3, 4, 32, 32)
    streaming: bool = False
    mixes_frames: bool = True
    classifier: bool = True
    input: InputSpec | None = None


_ENTRIES: dict[str, ModelEntry] = {}


def register(
    name: str,
    *,
    tiny: Mapping[str, Any] | None = None,
    tiny_input: tuple[int, ...] = (2, 3, 4, 32, 32),
    streaming: bool = False,
    mixes_frames: bool = True,
    classifier: bool = True,
    input: InputSpec | None = None,
) -> Callable[[Builder], Builder]:
    """Register a function or class under an architecture name.

    Args:
        name: Architecture name, lower case with hyphens, without tag or backbone.
        tiny: Arguments that give a small network for the contract tests.
        tiny_input: Clip shape (B, C, T, H, W) for the small network.
        streaming: True if the module has ``initial_state`` and ``step``.
        mixes_frames: False if frames are processed separately and only their scores are averaged.
        classifier: False for networks that are only parts of models, such as those with several
            exits.
        input: Of the published training.

    Raises:
        ModelError: The name is malformed or already registered.
    """
    if name != name.lower() or not name or set(name) & set(".:/ "):
        raise ModelError(f"{name!r} is not a valid architecture name (lower case and hyphens only)")

    def enter(build: Builder) -> Builder:
        if name in _ENTRIES:
            raise ModelError(f"the model name {name!r} is registered twice")
        _ENTRIES[name] = ModelEntry(
            name, build, dict(tiny or {}), tiny_input, streaming, mixes_frames, classifier, input
        )
        return build

    return enter


@cache
def import_modules(ending: str = "") -> None:
    """Import every module of this package whose name has the given ending, once.

    Everything that they register is known afterwards.
    """
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        if not module.ispkg and module.name.endswith(ending):
            importlib.import_module(f"{__package__}.{module.name}")


@cache
def import_entry_points() -> None:
    """Import what installed packages add, once; their modules register architectures."""
    for _ in entry_point_values("foveate.primitives"):
        pass


def available() -> list[str]:
    """Return the names of all architectures that classify clips, sorted.

    Names are without a backbone; parts of models are not listed (see `entry`).
    """
    import_modules()
    return sorted(name for name, found in _ENTRIES.items() if found.classifier)


def entry(name: str) -> ModelEntry:
    """Return the entry of an architecture; a backbone in the name is ignored.

    Raises:
        ModelError: No such architecture; the error suggests the nearest one.
    """
    import_modules()
    name = name.partition(":")[0]
    if name not in _ENTRIES:
        import_entry_points()
    if name not in _ENTRIES:
        raise ModelError(f"there is no model {name!r}", did_you_mean(name, _ENTRIES))
    return _ENTRIES[name]


def is_architecture(name: str) -> bool:
    """Whether a name is that of an architecture that can be trained, without a weights tag."""
    try:
        return split_name(name)[1] is None and entry(name).classifier
    except ModelError:
        return False


def is_video_network(name: str) -> bool:
    """Whether a name, perhaps with a weights tag, is that of a video network, not of a backbone."""
    return is_architecture(split_name(name)[0])


def create(name: str, **config: Any) -> nn.Module:
    """Build a randomly initialised model.

    Args:
        name: An architecture, with its backbone if it takes one (``tsm:mobilenetv2_100``); names
            with a weights tag are for ``load``. The tag of a backbone is kept, but its weights are
            loaded only with ``pretrained=True``.
        **config: Arguments of the architecture's builder, for example ``num_classes``.

    Raises:
        ModelError: Unknown name or argument, a backbone for an architecture without one, or a name
            with a weights tag.
    """
    arch, tag = split_name(name)
    if tag is not None:
        entry(arch)
        raise ModelError(f"{name!r} has a weights tag", f"use load({name!r}) or create({arch!r})")
    found = entry(arch)
    known = inspect.signature(found.build).parameters
    backbone = split_backbone(name)
    if backbone is not None:
        if "backbone" not in known:
            raise ModelError(f"{arch} takes no backbone", f"use {arch!r}")
        if config.get("backbone", backbone) != backbone:
            raise ModelError(f"{name!r} and backbone={config['backbone']!r} contradict each other")
        config = {**config, "backbone": backbone}
    for key in config:
        if key not in known:
            raise ModelError(f"{arch} has no setting {key!r}", did_you_mean(key, known))
    return _marked(found, found.build(**config))


def create_tiny(name: str) -> nn.Module:
    """Build the small configuration of an architecture that the contract tests use."""
    found = entry(name)
    return _marked(found, found.build(**found.tiny))


def is_streaming(model: nn.Module | ModelEntry) -> bool:
    """Whether a network has the functional step interface (`initial_state`, `step_features`).

    It is declared: in the registry, or by an attribute `streaming` of a custom module. A module
    without the attribute takes whole clips.
    """
    return bool(getattr(model, "streaming", False))


def mixes_frames(model: nn.Module | ModelEntry) -> bool:
    """Whether a network combines features of several frames; declared like `is_streaming`.

    A module without an attribute `mixes_frames` is assumed to.
    """
    return bool(getattr(model, "mixes_frames", True))


def _marked(found: ModelEntry, module: nn.Module) -> nn.Module:
    """Set the attributes of the registry on a module, as a custom module may have them."""
    vars(module).update(streaming=found.streaming, mixes_frames=found.mixes_frames)
    return module


def split_backbone(name: str) -> str | None:
    """Return the backbone of ``ARCH[.TAG]:BACKBONE[.TIMMTAG]`` as timm takes it, or None.

    >>> split_backbone("tsm:resnet50.a1_in1k")
    'resnet50.a1_in1k'
    """
    _, colon, backbone = name.partition(":")
    if colon and not backbone:
        raise ModelError(f"{name!r} has no backbone after the colon")
    return backbone or None


def split_name(name: str) -> tuple[str, str | None]:
    """Split ``ARCH[.TAG][:BACKBONE]`` into architecture and tag; the backbone is ignored.

    >>> split_name("movinet-a0-stream-lite.k600")
    ('movinet-a0-stream-lite', 'k600')
    """
    arch, _, tag = name.partition(":")[0].partition(".")
    return arch, tag or None
